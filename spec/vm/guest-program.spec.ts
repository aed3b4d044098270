/**
 * vproxy-guest in a guest of busybox without Node: every use of the channel, its memory, and restarts of either side and of the
 * whole guest, each followed by a new session.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { sha256 } from '../helpers/files.js';
import { failureOf, readToEnd } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';
import { ESTABLISHED, runPiped, runProgram, VPROXY } from '../helpers/vproxy-process.js';
import { emulatedReply, HostSide } from './rig/host-side.js';
import { smallGuest } from './rig/small-system.js';
import { ssh } from './rig/ssh.js';
import { useGuest } from './rig/use-guest.js';

/** Under emulation, on a busy machine. */
const WAIT_MS = 120_000;
const STREAMS = 100;
const BYTES = 16 << 20;
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
  host = await HostSide.start(`unix-connect:${channelPath}`, ['--control', environment().VPROXY_SOCKET]);
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
