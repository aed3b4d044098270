/** The kept corpus: inputs that a coverage-guided search found, each a small file in the folder of its target. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../helpers/project-root.js';

/** The folder of a target's inputs. */
export function corpusFolder(target: string): string {
  return path.join(PROJECT_ROOT, 'spec/fuzz/corpus', target);
}

/** The inputs of a target, by the names of their files. */
export function readCorpus(target: string): ReadonlyMap<string, Buffer> {
  const folder = corpusFolder(target);
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  return new Map(names.map((name) => [name, readFileSync(path.join(folder, name))]));
}
