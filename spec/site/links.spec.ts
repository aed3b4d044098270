/**
 * The site as files: it is built without a warning, every link in it leads somewhere, and nothing is loaded from
 * elsewhere.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, extname, join, normalize } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { type BuiltSite, buildSite } from '../helpers/site.js';

let site: BuiltSite;

test.before(async (t) => {
  t.timeout(120_000);
  site = await buildSite();
});
test.after.always(() => site.remove());

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
