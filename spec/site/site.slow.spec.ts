/**
 * The site: it builds without warnings, has no broken links, and loads nothing from other hosts; also in a browser, on a
 * wide and a small screen, light and dark.
 */
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, extname, join, normalize } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Browser, Page } from 'playwright-core';
import { API_PART_TITLES } from '../../tools/site/api.js';
import { audit, CONTRAST, excessOf, RULES, SMALL, startChromium, WIDE, watchForTrouble } from '../helpers/chromium.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { testWith } from '../helpers/test-with.js';
import { runProgram } from '../helpers/vproxy-process.js';

let site: BuiltSite;
let server: FileServer;
let browser: Browser;

const withBrowser = testWith('chromium');

test.before(async (t) => {
  t.timeout(600_000);
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

/** A watched browser page; it must have no failures by the end of the test. */
async function open(t: ExecutionContext): Promise<{ page: Page; trouble: string[] }> {
  const page = await browser.newPage({ viewport: WIDE, colorScheme: 'light' });
  page.setDefaultTimeout(120_000);
  t.teardown(async () => page.close());
  return { page, trouble: watchForTrouble(page, server.url) };
}

const SCROLLING_IS_REACHED = `[...document.querySelectorAll('.wide')].every(
  (box) => (box.scrollWidth > box.clientWidth) === (box.tabIndex === 0))`;

/** TypeDoc puts a link to a section into the heading that collapses it. */
const EXCEPTIONS = { 'nested-interactive': { enabled: false } };

for (const [what, pattern] of [
  ['documents', /^(?!(?:api|files|docs\/decisions)\/.)/],
  ['decisions and files', /^docs\/decisions\/(?:index|0001)|^files\/packaging\/systemd\/(?:index|vproxy\.service)/],
  ['the API', /^api\/(?:index|Proxy|MuxStream|ChannelStatus|ERROR_CODES|connectPeer)\.html$/],
] as const) {
  withBrowser(`${what}: nothing goes wrong, nothing is too wide, everything has contrast and a name`, async (t) => {
    t.timeout(300_000);
    const { page, trouble } = await open(t);
    // Pictures come late, as over a slow network.
    await page.route('**/*.svg', async (route) => {
      await page.waitForLoadState('domcontentloaded');
      await route.continue();
    });
    const faults: string[] = [];
    const paths = site.pages.filter((path) => pattern.test(path));
    t.true(paths.length > 0);
    for (const path of paths) {
      await page.emulateMedia({ colorScheme: 'light' });
      await page.setViewportSize(WIDE);
      await page.goto(server.url + path);
      faults.push(...(await audit(page, RULES, EXCEPTIONS)));
      const menu = await page.locator('.site-menu').boundingBox();
      const text = await page.locator('.col-content :is(h1, p)').first().boundingBox();
      if (menu === null || text === null || text.x - menu.x - menu.width < 24)
        faults.push(`${path}: text at the navigation`);
      await page.emulateMedia({ colorScheme: 'dark' });
      faults.push(...(await audit(page, CONTRAST, EXCEPTIONS)));
      await page.setViewportSize(SMALL);
      const tooWide = await excessOf(page);
      if (tooWide > 0) faults.push(`${path}: ${tooWide} pixels wider than a small screen`);
      // After the change of the size, too, what scrolls is reached by keyboard.
      await page.waitForFunction(SCROLLING_IS_REACHED);
      t.pass();
    }
    t.deepEqual([faults, trouble], [[], []]);
  });
}

withBrowser('on a phone the text of every picture is large enough to read', async (t) => {
  const { page, trouble } = await open(t);
  await page.setViewportSize({ width: 390, height: 844 });
  for (const path of ['index.html', 'docs/performance-notebook.html']) {
    await page.goto(server.url + path);
    const pictures = page.locator('.col-content img');
    await pictures.last().scrollIntoViewIfNeeded();
    t.true((await pictures.count()) >= 3, path);
    for (const picture of await pictures.all()) {
      const source = (await picture.getAttribute('src')) ?? '';
      const shown = (await picture.boundingBox())?.width ?? 0;
      if (source.endsWith('.png')) {
        // The page of vproxy web: its smallest text is that of badges.
        const image = `document.querySelector(${JSON.stringify(`img[src="${source}"]`)})`;
        const taken = await page.evaluate<number>(`${image}.naturalWidth`);
        t.true((0.82 * 16 * shown) / taken >= 9, `${source}: ${shown} of ${taken}`);
        continue;
      }
      const svg = await (await fetch(new URL(source, page.url()))).text();
      const sizes = Array.from(svg.matchAll(/font-size[=:]"? ?(\d+)/g), ([, size]) => Number(size));
      const [, width = ''] = /<svg [^>]*width="(\d+)"/.exec(svg) ?? [];
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
  await page.fill('#tsd-search-input', 'storage controller');
  const found = page.locator('#tsd-search-results li').first();
  await found.waitFor();
  t.is(await found.textContent(), 'Emulate a storage controller');
  await found.locator('a').click();
  await page.waitForURL(`${server.url}docs/storage.html*`);
  t.is(await page.textContent('h1'), 'Emulate a storage controller');
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
  await page.locator('#tsd-search-results li a', { hasText: 'Emulate a storage controller' }).first().click();
  await page.waitForURL(`file://${site.folder}/docs/storage.html*`);
  t.pass();
});

const readPage = (page: string): string => readFileSync(join(site.folder, page), 'utf8');

/** The values of an attribute in a page. */
const attributes = (page: string, pattern: RegExp): string[] =>
  Array.from(readPage(page).matchAll(pattern), ([, value = '']) => value.replaceAll('&amp;', '&'));

test('the site builds without warnings', (t) => {
  t.is(site.status, 0, site.output);
  t.false(/warning/i.test(site.output), site.output);
  for (const page of ['index.html', 'docs/channels.html', 'api/Proxy.html']) t.true(site.pages.includes(page), page);
});

test('no link to a page, a section or a file is broken', (t) => {
  const anchors = new Map(site.pages.map((page) => [page, new Set(attributes(page, /\sid="([^"]*)"/g))]));
  const links = site.pages.flatMap((page) =>
    attributes(page, /\s(?:href|src)="([^"]*)"/g)
      .filter((link) => !/^[a-z]+:/.test(link))
      .map((link) => [page, link] as const),
  );
  t.true(links.length > 1000, `only ${links.length} links`);
  const broken = links.filter(([page, link]) => {
    const [path = '', anchor = ''] = link.replace(/\?[^#]*/, '').split('#');
    const target = path === '' ? page : normalize(join(dirname(page), decodeURIComponent(path)));
    const file = target.endsWith('/') || target === '.' ? join(target, 'index.html') : target;
    if (!existsSync(join(site.folder, file))) return true;
    return file.endsWith('.html') && anchor !== '' && anchors.get(file)?.has(decodeURIComponent(anchor)) !== true;
  });
  t.deepEqual(broken, []);
});

test('no link has a file name as its host', (t) => {
  const names = readdirSync(PROJECT_ROOT, { withFileTypes: true })
    .filter(({ name }) => !/^(?:\.|node_modules$|dist)/.test(name))
    .flatMap((entry) => [
      entry.name,
      ...(entry.isDirectory()
        ? readdirSync(join(PROJECT_ROOT, entry.name), { recursive: true, encoding: 'utf8' })
        : []),
    ]);
  const extensions = new Set(names.map((name) => extname(name).slice(1)).filter((extension) => extension !== ''));
  for (const usual of ['md', 'py', 'ts', 'toml']) t.true(extensions.has(usual), usual);
  const hosts = site.pages.flatMap((page) => attributes(page, /\shref="(https?:[^"]*)"/g));
  const taken = hosts.filter((link) => extensions.has(new URL(link).hostname.split('.').at(-1) ?? ''));
  t.deepEqual(taken, []);
});

test('the documents link from each to the next, from the front page to the last decision', (t) => {
  const seen: string[] = [];
  for (let page: string | undefined = 'index.html'; page !== undefined; ) {
    t.false(seen.includes(page), page);
    seen.push(page);
    t.is(attributes(page, /(aria-current="page")/g).length, 1, page);
    const [next] = attributes(page, /<a href="([^"]*)" rel="next"/g);
    page = next === undefined ? undefined : normalize(join(dirname(page), next));
  }
  const pages = site.pages.filter((path) => !/^(?:api|files)\//.test(path));
  t.deepEqual(seen.sort(), pages);
});

test('the API is listed by its parts, with one sentence for each export', (t) => {
  const page = readPage('api/index.html').replace(/<\/?(?:div|p|code|a)\b[^>]*>/g, '');
  t.deepEqual(
    Array.from(page.matchAll(/<h2 [^>]*>([^<]+)/g), ([, title]) => title),
    API_PART_TITLES,
  );
  const sentences = Array.from(page.matchAll(/<dd class="tsd-member-summary">([^<]*)<\/dd>/g), ([, text = '']) =>
    text.trim(),
  );
  t.true(sentences.length > 100, String(sentences.length));
  t.deepEqual(
    sentences.filter((text) => !/^.+\.$/s.test(text) || /\.\s/.test(text)),
    [],
  );
});

test('pages load nothing from other hosts, and contain no block markers and no paths of this machine', (t) => {
  const loads = /<(?:script|img|link|iframe|source)\b[^>]*?\s(?:src|href)="([a-z]+:[^"]*|\/\/[^"]*)"/g;
  for (const page of site.pages) {
    t.deepEqual(attributes(page, loads), [], page);
    // In code they are examples of docs/testing.md.
    t.false(/<!--|&lt;!--/.test(readPage(page).replace(/<code[\s\S]*?<\/code>/g, '')), page);
    t.false(readPage(page).includes(site.folder), page);
  }
  for (const sheet of ['style', 'highlight', 'custom']) {
    t.deepEqual(readPage(`assets/${sheet}.css`).match(/@import|url\((?!["']?data:)[^)]*/g) ?? [], [], sheet);
  }
});

test('every picture has colours for a dark screen', (t) => {
  const media = readdirSync(join(site.folder, 'media'), { recursive: true, encoding: 'utf8' });
  const pictures = media.filter((path) => path.endsWith('.svg'));
  t.true(pictures.length >= 6, pictures.join(' '));
  for (const picture of pictures)
    t.regex(readPage(`media/${picture}`), /@media \(prefers-color-scheme: dark\)/, picture);
});

// The site, built as by `npm run site`, and a browser to view it.

/** A site in a folder of its own. */
type BuiltSite = Awaited<ReturnType<typeof buildSite>>;

/** Builds the site from the current state of the repository. */
async function buildSite() {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  const command = [process.execPath, join(PROJECT_ROOT, 'dist/tools/site/build.js'), folder];
  const { code: status, stdout, stderr } = await runProgram(command, { timeoutMs: 600_000 });
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const pages = files.filter((name) => name.endsWith('.html')).sort();
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  return { folder, status, output: stdout + stderr, pages, remove };
}

// A static file server.

const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
};

type FileServer = Awaited<ReturnType<typeof serveFiles>>;

/** Serves `folder` on loopback below the path `base`, which begins and ends with a slash, like `url`. */
async function serveFiles(folder: string, base: string) {
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
