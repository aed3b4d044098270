/**
 * Pages for files and folders of the repository that documents link to, as readers of the site do not have it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';

/** Highlighted languages, by file name extension. */
const LANGUAGES: Record<string, string> = {
  '.conf': 'ini',
  '.container': 'ini',
  '.json': 'json',
  '.mjs': 'js',
  '.py': 'python',
  '.rules': 'ini',
  '.service': 'ini',
  '.sh': 'sh',
  '.socket': 'ini',
  '.target': 'ini',
  '.toml': 'toml',
  '.ts': 'ts',
  '.xml': 'xml',
  '.yaml': 'yaml',
  '.yml': 'yaml',
};

/** Makes the page of the file at `path` in the repository at `root`, as Markdown. */
export function filePage(root: string, path: string): string {
  const text = readFileSync(join(root, path), 'utf8');
  const longestFence = Math.max(2, ...Array.from(text.matchAll(/`{3,}/g), ([fence]) => fence.length));
  const fence = '`'.repeat(longestFence + 1);
  const language = LANGUAGES[extname(path)] ?? (text.startsWith('#!') ? 'sh' : 'text');
  return `# ${basename(path)}\n\n\`${path}\` of the repository.\n\n${fence}${language}\n${text.trimEnd()}\n${fence}\n`;
}

/** Makes the page of a folder: links to its entries, as in the repository. */
export function folderPage(root: string, path: string): string {
  const entries = readdirSync(join(root, path), { withFileTypes: true })
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .sort()
    .map((name) => `- [\`${name}\`](${name})`);
  return `# ${path}\n\n\`${path}\` of the repository:\n\n${entries.join('\n')}\n`;
}
