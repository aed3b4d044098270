/** The site, built for a test as `npm run site` builds it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { PROJECT_ROOT } from './project-root.js';

/** A site in a folder of its own. */
export interface BuiltSite {
  folder: string;
  /** The exit status of the build, and what it printed. */
  status: number;
  output: string;
  /** Paths of the pages in `folder`, sorted. */
  pages: string[];
  remove: () => void;
}

/** Builds the site. What it is built from is what the repository has now. */
export async function buildSite(): Promise<BuiltSite> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  const { status, output } = await new Promise<{ status: number; output: string }>((resolve) => {
    execFile(process.execPath, [join(PROJECT_ROOT, 'dist/site/build.js'), folder], (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : 1, output: stdout + stderr });
    });
  });
  const pages = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name.endsWith('.html'))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
  return { folder, status, output, pages, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
