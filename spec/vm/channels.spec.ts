/** Every way into a guest: each kind of port that `vproxy qemu-args` prints, an emulated serial line, and vsock. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { within } from '../helpers/time.js';
import { ESTABLISHED, runProgram, runVproxy } from '../helpers/vproxy-process.js';
import { eventuallyInGuest, type GuestJob } from './rig/agent.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { Laboratory } from './rig/laboratory.js';
import { disturb, startTransfers } from './rig/transfer.js';
import { useGuest } from './rig/use-guest.js';
import { checkEssentials } from './rig/uses.js';

const SESSION_MS = 120_000;
/** A serial line is slow to fill, and to be drained. */
const LINE_MS = 600_000;
const FILE_BYTES = 1 << 20;
const SMALL_BYTES = 64 << 10;
/** More than the guest's terminal holds. */
const CONSOLE_BYTES = 60_000;
const PROGRESS_BYTES = 256 << 10;
/** A serial line is slow. */
const SERIAL_PROGRESS_BYTES = 16 << 10;
// Only for a key that is never echoed: the test shows that the echo comes before the next key is pressed.
const ECHO_MS = 30_000;
const COOKED = /(?<!-)\bicanon\b[^]*(?<!-)\becho\b/;
const VSOCK_PORT = 5000;
const FORWARD_PORT = 9100;
const SERIAL_LINE = '/dev/ttyS1';

/** The arguments of `qemu-args` after the name of a port, and the channel of the host's vproxy. */
type Ends = (folder: string, tcpPort: number) => readonly [args: readonly string[], channel: string];

/** The last one is two FIFOs, which do not show that the other end was closed. */
const PORTS: readonly (readonly [title: string, name: string, ends: Ends])[] = [
  ['a unix socket', PORT_NAME, (folder) => [['--path', `${folder}/a.sock`], `unix-connect:${folder}/a.sock`]],
  [
    'a unix socket, to which QEMU connects',
    'org.example.unix-to-host',
    (folder) => [['--path', `${folder}/b.sock`, '--mode', 'connect'], `unix-listen:${folder}/b.sock`],
  ],
  ['TCP', 'org.example.tcp', (_, port) => [['--tcp', `${port}`], `tcp-connect:127.0.0.1:${port}`]],
  [
    'TCP, to which QEMU connects',
    'systems.cdot.simengine.storage.net',
    (_, port) => [['--tcp', `${port}`, '--mode', 'connect'], `tcp-listen:127.0.0.1:${port}`],
  ],
  ['a pipe', 'org.example.pipe', (folder) => [['--pipe', `${folder}/pipe`], `pipe-open:${folder}/pipe`]],
];

const channels = new Map<string, string>();
let laboratory: Laboratory | undefined;

const guest = useGuest(test, {
  plan: async (folder) => {
    const portArguments: string[] = [];
    await succeed('pipe-create', join(folder, 'pipe'));
    for (const [title, name, ends] of PORTS) {
      const [args, channel] = ends(folder, await freePort());
      const printed = await succeed('qemu-args', '--json', '--name', name, ...args);
      portArguments.push(...(JSON.parse(printed) as string[]));
      channels.set(title, channel);
    }
    return { portArguments };
  },
  whenFailed: () => laboratory?.logs(),
});

async function succeed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy(args);
  if (code !== 0) throw new Error(`vproxy ${args.join(' ')}: status ${code}: ${stderr}`);
  return stdout;
}

async function start(channel: string, guestChannel: string): Promise<Laboratory> {
  await laboratory?.endGuestVproxy();
  await laboratory?.stop();
  laboratory = await Laboratory.start(guest(), {
    host: () => HostSide.start(channel),
    guestArgs: () => ['-c', guestChannel],
  });
  return laboratory;
}

test.serial.after.always('the vproxies are stopped', () => laboratory?.stop());

test.serial('where there is only a console with a shell, a file is sent over it', async (t) => {
  const on = `< ${SERIAL_LINE} > ${SERIAL_LINE} 2>&1`;
  await guest().agent.output(`stty -F ${SERIAL_LINE} 115200`);
  const shell = await guest().agent.spawn(['sh', '-c', `exec sh -i ${on}`]);
  const file = join(temporaryFolder(t), 'file');
  const bytes = randomBytes(CONSOLE_BYTES);
  writeFileSync(file, bytes);
  const script = join(PROJECT_ROOT, 'examples/send-over-console.mjs');
  const words = [process.execPath, script, file, guest().serialPath, '/tmp/sent'];
  const { code, stdout, stderr } = await runProgram(words, { timeoutMs: LINE_MS });
  t.is(code, 0, stderr);
  t.log(stdout.trim());
  const sum = createHash('sha256').update(bytes).digest('hex');
  t.is(await guest().agent.output('sha256sum < /tmp/sent'), `${sum}  -`);
  await shell.kill('KILL');
  // A shell that is killed leaves the line as it edits its input.
  await guest().agent.output(`stty -F ${SERIAL_LINE} sane`);
});

/** The serial line has one pair for all tests: its buffers outlive a process, and would confuse the next pair. */
let onSerial: Promise<Laboratory> | undefined;
const openSerial = () =>
  (onSerial ??= start(`unix-connect:${guest().serialPath},frame=4096`, `tty-open:${SERIAL_LINE}`));

test.serial('each typed letter is echoed before the next one, also beside transfers', async (t) => {
  const both = await openSerial();
  const typist = connect({ port: await both.port('echo'), host: '127.0.0.1', noDelay: true });
  t.teardown(() => typist.destroy());
  await type(t, typist, 'top');
  const transfers = await startTransfers(both, SERIAL_PROGRESS_BYTES);
  await type(t, typist, 'top');
  t.true(transfers.every(({ bytes }) => bytes() > SERIAL_PROGRESS_BYTES));
  // Otherwise the transfers would continue forever.
  await both.killHost();
  both.startHost();
  await both.waitForSession(0);
});

async function type(t: ExecutionContext, socket: Socket, word: string): Promise<void> {
  for (const letter of word) {
    socket.write(letter);
    t.is(String(await within(ECHO_MS, `the echo of ${letter}`, once(socket, 'data'))), letter);
  }
}

test.serial('SIGTERM restores the line, even one that accepts nothing, which can be opened', async (t) => {
  const both = await openSerial();
  const { host } = both;
  t.notRegex(await lineSettings(), COOKED);
  host.kill('SIGSTOP');
  t.teardown(() => host.kill('SIGCONT'));
  await fillLine();
  t.is(await both.endGuestVproxy('TERM'), 0);
  t.regex(await lineSettings(), COOKED);
  await fillLine();
  await both.startGuestVproxy();
  const isOpen = async () => (await both.guestVproxy.log()).includes('no answer on tty-open');
  await eventuallyInGuest(isOpen, { timeoutMs: LINE_MS, what: 'an opening without an answer' });
  const from = host.lines.length;
  host.kill('SIGCONT');
  await both.waitForSession(from);
});

/** The settings of the guest's line. The shell stays: as a session leader, stty would hang up the line on exit. */
const lineSettings = () => guest().agent.output(`stty -F ${SERIAL_LINE} -a; true`);

/** Lets a process write to the guest's line until it accepts no more. It ends when the line is hung up. */
async function fillLine(): Promise<void> {
  // Not as its controlling terminal, or the line would be hung up when it exits.
  const open = `require('fs').openSync('${SERIAL_LINE}', ${constants.O_RDWR | constants.O_NOCTTY})`;
  const write = `const line = ${open}; for (;;) require('fs').writeSync(line, Buffer.alloc(4096))`;
  await guest().agent.spawn(['node', '-e', write]);
  const sent: string[] = [];
  const isStuck = async () => {
    sent.push(await guest().agent.output('grep -o "^1:.*tx:[0-9]*" /proc/tty/driver/serial'));
    return sent.length > 5 && new Set(sent.slice(-5)).size === 1;
  };
  await eventuallyInGuest(isStuck, { timeoutMs: LINE_MS, what: 'a line that takes nothing' });
}

test.serial('after either vproxy is killed in mid-transfer, everything works again over a serial line', async (t) => {
  const both = await openSerial();
  await disturb(t, both, SERIAL_PROGRESS_BYTES, async () => {
    await both.endGuestVproxy();
    await both.startGuestVproxy();
  });
  await disturb(t, both, SERIAL_PROGRESS_BYTES, async () => {
    await both.killHost();
    both.startHost();
  });
  await checkEssentials(t, both, SMALL_BYTES);
});

test.serial('a file passes a forward over vsock unchanged, each way, and again after a restart', async (t) => {
  // Two vproxies in one guest, over the loopback of vsock, where each side has CID 1.
  const listener = await vproxy(t, '-c', `vsock-listen:${VSOCK_PORT}`, '-i', `echo:127.0.0.1:${GUEST_PORTS.echo}`);
  t.false((await listener.log()).includes('error'));
  for (const round of ['first', 'next']) {
    const dialler = await vproxy(t, '-c', `vsock-connect:1:${VSOCK_PORT}`, '-o', `echo:127.0.0.1:${FORWARD_PORT}`);
    const hasSession = async () => ESTABLISHED.test(await dialler.log());
    await eventuallyInGuest(hasSession, { what: `session of the ${round} one` });
    const send = `nc 127.0.0.1 ${FORWARD_PORT} < /tmp/out | cmp - /tmp/out`;
    const command = `head -c ${FILE_BYTES} /dev/urandom > /tmp/out && ${send}`;
    const result = await guest().agent.run(command, { timeoutMs: SESSION_MS });
    const logs = `${await listener.log()}\n${await dialler.log()}`;
    t.deepEqual(result, { stdout: '', stderr: '', status: 0 }, logs);
    await dialler.kill('KILL');
    await dialler.waitForEnd();
  }
});

async function vproxy(t: ExecutionContext, ...args: string[]): Promise<GuestJob> {
  const job = await guest().agent.spawn(['node', GUEST_VPROXY, '--no-control', '--no-storage', ...args]);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  return job;
}

for (const [title, name] of PORTS) {
  const isPipe = title === 'a pipe';
  const again = isPipe ? ', also after the vproxy of the host was killed in mid-transfer' : '';
  test.serial(`storage, ssh and files work over ${title}${again}`, async (t) => {
    const both = await start(channels.get(title) ?? '', `virtserial-open:${name}`);
    if (isPipe) {
      await disturb(t, both, PROGRESS_BYTES, async () => {
        await both.killHost();
        both.startHost();
      });
    }
    await checkEssentials(t, both, FILE_BYTES);
  });
}
