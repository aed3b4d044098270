/** Folders of configuration files: what is read, and how the files are joined. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { inspectConfiguration } from '../../lib/settings/file/read-configuration.js';
import { formatProblem } from '../../lib/settings/problem.js';
import { temporaryFolder } from '../helpers/files.js';

type Files = Readonly<Record<string, string>>;

/** Writes files by name, and reads `main`, the folder itself or one of them. */
async function inspect(t: ExecutionContext, files: Files, main = '') {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'more.d'));
  for (const [name, text] of Object.entries(files)) {
    if (text.startsWith('/')) symlinkSync(text, join(folder, name));
    else writeFileSync(join(folder, name), text);
  }
  const { layer, problems } = await inspectConfiguration(join(folder, main));
  const lines = problems.map((one) => formatProblem(one).replace(`${folder}/`, ''));
  return { layer, labels: layer.channels.map(({ label }) => label), problems: lines };
}

const channel = (label: string, more = ''): string => `[channels.${label}]\naddress = "stdio:"\n${more}\n`;

test('the files of a folder are one configuration; other names and inner folders are ignored', async (t) => {
  const { layer, labels, problems } = await inspect(t, {
    'a.toml': `name = "host1"\nwait = 3\n[services.ssh]\nstreams = 2\n${channel('vm1')}`,
    'B.json':
      '{ "$schema": "x", "channels": { "vm2": { "address": "fd:3" } }, "services": { "web": { "streams": 3 } } }',
    ...{ '.a.toml.swp': '=', '.c.toml': '=', 'c.toml~': '=', 'more.d/d.toml': '=', README: '=' },
  });
  t.deepEqual([labels, problems], [['vm2', 'vm1'], []]);
  t.like(layer, { name: 'host1', defaults: { waitMs: 3000, policies: { ssh: { streams: 2 }, web: { streams: 3 } } } });
  t.deepEqual((await inspect(t, {})).layer, { mayBeEmpty: true, defaults: {}, channels: [] });
  const files = { 'host.toml': `include = "more.d"\n${channel('vm1')}`, 'more.d/x.toml': channel('vm2') };
  t.deepEqual((await inspect(t, files, 'host.toml')).labels, ['vm1', 'vm2']);
});

const numbered = (count: number, text = ''): Files =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${index}.toml`, text]));

/** Files, the one that is read if not the folder, and the beginning of each problem. */
const REFUSED: readonly (readonly [Files, string, ...(readonly string[])])[] = [
  [
    {
      'a.toml': `name = "x"\n${channel('vm1', 'outgoing = ["s:1"]')}[egress.web]\nallow = []`,
      'b.toml': `name = "y"\n${channel('vm1')}${channel('vm2', 'outgoing = ["s:1", "x"]')}`,
      'c.toml': 'channels = 3\nservices = 4\n[egress.web]\nallow = ["x"]\n[chanels.vm3]',
    },
    '',
    ...(['b.toml: name: already set in /', 'b.toml: channels.vm1: already set in /'] as const),
    'b.toml: channels.vm2.outgoing[1]: -o x: no colon',
    'b.toml: channels.vm2.outgoing[0]: 127.0.0.1:1 is already used by channels.vm1.outgoing[0] in /',
    ...(['c.toml: channels: already set in /', 'c.toml: egress.web: already set in /'] as const),
    ...(['c.toml: chanels: unknown key', 'c.toml: services: expected a table for each'] as const),
  ],
  [{ 'a.toml': 'include = "more.d"' }, '', 'a.toml: include: only allowed in the file that --config names'],
  [{ 'a.toml': 'include = "x.d"' }, 'a.toml', 'a.toml: include: /'],
  [{ 'a.toml': 'include = "x/*.toml"' }, 'a.toml', 'a.toml: include: "x/*.toml": expected a folder, of which all'],
  [{ 'a.toml': 'include = "more.d"', 'more.d/c.json': '[]' }, 'a.toml', 'more.d/c.json: expected a JSON object'],
  [{ 'a.toml': '', 'b.toml': '#', 'c.json': '\n' }, '', 'a.toml: empty; if it sho', 'c.json: empty; if it sho'],
  [{ 'a.toml': ' ' }, 'a.toml', 'a.toml: empty; if it sho'],
  [{ 'a.toml': '/dev/zero' }, '', 'a.toml: cannot be read: not a regular file'],
  [{ 'a.toml': '/none', 'b.toml': '{' }, '', 'a.toml: cannot be read: no such file', 'b.toml:1:1: not valid TOML'],
  [numbered(4097), '', ': has 4097 files (max 4096)'],
  [numbered(5, '#'.repeat(2 ** 22)), '', ': has files of more than 16777216 bytes'],
];

test('a FIFO that has no writer is refused', async (t) => {
  const file = join(temporaryFolder(t), 'fifo');
  execFileSync('mkfifo', [file]);
  const { problems } = await inspectConfiguration(file, 50);
  t.is(problems[0]?.message, 'cannot be read: nothing was written to this FIFO for 0.05 s');
});

test('each problem names its file, and the other one of two that set the same', async (t) => {
  for (const [files, main, ...beginnings] of REFUSED) {
    const { problems } = await inspect(t, files, main);
    t.deepEqual(
      problems.map((line, index) => line.replace(/^[^:]*(?=: has )/, '').slice(0, beginnings[index]?.length)),
      beginnings,
    );
  }
});
