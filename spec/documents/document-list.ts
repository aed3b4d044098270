/** The documents to test: all that users read, relative to the project's folder. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';
import { type Block, parseDocument } from './parse-document.js';

/** Documents that are generated from the code, and not committed. */
const GENERATED = 'docs/api/';

/** The paths of all documents, `README.md` first. */
export function listDocuments(): string[] {
  const inDocs = readdirSync(join(PROJECT_ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .map((path) => `docs/${path}`)
    .filter((path) => path.endsWith('.md') && !path.startsWith(GENERATED))
    .sort();
  return ['README.md', 'CONTRIBUTING.md', ...inDocs, 'examples/README.md'];
}

/** The blocks of a document. `text` replaces its text. */
export const blocksPlayed = (path: string, text = projectText(path)): readonly Block[] =>
  parseDocument(path, text).blocks;
