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
import { sha256 } from '../helpers/files.js';
import { failureOf, readToEnd } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';
import { endProcess, upgrade } from '../helpers/upgrades.js';
import { ESTABLISHED, runPiped, runProgram, VPROXY } from '../helpers/vproxy-process.js';
import { emulatedReply, HostSide } from './rig/host-side.js';
import { ANNOUNCED_PORT as PORT, smallGuest } from './rig/small-system.js';
import { ssh, sshArguments } from './rig/ssh.js';
import { useGuest } from './rig/use-guest.js';

/** Under emulation, on a busy machine. */
const WAIT_MS = 120_000;
const STREAMS = 100;
const BYTES = 16 << 20;
const COPIED_BYTES = 200_000_000;
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

/** In KiB. */
async function residentMemory(t: ExecutionContext): Promise<number> {
  const { stdout } = await exec(t, ['sh', '-c', 'cat /proc/$(pidof vproxy-guest)/status']);
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
