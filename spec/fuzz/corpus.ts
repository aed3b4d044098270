/** The kept corpus: inputs that a coverage-guided search found, one in base64 on each line of a target's file. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../helpers/files.js';

/** The file of a target. */
export function corpusFile(target: string): string {
  return path.join(PROJECT_ROOT, 'spec/fuzz/corpus', `${target}.txt`);
}

/** The inputs of a target. */
export function readCorpus(target: string): readonly Buffer[] {
  const file = corpusFile(target);
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
  return lines.map((line) => Buffer.from(line, 'base64'));
}
