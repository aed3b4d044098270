import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { formatSeen } from '../../conformance/frame-log.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { TargetContext } from '../../lib/forward/endpoint-kind.js';
import { ExecTarget } from '../../lib/forward/endpoints/exec-endpoint.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { failureOf, type ProxySetup, proxyPair, readToEnd, TestProxy } from '../helpers/proxies.js';
import { carryUntil } from '../helpers/session-pair.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { targetPair } from '../helpers/target-pair.js';
import { advanceUntil, eventually, ManualClock } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const running = (t: ExecutionContext, command: string, b: ProxySetup = {}) =>
  proxyPair(t, { targets: `run:exec:${command}`, b });

test('processes have pipes and are independent: they end, read, write and answer in any order, and no byte is lost', async (t) => {
  const { connect, b } = await proxyPair(t, {
    targets: [
      'hash:exec:sha256sum; echo $$',
      'pipes:exec:cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr',
      'much:exec:head -c 20000000 /dev/zero | tr "\\\\0" x',
      'deaf:exec:echo done',
      'early:exec:echo bye; exec >&-; cat > /dev/null',
      'endless:exec:yes',
    ],
  });
  const ask = async (service: string, data: Buffer | string, isEnding = true): Promise<string> => {
    const socket = connect(service);
    if (isEnding) socket.end(data);
    else socket.write(data);
    return (await readToEnd(socket)).toString();
  };
  const data = randomBytes(3_000_001);
  const answers = await Promise.all([1, 2, 3].map(() => ask('hash', data)));
  for (const answer of answers) t.true(answer.startsWith(sha256(data)));
  t.is(new Set(answers).size, 3);
  t.is(await ask('pipes', 'in\n'), 'in\nout\n');
  t.regex((await b.event('target-stderr')).message, /stderr: err$/);
  t.is(await ask('deaf', randomBytes(200_000), false), 'done\n');
  t.is(await ask('early', '', false), 'bye\n');
  const late = connect('much').pause();
  await once(late, 'readable');
  t.is((await readToEnd(late)).length, 20_000_000);
  // A process whose peer stopped reading gets a closed pipe.
  const endless = connect('endless');
  await once(endless, 'data');
  endless.destroy();
  await b.event('stream-reset');
});

test('a process that has closed its outputs may read its input to the end, also once both directions have ended', async (t) => {
  const folder = temporaryFolder(t);
  const command = `exec >&- 2>&-; until [ -e ${folder}/go ]; do sleep 0.01; done; cat > ${folder}/all; : > ${folder}/done`;
  const { connect, a, b } = await running(t, command);
  const data = randomBytes(50_000);
  const socket = connect();
  socket.end(data);
  t.is((await readToEnd(socket)).length, 0);
  await a.event('stream-closed');
  t.regex(b.proxy.obstacles().join(), /whose command is still running$/);
  const drained = b.proxy.drain();
  writeFileSync(join(folder, 'go'), '');
  await drained;
  t.true(existsSync(join(folder, 'done')));
  t.deepEqual(readFileSync(join(folder, 'all')), data);
});

test('a process that goes on alone is an obstacle, which an upgrade by force ends', async (t) => {
  const { connect, a, b } = await running(t, 'exec >&- 2>&-; sleep 1000');
  const socket = connect();
  socket.end();
  await readToEnd(socket);
  await a.event('stream-closed');
  t.deepEqual([b.proxy.obstacles().length, b.proxy.cutObstacles(false)], [1, []]);
  t.regex(b.proxy.cutObstacles(true).join(), /the command of stream \d+ to exec:/);
  await eventually(() => b.proxy.obstacles().length === 0);
});

test('an upgrade by force asks a command to end once, and gives it 5 s', async (t) => {
  const clock = new ManualClock();
  const file = join(temporaryFolder(t), 'asked');
  const script = `trap "echo asked >> ${file}" TERM; echo ready; while :; do sleep 0.01; done`;
  const { connect, b } = await running(t, script, { clock });
  await once(connect(), 'data');
  const asked = () => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  b.proxy.cutObstacles(true);
  await eventually(() => asked() !== '');
  b.proxy.cutObstacles(true);
  clock.advance(4999);
  t.is(b.proxy.obstacles().length, 1);
  clock.advance(1);
  await eventually(() => b.proxy.obstacles().length === 0);
  t.is(asked(), 'asked\n');
});

test('processes leak no descriptors', async (t) => {
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

test('a failing process resets the stream after its output, with its status; one that cannot start refuses it; the session continues', async (t) => {
  const { connect, a, b } = await proxyPair(t, {
    targets: [
      'failing:exec:echo partial; echo why >&2; exit 3',
      'missing:exec:no-such-command-anywhere',
      // Longer than Linux allows for an argument.
      `long:exec:: ${'x'.repeat(200_000)}`,
    ],
  });
  const chunks: Buffer[] = [];
  // Node reports a reset that arrives together with data as EOF.
  connect()
    .on('data', (chunk: Buffer) => chunks.push(chunk))
    .on('error', () => undefined);
  t.regex((await a.event('stream-reset')).message, /exited with status 3 \(local-error\)/);
  await eventually(() => Buffer.concat(chunks).toString() === 'partial\n');
  await b.event('stream-reset');
  t.is(b.count('stream-reset'), 1);
  t.regex((await b.event('target-stderr')).message, /stderr: why/);
  const since = b.events.length;
  await failureOf(connect('missing'));
  t.regex((await b.event('stream-reset', since)).message, /status 127/);
  await failureOf(connect('long'));
  t.like((await a.event('stream-refused')).fields, { code: 'connect-failed' });
  t.like(b.proxy.channel('default'), { state: 'established', history: { sessions: 1 } });
});

test('a process and its children are terminated with their stream, and killed if they do not exit', async (t) => {
  const clock = new ManualClock();
  const whole = join(temporaryFolder(t), 'whole');
  const { connect, b } = await running(t, `trap "" TERM; sleep 1000 & echo $$ $!; cat; touch ${whole}`, { clock });
  const socket = connect();
  const [first] = (await once(socket, 'data')) as [Buffer];
  const pids = first.toString().trim().split(' ').map(Number);
  t.is(pids.length, 2);
  t.true(pids.every(isRunning));
  socket.resetAndDestroy();
  await eventually(() => b.events.some(({ event }) => event === 'stream-opened') && clock.pending > 0);
  await eventually(() => {
    clock.advance(5000);
    return !pids.some(isRunning);
  });
  await b.event('stream-reset');
  t.false(existsSync(whole), 'it saw an end of its input');
});

test('what a process has left behind sees no end of the input of a stream that was reset', async (t) => {
  const clock = new ManualClock();
  const whole = join(temporaryFolder(t), 'whole');
  const importer = `trap "" TERM; echo $$; exec > /dev/null 2>&1; cat; touch ${whole}`;
  const { connect, b } = await running(t, `sh -c '${importer}'; true`, { clock });
  const socket = connect();
  const pid = Number(await once(socket, 'data'));
  socket.resetAndDestroy();
  await eventually(() => b.proxy.listStreams().length === 0);
  await eventually(() => {
    clock.advance(5000);
    return !isRunning(pid);
  });
  t.false(existsSync(whole));
  await eventually(() => b.proxy.obstacles().length === 0);
});

test('what a process has left behind is killed, too: an upgrade waits for it, and a stop does not forget it', async (t) => {
  const left = 'sh -c \'trap "" TERM; echo $$; exec > /dev/null 2>&1 < /dev/null; sleep 1000; sleep 1000\'';
  for (const isStopped of [false, true]) {
    const clock = new ManualClock();
    const { connect, b } = await running(t, `${left} & exec cat`, { clock });
    const socket = connect('run');
    const pid = Number(await once(socket, 'data'));
    t.teardown(() => isRunning(pid) && process.kill(pid, 'SIGKILL'));
    socket.resetAndDestroy();
    await eventually(() => b.proxy.listStreams().length === 0);
    t.regex(b.proxy.obstacles().join(), /whose command is still running$/);
    if (isStopped) await advanceUntil(clock, b.proxy.stop());
    else {
      clock.advance(4999);
      t.true(isRunning(pid));
      clock.advance(1);
      await eventually(() => b.proxy.obstacles().length === 0);
    }
    await eventually(() => !isRunning(pid));
  }
});

test('a rule counts processes until they have exited: with opens and resets in a loop, in ever new sessions, only one runs at a time', async (t) => {
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
  // Time stands still for those still running at the end.
  t.teardown(() => {
    for (const pid of pids().filter(isRunning)) process.kill(-pid, 'SIGKILL');
  });
  let running = 0;
  const attempt = async (peer: SocketPeer): Promise<string> => {
    const id = peer.highestId + 2;
    peer.sendOpen(id, 'run');
    const answer = await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${id}\\b`));
    if (answer.type !== FRAME_TYPE.ACCEPT) return formatSeen(answer);
    running += 1;
    await eventually(() => pids().length === running);
    const cancelled = { code: 'cancelled', message: '' };
    if (running % 2 === 0) peer.send(FRAME_TYPE.RESET, id, cancelled);
    else {
      // An end in order, but not of the process's own accord.
      peer.send(FRAME_TYPE.STOP, id, cancelled);
      peer.send(FRAME_TYPE.FIN, id);
    }
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
  for (let turn = 0; turn < 10; turn += 1) t.regex(await attempt(first), /^REFUSE \d+ too-many-streams$/);
  first.close();
  await host.event('session-ended');
  const second = await connect();
  for (let turn = 0; turn < 10; turn += 1) t.regex(await attempt(second), /^REFUSE \d+ too-many-streams$/);
  t.is(pids().length, 1);
  t.true(pids().every(isRunning));

  // SIGKILL is sent, and the place becomes free.
  clock.advance(5000);
  await eventually(async () => (await attempt(second)).startsWith('ACCEPT'));
  t.deepEqual(pids().map(isRunning), [false, true]);
});

test('stopping the proxy ends all processes, even those that ignore SIGTERM', async (t) => {
  const { b, connect } = await running(t, 'trap "" TERM; echo $$; cat; sleep 1000');
  const socket = connect();
  const [first] = (await once(socket, 'data')) as [Buffer];
  const pid = Number(first);
  socket.on('error', () => undefined);
  await b.proxy.stop();
  t.false(isRunning(pid));
});

test.serial(
  'a hundred streams at once start their commands one by one, with what came before; one that is reset starts none',
  async (t) => {
    const started = join(temporaryFolder(t), 'started');
    const create = (context: TargetContext) => new ExecTarget(`echo $$ >> ${started}; cat`, context);
    const { pair, target } = targetPair('run', 'exec:cat', create);
    const open = (): MuxStream => MuxStream.open(pair.a.session, 'run');
    const streams = Array.from({ length: 100 }, open);
    const answers = streams.map((stream) => (stream.end('in'), text(stream)));
    const reset = open().on('error', () => undefined);
    reset.write('in');
    pair.settle();
    t.true(!existsSync(started) || readFileSync(started, 'utf8').split('\n').length < 10);
    reset.destroy();
    const all = carryUntil(pair, Promise.all(answers));
    t.true((await all).every((answer) => answer === 'in'));
    t.is(readFileSync(started, 'utf8').trim().split('\n').length, 100);
    const late = Array.from({ length: 10 }, open);
    const codes = late.map(
      (stream) => new Promise((resolve) => stream.once('error', ({ message }) => resolve(message))),
    );
    pair.settle();
    await carryUntil(pair, Promise.resolve(target.stop()));
    const messages = await carryUntil(pair, Promise.all(codes));
    t.true(
      messages.some((message) => /is no longer offered/.test(String(message))),
      String(messages),
    );
  },
);

test.serial('a command that a real-time signal ends has failed', async (t) => {
  const { connect, b } = await running(t, 'echo partial; kill -35 $$');
  connect()
    .on('error', () => undefined)
    .resume();
  t.regex((await b.event('stream-reset')).message, /was killed by SIG35/);
});

test('a shell that cannot be started is connect-failed', async (t) => {
  const create = (context: TargetContext) => new ExecTarget('true', context, '/nonexistent/sh');
  const { pair } = targetPair('run', 'exec:true', create, { log: () => t.fail() });
  const stream = MuxStream.open(pair.a.session, 'run');
  const failure = new Promise<NodeJS.ErrnoException>((resolve) => stream.once('error', resolve));
  const { code, message } = await carryUntil(pair, failure);
  t.is(code, 'connect-failed');
  t.regex(message, /ENOENT/);
});
