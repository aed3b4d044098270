import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import * as z from 'zod';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { findJsonFault, parseDocument } from '../../lib/settings/file/document.js';
import { parseConfiguration } from '../../lib/settings/file/parse-configuration.js';
import { formatProblem } from '../../lib/settings/problem.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { FILE_CHANNEL_SETTINGS, FILE_SETTINGS } from '../../lib/settings/settings-table.js';
import { PROJECT_ROOT } from '../helpers/files.js';

const problemsOf = (text: string, name = 'f'): string[] =>
  parseConfiguration([parseDocument(text, name)]).problems.map(formatProblem);

const SCHEMA = readFileSync(join(PROJECT_ROOT, 'docs/config.schema.json'), 'utf8');
const editor = z.fromJSONSchema(JSON.parse(SCHEMA) as z.core.JSONSchema.JSONSchema);

/** Whether an editor accepts a text by the schema. */
const isAccepted = (text: string, name = 'f'): boolean =>
  editor.safeParse({ value: null, ...parseDocument(text, name) }.value).success;

const CHANNEL = '[channels.vm1]\naddress = "unix-connect:/run/vm1.sock"\n';
const GROUP = '[channels.vms]\naddress = "unix:///run/vms/*.sock"\n';

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
outgoing = ["ssh:127.0.0.1:9022", "*:vsock-mux:/run/v.sock,80=web"]
incoming = ["syslog:file:/var/log/vm1.log"]
wait = 0
dead-after = 30
buffer = 67108864
insecure = false
name = "guest"
storage = { socket = "/run/x.sock", parallel = 4 }
vsock-ports = { 1024 = "ssh", 80 = "other" }

[channels.vm2]
address = "qemu:-chardev socket,id=c0,path=/run/vm2.sock,server=on,wait=off,frame=8192"
storage = false
`;

test('every key of a file becomes a plain value', (t) => {
  const { layer, problems } = parseConfiguration([parseDocument(WHOLE, 'vproxy.toml')]);
  t.deepEqual(problems, []);
  t.deepEqual(layer, {
    name: 'host1',
    control: '/run/vproxy/host1.sock',
    metrics: { host: '127.0.0.1', port: 9464 },
    ready: 2,
    logLevel: 'debug',
    logFormat: 'json',
    logDetails: true,
    defaults: { waitMs: 7000, deadAfterMs: null, bufferBytes: 65_536, insecure: true },
    channels: [
      {
        label: 'vm1',
        address: 'unix-connect:/run/vm1.sock,frame=4096',
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
      { label: 'vm2', address: 'unix-connect:/run/vm2.sock,frame=8192', forwards: [], storage: { isAllowed: false } },
    ],
  });
});

/** A text, and the beginning of each of its problems. */
const REFUSED: readonly (readonly string[])[] = [
  ['a = 1\nb = = 2', 'f:2:5: not valid TOML: invalid value'],
  ['wait = 1\nwait = 2', 'f:2:1: not valid TOML: trying to redefine an already defined table or value'],
  ['{"wait": 3,\n "channels" {}}', 'f:2:13: not valid JSON: expected a colon after the key'],
  ['{"wait": 3, "wait": 4}', 'f:1:13: not valid JSON: duplicate key'],
  [' \n {', 'f:2:3: not valid JSON'],
  [`{"a":${'['.repeat(100_000)}`, 'f:1:21: not valid JSON: nested too deep (max 16)'],
  [`a = ${'['.repeat(100_000)}`, 'f:1:'],
  [`${'a.'.repeat(100_000)}a = 1`, 'f: '],
  ['name = ""', 'f: name: empty; expected a string of 1 to 256 characters'],
  [`name = "${'x'.repeat(257)}"`, 'f: name: too long: 257 characters (max 256)'],
  ['control = true', 'f: control: expected the path of a socket, or false'],
  ['log-level = "loud"', 'f: log-level: expected error, warn, info or debug'],
  ['wait = 1.5', 'f: wait: expected a whole number of seconds from 0 to 86400, or a time such as 500ms,'],
  ['dead-after = 86401', 'f: dead-after: expected a whole number of seconds (0: never) from 0 to 86400'],
  ['buffer = 65535', 'f: buffer: expected a whole number of bytes from 65536 to 67108864'],
  ['insecure = 1', 'f: insecure: expected true or false'],
  ['waits = 1', 'f: waits: unknown key; did you mean wait?'],
  ['"\\u001b[2J" = 1', 'f: "\\x1b[2J": unknown key; available: wait, dead-after, buffer, '],
  ['channels = []', 'f: channels: expected tables of channels, such as [channels.vm1]'],
  ['{"channels": {"vm1": 3}}', 'f: channels.vm1: expected a table with an address'],
  ['[channels.vm1]', 'f: channels.vm1.address: missing; expected KIND:ADDRESS or a URI'],
  ['[channels."VM 1"]\naddress = "stdio:"', 'f: channels."VM 1": channel label "VM 1": must be 1 to 64 of a-z'],
  ['[channels."vm.1"]\naddress = "unix://run/x"', 'f: channels."vm.1".address: channel "unix://run/x": expected'],
  ['[channels.vms]\naddress = "unix-connect:/run/*/*.sock"', 'f: channels.vms.address: '],
  [
    '{"channels": {"__proto__": {"address": "stdio:"}, "vm1": {"address": "stdio:", "__proto__": 3}}}',
    'f: channels.vm1.__proto__: unknown key; available: ',
  ],
  [
    `${CHANNEL}outgoing = "ssh:22"`,
    'f: channels.vm1.outgoing: expected a list of strings, such as ["ssh:127.0.0.1:9022"]',
  ],
  [`${CHANNEL}storage = "no"`, 'f: channels.vm1.storage: expected true, false, or a table with socket and parallel'],
  [`${CHANNEL}vsock-ports = { 22 = "ssh" }`, 'f: channels.vm1.vsock-ports: needs an outgoing "*:vsock-mux:/path"'],
  [
    `${CHANNEL}outgoing = ["*:vsock-mux:/v"]\nvsock-ports = { x = "ssh", 22 = 3 }`,
    'f: channels.vm1.vsock-ports.22: expected the name of a service',
    'f: channels.vm1.vsock-ports.x: "x=ssh" is not PORT=SERVICE, such as 1234=ssh',
  ],
  [
    `${CHANNEL}incoming = ["a:1", "a:3"]\noutgoing = ["x:0", "y:0", "z:1"]\n[channels.vm2]\naddress = "stdio:"\nincoming = ["a:1"]\noutgoing = ["q:127.0.0.1:1"]`,
    'f: channels.vm1.incoming[1]: service a is already used by channels.vm1.incoming[0]',
    'f: channels.vm2.outgoing[0]: 127.0.0.1:1 is already used by channels.vm1.outgoing[2]',
  ],
  ['keys = "/a"', 'f: keys: expected a list of paths, such as ["/etc/vproxy/vm1.key"]'],
  ['keys = [3]', 'f: keys[0]: expected the path of a file'],
  [`keys = ["${'1f'.repeat(32)}"]`, 'f: keys[0]: expected the path of a key file, not the key itself'],
  ['allow-exec = "/usr/bin/uname"', 'f: allow-exec: expected true, false, or a list of paths'],
  ['allow-copy = 1', 'f: allow-copy: expected true, false, or the path of a folder, such as "/srv/in"'],
  ...['uname', 'bin/uname', '/usr/../bin/uname', '/usr/bin/', ''].map((path) => [
    `allow-exec = ["/usr/bin/id", "${path}"]`,
    `f: allow-exec: "${path}" is not the absolute path of a program, such as /usr/bin/uname`,
  ]),
  ...['in', '/srv/..', '/srv/../in', ''].map((path) => [
    `allow-copy = "${path}"`,
    `f: allow-copy: "${path}" is not the absolute path of a folder, such as /srv/in`,
  ]),
  ['audit = "audit.log"', 'f: audit: the path of a file must be absolute and end with the file name'],
  ['audit = "/a,keep=3"', 'f: audit: keep=: only allowed with rotate='],
  ['services = 3', 'f: services: expected a table for each service, such as [services.ssh]'],
  ['[services]\nssh = 3', 'f: services.ssh: expected a table, such as { streams = 10 }'],
  ['[services.ssh]\nstream = 3', 'f: services.ssh.stream: unknown key; did you mean streams?'],
  ['[services.ssh]\nrecord = "/tmp"', 'f: services.ssh: record: only the service exec has terminals to record'],
  ['[services.exec]\nrecord = "tmp"', 'f: services.exec.record: "tmp" is not the absolute path of a folder'],
  [
    '[services.SSH]\nstreams = 0\nchannels = ["VM"]\nopens-per-second = 0\nbytes-per-second = 3\nidle-timeout = 0.5',
    'f: services.SSH: the name of a service must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen',
    'f: services.SSH.channels[0]: channel label "VM": must be 1 to 64 of a-z',
    'f: services.SSH.streams: expected a whole number of streams from 1 to 1048576',
    'f: services.SSH.opens-per-second: expected a number of openings per second from 0.01 to 1000000',
    'f: services.SSH.bytes-per-second: expected a number of bytes per second from 1024 to 1000000000000',
    'f: services.SSH.idle-timeout: expected a whole number of seconds from 1 to 86400',
  ],
  ['egress = 3', 'f: egress: expected a table for each egress, such as [egress.internet]'],
  ['[egress]\na = []', 'f: egress.a: expected a table, such as { allow = ["deb.debian.org:80,443"] }'],
  ['[egress.a]\nalow = []', 'f: egress.a.alow: unknown key; did you mean allow?'],
  ['[egress.a]\nallow = "a.example:80"', 'f: egress.a.allow: expected a list of entries, such as '],
  [
    '[egress.A]\nallow = ["a.example", 80, "0x7f.1:80"]\ndeny = ["{channel}"]\nupstream = "ftp://a:1"',
    'f: egress.A: the name of an egress must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen',
    'f: egress.A.allow[0]: entry "a.example": missing ports; for all ports use a.example:*',
    'f: egress.A.allow[1]: expected an entry, such as "deb.debian.org:80,443"',
    'f: egress.A.allow[2]: entry "0x7f.1:80": would be read as 127.0.0.1',
    'f: egress.A.deny[0]: entry "{channel}": missing ports; for all ports use {channel}:*',
    'f: egress.A.upstream: upstream "ftp://a:1": expected an HTTP proxy, http://HOST:PORT',
  ],
  [
    `${CHANNEL}egress.a.allow = ["10.{channel}.0.0/16:80"]`,
    'f: channels.vm1.egress.a.allow[0]: entry "10.{channel}.0.0/16:80": ends in a number',
  ],
  // Forwards of a group have a placeholder for a label, those of a channel do not; the placeholder counts as written.
  [`${CHANNEL}outgoing = ["{channel}:0"]`, 'f: channels.vm1.outgoing[0]: -o {channel}:0: not a valid service name'],
  [
    `${GROUP}outgoing = ["{channel}:{channel}:0", "x:{channel}"]`,
    'f: channels.vms.outgoing[1]: -o x:{channel}: not a valid',
  ],
  [
    `${GROUP}outgoing = ["a:/run/{channel}", "b:/run/{channel}"]`,
    'f: channels.vms.outgoing[1]: /run/{channel} is already used by channels.vms.outgoing[0]',
  ],
  [`${GROUP}outgoing = ["${'s'.repeat(55)}{channel}:/run/{channel}"]`],
  [`${GROUP}outgoing = ["${'s'.repeat(56)}{channel}:/run/{channel}"]`, 'f: channels.vms.outgoing[0]: '],
  // Every error is listed, including those of inner tables and of later channels.
  [
    `wait = -1\nnam = "x"\n[channels.vm1]\naddress = "serial:/dev/ttyS0"\noutgoing = ["ssh:9022", "ssh", 3]\noutgoin = []
    storage = { socket = "", paralel = 2 }\nvsock-ports = { a = "b" }\n[channels.VM2]\nincoming = ["x:0"]`,
    ...['wait', 'nam', 'channels.vm1.address', 'channels.vm1.outgoing[2]', 'channels.vm1.outgoin'],
    ...['channels.vm1.outgoing[1]', 'channels.vm1.storage.socket', 'channels.vm1.storage.paralel'],
    ...['channels.vm1.vsock-ports.a', 'channels.VM2', 'channels.VM2.address', 'channels.VM2.incoming[0]'],
  ].map((line, index) => (index === 0 ? line : `f: ${line}: `)),
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
    fc.string({ unit: 'binary' }),
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
  const document = readFileSync(join(PROJECT_ROOT, 'docs/config.md'), 'utf8');
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
