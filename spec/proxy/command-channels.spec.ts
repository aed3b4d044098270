/** The real command line over channels that other programs carry: `exec:`, `stdio:` and `fd:`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../lib/util/concurrency.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const VPROXY = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')} --no-control`;

/** Sends every byte value many times through a forward to an echo, and compares. */
async function checkEcho(t: ExecutionContext, port: number): Promise<void> {
  const socket = localSocket(t, { host: '127.0.0.1', port });
  const sent = Buffer.from(Array.from({ length: 600_000 }, (_, index) => (index * 7 + (index >>> 8)) % 256));
  socket.end(sent);
  t.true((await readToEnd(socket)).equals(sent));
}

/** The far one logs on the same stderr. */
const NEAR_ESTABLISHED = /\bsession with far,/;

/** A vproxy whose channel is another vproxy, which it starts; `far` follows the `-c stdio:` of that one. */
async function startOverExec(t: ExecutionContext, { prefix = '', far = '' } = {}) {
  const server = await localServer(t, echo);
  const file = join(temporaryFolder(t), 'pid');
  const remote = `echo $$ > ${file}; exec ${VPROXY} -c stdio: --name far -i echo:127.0.0.1:${server.port}${far}`;
  const near = spawnVproxy(t, ['-c', `exec:${prefix}${remote}`, '-o', 'echo:127.0.0.1:0']);
  await near.waitForLine(NEAR_ESTABLISHED);
  return { near, farPid: () => Number(readFileSync(file, 'utf8')) };
}

async function gone(pid: number): Promise<void> {
  await eventually(() => !isThere(pid), { what: `the end of process ${pid}` });
}

function isThere(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

test.serial('a vproxy at the end of a command carries forwards, and ends when the other one does', async (t) => {
  const { near, farPid } = await startOverExec(t);
  await checkEcho(t, await near.listeningPort('echo'));
  const pid = farPid();
  near.kill('SIGTERM');
  t.deepEqual(await within(1500, 'SIGTERM', near.exited), { code: 0, signal: null });
  await gone(pid);
  t.is(near.stdout, '');
});

test.serial('a command that is killed is started again, and the forwards work again', async (t) => {
  const { near, farPid } = await startOverExec(t);
  const first = farPid();
  const from = near.lines.length;
  process.kill(first, 'SIGKILL');
  const { input } = await near.waitForLine(/exec:.* went away: SIGKILL ended it/, { from });
  await near.waitForLine(NEAR_ESTABLISHED, { from: near.lines.lastIndexOf(input) });
  t.not(farPid(), first, near.lines.join('\n'));
  await checkEcho(t, await near.listeningPort('echo'));
});

test.serial('a vproxy that is killed takes the one at the end of its command with it', async (t) => {
  const { near, farPid } = await startOverExec(t);
  const pid = farPid();
  near.kill('SIGKILL');
  await near.exited;
  await gone(pid);
  t.pass();
});

/** A vproxy whose channel is the socket that a spec's server has accepted the other end of. */
async function startOnDescriptor(
  t: ExecutionContext,
  channel: string,
  stdio: (socket: Socket) => (Socket | 'ignore')[],
) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const proxy = new TestProxy(t, `unix-listen:${path}`, { outgoing: ['echo:0'] });
  await proxy.start();
  const socket = connect(path);
  socket.pause();
  await once(socket, 'connect');
  const server = await localServer(t, echo);
  const [input = 'ignore', output = 'ignore', ...more] = stdio(socket);
  const args = ['-c', channel, '-i', `echo:127.0.0.1:${server.port}`];
  const child = spawn(process.execPath, [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), '--no-control', ...args], {
    stdio: [input, output, 'pipe', ...more],
  });
  t.teardown(() => child.kill('SIGKILL'));
  socket.destroy();
  const log: string[] = [];
  child.stderr?.on('data', (text: Buffer) => log.push(text.toString()));
  const ended = deferred<{ code: number | null; log: string }>();
  child.once('close', (code) => ended.resolve({ code, log: log.join('') }));
  await proxy.event('session-established');
  // Each side learns of it by itself, and one that is told to end before has no peer to tell.
  await eventually(() => log.join('').includes('session with'), { what: 'the session of the child' });
  return { proxy, ended: ended.promise, child };
}

const INHERITED: readonly [string, (socket: Socket) => (Socket | 'ignore')[]][] = [
  ['fd:3', (socket) => ['ignore', 'ignore', socket]],
  ['fd:0', (socket) => [socket, 'ignore']],
  ['stdio:', (socket) => [socket, socket]],
];

for (const [channel, stdio] of INHERITED) {
  test.serial(`${channel} over an inherited socket carries forwards, and its end is that of the process`, async (t) => {
    const { proxy, ended } = await startOnDescriptor(t, channel, stdio);
    await checkEcho(t, proxy.port('echo'));
    await proxy.proxy.stop();
    const { code, log } = await within(5000, 'the end of vproxy', ended);
    t.is(code, 0, log);
    t.regex(log, /was closed by its other end\n$/);
    t.notRegex(log, /error|internal/);
  });

  test.serial(`${channel}: SIGTERM tells the peer, and ends it`, async (t) => {
    const { proxy, ended, child } = await startOnDescriptor(t, channel, stdio);
    const since = proxy.events.length;
    child.kill('SIGTERM');
    const { code, log } = await within(1500, 'the end of vproxy', ended);
    t.is(code, 0, log);
    t.regex((await proxy.event('session-ended', since)).message, /\(shutdown\)/);
  });
}

test.serial('stdio: over pipes carries a session, and says the end to the one who stays', async (t) => {
  // The shell joins the two with pipes, as sshd may do.
  const { near } = await startOverExec(t, { prefix: 'cat | { ', far: '; } | cat' });
  await checkEcho(t, await near.listeningPort('echo'));
  t.is((await near.stop()).code, 0);
});

test.serial('standard input that is a file ends vproxy with status 74 and one line', async (t) => {
  const file = join(PROJECT_ROOT, 'package.json');
  const child = spawn(
    process.execPath,
    [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), '--no-control', '-c', 'stdio:'],
    {
      stdio: [openSync(file, 'r'), 'pipe', 'pipe'],
    },
  );
  let log = '';
  child.stderr?.on('data', (text: Buffer) => (log += text.toString()));
  const [code] = (await once(child, 'close')) as [number];
  t.is(code, 74);
  t.is(log, 'vproxy: error: stdio: standard input is a file; it should be a pipe or a socket\n');
});

test.serial('a relay between two commands of any kind is a channel', async (t) => {
  // As with socat: a program that knows nothing of vproxy joins the two.
  const path = join(temporaryFolder(t), 'relay.sock');
  const relay = join(PROJECT_ROOT, 'dist/spec/helpers/socket-relay.js');
  const server = await localServer(t, echo);
  const waiting: Socket[] = [];
  const joined: Socket[] = [];
  const joiner = createServer({ allowHalfOpen: true }, (socket) => {
    const other = waiting.pop();
    if (other === undefined) waiting.push(socket);
    else other.pipe(socket).pipe(other);
    socket.on('error', () => undefined);
    // The host reconnects also while the test is torn down.
    joined.push(socket);
  }).listen(path);
  t.teardown(() => {
    joiner.close();
    for (const socket of joined) socket.destroy();
  });
  const side = (...args: string[]): VproxyProcess =>
    spawnVproxy(t, ['-c', `exec:exec ${process.execPath} ${relay} ${path}`, ...args]);
  const host = side('-o', 'echo:127.0.0.1:0');
  const guest = side('-i', `echo:127.0.0.1:${server.port}`);
  await Promise.all([host.waitForLine(ESTABLISHED), guest.waitForLine(ESTABLISHED)]);
  await checkEcho(t, await host.listeningPort('echo'));
  await guest.stop();
  await host.waitForLine(ENDED);
});
