import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import { connectPeer, type Peer, type PeerOptions } from '../../lib/proxy/peer.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { deferred } from '../../lib/util/concurrency.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';

const echo = (stream: MuxStream): void => void stream.pipe(stream);
const KEYS = ['ab'.repeat(32), 'cd'.repeat(32)] as const;

function pair(t: ExecutionContext, left: PeerOptions, right: PeerOptions): [Peer, Peer] {
  const [one, other] = duplexPair();
  const peers: [Peer, Peer] = [connectPeer(one, left), connectPeer(other, right)];
  t.teardown(() => Promise.all(peers.map((peer) => peer.close())));
  return peers;
}

test('each side opens streams to the services of the other, over one Duplex', async (t) => {
  const [host, guest] = pair(t, { services: { echo } }, { services: { echo }, name: 'guest', agent: 'an agent 2.0' });
  for (const peer of [host, guest]) {
    const data = randomBytes(1_000_003);
    const stream = await peer.connect('echo');
    stream.end(data);
    t.true((await buffer(stream)).equals(data));
  }
  t.like(host.session?.peer, { name: 'guest', agent: 'an agent 2.0', services: ['echo'] });
  t.deepEqual(guest.services, ['echo']);
});

test('a service that comes later is announced; one that is not there is refused', async (t) => {
  const [host, guest] = pair(t, {}, {});
  await once(guest as never, 'session');
  const announced = once(guest as never, 'services') as Promise<[string[]]>;
  host.serve('late', (stream) => stream.end('here'));
  const [names] = await announced;
  t.true(names.length === 0 || names[0] === 'late');
  const late = await guest.connect('late');
  late.end();
  t.is(await text(late), 'here');
  await t.throwsAsync(guest.connect('nothing'), { code: 'unknown-service' });
});

test('a service that fails ends its own stream, and the program is told why', async (t) => {
  const bad = (): never => {
    throw new Error('ENOENT /root/secret');
  };
  const [host, guest] = pair(t, { services: { bad, echo } }, {});
  const failed = once(host as never, 'failed') as Promise<[string, Error]>;
  const neighbour = await guest.connect('echo');
  await t.throwsAsync(guest.connect('bad').then(text), { code: 'internal', message: 'service bad failed' });
  t.like(await failed, ['bad', { message: 'ENOENT /root/secret' }]);
  neighbour.end('still here');
  t.is(await text(neighbour), 'still here');
});

test('a peer over a socket is an ordinary vproxy: its forwards and services are there', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const proxy = new TestProxy(t, `unix-listen:${path}`);
  proxy.proxy.serve('echo', echo);
  await proxy.start();
  const peer = connectPeer(createConnection({ path, allowHalfOpen: true }), { services: { echo } });
  t.teardown(() => peer.close());
  for (const opened of [peer.connect('echo'), proxy.proxy.connect('echo')]) {
    const stream = await opened;
    stream.end('both ways');
    t.is(await text(stream), 'both ways');
  }
});

test('close tells the peer: its streams and its session end with shutdown, and both Duplexes are closed', async (t) => {
  const [host, guest] = pair(t, { services: { echo } }, {});
  const stream = await guest.connect('echo');
  const failed = once(stream, 'error') as Promise<[VproxyError]>;
  const ended = once(guest as never, 'ended') as Promise<[VproxyError]>;
  await host.close('enough');
  t.like((await failed)[0], { code: 'shutdown' });
  t.like((await ended)[0], { code: 'shutdown', message: 'enough' });
  t.is((await guest.closed).code, 'channel-closed');
  t.is((await host.closed).code, 'shutdown');
  t.is(guest.session, null);
  await t.throwsAsync(guest.connect('echo'), { code: 'no-session' });
});

test('a peer that begins anew on the same Duplex gets another session', async (t) => {
  const [line, far] = duplexPair();
  const host = connectPeer(line, { services: { echo } });
  t.teardown(() => host.close());
  // The end of the far side does not end the line, as with a serial port.
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
  const stream = await second.connect('echo');
  stream.end('again');
  t.is(await text(stream), 'again');
});

test('a stream that the peer resets ends nothing else, although its handler does not listen for errors', async (t) => {
  const opened = deferred<MuxStream>();
  const [host, guest] = pair(t, { services: { echo, sink: (stream) => opened.resolve(stream) } }, {});
  const stream = await guest.connect('sink');
  const served = await opened.promise;
  const closed = new Promise((resolve) => served.once('close', resolve));
  stream.destroy();
  await closed;
  t.like(served.errored, { code: 'cancelled' });
  t.is(host.session?.streams, 0);
});

test('the same key lets the two in, another one does not', async (t) => {
  const [host] = pair(t, { keys: [KEYS[0]] }, { keys: [KEYS[0]] });
  await once(host as never, 'session');
  t.regex(host.session?.key ?? '', /^[0-9a-f]{8}$/);
  const [strict] = pair(t, { keys: [KEYS[0]], waitMs: 50 }, { keys: [KEYS[1]] });
  const [reason] = (await once(strict as never, 'ended')) as [VproxyError];
  t.is(reason.code, 'auth-failed');
  await t.throwsAsync(strict.connect('echo'), { code: 'no-session' });
});

test('the peer may open as many streams as it is told', async (t) => {
  const [host] = pair(t, {}, { services: { echo }, streams: 1 });
  const first = await host.connect('echo');
  let isOpen = false;
  const opening = host.connect('echo').then((stream) => {
    isOpen = true;
    return stream;
  });
  first.write('x');
  await once(first, 'data');
  t.false(isOpen, 'it waits for its turn');
  first.end();
  first.resume();
  (await opening).destroy();
});

test('what is no option is refused, and leaves the Duplex alone', (t) => {
  const wrong: [PeerOptions, string][] = [
    [{ services: { 'Not a name': echo } }, 'bad-argument'],
    [{ streams: 0 }, 'bad-argument'],
    [{ streams: 1.5 }, 'bad-argument'],
    [{ keys: ['short'] }, 'bad-file'],
  ];
  for (const [options, code] of wrong) {
    const duplex = new PassThrough();
    t.throws(() => connectPeer(duplex, options), { code });
    t.false(duplex.destroyed);
    t.is(duplex.listenerCount('data'), 0);
  }
});
