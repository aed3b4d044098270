/**
 * vproxy-guest in a guest of busybox without Node: every use of the channel, its memory, and restarts of either side and of the
 * whole guest, each followed by a new session.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import type { MachineInfo } from '../../lib/status/types.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { sha256 } from '../helpers/files.js';
import { failureOf, readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { endProcess, upgrade } from '../helpers/upgrades.js';
import { ESTABLISHED, runPiped, runProgram, runVproxy, VPROXY } from '../helpers/vproxy-process.js';
import { mountExt4 } from './rig/ext4-image.js';
import { emulatedReply, HostSide } from './rig/host-side.js';
import { ANNOUNCED_PORT as PORT, smallGuest } from './rig/small-system.js';
import { ssh, sshArguments } from './rig/ssh.js';
import { useGuest } from './rig/use-guest.js';
import { checkSshTools } from './rig/uses.js';

/** Under emulation, on a busy machine. */
const WAIT_MS = 120_000;
const STREAMS = 100;
const BYTES = 16 << 20;
const COPIED_BYTES = 200_000_000;
/** How long the guest stands still, and how far off its clock may be afterwards. */
const STOOD_MS = 5000;
const MAX_OFF_MS = 50;
const MAX_REST_KIB = 8 << 10;
const STORAGE_CALL = ['/usr/sbin/storcli64', '/c0', 'show'];

let host: HostSide;
const guest = useGuest(test, {
  plan: smallGuest,
  whenFailed: () => Promise.resolve((host as HostSide | undefined)?.vproxy.lines.join('\n') ?? ''),
});

const environment = () => ({ VPROXY_SOCKET: join(guest().folder, 'control.sock'), VPROXY });
const sessionFrom = (from: number) => host.vproxy.waitForLine(ESTABLISHED, { from, timeoutMs: WAIT_MS });

test.serial.before('the host’s side is started', async () => {
  const { channelPath } = guest();
  const more = ['--control', environment().VPROXY_SOCKET, '--forward-ports', `${PORT},dir=${guest().folder}`];
  host = await HostSide.start(`unix-connect:${channelPath}`, more);
  await sessionFrom(0);
});

test.serial.after.always('the host’s side is stopped', () => (host as HostSide | undefined)?.stop());

/** Runs a command in the guest. */
async function exec(t: ExecutionContext, words: readonly string[], input: string | Buffer = '') {
  const { child, output, ended } = runPiped(t, ['exec', '--', ...words], environment());
  child.stdin.end(input);
  const [stdout, { code, stderr }] = await Promise.all([output, ended]);
  return { stdout, stderr, status: code };
}

async function openEcho(t: ExecutionContext) {
  const socket = connect({ port: await host.port('echo'), host: '127.0.0.1', allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  return socket;
}

async function checkSession(t: ExecutionContext): Promise<void> {
  const { stdout, stderr, status } = await ssh(
    guest(),
    await host.port('ssh'),
    'cat; echo done >&2; exit 7',
    Buffer.from('in'),
  );
  t.deepEqual([String(stdout), stderr, status], ['in', 'done\n', 7]);
  const call = await exec(t, STORAGE_CALL);
  t.deepEqual({ ...call, stdout: String(call.stdout) }, emulatedReply('listening', STORAGE_CALL));
}

/** In KiB; logs its parts. */
async function residentMemory(t: ExecutionContext): Promise<number> {
  const { stdout } = await exec(t, ['sh', '-c', 'cat /proc/$(pidof vproxy-guest)/status']);
  t.log(
    String(stdout)
      .match(/^Rss.*/gm)
      ?.join(', '),
  );
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(String(stdout))?.[1]);
}

test.serial('at rest it takes little memory', async (t) => {
  const memory = await residentMemory(t);
  t.log(`${memory} KiB`);
  t.true(memory < MAX_REST_KIB, `${memory} KiB`);
});

test.serial('ssh, storage calls, commands and a terminal work', async (t) => {
  await checkSession(t);
  t.is((await exec(t, ['sh', '-c', 'kill -TERM $$'])).status, 143);
  const command = `script --quiet --return --command '$VPROXY exec -t sh -c "tty; exit 4"' /dev/null`;
  const env = { ...process.env, ...environment() };
  // At the end of its input, script would type an end of file.
  const terminal = await runProgram(['bash', '-c', command], { env, keepsInput: true });
  t.deepEqual([terminal.code, terminal.stdout], [4, '/dev/pts/0\r\n']);
});

test.serial('rsync, scp, sftp and git work with vproxy-ssh', (t) => checkSshTools(t, environment()));

test.serial('bytes go each way as they are, at once, and in commands', async (t) => {
  const sent = randomBytes(BYTES);
  const socket = await openEcho(t);
  socket.end(sent);
  t.is(sha256(await within(WAIT_MS, 'an echo', readToEnd(socket))), sha256(sent));
  const { stdout } = await exec(t, ['sha256sum'], sent);
  t.is(String(stdout), `${sha256(sent)}  -\n`);
});

test.serial(`${STREAMS} streams at once work`, async (t) => {
  const sockets = await Promise.all(Array.from({ length: STREAMS }, () => openEcho(t)));
  const came = Promise.all(sockets.map((socket) => once(socket, 'data')));
  for (const [number, socket] of sockets.entries()) socket.write(`${number}`);
  t.deepEqual(
    (await within(WAIT_MS, 'echoes', came)).map(String),
    sockets.map((_, number) => `${number}`),
  );
  const closed = Promise.all(sockets.map((socket) => once(socket, 'close')));
  for (const socket of sockets) socket.end();
  t.true((await within(WAIT_MS, 'ends', closed)).every(([failed]) => failed === false));
});

/** Copies with `vproxy copy`; resolves when it has ended. */
async function copy(t: ExecutionContext, from: string, to: string): Promise<void> {
  const { child, ended } = runPiped(t, ['copy', from, to], environment());
  child.stdin.end();
  t.deepEqual(await ended, { code: 0, stderr: '' });
}

test.serial('a port that a program opens in the guest is open on the host', async (t) => {
  const { child, output } = runPiped(
    t,
    ['exec', '-n', 'sh', '-c', `nc -lp ${PORT} -e cat & echo; wait`],
    environment(),
  );
  await once(child.stdout, 'data');
  const began = performance.now();
  const path = join(guest().folder, `${PORT}.sock`);
  await host.vproxy.waitForLine(new RegExp(path), { timeoutMs: WAIT_MS });
  t.log(`${Math.round(performance.now() - began)} ms`);
  const socket = connect(path);
  socket.end('through');
  t.is(String(await readToEnd(socket)), 'through');
  await output;
});

/** Waits until the guest's clock is right; returns how far off it is, in milliseconds. */
const clockRight = (t: ExecutionContext): Promise<number> =>
  eventually(
    async () => {
      const { code, stdout } = await callVproxy(['info', '--json'], { env: environment() });
      const { offsetMs } = code === 0 ? (JSON.parse(stdout) as MachineInfo).clock : { offsetMs: Number.NaN };
      return Math.abs(offsetMs) < MAX_OFF_MS && offsetMs;
    },
    { what: 'the right time in the guest', timeoutMs: WAIT_MS },
  ).finally(() =>
    t.log(
      guest()
        .consoleTail()
        .match(/set the clock .*/g)
        ?.at(-1) ?? '',
    ),
  );

const letTimePass = (): Promise<boolean> => {
  const untilMs = performance.now() + STOOD_MS;
  return eventually(() => performance.now() > untilMs, { timeoutMs: 2 * STOOD_MS });
};

test.serial('after a pause the guest’s clock is right again', async (t) => {
  const socket = await openEcho(t);
  socket.write('before ');
  await once(socket, 'data');
  await guest().pause();
  await letTimePass();
  await guest().resume();
  const began = performance.now();
  const offMs = await clockRight(t);
  t.log(`${offMs} ms off after ${Math.round(performance.now() - began)} ms`);
  await eventually(() => /set the clock \S+ \S+ forward \(paused\)/.test(guest().consoleTail()), {
    timeoutMs: WAIT_MS,
  });
  socket.end('still here');
  t.is(String(await readToEnd(socket)), 'still here');
});

test.serial(
  'restored twice from one snapshot, the guest has the right time, other random numbers, and ran its hooks',
  async (t) => {
    const folder = '/etc/vproxy/restored.d';
    const hook = '#!/bin/sh\nhead -c 32 /dev/urandom | sha256sum > /tmp/random; echo $VPROXY_REASON > /tmp/reason';
    await exec(t, ['sh', '-c', `mkdir -p ${folder} && cat > ${folder}/10-note && chmod 755 ${folder}/10-note`], hook);
    await guest().saveSnapshot('clone');
    const random: string[] = [];
    while (random.length < 2) {
      // The guest asks the host something by which it knows of the restore.
      await letTimePass();
      // QEMU's emulated time stamp counter does not go back to the snapshot's: only a pause makes the clock late.
      await guest().pause();
      await letTimePass();
      const from = host.vproxy.lines.length;
      await guest().startLoaded('clone');
      await guest().resume();
      await sessionFrom(from);
      await clockRight(t);
      const { stdout } = await exec(t, [
        'sh',
        '-c',
        'until [ -s /tmp/reason ]; do usleep 50000; done; cat /tmp/reason /tmp/random',
      ]);
      random.push(String(stdout));
    }
    t.regex(random[0] ?? '', /^restored\n[0-9a-f]{64}/);
    t.not(random[0], random[1]);
  },
);

test.serial('a file system of the guest is frozen while a command runs on the host', async (t) => {
  await exec(t, ['sh', '-c', mountExt4('/mnt')]);
  const { code, stdout, stderr } = await runVproxy(['freeze', '--', 'echo', 'frozen'], { env: environment() });
  t.deepEqual([code, stdout, stderr], [0, 'frozen\n', '']);
  t.is((await exec(t, ['sh', '-c', 'echo kept > /mnt/file; sync; umount /mnt'])).status, 0);
  await eventually(() => /freezing \/mnt for [^]*thawed file systems after /.test(guest().consoleTail()), {
    timeoutMs: WAIT_MS,
  });
});

test.serial('an upgrade of the host amid a copy, a command and ssh is not noticed', async (t) => {
  const [from, back] = [join(guest().folder, 'from'), join(guest().folder, 'back')];
  const sent = randomBytes(COPIED_BYTES);
  writeFileSync(from, sent);
  const session = spawn(guest().tools.ssh, [...sshArguments(guest(), await host.port('ssh')), 'sh'], { stdio: 'pipe' });
  t.teardown(() => session.kill('SIGKILL'));
  session.stdin.write('x=kept; echo begun\n');
  t.is(String(await once(session.stdout, 'data')), 'begun\n');
  const command = runPiped(t, ['exec', '--', 'cat'], environment());
  command.child.stdin.write('before ');
  await once(command.child.stdout, 'readable');

  const began = performance.now();
  const copied = copy(t, from, ':/tmp/copied');
  await exec(t, ['sh', '-c', 'until [ -s /tmp/.copied.vproxy-part ]; do usleep 10000; done']);
  const upgraded = upgrade(t, environment().VPROXY_SOCKET, ['--wait', '120']);
  await copied;
  t.log(`to the guest: ${Math.round(performance.now() - began)} ms`);
  command.child.stdin.end('after');
  t.is(String(await command.output), 'before after');
  t.deepEqual(await command.ended, { code: 0, stderr: '' });
  const { pid } = await upgraded;
  session.stdin.end('echo $x; exit 7\n');
  const ended = once(session, 'close');
  t.is(await text(session.stdout), 'kept\n');
  t.deepEqual(await ended, [7, null]);

  const returned = performance.now();
  await copy(t, ':/tmp/copied', back);
  t.log(`to the host: ${Math.round(performance.now() - returned)} ms`);
  t.true(sent.equals(readFileSync(back)));
  await exec(t, ['rm', '/tmp/copied']);
  await endProcess(pid);
  host.startVproxy();
  await sessionFrom(0);
});

test.serial('another session follows when either side is killed, and when the guest reboots', async (t) => {
  const lost = await openEcho(t);
  lost.write('x');
  await once(lost, 'data');
  const reset = failureOf(lost);
  let from = host.vproxy.lines.length;
  await exec(t, ['sh', '-c', 'kill -KILL $(pidof vproxy-guest)']);
  t.is((await within(WAIT_MS, 'the end of a stream', reset)).code, 'ECONNRESET');
  await sessionFrom(from);
  await checkSession(t);

  host.vproxy.kill('SIGKILL');
  await host.vproxy.exited;
  host.startVproxy();
  await sessionFrom(0);
  await checkSession(t);

  const booted = guest().agent.waitForHello(WAIT_MS);
  from = host.vproxy.lines.length;
  await Promise.all([exec(t, ['reboot', '-f']), booted]);
  await sessionFrom(from);
  await checkSession(t);
});
