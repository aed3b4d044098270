/** The site, built for a test as `npm run site` builds it, and a browser to look at it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { PROJECT_ROOT } from './files.js';
import { runProgram } from './vproxy-process.js';

/** A site in a folder of its own. */
export type BuiltSite = Awaited<ReturnType<typeof buildSite>>;

/** Builds the site. What it is built from is what the repository has now. */
export async function buildSite() {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  const command = [process.execPath, join(PROJECT_ROOT, 'dist/site/build.js'), folder];
  const { code: status, stdout, stderr } = await runProgram(command, { timeoutMs: 600_000 });
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const pages = files.filter((name) => name.endsWith('.html')).sort();
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  return { folder, status, output: stdout + stderr, pages, remove };
}

// A headless Chromium, which is installed on the machine: nothing is downloaded.

/** Starts the `chromium` of the PATH. The caller that starts it closes it. */
export async function startChromium(): Promise<Browser> {
  const isRoot = process.geteuid?.() === 0;
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
  return await chromium.launch({ executablePath, args: isRoot ? ['--no-sandbox'] : [] });
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

export type FileServer = Awaited<ReturnType<typeof serveFiles>>;

/** Serves `folder` on loopback below the path `base`, which begins and ends with a slash, as `url` does. */
export async function serveFiles(folder: string, base: string) {
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
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}${base}`, close };
}
