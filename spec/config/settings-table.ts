/** The table of settings compared with the documents, and each setting of a channel in every place that accepts it. */
import { join } from 'node:path';
import test from 'ava';
import { ADDITION_OPTIONS, readAddition } from '../../cli/commands/channel-add.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { parseDocument } from '../../lib/settings/file/document.js';
import { parseConfiguration } from '../../lib/settings/file/parse-configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { keyIn, listOptions, type Setting } from '../../lib/settings/setting.js';
import { FILE_CHANNEL_SETTINGS } from '../../lib/settings/settings-table.js';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

const RELOADS = { now: 'immediately', channel: 'by restarting the channel', start: 'at the next start' } as const;

function row(prefix: string, setting: Setting): string {
  const { key, reload } = setting;
  const names = listOptions(setting)
    .filter(({ isOfAdditionOnly = false }) => !isOfAdditionOnly || prefix !== '')
    .map(({ name, ofAddition }) => `\`--${prefix === '' ? name : (ofAddition?.name ?? name)}\``);
  const field = prefix === '' ? '' : `\`${keyIn('request', setting)}\``;
  return `| \`${prefix}${key}\` | ${names.join(', ')} | ${field} | ${RELOADS[reload]} |`.replaceAll(/ {2}(?=\|)/g, ' ');
}

test('docs/config.md says for each setting where it can be set, and when it takes effect', (t) => {
  const inner = (table: string, settings: readonly Setting[]): string[] =>
    settings.map((setting) => `| \`${table}.*.${setting.key}\` | | \`${keyIn('request', setting)}\` | immediately |`);
  const table = [
    '| key | options | field | takes effect |',
    '| --- | --- | --- | --- |',
    ...PROCESS_SETTINGS.map((setting) => row('', setting)),
    ...FILE_CHANNEL_SETTINGS.map((setting) => row('channels.*.', setting)),
    ...inner('services', RULE_SETTINGS),
    ...inner('egress', EGRESS_SETTINGS),
  ].join('\n');
  const document = projectText('docs/config.md');
  t.true(document.includes(`\n\n${table}\n\n`), `it should have this table:\n${table}`);
});

test('docs/config.schema.json is current: npm run config-schema writes it', async (t) => {
  const { describeConfiguration } = (await import(join(PROJECT_ROOT, 'tools/generate/config-schema.mjs'))) as {
    describeConfiguration: () => object;
  };
  const text = projectText('docs/config.schema.json');
  t.deepEqual(JSON.parse(text), describeConfiguration());
});

type Flags = Readonly<Record<string, string | readonly string[] | true>>;

/** A line of a file, the equivalent flags of the command line, and the request of an addition with these. */
const SAID: readonly (readonly [line: string, flags: Flags, request: object])[] = [
  ['wait = "500ms"', { wait: '500ms' }, { waitS: 0.5 }],
  ['dead-after = 0', { 'dead-after': '0' }, { deadAfterS: 0 }],
  ['buffer = 65536', { buffer: '65536' }, { buffer: 65_536 }],
  ['insecure = true', { insecure: true }, { insecure: true }],
  ['keys = ["/a", "/b"]', { key: ['/a', '/b'] }, { keys: ['/a', '/b'] }],
  ['peer-address = true', { 'peer-address': true }, { peerAddress: true }],
  ['allow-exec = ["/bin/a", "/bin/b"]', { 'allow-exec': '/bin/a,/bin/b' }, { allowExec: ['/bin/a', '/bin/b'] }],
  ['allow-copy = "/srv"', { 'allow-copy': '/srv' }, { allowCopy: '/srv' }],
  ['allow-freeze = true', { 'allow-freeze': true }, { allowFreeze: true }],
  ['info = true', { info: true }, { info: true }],
  ['follow-clock = "500ms,back=no"', { 'follow-clock': '500ms,back=no' }, { followClock: '500ms,back=no' }],
  ['reseed = true', { reseed: true }, { reseed: true }],
  ['announce-ports = "8080,3000-3999"', { 'announce-ports': '8080,3000-3999' }, { announcePorts: '3000-3999,8080' }],
  ['forward-ports = "5000,address=::1"', { 'forward-ports': '5000,address=::1' }, { forwardPorts: '5000,address=::1' }],
  [
    'egress.web = { allow = ["a.example:80,443", "*.B.example:*"], deny = ["10.0.0.0/8:*"] }',
    { egress: 'web:allow=a.example:80,443,allow=*.B.example:*,deny=10.0.0.0/8:*' },
    { egress: { web: { allow: ['a.example:80,443', '*.b.example:*'], deny: ['10.0.0.0/8:*'] } } },
  ],
];

/** Settings that have flags only in an addition. */
const ADDED: readonly (readonly [flags: Flags, request: object])[] = [
  [{ outgoing: ['*:vsock-mux:/v', 'x:0'] }, { outgoing: ['*:vsock-mux:/v', 'x:0'] }],
  [{ incoming: 'web:80' }, { incoming: ['web:80'] }],
  [{ 'own-name': 'me' }, { name: 'me' }],
  [{ wait: '0.25' }, { waitS: 0.25 }],
  [{ 'storage-socket': '/s', 'storage-parallel': '4' }, { storage: { socket: '/s', parallel: 4 } }],
  [
    { rule: ['ssh:streams=2,idle-timeout=300,channels=vm1,channels=vm2', 'web:channels=,opens-per-second=0.5'] },
    {
      services: {
        ssh: { streams: 2, idleTimeoutS: 300, channels: ['vm1', 'vm2'] },
        web: { channels: [], opensPerSecond: 0.5 },
      },
    },
  ],
];

test('a file, the command line and an addition give the same channel, and accept each setting', (t) => {
  const requests: Record<string, unknown> = {};
  for (const [line, flags, request] of SAID) {
    const { layer, problems } = parseConfiguration([parseDocument(line, 'f')]);
    t.deepEqual(problems, [], line);
    t.deepEqual(parseRunFlags(givenIn(flags)).settings, layer.defaults, line);
    t.deepEqual(readAddition(givenIn(flags)), { ...request }, line);
    Object.assign(requests, request);
  }
  for (const [flags, request] of ADDED) {
    t.deepEqual(readAddition(givenIn(flags)), { ...request });
    Object.assign(requests, request);
  }
  const fields = FILE_CHANNEL_SETTINGS.map((setting) => keyIn('request', setting)).filter((key) => key !== 'address');
  t.deepEqual(Object.keys(requests).sort(), fields.sort(), 'all that a file can say');
  const without = { 'no-insecure': true, 'no-allow-copy': true, 'no-info': true } as const;
  t.deepEqual(readAddition(givenIn(without)), { insecure: false, allowCopy: false, info: false });
  const recording = { rule: 'exec:record=/var/log/terminals/,record-input=true' };
  t.like(readAddition(givenIn(recording)), { services: { exec: { record: '/var/log/terminals', recordInput: true } } });
  for (const [flags] of ADDED)
    for (const name of Object.keys(flags)) t.true(Object.hasOwn(ADDITION_OPTIONS, name), name);
  t.deepEqual(readAddition(givenIn({})), {});
});

test('an invalid value of an addition is reported with its option', (t) => {
  for (const [flags, beginning] of [
    [{ rule: 'ssh' }, '--rule: "ssh": expected SERVICE:KEY=VALUE[,KEY=VALUE…], such as ssh:streams=10'],
    [{ rule: 'ssh:stream=1' }, '--rule: a rule has no key "stream"; did you mean streams?'],
    [{ rule: 'ssh:streams=1,streams=2' }, '--rule: streams: given 2 times (max 1)'],
    [{ rule: 'ssh:record=/a' }, '--rule: record: only the service exec has terminals to record'],
    [{ rule: 'exec:record=a' }, '--rule: record: "a" is not the absolute path of a folder'],
    [{ rule: 'exec:record-input=yes' }, '--rule: record-input: "yes" is not true or false'],
    [{ rule: ['a:streams=1', 'a:streams=2'] }, '--rule: service a given twice'],
    [{ egress: 'web' }, '--egress: "web": expected NAME:KEY=VALUE[,KEY=VALUE…], such as internet:allow=deb.debian.org'],
    [{ egress: 'web:alow=a:1' }, '--egress: an egress has no key "alow"; did you mean allow?'],
    [{ egress: 'web:allow=a.example' }, '--egress: allow: entry "a.example": missing ports'],
    [{ egress: 'web:upstream=127.0.0.1' }, '--egress: upstream: upstream "127.0.0.1": expected http:'],
    [{ key: '/a', 'no-key': true }, '--no-key: not allowed with --key'],
    [{ info: true, 'no-info': true }, '--no-info: not allowed with --info'],
    [{ 'no-storage': true, 'storage-socket': '/s' }, '--no-storage: not allowed with --storage-socket'],
    [{ buffer: '1M' }, '--buffer: "1M" is not a whole number of bytes from 65536 to 67108864'],
    [{ wait: 'x' }, '--wait: "x" is not a number of seconds from 0 to 86400, or a time such as 500ms'],
  ] as const) {
    const { message } = t.throws(() => readAddition(givenIn(flags)), { code: 'bad-argument' });
    t.is(message.slice(0, beginning.length), beginning);
  }
});
