/** Two processes with one channel: the log of the one that loses it, and how it leaves it to the other. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type DialKind, VM_TRAITS } from '../../lib/channel/kind.js';
import { VproxyError } from '../../lib/errors.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { channelError } from '../../lib/link/link.js';
import { ChannelSessions } from '../../lib/proxy/channel/channel-sessions.js';
import type { Rival, RivalQuery } from '../../lib/proxy/channel/rival.js';
import { supervise } from '../../lib/proxy/channel/supervise.js';
import { sessionSettings } from '../../lib/session/settings.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, proxyPair, startProxy, type TestProxy } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { eventually, ManualClock, within } from '../helpers/time.js';

/** Another process, which has the channel until it is told to leave, with the queries about it. */
class FakeRival implements Rival {
  readonly pid = 4711;
  readonly name = 'host2\u001b';
  hasChannel = true;
  readonly queries: RivalQuery[] = [];
  looks = 0;

  readonly find = (query: RivalQuery): Promise<Rival | null> => {
    this.queries.push(query);
    return Promise.resolve(this.hasChannel ? this : null);
  };

  hasLeft(): Promise<boolean> {
    this.looks += 1;
    return Promise.resolve(!this.hasChannel);
  }
}

const stateOf = ({ proxy }: TestProxy) => proxy.channel('default');

async function newcomer(t: ExecutionContext, path: string): Promise<TestProxy> {
  const proxy = await startProxy(t, `unix-connect:${path}`, { name: 'host2' });
  await proxy.event('session-established');
  return proxy;
}

/** A listening side, a dialling side, and another one that has displaced it. */
async function displaced(t: ExecutionContext, setup: object) {
  const { a, b, path } = await proxyPair(t, { b: setup });
  const rival = await newcomer(t, path);
  const end = await b.event('session-ended');
  return { a, b, rival, end, path };
}

test('a side that loses a channel to a local process names it, and waits until that process has left', async (t) => {
  const other = new FakeRival();
  // It can be found only once it has its control socket.
  other.hasChannel = false;
  const { a, b, rival, end } = await displaced(t, { findRival: other.find });
  const looks = async (more: number) => {
    const wanted = other.looks + more;
    await eventually(() => other.looks >= wanted);
  };
  await eventually(() => other.queries.length > 0);
  other.hasChannel = true;
  t.regex(
    end.message,
    /ended: a newer connection took the channel: host2, vproxy test; to keep others out, listen with the option exclusive, or give both sides a --key \(channel-displaced\)$/,
  );
  const { message, fields } = await b.event('channel-taken');
  t.regex(message, /^process 4711 \(host2\\x1b\) took the channel unix-connect:\/\S+; waiting until it releases it$/);
  t.like(fields, { pid: 4711, name: 'host2\u001b' });
  t.like(stateOf(b), { state: 'backing-off', detail: message });
  await looks(2);
  b.proxy.retryNow();
  const queries = other.queries.length;
  await looks(3);
  t.is(stateOf(rival).history.sessions, 1, 'not even who asks for an attempt at once takes it back');
  t.deepEqual([b.count('channel-taken'), a.count('session-established')], [1, 2]);
  t.is(other.queries.length, queries, 'once it is found it is asked alone');
  t.is(other.queries[0]?.channel.text, stateOf(b).address);
  await rival.proxy.stop();
  other.hasChannel = false;
  await eventually(() => stateOf(b).history.sessions === 2);
});

test('a rival that cannot be seen from here is described by the other side, and attempts become ever less frequent', async (t) => {
  const clock = new ManualClock();
  const { b, rival, path } = await displaced(t, { clock });
  let holder = rival;
  for (const meanMs of [1000, 2000, 4000]) {
    // It gives a new process time to create its control socket.
    await eventually(() => stateOf(b).state === 'backing-off' || (clock.advance(50), false));
    const { nextTryMs, detail, history } = stateOf(b);
    t.true(Math.abs((nextTryMs ?? 0) - meanMs) <= meanMs / 4, `${nextTryMs}`);
    t.is(
      detail,
      'a newer connection took the channel: host2, vproxy test; to keep others out, listen with the option exclusive, or give both sides a --key',
    );
    await holder.proxy.stop();
    clock.advance((nextTryMs ?? 0) + 1);
    await eventually(() => stateOf(b).history.sessions === history.sessions + 1);
    holder = await newcomer(t, path);
  }
  t.is(b.count('channel-taken'), 0);
});

test('without an answer, the line names the process that has the channel', async (t) => {
  const clock = new ManualClock();
  const other = new FakeRival();
  const path = join(temporaryFolder(t), 'channel.sock');
  // As QEMU, which has accepted another client.
  const server = await localServer(t, (socket) => void socket.resume().on('end', () => socket.end()), { path });
  const connected = once(server, 'connection');
  const side = await startProxy(t, `unix-connect:${path}`, { clock, findRival: other.find });
  await connected;
  await eventually(() => (clock.advance(1000), side.count('channel-taken') > 0));
  await eventually(() => side.count('channel-redialled') === 1);
  await eventually(() => (clock.advance(1000), other.looks >= 1));
  const told = side.all('channel-taken').map(({ message }) => message);
  t.deepEqual(told, [`no answer on unix-connect:${path}: process 4711 (host2\\x1b) has the channel`]);
  t.is(side.count('channel-waiting'), 1);
  await eventually(() => stateOf(side).state === 'waiting');
});

test('after a short session that the other side closed, the line names the process that has the channel', async (t) => {
  const { relay, near, far } = await CuttingRelay.between(t);
  await startProxy(t, `unix-listen:${far}`);
  const side = await startProxy(t, `unix-connect:${near}`, { findRival: new FakeRival().find });
  await side.event('session-established');
  relay.cut();
  const { message } = await side.event('channel-waiting');
  t.regex(message, /was closed by the peer.*: process 4711 \(host2\\x1b\) has it; retrying$/);
});

test('for a busy device the line names the process that has it open; searches are rare', async (t) => {
  const clock = new ManualClock();
  const other = new FakeRival();
  const busy = Object.assign(new Error('EBUSY: resource busy or locked'), { code: 'EBUSY', path: '/dev/vport0p1' });
  let dials = 0;
  const kind: DialKind<string> = {
    mode: 'dial',
    traits: VM_TRAITS,
    parse: (text) => text,
    format: (address) => address,
    dial: () => {
      dials += 1;
      return Promise.reject(channelError('toy:port', busy));
    },
  };
  const channel = { kind, kindName: 'toy', address: 'port', traits: VM_TRAITS, text: 'toy:port' };
  const lines: string[] = [];
  const nothing = () => undefined;
  const sessions = new ChannelSessions({
    ...{ channel, clock, onSession: nothing, onChanged: nothing, onEnded: nothing },
    ...{ source: new SessionSource(clock), log: ({ message }) => lines.push(message), skippedBytes: () => 0 },
  });
  const instance = randomBytes(16).toString('hex');
  const settings = sessionSettings({ instance, randomBytes, agent: 'test' });
  const supervisor = supervise({
    ...{ channel, settings, clock, sessions },
    bufferBytes: 65_536,
    findRival: other.find,
    onFatal: nothing,
  });
  t.teardown(() => supervisor.stop(new VproxyError('shutdown', 'the test is over')));
  await supervisor.start();
  const dialled = (count: number) => eventually(() => (clock.advance(100), dials >= count));
  await dialled(4);
  t.deepEqual(lines, [
    'toy:port: /dev/vport0p1: another process has it open (EBUSY): process 4711 (host2\\x1b) has it; retrying',
  ]);
  t.deepEqual([other.queries.length, other.queries[0]?.device], [1, '/dev/vport0p1']);
  other.hasChannel = false;
  await dialled(6);
  t.is(other.queries.length, 2, 'one search after the rival has left, then none for a while');
  t.regex(lines.at(-1) ?? '', /open \(EBUSY\); retrying$/);
});

test('a search for a rival does not keep a channel from stopping', async (t) => {
  const clock = new ManualClock();
  let searches = 0;
  const findRival = () => {
    searches += 1;
    return new Promise<null>(() => undefined);
  };
  const { b } = await displaced(t, { clock, findRival });
  await eventually(() => (clock.advance(50), searches > 0));
  // Nothing that waits for the clock would finish.
  await within(30_000, 'the end', b.proxy.stop());
  t.is(searches, 1);
});
