/** Help, version, and the messages for wrong arguments. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const CHANNEL = ['-c', 'unix-connect:/nonexistent/channel.sock'];

test.serial('--version prints program, protocol and Node, and nothing else', async (t) => {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.deepEqual(await runVproxy(['--version']), {
    code: 0,
    stdout: `vproxy ${version} (protocol 1, node ${process.version})\n`,
    stderr: '',
  });
});

for (const args of [['--help'], ['-h'], ['storage-emulator', '--help']]) {
  test.serial(`${args.join(' ')} goes to stdout`, async (t) => {
    const { code, stdout, stderr } = await runVproxy(args);
    t.is(code, 0);
    t.is(stderr, '');
    t.regex(stdout, args.length === 1 ? /--channel[^]*--storage-parallel[^]*--log-format/ : /--replies/);
  });
}

/** Each is a process of its own, so they run one after the other. */
const refused = test.macro<[args: readonly string[], line: string]>({
  exec: async (t, args, line) => {
    t.deepEqual(await runVproxy(args), { code: 64, stdout: '', stderr: `vproxy: error: ${line}\n` });
  },
  title: (_given, args) => `refused: vproxy ${JSON.stringify(args).slice(0, 120)}`,
});

const TIMES = 'a time such as 500ms, 90s, 5m or 1h30m';
const seconds = (value: string) => `"${value}" is not a whole number of seconds from 0 to 86400, or ${TIMES}`;
const forms = 'expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path';

test.serial(
  refused,
  ['-v'],
  '-c: the channel is missing; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock',
);
test.serial(
  refused,
  ['-c'],
  '-c: its value is missing; expected [LABEL=]KIND:ADDRESS[,key=value…], qemu:CHARDEV or URI of a channel (required), such as unix-connect:/run/vm1.sock or libvirt:vm1; repeatable',
);
test.serial(refused, ['-c', ''], '-c: its value is empty');
test.serial(
  refused,
  ['-c', 'stdio:', '--channel', 'fd:3'],
  '-c: there are two channels default; tell them apart with -c LABEL=KIND:ADDRESS',
);
test.serial(
  refused,
  ['-c', 'a=stdio:', '-cb=fd:3', '-ossh:9022'],
  '-o ssh:9022: which channel? There are: a, b; write a/ssh:9022 for the first of them',
);
test.serial(
  refused,
  ['-c', 'A=stdio:'],
  'channel label "A": it is not 1 to 64 of a-z, 0-9, dot, underscore and hyphen',
);
test.serial(
  refused,
  [...CHANNEL, '--metrics', '9464'],
  '--metrics: "9464" is not HOST:PORT with a port from 0 to 65535 (an IPv6 address in brackets: [::1]:9000)',
);
test.serial(refused, ['check'], 'FILE is missing; usage: vproxy check FILE');
test.serial(
  refused,
  ['-c', 'gopher:/dev/ttyS0'],
  `channel "gopher:/dev/ttyS0": should be KIND:ADDRESS, qemu:CHARDEV or a URI, where KIND is one of: ${[...CHANNEL_KINDS.keys()].join(', ')}`,
);
test.serial(
  refused,
  ['-c', 'tcp-listen:0.0.0.0:0'],
  'channel "tcp-listen:0.0.0.0:0": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not',
);
test.serial(refused, [...CHANNEL, '-o', 'ssh'], `-o ssh: there is no colon behind the service; ${forms}`);
test.serial(refused, [...CHANNEL, '-ossh'], `-o ssh: there is no colon behind the service; ${forms}`);
test.serial(refused, [...CHANNEL, '-i', 'ssh:0'], `-i ssh:0: port 0 cannot be dialled; ${forms}`);
test.serial(
  refused,
  [...CHANNEL, '-o', 'x:1', '-o', 'y:\u001b[2J'],
  `-o y:\\x1b[2J: the address is not ADDR:PORT (an IPv6 address is written in brackets); ${forms}`,
);
const HYBRID = ['-o', '*:vsock-mux:/nonexistent/vm1.vsock'];
test.serial(
  refused,
  [...CHANNEL, '--vsock-port', '22=ssh'],
  '--vsock-port: there is no -o *:vsock-mux:/path that it is for',
);
test.serial(
  refused,
  [...CHANNEL, ...HYBRID, '--vsock-port', 'ssh=22'],
  '--vsock-port: "ssh=22" is not PORT=SERVICE, such as 1234=ssh',
);
test.serial(
  refused,
  [...CHANNEL, ...HYBRID, '--vsock-port', '22=ssh', '--vsock-port', '22=x'],
  '--vsock-port: the port 22 is there twice',
);
test.serial(
  refused,
  [...CHANNEL, '-o', 'x:/nonexistent/x.sock,user=no-such-user'],
  'there is no user "no-such-user" in /etc/passwd',
);
for (const value of [
  'ten',
  'NaN',
  '-1',
  '1.5',
  '1e3',
  '0x10',
  ' 1',
  '86401',
  '99999999999999999999',
  '25h',
  '1m1h',
  '5 m',
  'm',
  '1d',
]) {
  test.serial(refused, [...CHANNEL, '--wait', value], `--wait: ${seconds(value)}`);
}
test.serial(
  refused,
  [...CHANNEL, '--dead-after=soon'],
  `--dead-after: "soon" is not a whole number of seconds (0: never) from 0 to 86400, or ${TIMES}`,
);
test.serial(refused, [...CHANNEL, '--wait='], '--wait: its value is empty');
test.serial(refused, [...CHANNEL, '--wait', '1', '--wait', '2'], '--wait: one is expected, but it is there 2 times');
test.serial(
  refused,
  [...CHANNEL, '--storage-parallel', '0'],
  '--storage-parallel: "0" is not a whole number of calls from 1 to 1024',
);
test.serial(
  refused,
  [...CHANNEL, '--no-storage', '--storage-socket', '/x'],
  '--no-storage: cannot be used with --storage-socket',
);
test.serial(refused, [...CHANNEL, '--name', 'x'.repeat(257)], '--name: 257 characters exceed 256');
test.serial(refused, [...CHANNEL, '--log-format', 'xml'], '--log-format: "xml" is neither text nor json');
test.serial(refused, [...CHANNEL, '-q', '-v'], '-q: cannot be used with -v');
test.serial(refused, [...CHANNEL, '--insecure=no'], '--insecure: it takes no value');
test.serial(refused, [...CHANNEL, '--outgoign', 'x'], '--outgoign: no such option; did you mean --outgoing?');
test.serial(
  refused,
  [...CHANNEL, '--storage-sock', 'x'],
  '--storage-sock: no such option; did you mean --storage-socket?',
);
test.serial(refused, [...CHANNEL, '--frobnicate'], '--frobnicate: no such option; see --help');
test.serial(refused, [...CHANNEL, '-x'], '-x: no such option; see --help');
test.serial(refused, ['storage-emulater'], '"storage-emulater": no such command; did you mean storage-emulator?');
test.serial(refused, [...CHANNEL, 'ssh:22'], '"ssh:22": every argument belongs to an option; see --help');
test.serial(refused, [...CHANNEL, '--', 'ssh:22'], '"ssh:22": every argument belongs to an option; see --help');
test.serial(refused, ['storage-emulator'], '--replies: it is missing; expected --replies FILE');
test.serial(
  refused,
  ['pipe-create'],
  '/PATH is missing; usage: vproxy pipe-create /PATH [--mode MODE] [--owner USER[:GROUP]]',
);
test.serial(refused, ['--mode=\u001b[2J', 'pipe-create'], '--mode: no such option; see --help');
test.serial(refused, ['pipe-craete', '/a'], '"pipe-craete": no such command; did you mean pipe-create?');
test.serial(refused, ['pipe-create', 'a'], 'pipe-create: "a" is not the absolute path of a file');
test.serial(refused, ['pipe-create', '/a/'], 'pipe-create: "/a/" is not the absolute path of a file');
test.serial(refused, ['pipe-create', '/a', '--own', 'b'], '--own: no such option; did you mean --owner?');
test.serial(refused, ['pipe-create', '/a', '--owner', 'a b'], '--owner: "a b" is not USER or USER:GROUP');
test.serial(
  refused,
  ['pipe-create', '/a', '--mode', '4755'],
  '--mode: "4755" is not a mode of three octal digits, such as 0660',
);
