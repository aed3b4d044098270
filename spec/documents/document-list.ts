/** The documents to test: all that users read, relative to the project's folder. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../helpers/files.js';

/** Documents that are generated from the code, and not committed. */
const GENERATED = 'docs/api/';

/** The paths of all documents, `README.md` first. */
export function listDocuments(): string[] {
  const inDocs = readdirSync(join(PROJECT_ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .map((path) => `docs/${path}`)
    .filter((path) => path.endsWith('.md') && !path.startsWith(GENERATED))
    .sort();
  return ['README.md', ...inDocs, 'examples/README.md'];
}

export function readDocument(path: string): string {
  return readFileSync(join(PROJECT_ROOT, path), 'utf8');
}
