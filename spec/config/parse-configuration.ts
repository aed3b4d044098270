import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import * as z from 'zod';
import { parseChannel } from '../../lib/channel/address/address.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { findJsonFault, parseDocument } from '../../lib/settings/file/document.js';
import { parseConfiguration } from '../../lib/settings/file/parse-configuration.js';
import { formatProblem } from '../../lib/settings/problem.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { FILE_CHANNEL_SETTINGS, FILE_SETTINGS } from '../../lib/settings/settings-table.js';
import { fixtureRows, PROJECT_ROOT, projectText } from '../helpers/files.js';
import { ANY_CHARACTER } from '../helpers/searches.js';

const problemsOf = (text: string, name = 'f'): string[] =>
  parseConfiguration([parseDocument(text, name)]).problems.map(formatProblem);

const SCHEMA = projectText('docs/config.schema.json');
const editor = z.fromJSONSchema(JSON.parse(SCHEMA) as z.core.JSONSchema.JSONSchema);

/** Whether an editor accepts a text by the schema. */
const isAccepted = (text: string, name = 'f'): boolean =>
  editor.safeParse({ value: null, ...parseDocument(text, name) }.value).success;

const CHANNEL = '[channels.vm1]\naddress = "unix-connect:/run/vm1.sock"\n';

const WHOLE = `
name = "host1"
control = "/run/vproxy/host1.sock"
metrics = "127.0.0.1:9464"
ready = 2
log-level = "debug"
log-format = "json"
log-details = true
wait = 7
dead-after = 0
buffer = 65536
insecure = true

[channels.vm1]
address = "unix:///run/vm1.sock?frame=4096"
outgoing = ["ssh:127.0.0.1:9022", "*:vsock-mux:/run/v.sock,80=web,1024=ssh"]
incoming = ["syslog:file:/var/log/vm1.log"]
wait = 0
dead-after = 30
buffer = 67108864
insecure = false
name = "guest"
storage = { socket = "/run/x.sock", parallel = 4 }

[channels.vm2]
address = "qemu:-chardev socket,id=c0,path=/run/vm2.sock,server=on,wait=off,frame=8192"
storage = false
`;

test('every key of a file becomes a plain value', (t) => {
  const { layer, problems } = parseConfiguration([parseDocument(WHOLE, 'vproxy.toml')]);
  t.deepEqual(problems, []);
  t.deepEqual(layer, {
    name: 'host1',
    control: { path: '/run/vproxy/host1.sock' },
    metrics: { host: '127.0.0.1', port: 9464 },
    ready: 2,
    logLevel: 'debug',
    logFormat: 'json',
    logDetails: true,
    defaults: { waitMs: 7000, deadAfterMs: null, bufferBytes: 65_536, insecure: true },
    channels: [
      {
        label: 'vm1',
        address: parseChannel('unix-connect:/run/vm1.sock,frame=4096'),
        forwards: [
          parseForwardSpec('outgoing', 'ssh:127.0.0.1:9022'),
          parseForwardSpec('outgoing', '*:vsock-mux:/run/v.sock,80=web,1024=ssh'),
          parseForwardSpec('incoming', 'syslog:file:/var/log/vm1.log'),
        ],
        name: 'guest',
        waitMs: 0,
        deadAfterMs: 30_000,
        bufferBytes: 67_108_864,
        insecure: false,
        storage: { isAllowed: true, socketPath: '/run/x.sock', parallel: 4 },
      },
      {
        label: 'vm2',
        address: parseChannel('unix-connect:/run/vm2.sock,frame=8192'),
        forwards: [],
        storage: { isAllowed: false },
      },
    ],
  });
});

/** `{channel}` counts as written, so a service of a group may have as many bytes as that leaves. */
const group = (letters: number): string =>
  `[channels.vms]\naddress = "unix:///run/vms/*.sock"\noutgoing = ["${'s'.repeat(letters)}{channel}:/run/{channel}"]`;

/** A text, and the beginning of each of its problems. */
const REFUSED: readonly (readonly string[])[] = [
  ...fixtureRows('refused-configurations.txt'),
  [`{"a":${'['.repeat(100_000)}`, 'f:1:21: not valid JSON: nested too deep (max 16)'],
  [`a = ${'['.repeat(100_000)}`, 'f:1:'],
  [`${'a.'.repeat(100_000)}a = 1`, 'f: '],
  [`name = "${'x'.repeat(257)}"`, 'f: name: too long: 257 characters (max 256)'],
  [`keys = ["${'1f'.repeat(32)}"]`, 'f: keys[0]: expected the path of a key file, not the key itself'],
  [group(55)],
  [group(56), 'f: channels.vms.outgoing[0]: '],
];

test('an invalid value is reported with its place, and what was expected there', (t) => {
  for (const [text = '', ...beginnings] of REFUSED) {
    const problems = problemsOf(text);
    t.deepEqual(
      problems.map((line, index) => line.slice(0, beginnings[index]?.length)),
      beginnings,
      text.slice(0, 200),
    );
  }
});

test('no text makes it throw, and every problem is one printable line', (t) => {
  const pieces = fc.constantFrom(
    ...'[channels.vm1]\n|address = |"stdio:"|outgoing| = |[|]|{|}|,|"x:1"|\n|wait|3|"|\u001b|\ud800'.split('|'),
    ...["'", '"""', '# ', 'nan', '1979-05-27', ':', '"channels"', '"vm1"', '__proto__'],
  );
  const text = fc.oneof(
    fc.array(pieces, { maxLength: 20 }).map((list) => list.join('')),
    fc.json(),
    fc.string({ unit: ANY_CHARACTER }),
  );
  fc.assert(
    fc.property(text, (value) => {
      for (const line of problemsOf(value))
        t.notRegex(line, /[\u0000-\u001f\u007f-\u009f\u2028]/, JSON.stringify(value));
    }),
    { numRuns: 1000 },
  );
});

test('the example configurations are valid, also in an editor, which marks faults', (t) => {
  const folder = join(PROJECT_ROOT, 'docs/examples');
  const files = readdirSync(folder).filter((name) => /\.(toml|json)$/.test(name));
  t.true(files.length > 0);
  for (const name of files) {
    const text = readFileSync(join(folder, name), 'utf8');
    t.deepEqual([problemsOf(text, name), isAccepted(text, name)], [[], true]);
  }
  t.true(isAccepted('{ "$schema": "config.schema.json" }'));
  const faults = ['wait = -1', 'wait = "5 m"', 'log-level = "loud"', 'nam = "x"', 'control = true', '[channels.vm1]'];
  for (const text of [...faults, `${CHANNEL}once = true`, '[services.ssh]\nstream = 2'])
    t.false(isAccepted(text), text);
});

test('docs/config.md shows a valid file, and its table has every key', (t) => {
  const document = projectText('docs/config.md');
  const [, example = ''] = /```toml\n(.*?)```/s.exec(document) ?? [];
  t.deepEqual([problemsOf(example), isAccepted(example)], [[], true]);
  const rows = [...document.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, keys = '']) => keys.match(/[a-z-]+(?=`)/g) ?? []);
  const known = [...FILE_SETTINGS, ...FILE_CHANNEL_SETTINGS, ...RULE_SETTINGS, ...EGRESS_SETTINGS].map(
    ({ key }) => key,
  );
  t.deepEqual([...new Set(rows)].sort(), [...new Set(known)].sort());
});

test('a JSON error has its place, and what was expected there; another object may have the same key', (t) => {
  for (const [text, offset, message] of [
    ['', 0, 'unexpected end of file, expected a value'],
    ['{"a" 3}', 5, 'expected a colon after the key'],
    ['{"a": 3', 7, 'unexpected end of file, expected a comma or }'],
    ['{"a": 3,}', 8, 'expected a key in quotes'],
    ['[1, 2 3]', 6, 'expected a comma or ]'],
    ['[01]', 1, 'expected a value'],
    ['"\n"', 0, 'expected a value'],
    ['{} x', 3, 'expected the end of the file'],
    ['{"a": 1, "b": 2, "a": 3}', 17, 'duplicate key'],
    ['{"a": 1, "\\u0061": 3}', 9, 'duplicate key'],
  ] as const) {
    t.deepEqual(findJsonFault(text, 16), { offset, message }, text);
  }
  t.is(findJsonFault('{"a": {"a": [{"a": 1}, {"a": 2}]}}', 16), null);
  t.is(findJsonFault(`[${'[[]],'.repeat(100)}[]]`, 4), null, 'depth counts what is open');
});

test('it finds an error exactly where JSON.parse throws', (t) => {
  const pieces = fc.constantFrom(
    ...['{', '}', '[', ']', ',', ':', '"a"', '"\\n"', '"', '1', '-0.5e3', '01', 'true', 'nul', ' '],
  );
  const text = fc.oneof(
    fc.array(pieces, { maxLength: 12 }).map((list) => list.join('')),
    fc.json({ maxDepth: 5 }),
  );
  fc.assert(
    fc.property(text, (value) => {
      const fault = findJsonFault(value, 100);
      if (fault?.message === 'duplicate key') return;
      let parses = true;
      try {
        JSON.parse(value);
      } catch {
        parses = false;
      }
      t.is(fault === null, parses, value);
    }),
    { numRuns: 2000 },
  );
});
