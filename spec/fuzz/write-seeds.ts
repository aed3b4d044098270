/**
 * The seeds of a coverage-guided search of a target, as files in a folder: the kept corpus, and generated inputs that
 * get far into it. `node dist/spec/fuzz/write-seeds.js TARGET FOLDER`
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { readCorpus } from './corpus.js';
import { FUZZ_INPUTS } from './inputs/index.js';
import type { FuzzTargetName } from './targets/index.js';

const COUNT = 300;

const [, , target = '', folder = ''] = process.argv;
mkdirSync(folder, { recursive: true });
const inputs = [...readCorpus(target), ...fc.sample(FUZZ_INPUTS[target as FuzzTargetName], COUNT)];
for (const [index, bytes] of inputs.entries()) writeFileSync(path.join(folder, `seed-${index}`), bytes);
