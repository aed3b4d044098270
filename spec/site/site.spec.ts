/** Conversion of the repository's documents to pages, and drawing of terminal screens. */
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SECTIONS } from '../../tools/site/contents.js';
import { readDocuments } from '../../tools/site/documents.js';
import { drawScreen, wordsOfScreen } from '../../tools/site/pictures/screen.js';
import { rewriteDocument } from '../../tools/site/rewrite-document.js';
import { stage } from '../../tools/site/stage.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';

test('the front page comes first, and the decisions last, after a list of them', (t) => {
  const documents = readDocuments(PROJECT_ROOT);
  t.is(documents[0]?.path, 'README.md');
  const list = documents.find((document) => document.path === 'docs/decisions/README.md');
  t.true(list?.text.includes('(0001-internal-pipe-handle-for-virtio-ports.md)'));
  t.true(documents.at(-1)?.path.startsWith('docs/decisions/00'));
});

test('README.md lists the same documents in the same sections as the navigation', (t) => {
  const [, list = ''] = /^## Documentation\n\n(.*?)\n\n/ms.exec(projectText('README.md')) ?? [];
  const sections = [...list.matchAll(/^- ([^:]+): (.*(?:\n {2}.*)*)/gm)].map(([, title, links = '']) => ({
    title,
    documents: [...links.matchAll(/\]\(([^)]+)\)/g)]
      .map(([, path = '']) => path)
      .filter((path) => path !== 'docs/decisions/README.md'),
  }));
  t.deepEqual(sections, [...SECTIONS]);
});

test('a document missing from the contents, a missing document in them, and a broken link are errors', (t) => {
  for (const [name, text, message] of [
    ['forgotten.md', '# Forgotten\n', /omits docs\/forgotten\.md/],
    ['channels.md', null, /docs\/channels\.md/],
    ['channels.md', '# Channels\n\n[gone](../packaging/gone.toml)\n', /Channels links to packaging\/gone\.toml/],
  ] as const) {
    const root = temporaryFolder(t);
    cpSync(join(PROJECT_ROOT, 'docs'), join(root, 'docs'), { recursive: true });
    for (const beside of [
      'README.md',
      'CHANGELOG.md',
      'CONTRIBUTING.md',
      'SECURITY.md',
      'examples',
      'guest',
      'packaging',
      'spec',
    ]) {
      symlinkSync(join(PROJECT_ROOT, beside), join(root, beside));
    }
    t.notThrows(() => stage(root, temporaryFolder(t)));
    if (text === null) rmSync(join(root, 'docs', name));
    else writeFileSync(join(root, 'docs', name), text);
    t.throws(() => stage(root, temporaryFolder(t)), { message });
  }
});

test('markers are removed, and links rewritten, except in code', (t) => {
  const code = '```sh\necho "[a](b.md)" # <!-- run: this is code -->\n```\n';
  const text = (to: string) =>
    `See [\`b\`](${to}b.md#c), [![a picture](${to}c.svg)](${to}d.md) and \`[not](this.md)\`.\n`;
  t.is(
    rewriteDocument(`# Title\n\n<!-- run: scene -->\n${code}\n${text('')}`, (link) => ({
      ...link,
      target: `x/${link.target}`,
    })),
    `# Title\n\n${code}\n${text('x/')}`,
  );
});

test('the name of a terminal is joined to the block below it, and a block without a language is text', (t) => {
  const text = '(host, another terminal)\n\n<!-- run: scene -->\n```\nvproxy …\n```\n\n(guest) this is a sentence.\n';
  t.is(
    rewriteDocument(text, (link) => link),
    '<p class="terminal">host, another terminal</p>\n\n```text\nvproxy …\n```\n\n(guest) this is a sentence.\n',
  );
});

test('a link text that is the file name of a document becomes its title', (t) => {
  const folder = temporaryFolder(t);
  stage(PROJECT_ROOT, folder);
  const text = readFileSync(join(folder, 'docs/programs.md'), 'utf8');
  t.true(text.includes('([Install vproxy](install.md#npm))'), text);
});

const draw = (...lines: readonly string[]): string => drawScreen({ title: 'a <title>', columns: 20, lines });

test('text is placed at its columns, and escaped', (t) => {
  const svg = draw('a & b   <c>');
  t.regex(svg, /<text x="16" y="30" textLength="42" [^>]*>a &amp; b<\/text>/);
  t.regex(svg, /<text x="83\.2" y="30" textLength="25\.2" [^>]*>&lt;c&gt;<\/text>/);
  t.regex(svg, /<title id="title">a &lt;title&gt;<\/title>/);
});

test('colours and styles become classes, and continue until reset, even on the next line', (t) => {
  const svg = draw('\u001b[1;32mok\u001b[22m then', 'more\u001b[39m plain \u001b[7m HEAD \u001b[0m');
  t.regex(svg, /<text class="c2 bold"[^>]*>ok<|<text class="bold c2"[^>]*>ok</);
  t.regex(svg, /<text class="c2"[^>]*>then</);
  t.regex(svg, /<text class="c2"[^>]*>more</);
  t.regex(svg, /<text x="[^"]*"[^>]*>plain</);
  const reversed =
    /<rect class="reverse" x="108\.4" [^>]*width="50\.4"[^>]*\/><text class="reverse" x="116\.8"[^>]*>HEAD</;
  t.regex(svg, reversed);
});

test('the file has a light and a dark scheme', (t) => {
  const schemes = /text \{ fill: #1d2229 \}[^]*@media \(prefers-color-scheme: dark\) \{[^]*text \{ fill: #e3e7ec \}/;
  t.regex(draw('a'), schemes);
});

test('bars are shapes, as high as their characters', (t) => {
  const [, path = ''] = /<path class="bars" d="([^"]*)"/.exec(draw('sent ▁█ peak')) ?? [];
  t.is(path, 'M58 32v-1.75h7v1.75zM66.4 32v-14h7v14z');
});

test('figures, bars and columns are not words of a picture', (t) => {
  t.deepEqual(wordsOfScreen(draw('sent   1.5 MB/s ▁▅█ peak 17 kB/s', 'up 3s, p99 2.1 ms')), [
    'sent 0/s peak 0/s',
    'up 0, p0 0',
  ]);
});
