/** The documents of the repository that become pages: all in the contents. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { COLLECTIONS, SECTIONS } from './contents.js';

/** The document of the front page. */
export const FRONT = 'README.md';

/** A document, and its place in the navigation. */
export interface SiteDocument {
  /** Its path in the repository. */
  path: string;
  /** Its heading; empty for the front page. */
  title: string;
  /** The title of its section; null for the front page. */
  section: string | null;
  text: string;
}

/**
 * Lists the documents of the repository at `root`: the front page, those in the order of the contents, and the collections. Throws
 * if the contents name one that does not exist, or omit one.
 */
export function readDocuments(root: string): SiteDocument[] {
  const read = (path: string, section: string | null): SiteDocument => {
    const text = readFileSync(join(root, path), 'utf8');
    return { path, title: section === null ? '' : headingOf(path, text), section, text };
  };
  const named = SECTIONS.flatMap(({ title, documents }) => documents.map((path) => read(path, title)));
  const paths = new Set([FRONT, ...named.map((document) => document.path)]);
  const leftOut = [...markdownFiles(root, '.'), ...markdownFiles(root, 'docs')].filter((path) => !paths.has(path));
  if (leftOut.length > 0) throw new Error(`tools/site/contents.ts omits ${leftOut.join(', ')}`);

  const collected = COLLECTIONS.flatMap(({ title, folder }) => {
    const readme = `${folder}/README.md`;
    const members = markdownFiles(root, folder).filter((path) => path !== readme);
    return [readme, ...members].map((path) => read(path, title));
  });
  return [read(FRONT, null), ...named, ...collected];
}

function markdownFiles(root: string, folder: string): string[] {
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .sort()
    .map((name) => (folder === '.' ? name : `${folder}/${name}`));
}

function headingOf(path: string, text: string): string {
  const heading = /^# (.+)$/m.exec(text)?.[1];
  if (heading === undefined) throw new Error(`${path} has no heading`);
  return heading.replaceAll('`', '');
}
