import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { ExecTarget } from '../../lib/forward/endpoints/exec-endpoint.js';
import { ForwardLog } from '../../lib/forward/forward-log.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { temporaryFolder } from '../helpers/files.js';
import { formatSeen } from '../helpers/frame-log.js';
import { connectedProxies, failureOf, localSocket, type ProxySetup, readToEnd, TestProxy } from '../helpers/proxies.js';
import { carryUntil, SessionPair } from '../helpers/session-pair.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually, ManualClock } from '../helpers/time.js';

async function running(t: ExecutionContext, command: string, b: ProxySetup = {}) {
  const folder = temporaryFolder(t);
  const proxies = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: ['run:0'] },
    { incoming: [`run:exec:${command}`], ...b },
  );
  return { ...proxies, connect: () => localSocket(t, { host: '127.0.0.1', port: proxies.a.port('run') }) };
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // A killed process without a parent that waits for it stays as a zombie.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

test('a process answers after the end of its input, each stream has its own, and all bytes pass', async (t) => {
  const { connect } = await running(t, 'sha256sum; echo $$');
  const data = randomBytes(3_000_001);
  const answers = await Promise.all(
    [1, 2, 3].map(() => {
      const socket = connect();
      socket.end(data);
      return readToEnd(socket);
    }),
  );
  const hash = createHash('sha256').update(data).digest('hex');
  for (const answer of answers) t.true(answer.toString().startsWith(hash));
  t.is(new Set(answers.map(String)).size, 3);
});

test('a process has pipes, which it can open once more', async (t) => {
  const { connect, b } = await running(t, 'cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr');
  const socket = connect();
  socket.end('in\n');
  t.is((await readToEnd(socket)).toString(), 'in\nout\n');
  t.regex((await b.event('target-stderr')).message, /says: err$/);
});

test('processes leave no descriptors behind', async (t) => {
  const { connect, a } = await running(t, 'cat; exec sleep 0');
  const exchange = async (): Promise<void> => {
    const socket = connect();
    socket.end('in');
    t.is((await readToEnd(socket)).toString(), 'in');
    await eventually(() => a.proxy.listStreams().length === 0);
  };
  await exchange();
  const count = readdirSync('/proc/self/fd').length;
  await Promise.all(Array.from({ length: 10 }, exchange));
  await eventually(() => readdirSync('/proc/self/fd').length <= count, { what: 'closed descriptors' });
});

test('a process that cannot be started refuses its stream, and the session goes on', async (t) => {
  // Longer than an argument can be on Linux.
  const { connect, a, b } = await running(t, `: ${'x'.repeat(200_000)}`);
  await failureOf(connect());
  t.like((await a.event('stream-refused')).fields, { code: 'connect-failed' });
  t.is(b.proxy.channel('default').state, 'established');
  t.is(b.proxy.channel('default').history.sessions, 1);
});

test('a process that writes much to one who reads late loses nothing when it exits', async (t) => {
  const { connect, a } = await running(t, 'head -c 20000000 /dev/zero | tr "\\\\0" x');
  const socket = connect();
  socket.pause();
  await a.event('stream-opened');
  await once(socket, 'readable');
  t.is((await readToEnd(socket)).length, 20_000_000);
});

test('a process need not read, and its end is not cut off by what it did not read', async (t) => {
  const { connect } = await running(t, 'echo done');
  const socket = connect();
  socket.write(randomBytes(200_000));
  t.is((await readToEnd(socket)).toString(), 'done\n');
});

test('output may end before the process does', async (t) => {
  const { connect } = await running(t, 'echo bye; exec >&-; cat > /dev/null');
  const socket = connect();
  t.is((await readToEnd(socket)).toString(), 'bye\n');
  socket.end();
});

test('a failed process resets the stream after its output, with its status', async (t) => {
  const { connect, a, b } = await running(t, 'echo partial; echo why >&2; exit 3');
  const socket = connect();
  const chunks: Buffer[] = [];
  // Node shows a reset that comes along with data as an end.
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
  t.regex((await a.event('stream-reset')).message, /ended with status 3 \(local-error\)/);
  await eventually(() => Buffer.concat(chunks).toString() === 'partial\n');
  await b.event('stream-reset');
  t.is(b.events.filter(({ event }) => event === 'stream-reset').length, 1);
  t.regex((await b.event('target-stderr')).message, /says: why/);
  const missing = await running(t, 'no-such-command-anywhere');
  await failureOf(missing.connect());
  t.regex((await missing.b.event('stream-reset')).message, /status 127/);
});

test('a process and what it started are ended with their stream, and killed when they do not end', async (t) => {
  const clock = new ManualClock();
  const { connect, b } = await running(t, 'trap "" TERM; sleep 1000 & echo $$ $!; cat', { clock });
  const socket = connect();
  const [first] = (await once(socket, 'data')) as [Buffer];
  const pids = first.toString().trim().split(' ').map(Number);
  t.is(pids.length, 2);
  t.true(pids.every(isAlive));
  socket.resetAndDestroy();
  await eventually(() => b.events.some(({ event }) => event === 'stream-opened') && clock.pending > 0);
  await eventually(() => {
    clock.advance(5000);
    return !pids.some(isAlive);
  });
  await b.event('stream-reset');
});

test('a rule counts processes until they have ended: opened and reset in a loop, in ever new sessions, one runs at once', async (t) => {
  const folder = temporaryFolder(t);
  const [path, started] = [join(folder, 'channel'), join(folder, 'started')];
  const clock = new ManualClock();
  const command = `trap "" TERM; echo $$ >> ${started}; while :; do sleep 1000; done`;
  const host = new TestProxy(t, `unix-listen:${path}`, {
    clock,
    incoming: [`run:exec:${command}`],
    policies: { run: { streams: 1 } },
  });
  await host.start();
  const pids = (): number[] =>
    existsSync(started) ? readFileSync(started, 'utf8').trim().split('\n').map(Number) : [];
  // No time passes for those that are still there at the end.
  t.teardown(() => {
    for (const pid of pids().filter(isAlive)) process.kill(-pid, 'SIGKILL');
  });
  let running = 0;
  const attempt = async (peer: SocketPeer): Promise<string> => {
    const id = peer.highestId + 2;
    peer.sendOpen(id, 'run');
    const answer = await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${id}\\b`));
    if (answer.type !== FRAME_TYPE.ACCEPT) return formatSeen(answer);
    running += 1;
    await eventually(() => pids().length === running);
    peer.send(FRAME_TYPE.RESET, id, { code: 'cancelled', message: '' });
    await peer.ping();
    return formatSeen(answer);
  };
  const connect = async (): Promise<SocketPeer> => {
    const peer = await SocketPeer.established(path);
    t.teardown(() => peer.close());
    return peer;
  };
  const first = await connect();
  t.is(await attempt(first), 'ACCEPT 1');
  for (let turn = 0; turn < 10; turn += 1) t.regex(await attempt(first), /^REFUSE \d+ denied$/);
  first.close();
  await host.event('session-ended');
  const second = await connect();
  for (let turn = 0; turn < 10; turn += 1) t.regex(await attempt(second), /^REFUSE \d+ denied$/);
  t.is(pids().length, 1);
  t.true(pids().every(isAlive));

  // SIGKILL is sent, and the place becomes free.
  clock.advance(5000);
  await eventually(async () => (await attempt(second)).startsWith('ACCEPT'));
  t.deepEqual(pids().map(isAlive), [false, true]);
});

test('a process whose peer reads no more gets a closed pipe', async (t) => {
  const { b, connect } = await running(t, 'yes');
  const socket = connect();
  await once(socket, 'data');
  socket.destroy();
  t.regex((await b.event('stream-reset')).message, /local|cancelled|reset/);
});

test('stopping the proxy ends the processes, also those that do not want to', async (t) => {
  const { b, connect } = await running(t, 'trap "" TERM; echo $$; cat; sleep 1000');
  const socket = connect();
  const [first] = (await once(socket, 'data')) as [Buffer];
  const pid = Number(first);
  socket.on('error', () => undefined);
  await b.proxy.stop();
  t.false(isAlive(pid));
});

test('a shell that cannot be started is connect-failed', async (t) => {
  const pair = new SessionPair();
  const target = new ExecTarget(
    'true',
    {
      name: 'exec:true (run)',
      service: 'run',
      clock: pair.clock,
      maxStreams: 1,
      preamble: null,
      egress: () => null,
      onClosed: () => undefined,
      log: new ForwardLog(
        { direction: 'incoming', service: 'run' },
        { clock: pair.clock, log: () => t.fail() },
        () => 'exec:true',
      ),
    },
    '/nonexistent/sh',
  );
  pair.b.services = ['run'];
  pair.b.onSession = (session) => session.on('stream', (stream) => target.serve(stream));
  pair.establish();
  const stream = MuxStream.open(pair.a.session, 'run');
  const failure = new Promise<NodeJS.ErrnoException>((resolve) => stream.once('error', resolve));
  const error = await carryUntil(pair, failure);
  t.is(error.code, 'connect-failed');
  t.regex(error.message, /ENOENT/);
});
