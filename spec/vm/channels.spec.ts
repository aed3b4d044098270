/**
 * Every way into a guest: the ports that `vproxy qemu-args` prints, one of each kind, an emulated serial line, and sockets of
 * vsock. The vproxy of the guest is as npm installs it, and on the first two ports a package that is one file.
 */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { packageVersion } from '../../cli/package-info.js';
import { freePort } from '../helpers/ports.js';
import { within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { checkEssentials } from './rig/check-everything.js';
import { SHARED_FOLDER } from './rig/guest.js';
import type { GuestJob } from './rig/guest-job.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_STORAGE, GUEST_VPROXY } from './rig/initramfs.js';
import { Laboratory } from './rig/laboratory.js';
import { makePackage } from './rig/make-package.js';
import { checkBrokenOff, killGuestVproxy, killHostVproxy, startTransfers } from './rig/mid-transfer.js';
import { useGuest } from './rig/use-guest.js';

const TEST_MS = 600_000;
const SESSION_MS = 120_000;
const FILE_BYTES = 1 << 20;
const SMALL_BYTES = 64 << 10;
const PROGRESS_BYTES = 256 << 10;
/** A serial line is slow. */
const SERIAL_PROGRESS_BYTES = 16 << 10;
// Only for a key that is never echoed: the test shows that the echo comes before the next key is pressed.
const ECHO_MS = 30_000;
const COOKED = /(?<!-)\bicanon\b[^]*(?<!-)\becho\b/;
const VSOCK_PORT = 5000;
const FORWARD_PORT = 9100;
const SERIAL_LINE = '/dev/ttyS1';

/** A port of the guest. */
interface Port {
  readonly name: string;
  /** The arguments of `qemu-args` after the name, and the channel of the host's vproxy. */
  readonly ends: (folder: string, tcpPort: number) => readonly [args: readonly string[], channel: string];
  /** A package of vproxy that is one file. */
  readonly makeProgram?: () => string;
  /** What happens in the middle of transfers before all works again. */
  readonly event?: readonly [title: string, act: (t: ExecutionContext, both: Laboratory) => Promise<void>];
}

const PORTS: Readonly<Record<string, Port>> = {
  'a unix socket': {
    name: PORT_NAME,
    ends: (folder) => [['--path', join(folder, 'a.sock')], `unix-connect:${join(folder, 'a.sock')}`],
    makeProgram: () => makePackage('sea', 'vproxy-linux-x64'),
  },
  'a unix socket, to which QEMU connects': {
    name: 'org.example.unix-to-host',
    ends: (folder) => [
      ['--path', join(folder, 'b.sock'), '--mode', 'connect'],
      `unix-listen:${join(folder, 'b.sock')}`,
    ],
    makeProgram: () => makePackage('bundle', 'vproxy.cjs'),
  },
  TCP: { name: 'org.example.tcp', ends: (_, port) => [['--tcp', String(port)], `tcp-connect:127.0.0.1:${port}`] },
  // Two FIFOs, which do not show that the other end was closed.
  'a pipe': {
    name: 'org.example.pipe',
    ends: (folder) => [['--pipe', join(folder, 'pipe')], `pipe-open:${join(folder, 'pipe')}`],
    event: ['the vproxy of the host is killed', (t, both) => killHostVproxy(t, both, PROGRESS_BYTES)],
  },
  'TCP, to which QEMU connects': {
    name: 'systems.cdot.simengine.storage.net',
    ends: (_, port) => [['--tcp', String(port), '--mode', 'connect'], `tcp-listen:127.0.0.1:${port}`],
    event: ['QEMU ends and is started again', restartQemu],
  },
};

const channels = new Map<string, string>();
let laboratory: Laboratory | undefined;

const guest = useGuest(test, {
  plan: async (folder) => {
    const portArguments: string[] = [];
    await succeed('pipe-create', join(folder, 'pipe'));
    for (const { name, ends } of Object.values(PORTS)) {
      const [args, channel] = ends(folder, await freePort());
      const printed = await succeed('qemu-args', '--json', '--name', name, ...args);
      portArguments.push(...(JSON.parse(printed) as string[]));
      channels.set(name, channel);
    }
    return { portArguments };
  },
  whenFailed: async () => (await laboratory?.logs()) ?? '',
});

async function succeed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy(args);
  if (code !== 0) throw new Error(`vproxy ${args.join(' ')}: status ${code}: ${stderr}`);
  return stdout;
}

const start = async (channel: string, guestChannel: string, program?: string): Promise<Laboratory> => {
  await laboratory?.endGuestVproxy();
  laboratory = await Laboratory.start(guest(), {
    host: () => HostSide.start(channel),
    guestArgs: () => ['-c', guestChannel],
    ...(program !== undefined && { guestProgram: [program] }),
  });
  return laboratory;
};

/** Installs a package in the guest until the end of the test, with the wrapper's link to it, and gives its path there. */
async function install(t: ExecutionContext, file: string): Promise<string> {
  const { agent } = guest();
  const path = '/usr/local/bin/vproxy';
  await guest().addFiles(file);
  const copy = `mkdir -p /usr/local/bin && rm -f ${path} && cp ${SHARED_FOLDER}/${basename(file)} ${path}`;
  const link = (target: string) => `ln -sf ${target} /usr/sbin/storcli64`;
  await agent.output(`${copy} && ${link(path)}`, { timeoutMs: SESSION_MS });
  t.teardown(() => agent.output(link(GUEST_STORAGE)));
  const version = await agent.output(`${path} --version`, { timeoutMs: SESSION_MS });
  t.true(version.startsWith(`vproxy ${packageVersion()} `), version);
  return path;
}

/** The same vproxy on the host gets the session back. */
async function restartQemu(t: ExecutionContext, both: Laboratory): Promise<void> {
  const transfers = await startTransfers(both, PROGRESS_BYTES);
  const from = both.host.lines.length;
  await guest().restart();
  await both.startGuestVproxy();
  await both.host.waitForLine(ENDED, { from });
  await checkBrokenOff(t, transfers);
  await both.waitForSession(from);
}

/** The serial line has one pair for all tests: its buffers outlive a process, and would lead the next pair astray. */
let onSerial: Promise<Laboratory> | undefined;
const openSerial = (): Promise<Laboratory> =>
  (onSerial ??= start(`unix-connect:${guest().serialPath},frame=4096`, `tty-open:${SERIAL_LINE}`));
test.serial.after.always('the vproxy of the serial line is stopped', async () => (await onSerial)?.stop());

test.serial('each letter that is typed is echoed before the next one is, also beside transfers', async (t) => {
  t.timeout(TEST_MS);
  const both = await openSerial();
  const typist = connect({ port: await both.port('echo'), host: '127.0.0.1', noDelay: true });
  t.teardown(() => typist.destroy());
  await type(t, typist, 'top');
  const transfers = await startTransfers(both, SERIAL_PROGRESS_BYTES);
  await type(t, typist, 'top');
  t.true(transfers.every(({ bytes }) => bytes() > SERIAL_PROGRESS_BYTES));
  // Else the transfers would go on for ever.
  both.host.kill('SIGKILL');
  await both.host.exited;
  both.startHost();
  await both.waitForSession(0);
});

async function type(t: ExecutionContext, socket: Socket, word: string): Promise<void> {
  for (const letter of word) {
    socket.write(letter);
    const [echo] = (await within(ECHO_MS, `the echo of ${letter}`, once(socket, 'data'))) as [Buffer];
    t.is(echo.toString(), letter);
  }
}

test.serial('SIGTERM puts the line back as it was, also one that takes nothing, which can be opened', async (t) => {
  t.timeout(TEST_MS);
  const both = await openSerial();
  const { guestVproxy, host } = both;
  t.notRegex(await lineSettings(), COOKED);
  const end = async (job: GuestJob) => {
    await job.kill('TERM');
    t.is(await job.waitForEnd(), 0);
    t.regex(await lineSettings(), COOKED);
  };
  await end(guestVproxy);
  const from = host.lines.length;
  await both.startGuestVproxy();
  await both.waitForSession(from);

  host.kill('SIGSTOP');
  t.teardown(() => host.kill('SIGCONT'));
  await fillLine();
  await end(both.guestVproxy);
  await fillLine();
  await both.startGuestVproxy();
  const isOpen = async () => (await both.guestVproxy.log()).includes('no answer on tty-open');
  await eventuallyInGuest(isOpen, { timeoutMs: TEST_MS, what: 'an opening without an answer' });
  const again = host.lines.length;
  host.kill('SIGCONT');
  await both.waitForSession(again);
});

/** The settings of the guest's line. The shell stays: as the leader of its session, stty would hang up the line at its end. */
function lineSettings(): Promise<string> {
  return guest().agent.output(`stty -F ${SERIAL_LINE} -a; true`);
}

/** Lets a process write to the guest's line until it accepts no more. It ends when the line is hung up. */
async function fillLine(): Promise<void> {
  // Not as the terminal of its session, or the line would be hung up when it ends.
  const open = `require('fs').openSync('${SERIAL_LINE}', ${constants.O_RDWR | constants.O_NOCTTY})`;
  const write = `const line = ${open}; for (;;) require('fs').writeSync(line, Buffer.alloc(4096))`;
  await guest().agent.spawn(['node', '-e', write]);
  const sent: string[] = [];
  const isStuck = async () => {
    sent.push(await guest().agent.output('grep -o "^1:.*tx:[0-9]*" /proc/tty/driver/serial'));
    return sent.length > 5 && new Set(sent.slice(-5)).size === 1;
  };
  await eventuallyInGuest(isStuck, { timeoutMs: TEST_MS, what: 'a line that takes nothing' });
}

for (const [side, kill] of Object.entries({ guest: killGuestVproxy, host: killHostVproxy })) {
  test.serial(`the vproxy of the ${side} is killed in mid-transfer: all works again over a serial line`, async (t) => {
    t.timeout(TEST_MS);
    const both = await openSerial();
    await kill(t, both, SERIAL_PROGRESS_BYTES);
    await checkEssentials(t, both, SMALL_BYTES);
  });
}

test.serial('a file passes a forward over vsock unchanged, each way, and again after a restart', async (t) => {
  t.timeout(TEST_MS);
  // Two vproxies in one guest, over the loopback of vsock, where each side has CID 1.
  const listener = await vproxy(t, '-c', `vsock-listen:${VSOCK_PORT}`, '-i', `echo:127.0.0.1:${GUEST_PORTS.echo}`);
  t.false((await listener.log()).includes('error'));
  for (const round of ['first', 'next']) {
    const dialler = await vproxy(t, '-c', `vsock-connect:1:${VSOCK_PORT}`, '-o', `echo:127.0.0.1:${FORWARD_PORT}`);
    const hasSession = async () => ESTABLISHED.test(await dialler.log());
    await eventuallyInGuest(hasSession, {
      timeoutMs: SESSION_MS,
      intervalMs: 200,
      what: `session of the ${round} one`,
    });
    const send = `nc 127.0.0.1 ${FORWARD_PORT} < /tmp/out | sha256sum`;
    const command = `head -c ${FILE_BYTES} /dev/urandom > /tmp/out && ${send} && sha256sum < /tmp/out`;
    const [echoed, sent] = (await guest().agent.output(command, { timeoutMs: SESSION_MS })).split('\n');
    t.is(echoed, sent);
    await dialler.kill('KILL');
    await dialler.waitForEnd();
  }
});

async function vproxy(t: ExecutionContext, ...args: string[]): Promise<GuestJob> {
  const job = await guest().agent.spawn(['node', GUEST_VPROXY, '--no-control', '--no-storage', ...args]);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  return job;
}

for (const [title, { name, makeProgram, event }] of Object.entries(PORTS)) {
  const isPackage = makeProgram === undefined ? '' : ', with a package that is one file';
  const isAgain = event === undefined ? '' : `, also when ${event[0]} in mid-transfer`;
  test.serial(`storage, ssh and files work over ${title}${isPackage}${isAgain}`, async (t) => {
    t.timeout(TEST_MS);
    const program = makeProgram === undefined ? undefined : await install(t, makeProgram());
    const both = await start(channels.get(name) ?? '', `virtserial-open:${name}`, program);
    t.teardown(() => both.stop());
    await checkEssentials(t, both, FILE_BYTES);
    if (event === undefined) return;
    await event[1](t, both);
    await checkEssentials(t, both, SMALL_BYTES);
  });
}
