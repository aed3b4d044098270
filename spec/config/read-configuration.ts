/** Folders of configuration files: what is read, and how the files are joined. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { inspectConfiguration } from '../../lib/settings/file/read-configuration.js';
import { formatProblem } from '../../lib/settings/problem.js';
import { temporaryFolder } from '../helpers/files.js';

/** Writes files by name, and reads `main`, the folder itself or one of them. */
async function inspect(t: ExecutionContext, files: Readonly<Record<string, string>>, main = '') {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'more.d'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  symlinkSync('/dev/null', join(folder, 'device.txt'));
  const { layer, problems } = await inspectConfiguration(join(folder, main));
  return { layer, folder, problems: problems.map((one) => formatProblem(one).replaceAll(`${folder}/`, '')) };
}

const channel = (label: string, more = ''): string => `[channels.${label}]\naddress = "stdio:"\n${more}\n`;

test('the files of a folder are one configuration; other names and inner folders are ignored', async (t) => {
  const { layer, problems } = await inspect(t, {
    'a.toml': `name = "host1"\nwait = 3\n[services.ssh]\nstreams = 2\n${channel('vm1')}`,
    'B.json':
      '{ "$schema": "x", "channels": { "vm2": { "address": "fd:3" } }, "services": { "web": { "streams": 3 } } }',
    ...{ '.a.toml.swp': '=', '.c.toml': '=', 'c.toml~': '=', 'more.d/d.toml': '=', README: '=' },
  });
  t.deepEqual(problems, []);
  t.like(layer, { name: 'host1', defaults: { waitMs: 3000, policies: { ssh: { streams: 2 }, web: { streams: 3 } } } });
  t.deepEqual(
    layer.channels.map(({ label }) => label),
    ['vm2', 'vm1'],
    'in the order of the bytes of the names',
  );
  t.deepEqual((await inspect(t, {})).layer, { mayBeEmpty: true, defaults: {}, channels: [] });
});

test('a file may include a folder beside it', async (t) => {
  const files = { 'host.toml': `include = "more.d"\n${channel('vm1')}`, 'more.d/x.toml': channel('vm2') };
  const { layer, problems } = await inspect(t, files, 'host.toml');
  t.deepEqual([layer.channels.map(({ label }) => label), problems], [['vm1', 'vm2'], []]);
});

/** Files, the one that is read if not the folder, and the beginning of each problem. */
const REFUSED: readonly (readonly [Readonly<Record<string, string>>, string, readonly string[]])[] = [
  [
    {
      'a.toml': `name = "x"\n${channel('vm1', 'outgoing = ["s:1"]')}[egress.web]\nallow = []`,
      'b.toml': `name = "y"\n${channel('vm1')}${channel('vm2', 'outgoing = ["s:1"]\nwait = -1')}`,
      'c.toml': `channels = 3\nwait = -1\nservices = 4\n[egress.web]\nallow = ["x"]\n[chanels.vm3]`,
      'd.toml': '=',
    },
    '',
    [
      ...['b.toml: name: already set in a.toml', 'b.toml: channels.vm1: already set in a.toml'],
      ...['b.toml: channels.vm2.wait: expected a whole', 'c.toml: channels: already set in a.toml'],
      ...['c.toml: egress.web: already set in a.toml', 'c.toml: wait: expected', 'c.toml: chanels: unknown key'],
      ...['c.toml: services: expected a table for each service', 'd.toml:1:1: not valid TOML'],
    ],
  ],
  [
    { 'a.toml': channel('vm1', 'outgoing = ["s:1"]'), 'b.toml': channel('vm2', 'outgoing = ["s:1"]') },
    '',
    ['b.toml: channels.vm2.outgoing[0]: 127.0.0.1:1 is already used by channels.vm1.outgoing[0] in '],
  ],
  [{ 'a.toml': 'include = "more.d"' }, '', ['a.toml: include: only allowed in the file that --config names']],
  [{ 'a.toml': 'include = "x.d"' }, 'a.toml', ['a.toml: include: x.d cannot be read: no such file or directory']],
  [{ 'a.toml': 'include = "x/*.toml"' }, 'a.toml', ['a.toml: include: "x/*.toml": expected a folder, of which all']],
  [{ 'a.toml': 'include = ["x"]' }, 'a.toml', ['a.toml: include: expected the path of a folder, such as "host.d"']],
  [
    { 'a.toml': 'include = "more.d"', 'more.d/b.toml': 'wait = -1', 'more.d/c.json': '[]' },
    'a.toml',
    ['more.d/b.toml: wait: expected', 'more.d/c.json: expected a JSON object'],
  ],
];

test('each problem names its file, and the other one of two that set the same', async (t) => {
  for (const [files, main, beginnings] of REFUSED) {
    const { problems } = await inspect(t, files, main);
    t.deepEqual(
      problems.map((line, index) => line.slice(0, beginnings[index]?.length)),
      beginnings,
    );
  }
});

test('too many files, too much of them, and a file that has no end are refused', async (t) => {
  const many = Object.fromEntries(Array.from({ length: 4097 }, (_, index) => [`${index}.toml`, '']));
  const { folder, problems } = await inspect(t, many);
  t.deepEqual(problems, [`${folder}: has 4097 files (max 4096)`]);
  const large = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [`${name}.toml`, '#'.repeat(4 * 2 ** 20)]));
  t.regex((await inspect(t, large)).problems.join(), /^[^:]*: has files of more than 16777216 bytes$/);
  const linked = temporaryFolder(t);
  for (const path of ['/dev/zero', '/none'])
    symlinkSync(path, join(linked, `x${path.replace('/', '-').replace('/', '-')}.toml`));
  t.deepEqual((await inspectConfiguration(linked)).problems.map(formatProblem), [
    `${linked}/x-dev-zero.toml: cannot be read: not a regular file`,
    `${linked}/x-none.toml: cannot be read: no such file or directory (ENOENT)`,
  ]);
});
