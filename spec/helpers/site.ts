/** The site, built for a test as `npm run site` builds it, and a browser to look at it. */
import { accessSync, constants, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, extname, join, normalize, relative } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { PROJECT_ROOT } from './files.js';
import { runProgram } from './vproxy-process.js';

/** A site in a folder of its own. */
export interface BuiltSite {
  folder: string;
  /** The exit status of the build, and what it printed. */
  status: number | null;
  output: string;
  /** Paths of the pages in `folder`, sorted. */
  pages: string[];
  remove: () => void;
}

/** Builds the site. What it is built from is what the repository has now. */
export async function buildSite(): Promise<BuiltSite> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  const command = [process.execPath, join(PROJECT_ROOT, 'dist/site/build.js'), folder];
  const { code, stdout, stderr } = await runProgram(command, { timeoutMs: 600_000 });
  const pages = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name.endsWith('.html'))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
  return {
    folder,
    status: code,
    output: stdout + stderr,
    pages,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

// A headless Chromium, which is installed on the machine: nothing is downloaded.

/** Starts the `chromium` of the PATH. The caller that starts it closes it. */
export async function startChromium(): Promise<Browser> {
  const isRoot = process.geteuid?.() === 0;
  return await chromium.launch({ executablePath: findChromium(), args: isRoot ? ['--no-sandbox'] : [] });
}

function findChromium(): string {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, 'chromium');
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  throw new Error('there is no chromium on the PATH: apt-get install chromium');
}

/** Collects what is wrong with what `page` loads: requests to elsewhere than `origin`, failures, errors on the console. */
export function watchForTrouble(page: Page, origin: string): string[] {
  const trouble: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('data:'))
      trouble.push(`asks for ${request.url()}`);
  });
  page.on('requestfailed', (request) => {
    // A request that the next page aborts is not a fault.
    const reason = request.failure()?.errorText ?? '';
    if (reason !== 'net::ERR_ABORTED') trouble.push(`does not get ${request.url()}: ${reason}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) trouble.push(`gets ${response.status()} for ${response.url()}`);
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) trouble.push(`${page.url()} says ${message.text()}`);
  });
  page.on('pageerror', (error) => trouble.push(`${page.url()} throws ${error.message}`));
  return trouble;
}

// Files of a folder over HTTP, as any server of static files gives them.

const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
};

/** A server on loopback, on a port that was free. */
export interface FileServer {
  /** Where the folder is, with a slash at its end. */
  url: string;
  close: () => void;
}

/** Serves `folder` below the path `base`, which begins and ends with a slash. */
export async function serveFiles(folder: string, base: string): Promise<FileServer> {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '', 'http://host').pathname));
    if (!path.startsWith(base)) {
      response.writeHead(404).end();
      return;
    }
    const file = path.endsWith('/') ? `${path}index.html` : path;
    readFile(join(folder, file.slice(base.length))).then(
      (bytes) => response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'text/plain' }).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}${base}`, close };
}
