/** The machine's own headless Chromium: nothing is downloaded. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';

/** A large window, and that of a phone. */
export const WIDE = { width: 1280, height: 900 };
export const SMALL = { width: 360, height: 740 };

/** Starts `chromium` from the PATH. The caller closes it. */
export async function startChromium(): Promise<Browser> {
  const isRoot = process.geteuid?.() === 0;
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
  return await chromium.launch({ executablePath, args: isRoot ? ['--no-sandbox'] : [] });
}

/** Collects problems of `page`: requests to hosts other than `origin`, failures, errors on the console. */
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

/** The checks in both colour schemes: contrast, and the names of links, buttons and images. */
export const RULES = { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] };
export const CONTRAST = { type: 'rule', values: ['color-contrast'] };

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The findings of axe-core, one line for each element. `rules`: those with another setting. */
export async function audit(page: Page, runOnly: typeof RULES, rules: object = {}): Promise<string[]> {
  // Not as a script of the page, which its policy may forbid.
  if (!(await page.evaluate<boolean>('"axe" in window'))) await page.evaluate(AXE);
  const options = { runOnly, rules, resultTypes: ['violations'] };
  const results = await page.evaluate<AxeResults>(`axe.run(document, ${JSON.stringify(options)})`);
  return results.violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${page.url()}: ${id}: ${String(node.target)}: ${node.failureSummary ?? ''}`),
  );
}

/** By how many pixels the page is wider than its window. */
export const excessOf = (page: Page): Promise<number> =>
  page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth');
