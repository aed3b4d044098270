/** The site as users see it: in a browser, on a wide and a small screen, light and dark. */
import { createRequire } from 'node:module';
import test, { type ExecutionContext } from 'ava';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { hasNeed } from '../helpers/needs.js';
import {
  type BuiltSite,
  buildSite,
  type FileServer,
  serveFiles,
  startChromium,
  watchForTrouble,
} from '../helpers/site.js';
import { testWith } from '../helpers/test-with.js';

const WIDE = { width: 1280, height: 900 };
const SMALL = { width: 360, height: 740 };

let site: BuiltSite;
let server: FileServer;
let browser: Browser;

const withBrowser = testWith('chromium');

test.before(async (t) => {
  if (!hasNeed('chromium')) return;
  t.timeout(120_000);
  [site, browser] = await Promise.all([buildSite(), startChromium()]);
  server = await serveFiles(site.folder, '/a/base/path/');
});
test.after.always(async () => {
  if (!hasNeed('chromium')) return;
  await browser.close();
  server.close();
  site.remove();
});

/** A page of the browser that is watched; at the end of the test it must not have had a failure. */
async function open(t: ExecutionContext): Promise<{ page: Page; trouble: string[] }> {
  const page = await browser.newPage({ viewport: WIDE, colorScheme: 'light' });
  page.setDefaultTimeout(120_000);
  t.teardown(async () => page.close());
  return { page, trouble: watchForTrouble(page, server.url) };
}

/** What is checked in both colour schemes: contrast, and the names of what can be followed, pressed or seen. */
const RULES = { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] };
const CONTRAST = { type: 'rule', values: ['color-contrast'] };

/** TypeDoc has a link to a section in the heading that closes it. */
const EXCEPTIONS = { 'nested-interactive': { enabled: false } };

/** What axe-core finds, in a line for each element. */
async function audit(page: Page, runOnly: typeof RULES): Promise<string[]> {
  const options = { runOnly, rules: EXCEPTIONS, resultTypes: ['violations'] };
  const results = await page.evaluate<AxeResults>(`axe.run(document, ${JSON.stringify(options)})`);
  return results.violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${page.url()}: ${id}: ${String(node.target)}: ${node.failureSummary ?? ''}`),
  );
}

/** How far the page can be scrolled sideways. */
async function overflow(page: Page): Promise<number> {
  return await page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth');
}

const lookAt = test.macro({
  title: (_, what: string) => `${what}: nothing goes wrong, nothing is too wide, everything has contrast and a name`,
  exec: async (t, _what: string, isMeant: (path: string) => boolean) => {
    t.timeout(300_000);
    const { page, trouble } = await open(t);
    const faults: string[] = [];
    const paths = site.pages.filter(isMeant);
    t.true(paths.length > 0);
    for (const path of paths) {
      await page.emulateMedia({ colorScheme: 'light' });
      await page.setViewportSize(WIDE);
      await page.goto(server.url + path);
      await page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') });
      faults.push(...(await audit(page, RULES)));
      await page.emulateMedia({ colorScheme: 'dark' });
      faults.push(...(await audit(page, CONTRAST)));
      await page.setViewportSize(SMALL);
      const tooWide = await overflow(page);
      if (tooWide > 0) faults.push(`${path}: ${tooWide} pixels wider than a small screen`);
      t.pass();
    }
    t.deepEqual(faults, []);
    t.deepEqual(trouble, []);
  },
});

withBrowser(lookAt, 'documents', (path) => !/^(?:api|files|docs\/decisions)\/./.test(path));
withBrowser(lookAt, 'decisions and files', (path) =>
  /^docs\/decisions\/(?:index|0001)|^files\/packaging\/systemd\/(?:index|vproxy\.service)/.test(path),
);
withBrowser(lookAt, 'the API', (path) =>
  /^api\/(?:index|Proxy|MuxStream|ChannelStatus|ERROR_CODES|connectPeer)\.html$/.test(path),
);

withBrowser('on a phone the text of every picture is large enough to read', async (t) => {
  const { page, trouble } = await open(t);
  await page.setViewportSize({ width: 390, height: 844 });
  for (const path of ['index.html', 'docs/performance.html']) {
    await page.goto(server.url + path);
    const pictures = page.locator('.col-content img');
    await pictures.last().scrollIntoViewIfNeeded();
    t.true((await pictures.count()) >= 3, path);
    for (const picture of await pictures.all()) {
      const source = (await picture.getAttribute('src')) ?? '';
      const svg = await (await fetch(new URL(source, page.url()))).text();
      const sizes = Array.from(svg.matchAll(/font-size[=:]"? ?(\d+)/g), ([, size]) => Number(size));
      const [, width = ''] = /<svg [^>]*width="(\d+)"/.exec(svg) ?? [];
      const shown = (await picture.boundingBox())?.width ?? 0;
      const smallest = (Math.min(...sizes) * shown) / Number(width);
      t.true(smallest >= 9, `${source}: ${smallest.toFixed(1)} px`);
    }
  }
  t.deepEqual(trouble, []);
});

withBrowser('the first thing that a search finds is a document, and it leads there', async (t) => {
  const { page, trouble } = await open(t);
  await page.goto(server.url);
  await page.click('#tsd-search-trigger');
  await page.fill('#tsd-search-input', 'storage');
  const found = page.locator('#tsd-search-results li').first();
  await found.waitFor();
  t.is(await found.textContent(), 'Storage emulation');
  await found.locator('a').click();
  await page.waitForURL(`${server.url}docs/storage.html*`);
  t.is(await page.textContent('h1'), "Storage: a controller's command-line tool, emulated outside the virtual machine");
  t.deepEqual(trouble, []);
});

withBrowser('on a small screen the navigation opens and leads to a document', async (t) => {
  const { page, trouble } = await open(t);
  await page.setViewportSize(SMALL);
  await page.goto(server.url);
  const link = page.locator('.site-navigation a', { hasText: /^Channels$/ });
  t.false(await link.isVisible());
  await page.click('#tsd-toolbar-menu-trigger');
  await link.click();
  await page.waitForURL(`${server.url}docs/channels.html`);
  t.deepEqual(trouble, []);
});

withBrowser('from a folder, without a server, the site is read and searched', async (t) => {
  const page = await browser.newPage();
  page.setDefaultTimeout(120_000);
  t.teardown(async () => page.close());
  await page.goto(`file://${site.folder}/index.html`);
  await page.click('#tsd-search-trigger');
  await page.fill('#tsd-search-input', 'storage');
  await page.locator('#tsd-search-results li a', { hasText: 'Storage emulation' }).first().click();
  await page.waitForURL(`file://${site.folder}/docs/storage.html*`);
  t.pass();
});
