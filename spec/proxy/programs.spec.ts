/** Programs with a `Peer` or a `Proxy`: services that they serve, and streams that they open or are refused. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { toVproxyError, type VproxyError } from '../../lib/errors.js';
import { connectPeer, type Peer, type PeerOptions } from '../../lib/peer.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { deferred } from '../../lib/util/concurrency.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo as echoSocket, localServer, proxyPair, startProxy, TestProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { within } from '../helpers/time.js';

const echo = (stream: MuxStream): void => void stream.pipe(stream);
const KEYS = ['ab'.repeat(32), 'cd'.repeat(32)] as const;

// Two peers over one Duplex.

function pair(t: ExecutionContext, left: PeerOptions, right: PeerOptions): [Peer, Peer] {
  const [one, other] = duplexPair();
  const peers: [Peer, Peer] = [connectPeer(one, left), connectPeer(other, right)];
  t.teardown(() => Promise.all(peers.map((peer) => peer.close())));
  return peers;
}

/** Writes to a stream and ends it; returns the answer. */
const say = (stream: MuxStream, what: string): Promise<string> => text(stream.end(what));

test('each side opens streams to services of the other, also to later ones, over one Duplex; close notifies the peer', async (t) => {
  const [host, guest] = pair(t, { services: { echo } }, { services: { echo }, name: 'guest', agent: 'an agent 2.0' });
  for (const peer of [host, guest]) {
    const data = randomBytes(1_000_003);
    const stream = await peer.connect('echo');
    stream.end(data);
    t.true((await buffer(stream)).equals(data));
  }
  t.like(host.session?.peer, { name: 'guest', agent: 'an agent 2.0', services: ['echo'] });
  t.deepEqual(guest.services, ['echo']);
  const announced = once(guest as never, 'services') as Promise<[string[]]>;
  host.serve('late', (stream) => stream.end('here'));
  t.deepEqual(await announced, [['echo', 'late']]);
  t.is(await say(await guest.connect('late'), ''), 'here');
  await t.throwsAsync(guest.connect('nothing'), { code: 'unknown-service' });

  const failed = once(await guest.connect('echo'), 'error');
  const ended = once(guest as never, 'ended');
  await host.close('enough');
  t.like(await failed, [{ code: 'shutdown' }]);
  t.like(await ended, [{ code: 'shutdown', message: 'enough' }]);
  t.deepEqual([(await guest.closed).code, (await host.closed).code], ['channel-closed', 'shutdown']);
  t.is(guest.session, null);
  await t.throwsAsync(guest.connect('echo'), { code: 'no-session' });
});

test('a peer refuses options that are unknown, or of a wrong type', (t) => {
  const [line] = duplexPair();
  const refused = (options: object, message: RegExp) =>
    t.throws(() => connectPeer(line, options), { code: 'bad-argument', message });
  refused({ key: KEYS[0] }, /^key: unknown; available: services, name, agent, keys,/);
  refused({ keys: '' }, /^keys: expected a list$/);
  t.false(line.destroyed);
});

test('a peer that restarts on the same Duplex gets another session', async (t) => {
  const [line, far] = duplexPair();
  const host = connectPeer(line, { services: { echo } });
  t.teardown(() => host.close());
  // As with a serial port, the exit of the far side does not close the line.
  const attach = (): [Peer, () => void] => {
    const [inner, outer] = duplexPair();
    outer.on('data', (bytes: Buffer) => far.write(bytes));
    const deliver = (bytes: Buffer) => outer.write(bytes);
    far.on('data', deliver);
    return [connectPeer(inner), () => far.off('data', deliver)];
  };
  const [first, detach] = attach();
  await first.connect('echo');
  const ended = once(host as never, 'ended') as Promise<[VproxyError]>;
  detach();
  const [second] = attach();
  t.teardown(() => Promise.all([first.close(), second.close()]));
  t.is((await ended)[0].code, 'peer-restarted');
  t.is(await say(await second.connect('echo'), 'again'), 'again');
});

test('two sides with the same key get a session, with different keys they do not', async (t) => {
  const [host] = pair(t, { keys: [KEYS[0]] }, { keys: [KEYS[0]] });
  await once(host as never, 'session');
  t.regex(host.session?.key ?? '', /^[0-9a-f]{8}$/);
  const [strict] = pair(t, { keys: [KEYS[0]], waitMs: 50 }, { keys: [KEYS[1]] });
  const [reason] = (await once(strict as never, 'ended')) as [VproxyError];
  t.is(reason.code, 'auth-failed');
  await t.throwsAsync(strict.connect('echo'), { code: 'no-session' });
});

test('the peer may open as many streams as announced', async (t) => {
  const [host] = pair(t, {}, { services: { echo }, streams: 1 });
  const first = await host.connect('echo');
  let isOpen = false;
  const opening = host.connect('echo').finally(() => (isOpen = true));
  first.write('x');
  await once(first, 'data');
  t.false(isOpen, 'it waits for its turn');
  first.resume().end();
  (await opening).destroy();
});

// A program with a channel.

test('a program opens and serves streams without a socket, also to a Peer; it waits for a session', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const a = new TestProxy(t, `unix-listen:${path}`);
  a.proxy.serve('echo', echo);
  await a.start();
  const peer = connectPeer(createConnection({ path, allowHalfOpen: true }), { services: { echo } });
  for (const opened of [peer.connect('echo'), a.proxy.connect('echo')])
    t.is(await say(await opened, 'both ways'), 'both ways');
  await peer.close();
  const b = new TestProxy(t, `unix-connect:${path}`);
  const opening = b.proxy.connect('echo');
  await b.start();
  t.is(await say(await opening, 'at last'), 'at last');
  const nobody = new TestProxy(t, `unix-connect:${path}-nobody`, { waitMs: 20 });
  await t.throwsAsync(nobody.proxy.connect('echo'), { code: 'no-session' });
});

const fail = (): never => {
  throw new Error('ENOENT /root/secret');
};

/** Ways for a program's service to fail on its first bytes. */
const FAILURES: Readonly<Record<string, (stream: MuxStream) => unknown>> = {
  throws: fail,
  rejects: (stream) => once(stream, 'data').then(fail),
  listener: (stream) => stream.on('data', fail),
  'end-listener': (stream) => stream.resume().on('end', fail),
};

for (const [name, handle] of Object.entries(FAILURES)) {
  test(`a failing service ends only its own stream, is logged, and hides the reason from the peer: ${name}`, async (t) => {
    const { a, b } = await proxyPair(t);
    a.proxy.serve(name, handle);
    a.proxy.serve('echo', echo);
    const neighbour = await b.proxy.connect('echo');
    const talk = b.proxy.connect(name).then((stream) => buffer(stream.end('x')));
    await t.throwsAsync(talk, { code: 'internal', message: `service ${name} failed` });
    const { level, message, fields } = await a.event('service-failed');
    t.regex(message, new RegExp(`^service ${name} failed on stream \\d+: ENOENT /root/secret$`));
    t.like({ level, fields }, { level: 'error', fields: { service: name } });
    t.is(await say(neighbour, 'still here'), 'still here');
  });
}

test('a handler that awaits a stream which the peer resets does not count as failed', async (t) => {
  const { a, b } = await proxyPair(t);
  const handled = deferred<unknown>();
  a.proxy.serve('sink', async (stream) => {
    try {
      await buffer(stream);
    } catch (error) {
      void setImmediate().then(() => handled.resolve(error));
      throw error;
    }
  });
  const stream = await b.proxy.connect('sink');
  stream.destroy();
  t.like(await handled.promise, { code: 'cancelled' });
  t.false(a.events.some(({ event }) => event === 'service-failed'));
});

// `connect`: a program gets a stream once the peer has accepted it, or the reason. Peer and Proxy both use `acceptedStream`.

test('connect rejects with the reason of the peer', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const { proxy } = await startProxy(t, `unix-listen:${path}`);
  const target = await localServer(t, echoSocket);
  await startProxy(t, `unix-connect:${path}`, {
    incoming: [`echo:${target.port}`, `kept:${target.port}`, `few:${target.port}`, `gone:${join(folder, 'none')}`],
    policies: { kept: { isAllowed: false }, few: { streams: 1 } },
  });
  const held = await proxy.connect('few');
  for (const [service, code] of Object.entries({ kept: 'denied', few: 'too-many-streams', gone: 'connect-refused' }))
    await t.throwsAsync(proxy.connect(service), { code }, service);
  const message = 'service missing is not offered; the peer offers: echo, few, gone, kept';
  await t.throwsAsync(proxy.connect('missing'), { code: 'unknown-service', message });
  t.is(await say(await proxy.connect('echo'), 'after all of that'), 'after all of that');
  held.destroy();
});

/** A program and a peer that sends frames by hand; `open` returns the stream id of the program's OPEN. */
async function besideFrames(t: ExecutionContext) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const { proxy } = await startProxy(t, `unix-listen:${path}`);
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  const open = async () => {
    peer.log.take();
    const answer = within(30_000, 'the answer', proxy.connect('slow'));
    // It may reject before it is awaited.
    answer.catch(() => undefined);
    return { answer, id: (await peer.seen(/^OPEN /)).streamId };
  };
  /** Sends ACCEPT, and more frames of the stream, in one piece. */
  const accept = (id: number, ...more: readonly (readonly [type: number, payload?: Buffer | object])[]) => {
    const frames = [[FRAME_TYPE.ACCEPT] as const, ...more].map(([type, payload]) => peer.frame(type, id, payload));
    peer.write(Buffer.concat(frames));
  };
  return { peer, open, accept };
}

test('connect resolves only after the answer, and data sent with the answer is available', async (t) => {
  const { peer, open, accept } = await besideFrames(t);
  const { answer, id } = await open();
  let isThere = false;
  void answer.then(() => (isThere = true));
  await peer.ping();
  t.false(isThere);
  accept(id, [FRAME_TYPE.DATA, Buffer.from('at once')], [FRAME_TYPE.FIN]);
  t.is(await text(await answer), 'at once');
});

for (const code of ['internal', 'channel-closed']) {
  test(`connect rejects if the session ends before an answer: ${code}`, async (t) => {
    const { peer, open } = await besideFrames(t);
    const { answer } = await open();
    if (code === 'internal') peer.send(FRAME_TYPE.GOAWAY, 0, { code, message: 'a defect', last: 0 });
    else peer.close();
    await t.throwsAsync(answer, { code });
  });
}

test('an end in one piece with the answer rejects, and has no other effect', async (t) => {
  const { peer, open, accept } = await besideFrames(t);
  const reason = { code: 'stalled', message: 'not today' } as const;
  const reset = await open();
  accept(reset.id, [FRAME_TYPE.RESET, reason]);
  await t.throwsAsync(reset.answer, reason);

  const { answer, id } = await open();
  accept(id, [FRAME_TYPE.STOP, reason]);
  const stream = await answer;
  const stopped = once(stream, 'stop');
  await new Promise((resolve) => stream.write('a question', resolve));
  t.like(await within(30_000, 'the stop', stopped), [reason]);
  peer.send(FRAME_TYPE.DATA, id, Buffer.from('an answer'));
  peer.send(FRAME_TYPE.FIN, id);
  t.is(await text(stream), 'an answer');

  // A reset while the program waits for something else surfaces at the next read.
  const first = await open();
  accept(first.id);
  const second = await open();
  peer.send(FRAME_TYPE.RESET, first.id, reason);
  await peer.ping();
  await setImmediate();
  accept(second.id);
  const [late] = await Promise.all([first.answer, second.answer]);
  t.is(toVproxyError(await t.throwsAsync(text(late))).code, 'stalled');
});
