/** How the documents of the repository are changed before they become pages. */
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { readDocuments } from '../../site/documents.js';
import { rewriteDocument } from '../../site/rewrite-document.js';
import { stage } from '../../site/stage.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';

/** The documents of the repository, to be changed, and beside them what they link to. */
function copyDocuments(root: string): void {
  cpSync(join(PROJECT_ROOT, 'docs'), join(root, 'docs'), { recursive: true });
  for (const name of ['README.md', 'CHANGELOG.md', 'SECURITY.md', 'examples', 'packaging', 'spec']) {
    symlinkSync(join(PROJECT_ROOT, name), join(root, name));
  }
}

test('the front page comes first, and the decisions come last, behind a list of them', (t) => {
  const documents = readDocuments(PROJECT_ROOT);
  t.is(documents[0]?.path, 'README.md');
  const list = documents.find((document) => document.path === 'docs/decisions/index.md');
  t.true(list?.text.includes('(0001-internal-pipe-handle-for-virtio-ports.md)'));
  t.true(documents.at(-1)?.path.startsWith('docs/decisions/00'));
});

test('a document that the contents leave out is named', (t) => {
  const root = temporaryFolder(t);
  copyDocuments(root);
  t.notThrows(() => readDocuments(root));
  writeFileSync(join(root, 'docs/forgotten.md'), '# Forgotten\n');
  t.throws(() => readDocuments(root), { message: /leaves out docs\/forgotten\.md/ });
});

test('a document of the contents that is not there is named', (t) => {
  const root = temporaryFolder(t);
  copyDocuments(root);
  rmSync(join(root, 'docs/channels.md'));
  t.throws(() => readDocuments(root), { message: /docs\/channels\.md/ });
});

test('a link to nowhere is named with the document that has it', (t) => {
  const root = temporaryFolder(t);
  copyDocuments(root);
  writeFileSync(join(root, 'docs/channels.md'), '# Channels\n\n[gone](../packaging/gone.toml)\n');
  t.throws(() => stage(root, temporaryFolder(t)), { message: /Channels links to packaging\/gone\.toml/ });
});

test('markers are left out, and links are rewritten, but not in code', (t) => {
  const text = [
    '# Title',
    '',
    '<!-- run: scene -->',
    '```sh',
    'echo "[a](b.md)" # <!-- run: this is code -->',
    '```',
    '',
    'See [`b`](b.md#c), [![a picture](c.svg)](d.md) and `[not](this.md)`.',
    '',
  ].join('\n');
  t.is(
    rewriteDocument(text, ({ text, target }) => ({ text, target: `x/${target}` })),
    [
      '# Title',
      '',
      '```sh',
      'echo "[a](b.md)" # <!-- run: this is code -->',
      '```',
      '',
      'See [`b`](x/b.md#c), [![a picture](x/c.svg)](x/d.md) and `[not](this.md)`.',
      '',
    ].join('\n'),
  );
});

test('the name of a terminal is joined to the block below it, and a block without a language is text', (t) => {
  const text = '(host, another terminal)\n\n<!-- run: scene -->\n```\nvproxy …\n```\n\n(guest) this is a sentence.\n';
  t.is(
    rewriteDocument(text, (link) => link),
    '<p class="terminal">host, another terminal</p>\n\n```text\nvproxy …\n```\n\n(guest) this is a sentence.\n',
  );
});

test('a link that shows the file of a document shows its name instead', (t) => {
  const folder = temporaryFolder(t);
  stage(PROJECT_ROOT, folder);
  const text = readFileSync(join(folder, 'docs/programs.md'), 'utf8');
  t.true(text.includes('([Installing](install.md#npm))'), text);
});
