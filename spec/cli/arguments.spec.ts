/** Help, version, and the messages for wrong arguments. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { testRefusals } from '../helpers/refusals.js';
import { runVproxy } from '../helpers/vproxy-process.js';

test('--version prints program, protocol and Node, and nothing else', async (t) => {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.deepEqual(await runVproxy(['--version']), {
    code: 0,
    stdout: `vproxy ${version} (protocol 1, node ${process.version})\n`,
    stderr: '',
  });
});

test('an invalid command line is one line on stderr, and an exit status', async (t) => {
  t.deepEqual(await runVproxy(['--frobnicate']), {
    code: 64,
    stdout: '',
    stderr: 'vproxy: error: --frobnicate: unknown option; see --help\n',
  });
});

for (const [words, says] of [
  ['--help', /--channel[^]*--storage-parallel[^]*--log-format/],
  ['-h', /--channel/],
  ['storage-emulator --help', /--replies/],
  ['forward add --help', /^Usage: vproxy forward add .*\n[^]* -o, --outgoing FORWARD +Listen[^]* -h, --help/],
] as const) {
  test(`${words} goes to stdout`, async (t) => {
    const { stdout, ...rest } = await callVproxy(words.split(' '));
    t.deepEqual(rest, { code: 0, stderr: '' });
    t.regex(stdout, says);
  });
}

const CHANNEL = '-c unix-connect:/nonexistent/channel.sock';
const HYBRID = `${CHANNEL} -o *:vsock-mux:/nonexistent/vm1.vsock`;
const TIMES = 'a time such as 500ms, 90s, 5m or 1h30m';
const FORMS = 'expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path';
const NOT_TIMES = 'ten NaN -1 1.5 1e3 0x10 86401 99999999999999999999 25h 1m1h m 1d'.split(' ');

testRefusals([
  ['-v', '-c: missing channel; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock'],
  [
    '-c',
    '-c: missing value; expected [LABEL=]KIND:ADDRESS[,key=value…], qemu:CHARDEV or URI of a channel, such as unix-connect:/run/vm1.sock or libvirt:vm1',
  ],
  [['-c', ''], '-c: empty value'],
  ['-c stdio: --channel fd:3', '-c: duplicate label "default"; label each channel with -c LABEL=KIND:ADDRESS'],
  [
    '-c a=stdio: -cb=fd:3 -ossh:9022',
    '-o ssh:9022: missing channel label; defined: a, b; for the first one write a/ssh:9022',
  ],
  ['-c A=stdio:', 'channel label "A": must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen'],
  [
    `${CHANNEL} --metrics 9464`,
    '--metrics: "9464" is not HOST:PORT with a port from 0 to 65535 (an IPv6 address in brackets: [::1]:9000)',
  ],
  ['check', 'missing FILE; usage: vproxy check FILE'],
  [
    '-c gopher:/dev/ttyS0',
    `channel "gopher:/dev/ttyS0": expected KIND:ADDRESS, qemu:CHARDEV or a URI, where KIND is one of: ${[...CHANNEL_KINDS.keys()].join(', ')}`,
  ],
  [
    '-c tcp-listen:0.0.0.0:0',
    'channel "tcp-listen:0.0.0.0:0": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not',
  ],
  [`${CHANNEL} -ossh`, `-o ssh: no colon after the service; ${FORMS}`],
  [`${CHANNEL} -i ssh:0`, `-i ssh:0: port 0 is not from 1 to 65535; ${FORMS}`],
  [
    `${CHANNEL} -o x:1 -o y:\u001b[2J`,
    `-o y:\\x1b[2J: not a valid ADDR:PORT (an IPv6 address goes in brackets); ${FORMS}`,
  ],
  [`${CHANNEL} --vsock-port 22=ssh`, '--vsock-port: only allowed with -o *:vsock-mux:/path'],
  [`${HYBRID} --vsock-port ssh=22`, '--vsock-port: "ssh=22" is not PORT=SERVICE, such as 1234=ssh'],
  [`${HYBRID} --vsock-port 22=ssh --vsock-port 22=x`, '--vsock-port: port 22 given twice'],
  [`${CHANNEL} -o x:/nonexistent/x.sock,user=no-such-user`, 'no user "no-such-user" in /etc/passwd'],
  ...[...NOT_TIMES, ' 1', '5 m'].map(
    (value) =>
      [
        [...CHANNEL.split(' '), '--wait', value],
        `--wait: "${value}" is not a whole number of seconds from 0 to 86400, or ${TIMES}`,
      ] as const,
  ),
  [
    `${CHANNEL} --dead-after=soon`,
    `--dead-after: "soon" is not a whole number of seconds (0: never) from 0 to 86400, or ${TIMES}`,
  ],
  [`${CHANNEL} --wait=`, '--wait: empty value'],
  [`${CHANNEL} --wait 1 --wait 2`, '--wait: given 2 times (max 1)'],
  [`${CHANNEL} --storage-parallel 0`, '--storage-parallel: "0" is not a whole number of calls from 1 to 1024'],
  [`${CHANNEL} --no-storage --storage-socket /x`, '--no-storage: not allowed with --storage-socket'],
  [`${CHANNEL} --name ${'x'.repeat(257)}`, '--name: too long: 257 characters (max 256)'],
  [`${CHANNEL} --log-format xml`, '--log-format: "xml" is neither text nor json'],
  [`${CHANNEL} -q -v`, '-q: not allowed with -v'],
  [`${CHANNEL} --insecure=no`, '--insecure: takes no value'],
  [`${CHANNEL} --outgoign x`, '--outgoign: unknown option; did you mean --outgoing?'],
  [`${CHANNEL} --storage-sock x`, '--storage-sock: unknown option; did you mean --storage-socket?'],
  [`${CHANNEL} --frobnicate`, '--frobnicate: unknown option; see --help'],
  [`${CHANNEL} -x`, '-x: unknown option; see --help'],
  [`${CHANNEL} ssh:22`, 'unexpected argument "ssh:22"; see --help'],
  [`${CHANNEL} -- ssh:22`, 'unexpected argument "ssh:22"; see --help'],
  ['storage-emulater', '"storage-emulater": no such command; did you mean storage-emulator?'],
  ['storage-emulator', '--replies: missing; expected --replies FILE'],
  ['pipe-create', 'missing /PATH; usage: vproxy pipe-create /PATH [--mode MODE] [--owner USER[:GROUP]]'],
  ['--mode=\u001b[2J pipe-create', '--mode: unknown option; see --help'],
  ['pipe-craete /a', '"pipe-craete": no such command; did you mean pipe-create?'],
  ['pipe-create a', 'pipe-create: "a" is not the absolute path of a file'],
  ['pipe-create /a/', 'pipe-create: "/a/" is not the absolute path of a file'],
  ['pipe-create /a --own b', '--own: unknown option; did you mean --owner?'],
  [['pipe-create', '/a', '--owner', 'a b'], '--owner: "a b" is not USER or USER:GROUP'],
  ['pipe-create /a --mode 4755', '--mode: "4755" is not an octal mode up to 0777, such as 0660'],
]);

// Commands for a running vproxy.
testRefusals([
  ['stats', '"stats": no such command; did you mean status?'],
  ['forward', 'forward: incomplete command; expected forward add or forward remove'],
  ['forward ad', '"forward ad": no such command; did you mean forward add?'],
  ['status --jsom', '--jsom: unknown option; did you mean --json?'],
  ['status --json=yes', '--json: takes no value'],
  ['status a/b', 'unexpected argument "a/b"; usage: vproxy status [--verbose] [--json]'],
  ['status --socket', '--socket: missing value; expected --socket PATH'],
  ['status --socket --json', '--socket: missing value; expected --socket PATH'],
  ['status --socket=', '--socket: empty value'],
  ['status --socket a --name b', '--socket: not allowed with --name'],
  ['ping -c 1 -c 2', '-c: given 2 times (max 1)'],
  ['ping -c x', '--count: "x" is not a number of pings from 1 to 1000000000'],
  ['connect', 'missing SERVICE; usage: vproxy connect [LABEL/]SERVICE [--channel LABEL]'],
  ['stream close 7', '"7" is not CHANNEL/ID, such as default/7'],
  ['forward add', 'missing forward; expected -o FORWARD or -i FORWARD'],
  ['-v status', '"status": the command must come before its options; see vproxy status --help'],
]);

const HOME =
  'a home directory has no name to copy it under; name a file in it, such as vm1:notes.txt, or use its absolute path';

testRefusals([
  ['copy a b', 'neither side is remote; a path on the peer is written LABEL:PATH, or :PATH'],
  ['copy vm1:/a vm1:/b', 'both sides are remote; one of them must be local'],
  ['copy a :/b ./c', 'some sources are local and some remote; copy them separately'],
  ['copy vm1:/a vm2:/b ./c', 'the sources are on several channels'],
  ...['', '~', '~root/'].map((path) => [`copy vm1:${path} .`, `"${path}": ${HOME}`] as const),
  ['copy vm1:../.. .', '"../..": no name to copy it under'],
  ['copy a VM:/b', '"VM:/b": not a valid channel label before the colon; for a local file write ./VM:/b'],
  ['copy a', 'missing DEST; usage: vproxy copy [--resume] [--quiet] [--json] SRC… DEST'],
  ['completion tcsh', 'completion: unknown shell "tcsh"; available: bash, zsh, fish'],
  ['completion', 'completion: missing shell; available: bash, zsh, fish'],
  [
    'completion --names peers',
    '--names: unknown list "peers"; available: channels, services, forwards, egresses, streams',
  ],
  ['doctor -o ssh:22', '-c: missing channel; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock'],
  ['doctor --insecure=yes', '--insecure: takes no value'],
  ['doctor --timeout 0', `--timeout: "0" is not a number of seconds from 0.1 to 600, or ${TIMES}`],
]);
