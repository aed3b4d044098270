/** What hands that know other programs type: the line says what was meant, wherever that can be known. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { type Refusals, testRefusals } from '../helpers/refusals.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const TIMES = 'a time such as 500ms, 90s, 5m or 1h30m';
const FORMS = 'expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path';
const PORT = '(an IPv6 address in brackets: [::1]:9000)';
const FOREGROUND = 'vproxy runs in the foreground; append & or make it a service of systemd';
const NO_OPERAND = 'the channel has no option in front of it: vproxy channel add vm2=unix-connect:/run/vm2.sock';

/** Of `vproxy -c CHANNEL`. */
const CHANNELS: Refusals = [
  ['vm1:unix-connect:/x', 'unknown kind "vm1"; did you mean vm1=unix-connect:/x?'],
  ['unix-connect:tmp/x.sock', 'the path must be absolute'],
  ['unix-listen:x.sock', 'the path must be absolute'],
  ['vsock-mux-connect:vm1.vsock:1024', 'the path must be absolute'],
  ['pipe-open:vm1', 'the path must be absolute'],
  ['tty-open:ttyS1', 'the path must be absolute'],
  ['unix:/run/x.sock', 'unknown kind "unix"; did you mean unix-connect:?'],
  ['serial:/dev/ttyS0', 'unknown kind "serial"; did you mean tty-open:?'],
  ['vsock:3:1024', 'unknown kind "vsock"; did you mean vsock-connect:?'],
  ['stdio', 'missing colon after the kind; did you mean stdio:?'],
  ['ssh:host1', 'unknown kind "ssh"; did you mean ssh://?'],
  [
    'vm1',
    `expected KIND:ADDRESS, qemu:CHARDEV or a URI, where KIND is one of: ${[...CHANNEL_KINDS.keys()].join(', ')}`,
  ],
  ['stdio:,frame=1', 'frame=1: must be a number of bytes from 4096 to 1048576'],
  ['stdio:,fram=4096', 'unknown option "fram"; did you mean frame?'],
  ['tcp-listen:8000', `"8000" is not HOST:PORT with a port from 0 to 65535 ${PORT}`],
  ['tcp-connect:host1', `"host1" is not HOST:PORT with a port from 1 to 65535 ${PORT}`],
  ['fd:x', 'expected a descriptor number, except 2, which is for the log'],
  ['libvirt:', 'missing domain name, such as libvirt:vm1'],
  ['qemu:socket', 'a socket needs either path=, or host= and port='],
  ['exec:', 'missing command, such as ssh HOST vproxy -c stdio:'],
  ['virtserial-open:', 'missing path, such as /run/vm1.sock'],
  ['vsock-connect:1024', '"1024" is not CID:PORT, such as 2:1234 for the host, 3:1234 for a guest'],
  ['vsock-listen:3:1024', '"3:1024" is not a port from 0 to 4294967294'],
];

/** Of `vproxy -c stdio:`, with other options. */
const OPTIONS: Refusals = [
  ['--allow-exec /usr/bin/uname', 'unexpected argument "/usr/bin/uname"; did you mean --allow-exec=/usr/bin/uname?'],
  ['--allow-copy /srv', 'unexpected argument "/srv"; did you mean --allow-copy=/srv?'],
  [
    '-L 8080:127.0.0.1:80',
    '-L: unknown option; -o SERVICE:[ADDR:]PORT listens here, and -i SERVICE:TARGET at the peer offers the service',
  ],
  [
    '-R 8080:127.0.0.1:80',
    '-R: unknown option; -i SERVICE:TARGET offers a service here, and -o SERVICE:[ADDR:]PORT at the peer listens for it',
  ],
  [
    '-D 1080',
    '-D: unknown option; -o SERVICE:[ADDR:]PORT listens here, and -i SERVICE:egress:NAME at the peer is a proxy',
  ],
  ['-p 8080:80', '-p: unknown option; -o SERVICE:[ADDR:]PORT listens here for a service of the peer'],
  ['-d', `-d: unknown option; ${FOREGROUND}`],
  ['--daemon', `--daemon: unknown option; ${FOREGROUND}`],
  ['--log-level debug', '--log-level: unknown option; -v and -vv log more, -q less'],
  [
    '-o 2222:127.0.0.1:22',
    '-o 2222:127.0.0.1:22: begins with a port, as in ssh, instead of a service; expected -o NAME:2222 here, and -i NAME:127.0.0.1:22 at the peer, with a NAME such as ssh',
  ],
  ['-o 127.0.0.1:22', `-o 127.0.0.1:22: begins with an address instead of a service; ${FORMS}`],
  ['-i 22', `-i 22: no colon after the service; ${FORMS}`],
  ['-o ssh:99999', `-o ssh:99999: port 99999 is not from 0 to 65535; ${FORMS}`],
  [
    '-o SSH:22',
    `-o SSH:22: not a valid service name (1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit); ${FORMS}`,
  ],
  [
    '-i x:file:log',
    '-i x:file:log: the path of a file must be absolute and end with the file name; expected SERVICE:file:/path[,rotate=10M][,keep=5]',
  ],
  ['-i x:unix:run/x', '-i x:unix:run/x: the path must be absolute; expected SERVICE:unix:/path'],
  ['-i x:exec:', '-i x:exec:: missing command; expected SERVICE:exec:COMMAND'],
  ['-i x:egress:', '-i x:egress: no [egress.x] section; none defined'],
  [
    '--config',
    '--config: missing value; expected FILE with the configuration, TOML or JSON; the command line overrides it',
  ],
  ['--key', '--key: missing value; expected FILE with a key that the peer must have too; vproxy genkey makes one'],
  ['--name=', '--name: empty value'],
  ['--verbose=3', '--verbose: takes no value'],
  ['--metrics localhost', `--metrics: "localhost" is not HOST:PORT with a port from 0 to 65535 ${PORT}`],
  ['--audit audit.log', '--audit: the path of a file must be absolute and end with the file name'],
  ['--forward-ports 80', '--forward-ports: "80": not a port or a range FROM-TO, from 1024 to 65535'],
  ['--announce-ports x', '--announce-ports: "x": not a port or a range FROM-TO, from 1024 to 65535'],
];

testRefusals([
  ...CHANNELS.map(([text, line]) => [`-c ${String(text)}`, `channel "${String(text)}": ${line}`] as const),
  ...OPTIONS.map(([words, line]) => [`-c stdio: ${String(words)}`, line] as const),
  ['channel add -c vm2=unix-connect:/run/vm2.sock', `-c: unknown option; ${NO_OPERAND}`],
  ['channel add --channel stdio:', `--channel: unknown option; ${NO_OPERAND}`],
  ['channel remove', 'missing LABEL; usage: vproxy channel remove LABEL [--now]'],
  ['channel remove A', '"A": not a valid channel label; expected 1 to 64 of a-z, 0-9, dot, underscore and hyphen'],
  [
    'forward add ssh:9999',
    'unexpected argument "ssh:9999"; did you mean vproxy forward add -o ssh:9999, or vproxy forward add -i ssh:9999?',
  ],
  [
    'forward remove',
    'missing ID|FORWARD|SERVICE; usage: vproxy forward remove ID|FORWARD|SERVICE [--channel LABEL] [--now]',
  ],
  ['forward list', '"forward list": no such command; did you mean forwards?'],
  ['stop now', 'unexpected argument "now"; did you mean vproxy channel remove now, or vproxy stop --name now?'],
  ['reload file.toml', 'unexpected argument "file.toml"; did you mean vproxy reload --name file.toml?'],
  [
    'upgrade /usr/bin/vproxy',
    'unexpected argument "/usr/bin/vproxy"; did you mean vproxy upgrade --program /usr/bin/vproxy?',
  ],
  ['services vm1 vm2', 'unexpected argument "vm2"; usage: vproxy services [LABEL] [--json]'],
  ['log-level loud', '"loud" is not a log level; available: error, warn, info, debug'],
  ['events --replay 501', '--replay: "501" is not a number of events from 0 to 500'],
  ['top --interval 0', `--interval: "0" is not a number of seconds from 0.1 to 3600, or ${TIMES}`],
  ['top -d 1', '-d: unknown option; did you mean --interval?'],
  ['wait --timeout soon', `--timeout: "soon" is not a number of seconds from 0 to 86400, or ${TIMES}`],
  ['wait vm1/ssh/x', '"ssh/x": not a valid service name'],
  ['connect vm1/SSH', '"SSH": not a valid service name'],
  [
    'egress test internet',
    'missing DESTINATION:PORT; usage: vproxy egress test [CHANNEL/]EGRESS DESTINATION:PORT [--channel LABEL] [--config FILE] [--json]',
  ],
  ['copy -P a vm1:b', '-P: unknown option; an interrupted copy is resumed with --resume'],
  ['play', 'missing FILE; usage: vproxy play FILE [--speed N] [--idle-limit SECONDS] [--raw]'],
  ['play a --speed fast', '--speed: "fast" is not a number from 0.01 to 1000'],
  ['storage link a/b', '"a/b": not the name of a program; set its folder with --folder'],
  ['libvirt-xml --mode listen', '--mode: "listen" is neither bind nor connect'],
  ['qemu-args', '--path: missing; expected a unix socket, such as --path /run/vm1.sock'],
  ['genkey a b', 'unexpected argument "b"; usage: vproxy genkey [FILE]'],
  ['help nothing', '"nothing": no such command; see vproxy help'],
  ['restart', '"restart": no such command; did you mean upgrade, or reload?'],
  ['logs', '"logs": no such command; did you mean events?'],
]);

test('a folder that is missing behind a path is named', async (t) => {
  const folder = temporaryFolder(t);
  const none = join(folder, 'none');
  for (const [words, line] of [
    [`-c unix-listen:${none}/x`, `cannot listen on ${none}/x: its folder does not exist`],
    [`-c unix-listen:${folder}/c -o x:${none}/x`, `cannot listen on ${none}/x: its folder does not exist`],
    [`-c unix-listen:${folder}/c -i x:file:${none}/x`, `cannot write ${none}/x: its folder does not exist`],
  ] as const) {
    const { code, stderr } = await runVproxy(words.split(' '));
    t.deepEqual([code, stderr], [69, `vproxy: error: ${line}\n`], words);
  }
  const { stderr } = await callVproxy(['status', '--socket', '/etc/passwd']);
  t.true(existsSync('/etc/passwd'));
  t.is(stderr, 'vproxy: error: no process answers on /etc/passwd: not a socket\n');
});

test('a forward for a service that the peer lacks is added with a warning, and listed as not offered', async (t) => {
  const { run } = await steeredPair(t, { peer: { incoming: ['web:127.0.0.1:9'] } });
  const { code, stderr } = await run('forward', 'add', '-o', 'registry:127.0.0.1:0');
  t.deepEqual([code, stderr], [0, 'vproxy: warning: the peer offers no service registry; it offers: web\n']);
  t.is((await run('forward', 'add', '-o', 'web:127.0.0.1:0')).stderr, '');
  const { stdout } = await run('forwards');
  t.regex(stdout, / registry +127\.0\.0\.1:\d+ +not offered +0 +0\n/);
  t.regex(stdout, / web +127\.0\.0\.1:\d+ +active +0 +0\n/);
  const listed = JSON.parse((await run('forwards', '--json')).stdout) as { service: string; offered: boolean }[];
  t.deepEqual(Object.fromEntries(listed.map(({ service, offered }) => [service, offered])), {
    registry: false,
    web: true,
  });
});
