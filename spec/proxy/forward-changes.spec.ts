/** Forwards that come and go while streams are open. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  connectedProxies,
  echo,
  failureOf,
  localServer,
  localSocket,
  readToEnd,
  type TestProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const LOOPBACK = '127.0.0.1';

const portOf = ({ endpoint }: ForwardStatus): number => Number(/:(\d+)$/.exec(endpoint)?.[1]);

const outgoing = (text: string) => parseForwardSpec('outgoing', text);
const incoming = (text: string) => parseForwardSpec('incoming', text);

/** A local program's connection on which a byte has come back. */
async function openEcho(t: ExecutionContext, port: number): Promise<net.Socket> {
  const socket = localSocket(t, { host: LOOPBACK, port });
  await echoes(socket);
  return socket;
}

async function echoes(socket: net.Socket): Promise<void> {
  const answer = once(socket, 'data');
  socket.write('x');
  await answer;
}

/** Two proxies without any forward, with a session. */
const plainPair = (t: ExecutionContext) => connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), {}, {});

async function addEcho(t: ExecutionContext, a: TestProxy, b: TestProxy) {
  const target = await localServer(t, echo);
  const served = await b.proxy.addForward(incoming(`echo:${target.port}`));
  const listening = await a.proxy.addForward(outgoing('echo:0'));
  return { target, served, listening };
}

test('forwards that are added on both sides while a session is there carry streams, and are listed', async (t) => {
  const { a, b } = await plainPair(t);
  const { served, listening } = await addEcho(t, a, b);
  await openEcho(t, portOf(listening));
  t.like(a.proxy.listForwards(), [
    {
      id: listening.id,
      channel: 'default',
      direction: 'outgoing',
      service: 'echo',
      spec: 'echo:127.0.0.1:0',
      state: 'active',
    },
  ]);
  t.like(b.proxy.listForwards(), [{ id: served.id, direction: 'incoming', service: 'echo', streams: 1, opened: 1 }]);
  await eventually(() => a.proxy.listServices().some(({ offeredBy }) => offeredBy === 'peer'));
  t.deepEqual(a.proxy.listServices(), [{ channel: 'default', service: 'echo', offeredBy: 'peer', forward: null }]);
  t.deepEqual(b.proxy.listServices(), [{ channel: 'default', service: 'echo', offeredBy: 'here', forward: served.id }]);
});

test('an outgoing forward that is removed with a drain listens no more, and goes when its streams have ended', async (t) => {
  const { a, b } = await plainPair(t);
  const { listening } = await addEcho(t, a, b);
  const socket = await openEcho(t, portOf(listening));
  const removed = a.proxy.removeForward(listening.id);
  t.is(a.proxy.listForwards()[0]?.state, 'draining');
  await eventually(
    async () => (await failureOf(localSocket(t, { host: LOOPBACK, port: portOf(listening) }))).code === 'ECONNREFUSED',
  );
  await echoes(socket);
  const rest = readToEnd(socket);
  socket.end('last');
  t.is((await rest).toString(), 'last');
  await removed;
  t.deepEqual(a.proxy.listForwards(), []);
});

test('an incoming forward that is removed with a drain takes no new streams, and its open ones end in order', async (t) => {
  const { a, b } = await plainPair(t);
  const { served, listening } = await addEcho(t, a, b);
  const socket = await openEcho(t, portOf(listening));
  const removed = b.proxy.removeForward(served.id);
  const late = localSocket(t, { host: LOOPBACK, port: portOf(listening) });
  t.is((await failureOf(late)).code, 'ECONNRESET');
  t.regex((await a.event('stream-refused')).message, /\(unknown-service\)/);
  await echoes(socket);
  const rest = readToEnd(socket);
  socket.end('last');
  t.is((await rest).toString(), 'last');
  await removed;
  t.deepEqual(b.proxy.listForwards(), []);
});

test('a forward that is removed at once resets what is open', async (t) => {
  const { a, b } = await plainPair(t);
  const { served, listening } = await addEcho(t, a, b);
  const sockets = [await openEcho(t, portOf(listening)), await openEcho(t, portOf(listening))];
  const failures = sockets.map(failureOf);
  await b.proxy.removeForward(served.id, { isDraining: false });
  for (const failure of failures) t.is((await failure).code, 'ECONNRESET');
  t.deepEqual(b.proxy.listForwards(), []);
});

test('a forward that cannot be added changes nothing', async (t) => {
  const { a, b } = await plainPair(t);
  const { listening } = await addEcho(t, a, b);
  const before = [a.proxy.listForwards(), b.proxy.listForwards()];
  await t.throwsAsync(a.proxy.addForward(outgoing(`other:${portOf(listening)}`)), { code: 'address-in-use' });
  await t.throwsAsync(b.proxy.addForward(incoming('echo:9')), {
    code: 'bad-argument',
    message: /service echo is offered/,
  });
  await t.throwsAsync(a.proxy.addForward(outgoing('echo:0'), 'nowhere'), { code: 'not-found' });
  await t.throwsAsync(a.proxy.removeForward('f99'), { code: 'not-found' });
  t.deepEqual([a.proxy.listForwards(), b.proxy.listForwards()], before);
  await openEcho(t, portOf(listening));
});

test('a service may be offered again once the forward that had it drains', async (t) => {
  const { a, b } = await plainPair(t);
  const { served, listening, target } = await addEcho(t, a, b);
  const old = await openEcho(t, portOf(listening));
  const removed = b.proxy.removeForward(served.id);
  const again = await b.proxy.addForward(incoming(`echo:${target.port}`));
  await openEcho(t, portOf(listening));
  t.deepEqual(
    b.proxy.listForwards().map(({ id, state, streams }) => [id, state, streams]),
    [
      [served.id, 'draining', 1],
      [again.id, 'active', 1],
    ],
  );
  old.destroy();
  await removed;
  t.is(b.proxy.listForwards().length, 1);
});

test('a thousand forwards that are added and removed leave nothing behind', async (t) => {
  const { a, b } = await plainPair(t);
  const target = await localServer(t, echo);
  const handlesBefore = process.getActiveResourcesInfo().length;
  for (let round = 0; round < 1000; round += 1) {
    const served = await b.proxy.addForward(incoming(`echo:${target.port}`));
    const listening = await a.proxy.addForward(outgoing('echo:0'));
    await a.proxy.removeForward(listening.id, { isDraining: round % 2 === 0 });
    await b.proxy.removeForward(served.id);
  }
  t.deepEqual([a.proxy.listForwards(), b.proxy.listForwards()], [[], []]);
  await eventually(() => process.getActiveResourcesInfo().length <= handlesBefore + 5);
  const { listening } = await addEcho(t, a, b);
  await openEcho(t, portOf(listening));
});
