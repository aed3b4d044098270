/** A headless Chromium, which is the one that the machine has: nothing is downloaded. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

/** Starts the `chromium` of the PATH. Whoever starts it closes it. */
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
    // Whoever goes on to the next page has no more use for it.
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
