/** Writes inputs that get far into a target to a folder, for a coverage-guided search: `write-seeds.js TARGET FOLDER`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { FUZZ_INPUTS } from './inputs/index.js';
import type { FuzzTargetName } from './targets/index.js';

const COUNT = 300;

const [, , target = '', folder = ''] = process.argv;
mkdirSync(folder, { recursive: true });
for (const [index, bytes] of fc.sample(FUZZ_INPUTS[target as FuzzTargetName], COUNT).entries()) {
  writeFileSync(path.join(folder, `seed-${index}`), bytes);
}
