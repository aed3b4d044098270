/** The documents of the repository that become pages: all in the contents. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { COLLECTIONS, type Collection, SECTIONS } from './contents.js';

/** The document of the front page. */
export const FRONT = 'README.md';

/** A document, and its place in the navigation. */
export interface SiteDocument {
  /** Its path in the repository. */
  path: string;
  /** Its title on the site. */
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
  const read = (path: string, title: string, section: string | null): SiteDocument => {
    return { path, title, section, text: readFileSync(join(root, path), 'utf8') };
  };
  const named = SECTIONS.flatMap((section) =>
    Object.entries(section.documents).map(([path, title]) => read(path, title, section.title)),
  );
  const paths = new Set([FRONT, ...named.map((document) => document.path)]);
  const leftOut = [...markdownFiles(root, '.'), ...markdownFiles(root, 'docs')].filter((path) => !paths.has(path));
  if (leftOut.length > 0) throw new Error(`site/contents.ts omits ${leftOut.join(', ')}`);

  const collected = COLLECTIONS.flatMap((collection) => {
    const readMember = (path: string): SiteDocument => {
      const member = read(path, '', collection.title);
      return { ...member, title: headingOf(member) };
    };
    const readme = `${collection.folder}/README.md`;
    const members = markdownFiles(root, collection.folder)
      .filter((path) => path !== readme)
      .map(readMember);
    return [listOf(collection, members) ?? readMember(readme), ...members];
  });
  return [read(FRONT, '', null), ...named, ...collected];
}

/** The page that lists the members of a collection; null if its README.md does. */
function listOf({ title, folder, list }: Collection, members: SiteDocument[]): SiteDocument | null {
  if (list === null) return null;
  const links = members.map((member) => `- [${member.title}](${basename(member.path)})`);
  return {
    path: `${folder}/index.md`,
    title: list.title,
    section: title,
    text: `# ${title}\n\n${list.text}\n\n${links.join('\n')}\n`,
  };
}

function markdownFiles(root: string, folder: string): string[] {
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .sort()
    .map((name) => (folder === '.' ? name : `${folder}/${name}`));
}

function headingOf({ path, text }: SiteDocument): string {
  const heading = /^# (.+)$/m.exec(text)?.[1];
  if (heading === undefined) throw new Error(`${path} has no heading`);
  return heading.replaceAll('`', '');
}
