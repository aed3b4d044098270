/** Which files keys are read from when systemd hands some to the service. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { withKeyFiles } from '../../cli/run/key-files.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import type { FileLayer } from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { temporaryFolder } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

const FILE: FileLayer = {
  defaults: {},
  channels: [
    {
      label: 'vm1',
      address: 'stdio:',
      forwards: [],
      keyFiles: ['other.key', './other.key', '/etc/other.key', 'none.key'],
    },
    { label: 'vm2', address: 'fd:3', forwards: [], keyFiles: [] },
    { label: 'vm3', address: 'fd:4', forwards: [] },
  ],
};

const keysOf = (file: FileLayer | null, flags: Record<string, unknown>, folder: string | null) => {
  const merged = mergeConfiguration(...withKeyFiles(file, parseRunFlags(givenIn(flags)), folder));
  return merged.channels.map(({ keyFiles }) => keyFiles);
};

test('credentials called vproxy.key are keys where nothing is said of keys; a name without a slash is a credential first', (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['vproxy.key.old', 'vproxy.key', 'vproxy.keys', 'other.key', 'a.vproxy.key']) {
    writeFileSync(join(folder, name), '');
  }
  const own = [join(folder, 'vproxy.key'), join(folder, 'vproxy.key.old')];
  const other = join(folder, 'other.key');
  t.deepEqual(keysOf(null, { channel: 'stdio:' }, folder), [own]);
  t.deepEqual(keysOf(FILE, {}, folder), [[other, './other.key', '/etc/other.key', 'none.key'], [], own]);
  t.deepEqual(keysOf({ ...FILE, defaults: { keyFiles: ['other.key'] } }, {}, folder).slice(1), [[], [other]]);
  t.deepEqual(keysOf(FILE, { key: ['other.key', 'x'] }, folder), Array(3).fill([other, 'x']));
});

test('without a folder of credentials, or with one that is not there, names are paths and nothing is a key by itself', (t) => {
  const empty = join(temporaryFolder(t), 'empty');
  mkdirSync(empty);
  for (const folder of [null, empty, '/nonexistent']) {
    t.deepEqual(keysOf(null, { channel: 'stdio:' }, folder), [[]]);
    t.deepEqual(keysOf(null, { channel: 'stdio:', key: 'a.key' }, folder), [['a.key']]);
  }
});
