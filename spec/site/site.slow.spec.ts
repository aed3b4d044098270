/**
 * The site: it is built without a warning, every link in it leads somewhere, and nothing is loaded from elsewhere; and as users
 * see it, in a browser, on a wide and a small screen, light and dark.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, normalize } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type AxeResults } from 'axe-core';
import { type Browser, type Page } from 'playwright-core';
import { PROJECT_ROOT } from '../helpers/files.js';
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
  t.timeout(120_000);
  site = await buildSite();
  if (!hasNeed('chromium')) return;
  browser = await startChromium();
  server = await serveFiles(site.folder, '/a/base/path/');
});
test.after.always(async () => {
  site.remove();
  if (!hasNeed('chromium')) return;
  await browser.close();
  server.close();
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

/** The values of an attribute in a page. */
function attributes(html: string, pattern: RegExp): string[] {
  return Array.from(html.matchAll(pattern), ([, value = '']) => value.replaceAll('&amp;', '&'));
}

test('the site is built without a warning', (t) => {
  t.is(site.status, 0, site.output);
  t.false(/warning/i.test(site.output), site.output);
  t.true(site.pages.includes('index.html'));
  t.true(site.pages.includes('docs/channels.html'));
  t.true(site.pages.includes('api/Proxy.html'));
});

test('every link to a page, a section or a file leads there', (t) => {
  const anchors = new Map<string, Set<string>>();
  const anchorsOf = (page: string): Set<string> => {
    const known =
      anchors.get(page) ?? new Set(attributes(readFileSync(join(site.folder, page), 'utf8'), /\sid="([^"]*)"/g));
    anchors.set(page, known);
    return known;
  };
  const broken: string[] = [];
  let checked = 0;
  for (const page of site.pages) {
    for (const link of attributes(readFileSync(join(site.folder, page), 'utf8'), /\s(?:href|src)="([^"]*)"/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [path = '', anchor = ''] = link.replace(/\?[^#]*/, '').split('#');
      const target = path === '' ? page : normalize(join(dirname(page), decodeURIComponent(path)));
      const file = target.endsWith('/') || target === '.' ? join(target, 'index.html') : target;
      checked += 1;
      if (!existsSync(join(site.folder, file))) broken.push(`${page}: ${link}`);
      else if (file.endsWith('.html') && anchor !== '' && !anchorsOf(file).has(decodeURIComponent(anchor))) {
        broken.push(`${page}: ${link}, which has no such section`);
      }
    }
  }
  t.deepEqual(broken, []);
  t.true(checked > 1000, `only ${checked} links`);
});

test('no link leads to a host that is the name of a file', (t) => {
  const names = readdirSync(PROJECT_ROOT, { withFileTypes: true })
    .filter(({ name }) => !/^(?:\.|node_modules$|dist)/.test(name))
    .flatMap(({ name, parentPath }) => [name, ...filesBelow(join(parentPath, name))]);
  const extensions = new Set(names.map((name) => extname(name).slice(1)).filter((extension) => extension !== ''));
  for (const usual of ['md', 'py', 'ts', 'toml']) t.true(extensions.has(usual), usual);
  const taken = site.pages.flatMap((page) =>
    attributes(readFileSync(join(site.folder, page), 'utf8'), /\shref="(https?:[^"]*)"/g)
      .filter((link) => extensions.has(new URL(link).hostname.split('.').at(-1) ?? ''))
      .map((link) => `${page}: ${link}`),
  );
  t.deepEqual(taken, []);
});

/** The names of files in a folder and those below it; none for what is no folder. */
function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' });
}

test('the documents lead from one to the next, from the front page to the last decision', (t) => {
  const seen: string[] = [];
  for (let page = 'index.html'; ; ) {
    t.false(seen.includes(page), page);
    seen.push(page);
    const html = readFileSync(join(site.folder, page), 'utf8');
    t.is(html.match(/aria-current="page"/g)?.length, 1, page);
    const [next] = attributes(html, /<a href="([^"]*)" rel="next"/g);
    if (next === undefined) break;
    page = normalize(join(dirname(page), next));
  }
  t.deepEqual(
    seen.sort(),
    site.pages.filter((path) => !/^(?:api|files)\/|^modules/.test(path)),
  );
});

test('pages load nothing from elsewhere', (t) => {
  const loaded = site.pages.flatMap((page) => {
    const html = readFileSync(join(site.folder, page), 'utf8');
    return attributes(html, /<(?:script|img|link|iframe|source)\b[^>]*?\s(?:src|href)="([a-z]+:[^"]*|\/\/[^"]*)"/g);
  });
  t.deepEqual(loaded, []);
  for (const sheet of ['style', 'highlight', 'custom']) {
    const css = readFileSync(join(site.folder, `assets/${sheet}.css`), 'utf8');
    t.deepEqual(css.match(/@import|url\((?!["']?data:)[^)]*/g) ?? [], [], sheet);
  }
});

test('every picture has colours for a dark screen', (t) => {
  const pictures = readdirSync(site.folder, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /^media\/.*\.svg$/.test(path),
  );
  t.true(pictures.length >= 6, pictures.join(' '));
  for (const picture of pictures) {
    t.regex(readFileSync(join(site.folder, picture), 'utf8'), /@media \(prefers-color-scheme: dark\)/, picture);
  }
});

test('no marker of a command block, and no path of this machine, is in a page', (t) => {
  for (const page of site.pages) {
    const html = readFileSync(join(site.folder, page), 'utf8');
    // In code they are what docs/testing.md explains.
    t.false(/<!--|&lt;!--/.test(html.replace(/<code[\s\S]*?<\/code>/g, '')), page);
    t.false(html.includes(site.folder), page);
  }
});
