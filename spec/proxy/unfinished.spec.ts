/** What goes on when its stream has closed: a successor and a drain wait for it, or it is ended, and its end is logged. */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { FreezeCall } from '../../lib/services/freeze/freeze-call.js';
import { Hooks } from '../../lib/services/run-hooks.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { resettingPair } from '../helpers/channel-pair.js';
import { ExecCaller } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { freezableMachine } from '../helpers/freezable-machine.js';
import { localSocket, proxyPair, readToEnd, startProxy, type TestProxy } from '../helpers/proxies.js';
import { joinBySlowLine } from '../helpers/relays.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { advanceUntil, eventually, ManualClock } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const BYTES = 600_000;

/** Resolves with how many bytes came, once they have ended; rejects if they are cut off. */
async function countToEnd(socket: net.Socket): Promise<number> {
  return (await readToEnd(socket)).length;
}

for (const whose of ['host', 'guest'] as const)
  test(`a drain of the ${whose} delivers the last bytes of a stream, and its end, over a slow line`, async (t) => {
    const folder = temporaryFolder(t);
    const [one, other] = [join(folder, 'host'), join(folder, 'guest')];
    const host = await startProxy(t, `unix-listen:${one}`, { outgoing: ['data:0'] });
    const guest = await startProxy(t, `unix-listen:${other}`, { incoming: [`data:exec:head -c ${BYTES} /dev/zero`] });
    joinBySlowLine(t, one, other, BYTES);
    await Promise.all([host, guest].map((side) => side.event('session-established')));
    const socket = localSocket(t, host.port('data'));
    socket.end();
    await once(socket, 'readable');
    const { proxy } = { host, guest }[whose];
    const stopped = proxy.drain().then(() => proxy.stop());
    t.is(await countToEnd(socket), BYTES);
    await stopped;
  });

test('a drain waits for a client that reads slowly, also when the session has ended', async (t) => {
  const { a, b, connect } = await proxyPair(t, { targets: `data:exec:head -c ${20 * BYTES} /dev/zero` });
  const socket = connect();
  socket.end();
  await once(socket, 'readable');
  const stopped = a.proxy.drain().then(() => a.proxy.stop());
  let count = 0;
  while (a.count('session-ended') === 0) {
    count += (socket.read(16_384) as Buffer | null)?.length ?? 0;
    await nextTurn();
  }
  t.is(count + (await countToEnd(socket)), 20 * BYTES);
  await Promise.all([stopped, b.event('session-ended')]);
});

/** A side that listens, and whose peer neither reads nor closes. */
async function besideDeafPeer(t: ExecutionContext): Promise<TestProxy> {
  const path = join(temporaryFolder(t), 'channel.sock');
  const side = await startProxy(t, `unix-listen:${path}`, { outgoing: ['data:0'] });
  const peer = await SocketPeer.established(path);
  await side.event('session-established');
  peer.socket.pause();
  return side;
}

/** Takes twice as long as a stop may. */
async function twoStops(t: ExecutionContext): Promise<void> {
  const sides = [await besideDeafPeer(t), await besideDeafPeer(t)];
  for (const { proxy } of sides) await proxy.stop();
}

for (const isDialled of [true, false])
  test(`a drained channel waits for a peer that has not closed, but a stop does not: ${isDialled ? 'dialled' : 'listening'}`, async (t) => {
    const folder = temporaryFolder(t);
    const [near, far] = [join(folder, 'host'), join(folder, 'guest')];
    await startProxy(t, `unix-listen:${far}`, { incoming: ['data:exec:cat'] });
    /** Passes on all but the end of the guest. */
    const carry = (socket: net.Socket): void => {
      const other = localSocket(t, far);
      socket.on('error', () => undefined).pipe(other);
      other.pipe(socket, { end: false });
      t.teardown(() => socket.destroy());
    };
    const server = net.createServer({ allowHalfOpen: true }, carry);
    t.teardown(() => server.close());
    if (isDialled) await once(server.listen(near), 'listening');
    const host = await startProxy(t, `unix-${isDialled ? 'connect' : 'listen'}:${near}`, { outgoing: ['data:0'] });
    if (!isDialled) carry(localSocket(t, near));
    await host.event('services');
    const socket = localSocket(t, host.port('data'));
    socket.write('x');
    await once(socket.resume(), 'data');
    let isDrained = false;
    void host.proxy.drain().then(() => (isDrained = true));
    socket.end();
    await host.event('session-ended');
    await twoStops(t);
    t.false(isDrained);
    const stopped = host.proxy.stop();
    await twoStops(t);
    t.true(isDrained);
    await stopped;
  });

test('a stop while a channel drains takes no longer than any other', async (t) => {
  const side = await besideDeafPeer(t);
  localSocket(t, side.port('data'));
  await eventually(() => side.proxy.listStreams().length === 1);
  let isDrained = false;
  const drained = side.proxy.drain().then(() => (isDrained = true));
  const stopped = side.proxy.stop();
  await twoStops(t);
  t.true(isDrained);
  await Promise.all([drained, stopped]);
});

/** Ignores HUP and TERM. */
const STUBBORN = 'trap "" TERM HUP; echo ready; while :; do sleep 1000; done';

/** A guest in which this command goes on without its caller. */
async function setUp(t: ExecutionContext, argv: readonly string[]) {
  const clock = new ManualClock();
  const { a: guest, b: host } = await proxyPair(t, { a: { exec: { commands: 'any' }, clock }, b: {} });
  const stream = await host.proxy.connect('exec');
  const caller = new ExecCaller(stream).start({ argv, hasInput: false, killAfterMs: 10_000 });
  const pid = await caller.started;
  t.teardown(() => isRunning(pid) && process.kill(-pid, 'SIGKILL'));
  await eventually(() => caller.stdout === 'ready\n');
  stream.destroy();
  await eventually(() => guest.proxy.obstacles().length === 1 && guest.proxy.listStreams().length === 0);
  const ends = () => guest.all('exec-ended').map(({ fields }) => [fields['pid'], fields['signal']]);
  return { clock, guest, host, pid, ends };
}

test('a command between TERM and KILL is an obstacle until it is killed', async (t) => {
  const { clock, guest, pid, ends } = await setUp(t, ['sh', '-c', STUBBORN]);
  const [obstacle = ''] = guest.proxy.obstacles();
  t.regex(obstacle, new RegExp(`: command ${pid}, which is to end$`));
  t.deepEqual(guest.proxy.cutObstacles(false), []);
  clock.advance(10_000);
  await eventually(() => guest.proxy.obstacles().length === 0);
  t.deepEqual(ends(), [[pid, 'SIGKILL']]);
});

test('it is killed and logged at once if it is cut, or if the process stops', async (t) => {
  for (const isCut of [true, false]) {
    const { clock, guest, pid, ends } = await setUp(t, ['sh', '-c', STUBBORN]);
    if (isCut) t.deepEqual(guest.proxy.cutObstacles(true), guest.proxy.obstacles());
    const stopping = isCut ? null : guest.proxy.stop();
    await advanceUntil(
      clock,
      eventually(() => ends().length === 1),
    );
    t.deepEqual(ends(), [[pid, 'SIGKILL']]);
    await eventually(() => !isRunning(pid));
    if (stopping !== null) await advanceUntil(clock, stopping);
    else await eventually(() => guest.proxy.obstacles().length === 0);
  }
});

test('a drain gives it its time, but not for ever', async (t) => {
  const { clock, guest, host, pid, ends } = await setUp(t, ['sh', '-c', STUBBORN]);
  let isDrained = false;
  const drained = guest.proxy.drain().then(() => (isDrained = true));
  for (let ms = 0; ms < 9900; ms += 50) {
    clock.advance(50);
    await Promise.resolve();
  }
  t.deepEqual([isDrained, isRunning(pid)], [false, true]);
  // No session begins that it would cut.
  await host.event('session-ended');
  host.proxy.retryNow();
  await eventually(() => host.proxy.listChannels()[0]?.detail?.endsWith(' is missing (ENOENT)') === true);
  t.is(guest.count('session-established'), 1);
  await advanceUntil(clock, drained);
  t.deepEqual(ends(), [[pid, 'SIGKILL']]);
});

test('background processes of a command whose caller is gone are watched until they are gone', async (t) => {
  const file = join(temporaryFolder(t), 'pid');
  const stubborn = STUBBORN.replace('echo ready', () => `echo $$ > ${file}`);
  const script = `sh -c '${stubborn}' > /dev/null 2>&1 & until [ -s ${file} ]; do sleep 0.01; done; echo ready; exec sleep 1000`;
  const { clock, guest, ends } = await setUp(t, ['sh', '-c', script]);
  await eventually(() => ends().length === 1);
  const left = Number(readFileSync(file, 'utf8'));
  t.true(isRunning(left));
  t.is(guest.proxy.obstacles().length, 1);
  clock.advance(30_000);
  await advanceUntil(
    clock,
    eventually(() => guest.proxy.obstacles().length === 0),
  );
  // KILL was sent, and takes its time.
  await eventually(() => !isRunning(left));
});

test('a recording of a terminal is an obstacle until it is written', async (t) => {
  const recordFolder = temporaryFolder(t);
  const policies = { exec: { recordFolder } };
  const { a: guest, b: host } = await proxyPair(t, { a: { exec: { commands: 'any' }, policies }, b: {} });
  const terminal = { columns: 80, rows: 24, term: 'dumb' };
  const caller = new ExecCaller(await host.proxy.connect('exec')).start({ argv: ['cat'], terminal, hasInput: true });
  await caller.started;
  t.true(guest.proxy.obstacles().some((each) => each.endsWith('1 recording of a terminal')));
  caller.stream.destroy();
  await eventually(() => guest.proxy.obstacles().length === 0);
  t.is(readdirSync(recordFolder).length, 1);
});

// Hooks.

function hookFolder(t: ExecutionContext, scripts: Readonly<Record<string, string>>) {
  const folder = temporaryFolder(t);
  for (const [name, script] of Object.entries(scripts))
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return folder;
}

test('hooks that are to end have two seconds; then the one that runs is left alone, and the rest is not run', async (t) => {
  const clock = new ManualClock();
  const folder = hookFolder(t, {
    '10-slow': 'touch "$OUT"; until [ -e "$OUT.go" ]; do sleep 0.01; done; rm "$OUT"',
    '20-next': 'true',
  });
  const out = join(temporaryFolder(t), 'started');
  const lines: string[] = [];
  const hooks = new Hooks(folder, { clock, log: ({ message }) => void lines.push(message) });
  const run = hooks.run({ env: { OUT: out } });
  t.deepEqual(hooks.unfinished, [`hooks in ${folder}`]);
  await eventually(() => existsSync(out));
  hooks.end();
  clock.advance(1999);
  t.deepEqual(lines, []);
  hooks.end();
  clock.advance(1);
  const first = `${folder}/10-slow: 10-slow was left running`;
  t.is(await run, first);
  t.deepEqual(lines, [first, `${folder}/20-next: 20-next was not run`]);
  writeFileSync(`${out}.go`, '');
  await eventually(() => !existsSync(out));
  t.deepEqual([hooks.unfinished, clock.pending], [[], 0]);
  // A later run has all its time, until the service stops.
  t.is(await new Hooks(hookFolder(t, { '10-fast': 'true' }), { clock, log: () => undefined }).run({}), null);
  const waiting = hooks.run({}, new Promise(() => undefined));
  hooks.stop();
  clock.advance(300);
  t.is(await waiting, `${folder}/10-slow: 10-slow was not run`);
  const again = hooks.run({ env: { OUT: `${out}2` } });
  await eventually(() => existsSync(`${out}2`));
  clock.advance(300);
  t.is(await again, first);
  writeFileSync(`${out}2.go`, '');
  await eventually(() => !existsSync(`${out}2`));
});

test.serial('a thaw and its hooks are unfinished until they have ended, also if the host is gone', async (t) => {
  const vm = freezableMachine(t);
  const gate = join(temporaryFolder(t), 'gate');
  writeFileSync(
    join(vm.hooks, '10-database'),
    `#!/bin/sh\n[ $1 = freeze ] || while [ ! -e ${gate} ]; do sleep 0.01; done\n`,
    {
      mode: 0o755,
    },
  );
  const [near, far] = resettingPair();
  vm.service.serve(far);
  await FreezeCall.begin(near, { paths: [], forMs: 10_000 }, { clock: vm.clock, signal: new AbortController().signal });
  t.deepEqual(vm.service.unfinished, []);
  near.destroy();
  await eventually(() => vm.messages().some((line) => line.startsWith('thawed')));
  t.deepEqual(vm.service.unfinished, [`hooks in ${vm.hooks}`]);
  writeFileSync(gate, '');
  await eventually(() => vm.service.unfinished.length === 0);
  t.is(vm.messages().at(-1), `hook: ${vm.hooks}/10-database: done`);
});

test('a change of forwards may be over in a moment; one of channels not while streams drain', async (t) => {
  const clock = new ManualClock();
  const { a: host, b: guest } = await proxyPair(t, { a: { clock } });
  guest.proxy.serve('silent', () => undefined);
  const stream = await host.proxy.connect('silent');
  clock.advance(2000);
  const counts = () => [host.proxy.obstacles().length, host.proxy.passingCount(false)];
  t.deepEqual(counts(), [1, 0]);
  const added = host.proxy.addForward(parseForwardSpec('outgoing', `x:${join(temporaryFolder(t), 'x')}`));
  t.deepEqual(counts(), [2, 1]);
  await added;
  t.deepEqual(counts(), [1, 0]);
  const removed = host.proxy.removeChannel('default');
  await nextTurn();
  t.deepEqual(counts(), [2, 0]);
  stream.destroy();
  await removed;
});

test('streams that programs opened just now, or open again, may be gone in a moment', async (t) => {
  const clock = new ManualClock();
  const exec = { exec: { commands: 'any' } } as const;
  const { a: host, b: guest } = await proxyPair(t, { a: { clock }, b: exec });
  guest.proxy.serve('silent', () => undefined);
  const stream = await host.proxy.connect('silent');
  const counts = () => [host.proxy.obstacles().length, host.proxy.passingCount(false)];
  t.deepEqual(counts(), [1, 1]);
  clock.advance(2000);
  t.deepEqual(counts(), [1, 0]);
  t.deepEqual(host.proxy.cutObstacles(false), []);
  const reopened = await host.proxy.openStream('silent', undefined, { isReopened: true });
  await once(reopened, 'connect');
  clock.advance(2000);
  t.deepEqual(counts(), [2, 1]);
  const isCut = async (cut: MuxStream): Promise<void> => {
    const failure = once(cut, 'error');
    t.is(host.proxy.cutObstacles(false).length, 1);
    t.like(await failure, [{ code: 'shutdown' }]);
    t.deepEqual(counts(), [1, 0]);
  };
  await isCut(reopened);
  const unanswered = await host.proxy.openStream('silent');
  t.regex(host.proxy.obstacles().join(), /: stream \d+ to silent, which the peer has not accepted yet$/);
  t.deepEqual([counts(), host.proxy.cutObstacles(false)], [[2, 1], []]);
  clock.advance(2000);
  t.deepEqual(counts(), [2, 1]);
  await isCut(unanswered);
  stream.destroy();
});
