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

/** A folder whose documents are played as one: most have a command or two. */
const PLAYED_AS_ONE = 'docs/commands';

/** What is played: documents, and that folder. */
export const listPlayed = (): string[] => [
  ...new Set(listDocuments().map((path) => (path.startsWith(`${PLAYED_AS_ONE}/`) ? PLAYED_AS_ONE : path))),
];

/** The blocks of what is played. `text` replaces that of a document. */
export function blocksPlayed(path: string, text?: string): readonly Block[] {
  const paths = path === PLAYED_AS_ONE ? listDocuments().filter((one) => one.startsWith(`${path}/`)) : [path];
  return paths.flatMap((one) => parseDocument(one, text ?? projectText(one)).blocks);
}
