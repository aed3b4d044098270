/** Rules of egresses in files, requests and options, and what is in force of them. */
import test from 'ava';
import { parseRunFlags } from '../../cli/run/run-options.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { describeConfiguration, formatConfiguration } from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { parseConfiguration } from '../../lib/settings/parse-configuration.js';
import { formatProblem } from '../../lib/settings/problem.js';
import { givenIn } from '../helpers/given-options.js';

function merge(file: string, flags: Record<string, unknown> = {}): Configuration {
  const { layer, problems } = parseConfiguration(file, 'f');
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  return mergeConfiguration(layer, parseRunFlags(givenIn(flags)));
}

const egressOf = ({ channels }: Configuration) =>
  Object.fromEntries(channels.map(({ label, egress }) => [label, egress]));

const FILE = `
[egress.internet]
allow = ["deb.debian.org:80,443", "*.Ubuntu.com.:443", "{channel}.internal:443"]
deny = ["10.0.0.0/8:*"]

[egress.api]
allow = ["api.example.org:443"]

[channels.vm1]
address = "stdio:"

[channels.vm1.egress.internet]
allow = ["[2001:DB8::/32]:22", "{channel}.example.org:8000-8999"]
upstream = "http://10.0.0.1:3128/"

[channels.vm1.egress.db]
allow = ["192.0.2.1:5432"]

[channels.vm2]
address = "stdio:"

[channels.vms]
address = "unix-connect:/run/vms/*.sock"
egress.internet.deny = []
`;

test('what is said for all channels and what one says of its own are one, of which its own wins key by key', (t) => {
  const api = { allow: ['api.example.org:443'] };
  const all = {
    allow: ['deb.debian.org:80,443', '*.ubuntu.com:443', '{channel}.internal:443'],
    deny: ['10.0.0.0/8:*'],
  };
  const merged = merge(FILE);
  t.deepEqual(egressOf(merged), {
    vm1: {
      internet: {
        allow: ['[2001:db8::/32]:22', '{channel}.example.org:8000-8999'],
        deny: ['10.0.0.0/8:*'],
        upstream: '10.0.0.1:3128',
      },
      api,
      db: { allow: ['192.0.2.1:5432'] },
    },
    vm2: { internet: all, api },
    vms: { internet: { ...all, deny: [] }, api },
  });
  t.deepEqual(
    merged.channelDefaults.egress,
    { internet: all, api },
    'and a channel that is added later has those of all',
  );
});

test('what is printed of it is read back as the same', (t) => {
  const merged = merge(FILE);
  for (const format of ['toml', 'json'] as const) {
    const text = formatConfiguration(merged, format);
    t.deepEqual(egressOf(merge(text)), egressOf(merged), format);
  }
  const { channels } = describeConfiguration(merge('[channels.vm1]\naddress = "stdio:"')) as {
    channels: Record<string, object>;
  };
  t.false(Object.hasOwn(channels['vm1'] ?? {}, 'egress'), 'nothing is printed where nothing is said');
});

test('--egress wins over the file, key by key, on every channel', (t) => {
  const merged = merge(FILE, { egress: ['internet:allow=a.example:80,443,deny=', 'new:allow=*:443'] });
  t.deepEqual(egressOf(merged)['vm1'], {
    internet: { allow: ['a.example:80,443'], deny: [], upstream: '10.0.0.1:3128' },
    api: { allow: ['api.example.org:443'] },
    db: { allow: ['192.0.2.1:5432'] },
    new: { allow: ['*:443'] },
  });
  t.deepEqual(egressOf(merged)['vm2']?.['new'], { allow: ['*:443'] });
});

const REFUSED: readonly (readonly [file: string, ...problems: readonly string[]])[] = [
  ['egress = 3', 'f: egress: expected a table for each egress, such as [egress.internet]'],
  ['[egress]\na = []', 'f: egress.a: expected a table, such as { allow = ["deb.debian.org:80,443"] }'],
  ['[egress.a]\nalow = []', 'f: egress.a.alow: there is no such key; did you mean allow?'],
  [
    '[egress.a]\nallow = "a.example:80"',
    'f: egress.a.allow: expected a list of entries, such as ["deb.debian.org:80,443"]',
  ],
  [
    '[egress.A]\nallow = ["a.example", 80, "0x7f.1:80"]\ndeny = ["{channel}"]\nupstream = "ftp://a:1"',
    'f: egress.A: the name of an egress is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit',
    'f: egress.A.allow[0]: entry "a.example": there are no ports; for all of them write a.example:*',
    'f: egress.A.allow[1]: expected an entry, such as "deb.debian.org:80,443"',
    'f: egress.A.allow[2]: entry "0x7f.1:80": it would be read as 127.0.0.1; an IPv4 address is four decimal numbers from 0 to 255 without leading zeros',
    'f: egress.A.deny[0]: entry "{channel}": there are no ports; for all of them write {channel}:*',
    'f: egress.A.upstream: upstream "ftp://a:1": expected an HTTP proxy, http://HOST:PORT',
  ],
  [
    '[channels.vm1]\naddress = "stdio:"\negress.a.allow = ["10.{channel}.0.0/16:80"]',
    'f: channels.vm1.egress.a.allow[0]: entry "10.{channel}.0.0/16:80": it ends in a number; an IPv4 address is four decimal numbers from 0 to 255 without leading zeros',
  ],
];

test('what is wrong of it is told where it is', (t) => {
  for (const [file, ...expected] of REFUSED) {
    const { problems } = parseConfiguration(file, 'f');
    t.deepEqual(
      problems.map((problem) => formatProblem('f', problem)),
      expected,
    );
  }
});
