/** Stages TypeDoc's input: the documents, the pictures, and pages for the files that documents link to. */
import { copyFileSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, posix } from 'node:path';
import { FRONT, readDocuments, type SiteDocument } from './documents.js';
import { filePage, folderPage } from './file-pages.js';
import { type FrontMatter, formatFrontMatter } from './front-matter.js';
import { rewriteDocument } from './rewrite-document.js';

/** The staged files. */
export interface Stage {
  /** The documents in the order of the navigation. */
  documents: SiteDocument[];
  /** The front page, as a path in the file system. */
  front: string;
  /** All other pages, as paths in the file system. */
  pages: string[];
}

/** Files that are copied unchanged, because browsers show them or programs read them. */
const COPIED = new Set(['.svg', '.png', '.json']);

/** Stages the documents of the repository at `root` in the empty `folder`. Throws on a broken link. */
export function stage(root: string, folder: string): Stage {
  const documents = readDocuments(root);
  const titles = new Map(documents.map((document) => [document.path, document.title]));
  const copies = new Set<string>();
  const files = new Map<string, string>();
  const pages: string[] = [];

  /** Returns the staged path of something in the repository, staging it if necessary. */
  const placeOf = (path: string, from: string): string => {
    if (titles.has(path)) return path;
    const asFolder = [`${path}/README.md`, `${path}/index.md`].find((document) => titles.has(document));
    if (asFolder !== undefined) return asFolder;
    const stats = path.startsWith('..') ? undefined : statSync(join(root, path), { throwIfNoEntry: false });
    if (stats === undefined) throw new Error(`${from} links to ${path}, which is not in the repository`);
    if (COPIED.has(extname(path))) {
      copies.add(path);
      return path;
    }
    const page = stats.isDirectory() ? `files/${path}/index.md` : `files/${path}.md`;
    if (!files.has(path)) {
      files.set(path, page);
      const text = stats.isDirectory() ? folderPage(root, path) : filePage(root, path);
      write(page, text, stats.isDirectory() ? path : posix.dirname(path), { title: path, section: null });
    }
    return page;
  };

  /** Writes a page whose links are relative to the folder `base` of the repository. */
  const write = (page: string, text: string, base: string, about: Pick<FrontMatter, 'title' | 'section'>): void => {
    const rewritten = rewriteDocument(text, (link) => {
      if (/^[a-z+]+:|^#/.test(link.target)) return link;
      const [path = '', anchor] = link.target.split('#');
      const place = placeOf(posix.join(base, path).replace(/\/$/, ''), about.title);
      const target = posix.relative(posix.dirname(page), place) + (anchor === undefined ? '' : `#${anchor}`);
      // Readers of the site know documents by title, not by file name.
      return { target, text: link.text.endsWith('.md') ? (titles.get(place) ?? link.text) : link.text };
    });
    const target = join(folder, page);
    mkdirSync(dirname(target), { recursive: true });
    if (page === FRONT) {
      writeFileSync(target, rewritten);
      return;
    }
    const sitePath = page.replace(/\.md$/, '').replace(/\bREADME$/, 'index');
    writeFileSync(target, formatFrontMatter({ ...about, sitePath, order: pages.length }) + rewritten);
    pages.push(target);
  };

  for (const { path, text, ...about } of documents) write(path, text, posix.dirname(path), about);
  for (const path of copies) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    if (!existsSync(join(folder, path))) copyFileSync(join(root, path), join(folder, path));
  }
  return { documents, front: join(folder, FRONT), pages };
}
