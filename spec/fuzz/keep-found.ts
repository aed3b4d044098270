/**
 * Makes the kept corpus of a target from the files of a folder, the smallest first, up to a total size.
 * `node dist/spec/fuzz/keep-found.js TARGET FOLDER`
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { corpusFile } from './corpus.js';

const MAX_BYTES = 6500;

const [, , target = '', folder = ''] = process.argv;
const inputs = readdirSync(folder).map((name) => readFileSync(path.join(folder, name)));
let byteCount = 0;
const kept = inputs
  .sort((one, other) => one.length - other.length || one.compare(other))
  .filter((bytes) => (byteCount += bytes.length) <= MAX_BYTES)
  .map((bytes) => `${bytes.toString('base64')}\n`);
writeFileSync(corpusFile(target), kept.join(''));
