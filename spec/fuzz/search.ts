/**
 * Input and results of a coverage-guided search of a target, as files in a folder.
 * `node dist/spec/fuzz/search.js seeds TARGET FOLDER` writes the kept corpus, and generated inputs that get far into the target.
 * `node dist/spec/fuzz/search.js keep TARGET FOLDER` makes the kept corpus of the files, the smallest first.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { corpusFile, readCorpus } from './corpus.js';
import { FUZZ_INPUTS } from './inputs/index.js';
import type { FuzzTargetName } from './targets/index.js';

const SEED_COUNT = 300;
const MAX_KEPT_BYTES = 6500;

const [, , what = '', target = '', folder = ''] = process.argv;
mkdirSync(folder, { recursive: true });
if (what === 'seeds') {
  const inputs = [...readCorpus(target), ...fc.sample(FUZZ_INPUTS[target as FuzzTargetName], SEED_COUNT)];
  for (const [index, bytes] of inputs.entries()) writeFileSync(path.join(folder, `seed-${index}`), bytes);
} else {
  const inputs = readdirSync(folder).map((name) => readFileSync(path.join(folder, name)));
  let byteCount = 0;
  const kept = inputs
    .sort((one, other) => one.length - other.length || one.compare(other))
    .filter((bytes) => (byteCount += bytes.length) <= MAX_KEPT_BYTES)
    .map((bytes) => `${bytes.toString('base64')}\n`);
  writeFileSync(corpusFile(target), kept.join(''));
}
