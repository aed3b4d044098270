/** The table of settings compared with the documents, and each setting of a channel in every place that allows it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ADDITION_OPTIONS, readAddition } from '../../cli/commands/channel-add.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { parseConfiguration } from '../../lib/settings/parse-configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { keyIn, type Setting } from '../../lib/settings/setting.js';
import { FILE_CHANNEL_SETTINGS } from '../../lib/settings/settings-table.js';
import { PROJECT_ROOT } from '../helpers/files.js';

const RELOADS = { now: 'at once', channel: 'with the channel, which begins again', start: 'the next start' } as const;

function row(prefix: string, setting: Setting): string {
  const { key, options = [], about, reload } = setting;
  const names = options
    .filter(({ isOfAdditionOnly = false }) => !isOfAdditionOnly || prefix !== '')
    .map(({ name, ofAddition }) => `\`--${prefix === '' ? name : (ofAddition?.name ?? name)}\``);
  const field = prefix === '' || about === undefined ? '' : `\`${keyIn('request', setting)}\``;
  return `| \`${prefix}${key}\` | ${names.join(', ')} | ${field} | ${RELOADS[reload]} |`.replaceAll(/ {2}(?=\|)/g, ' ');
}

test('docs/config.md says of each setting where it is said, and when it counts', (t) => {
  const inner = (table: string, settings: readonly Setting[]): string[] =>
    settings.map((setting) => `| \`${table}.*.${setting.key}\` | | \`${keyIn('request', setting)}\` | at once |`);
  const table = [
    '| key | options | field | counts from |',
    '| --- | --- | --- | --- |',
    ...PROCESS_SETTINGS.map((setting) => row('', setting)),
    ...FILE_CHANNEL_SETTINGS.map((setting) => row('channels.*.', setting)),
    ...inner('services', RULE_SETTINGS),
    ...inner('egress', EGRESS_SETTINGS),
  ].join('\n');
  const document = readFileSync(join(PROJECT_ROOT, 'docs/config.md'), 'utf8');
  t.true(document.includes(`\n\n${table}\n\n`), `it should have this table:\n${table}`);
});

test('what a file says of a channel, the options of an addition say as a request', (t) => {
  const words: Record<string, readonly string[]> = {
    outgoing: ['*:vsock-mux:/v'],
    incoming: ['web:80'],
    'vsock-port': ['22=ssh'],
    'own-name': ['me'],
    wait: ['0.5'],
    'dead-after': ['0'],
    buffer: ['65536'],
    'no-insecure': [''],
    key: ['/a.key', '/b.key'],
    'peer-address': [''],
    'allow-exec': ['/bin/a,/bin/b'],
    'no-allow-copy': [''],
    'no-info': [''],
    'announce-ports': ['8080,3000-3999'],
    'forward-ports': ['3000-9999,dir=/run/{channel}/ports/'],
    rule: [
      'ssh:streams=2,idle-timeout=300,channels=vm1,channels=vm2',
      'web:channels=,opens-per-second=0.5',
      'exec:record=/var/log/terminals/,record-input=true',
    ],
    egress: [
      'internet:allow=deb.debian.org:80,443,allow=*.Ubuntu.com:443,deny=10.0.0.0/8:*',
      'api:allow=,upstream=http://127.0.0.1:3128/',
    ],
    'storage-socket': ['/s'],
    'storage-parallel': ['4'],
  };
  const request = readAddition((name) => words[name] ?? []);
  t.deepEqual(request, {
    outgoing: ['*:vsock-mux:/v'],
    incoming: ['web:80'],
    vsockPorts: { 22: 'ssh' },
    name: 'me',
    waitS: 0.5,
    deadAfterS: 0,
    buffer: 65_536,
    insecure: false,
    keys: ['/a.key', '/b.key'],
    peerAddress: true,
    allowExec: ['/bin/a', '/bin/b'],
    allowCopy: false,
    info: false,
    announcePorts: '3000-3999,8080',
    forwardPorts: '3000-9999,dir=/run/{channel}/ports',
    services: {
      ssh: { streams: 2, idleTimeoutS: 300, channels: ['vm1', 'vm2'] },
      web: { channels: [], opensPerSecond: 0.5 },
      exec: { record: '/var/log/terminals', recordInput: true },
    },
    egress: {
      internet: { allow: ['deb.debian.org:80,443', '*.ubuntu.com:443'], deny: ['10.0.0.0/8:*'] },
      api: { allow: [], upstream: '127.0.0.1:3128' },
    },
    storage: { socket: '/s', parallel: 4 },
  });
  const fields = FILE_CHANNEL_SETTINGS.map((setting) => keyIn('request', setting)).filter((key) => key !== 'address');
  t.deepEqual(Object.keys(request).sort(), fields.sort(), 'all that a file can say');
  for (const name of Object.keys(words)) t.true(Object.hasOwn(ADDITION_OPTIONS, name), name);
  t.deepEqual(
    readAddition(() => []),
    {},
  );
});

for (const [words, message] of [
  [{ rule: ['ssh'] }, '--rule: "ssh" is not SERVICE:KEY=VALUE[,KEY=VALUE…], such as ssh:streams=10'],
  [{ rule: ['ssh:stream=1'] }, /^--rule: there is no key "stream" of a rule; did you mean streams\?$/],
  [{ rule: ['ssh:streams=1,streams=2'] }, /^--rule: streams: one is expected/],
  [{ rule: ['ssh:record=/a'] }, '--rule: record: only the service exec has terminals to be recorded'],
  [{ rule: ['exec:record=a'] }, /^--rule: record: "a" is not the absolute path of a folder/],
  [{ rule: ['exec:record-input=yes'] }, /^--rule: record-input: "yes" is not true or false$/],
  [{ rule: ['a:streams=1', 'a:streams=2'] }, '--rule: the service a is there twice'],
  [
    { egress: ['web'] },
    '--egress: "web" is not NAME:KEY=VALUE[,KEY=VALUE…], such as internet:allow=deb.debian.org:80,443',
  ],
  [{ egress: ['web:alow=a:1'] }, '--egress: there is no key "alow" of an egress; did you mean allow?'],
  [{ egress: ['web:allow=a.example'] }, /^--egress: allow: entry "a\.example": there are no ports/],
  [{ egress: ['web:allow=a.example:80,x'] }, /^--egress: allow: entry "a\.example:80,x": "x" is neither a port /],
  [{ egress: ['web:upstream=127.0.0.1'] }, /^--egress: upstream: upstream "127\.0\.0\.1": expected http:/],
  [{ key: ['/a'], 'no-key': [''] }, '--no-key: cannot be used with --key'],
  [{ info: [''], 'no-info': [''] }, '--no-info: cannot be used with --info'],
  [{ 'no-storage': [''], 'storage-socket': ['/s'] }, '--no-storage: cannot be used with --storage-socket'],
  [{ buffer: ['1M'] }, '--buffer: "1M" is not a whole number of bytes from 65536 to 67108864'],
  [
    { wait: ['x'] },
    '--wait: "x" is not a number of seconds from 0 to 86400, or a time such as 500ms, 90s, 5m or 1h30m',
  ],
] as const) {
  test(`an addition refuses ${JSON.stringify(words)}`, (t) => {
    const given: Readonly<Record<string, readonly string[]>> = words;
    t.throws(() => readAddition((name) => given[name] ?? []), { code: 'bad-argument', message });
  });
}

test('a file and the options of the command line say the same of a channel', (t) => {
  const file = `wait = 3\ndead-after = 0\nbuffer = 65536\ninsecure = true\nkeys = ["/a"]\npeer-address = true\nallow-exec = true\nallow-copy = "/srv"\ninfo = true\nannounce-ports = "3000-9999"\nforward-ports = "5000,address=::1"\n[egress.web]\nallow = ["a.example:80,443", "b.example:*"]\n`;
  const words: Readonly<Record<string, readonly string[]>> = {
    wait: ['3'],
    'dead-after': ['0'],
    buffer: ['65536'],
    insecure: [''],
    key: ['/a'],
    'peer-address': [''],
    'allow-exec': ['\0'],
    'allow-copy': ['/srv'],
    info: [''],
    egress: ['web:allow=a.example:80,443,allow=b.example:*'],
    'announce-ports': ['3000-9999'],
    'forward-ports': ['5000,address=::1'],
  };
  const flags = parseRunFlags((name) => words[name] ?? []);
  t.deepEqual(parseConfiguration(file, 'f').layer.defaults, flags.settings);
});
