/** Rules of a service: permission, open rate, concurrent streams, data rate, and idle timeout. */
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { ServiceGate, type ServicePolicy, ServiceRegistry } from '../../lib/forward/service-registry.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { carryOn, SessionPair } from '../helpers/session-pair.js';

/** A pair in which side b offers `echo` and `other`, with a rule for `echo`. */
function setUp(policy: ServicePolicy) {
  const pair = new SessionPair();
  const denied: string[] = [];
  const registry = new ServiceRegistry({
    onDenied: (_stream, why) => denied.push(why),
  });
  registry.setGate('echo', new ServiceGate(policy, pair.clock));
  for (const service of ['echo', 'other']) {
    registry.add(service, (stream, session) => {
      const mux = MuxStream.accept(session, stream);
      mux.on('error', () => undefined);
      mux.pipe(mux);
    });
  }
  pair.b.onSession = (session) => (session.server = registry);
  pair.establish();
  return { pair, registry, denied };
}

/** Opens a stream; returns it, and its error code once everything is idle. */
async function open(pair: SessionPair, service = 'echo') {
  const stream = MuxStream.open(pair.a.session, service);
  const failure: { code: string | null; message: string } = { code: null, message: '' };
  stream.on('error', (error) => {
    failure.code = toVproxyError(error).code;
    failure.message = error.message;
  });
  await carryOn(pair);
  return { stream, failure };
}

test('a service that a peer may not open is denied without a reason; others remain open to it', async (t) => {
  const { pair, denied } = setUp({ isAllowed: false });
  const { failure } = await open(pair);
  t.deepEqual(failure, { code: 'denied', message: 'not allowed' });
  t.deepEqual(denied, ['the channel may not open this service']);
  t.is((await open(pair, 'other')).failure.code, null);
});

test('the rule limits concurrent streams; one that ends makes room', async (t) => {
  const { pair, denied } = setUp({ streams: 2 });
  const [first, second] = [await open(pair), await open(pair)];
  t.deepEqual([first.failure.code, second.failure.code], [null, null]);
  t.is((await open(pair)).failure.code, 'too-many-streams');
  t.deepEqual(denied, ['too many streams (max 2, closing ones included)']);
  first.stream.destroy();
  await carryOn(pair);
  t.is((await open(pair)).failure.code, null);
});

test('a stream counts until its local end has closed, also in another session and under another rule', async (t) => {
  const { pair, registry, denied } = setUp({ streams: 1 });
  const served = new Set<SessionStream>();
  registry.add('slow', (stream, session) => {
    served.add(stream);
    stream.isServed = () => served.has(stream);
    MuxStream.accept(session, stream).on('error', () => undefined);
  });
  registry.setGate('slow', new ServiceGate({ streams: 1 }, pair.clock));
  const { stream } = await open(pair, 'slow');
  stream.destroy();
  await carryOn(pair);
  t.is((await open(pair, 'slow')).failure.code, 'too-many-streams');

  pair.a.session.end(new VproxyError('internal', 'again'));
  await carryOn(pair);
  pair.clock.advance(1000);
  await carryOn(pair);
  t.is((await open(pair, 'slow')).failure.code, 'too-many-streams');
  registry.setGate('slow', new ServiceGate({ streams: 1, idleTimeoutMs: 1000 }, pair.clock));
  t.is((await open(pair, 'slow')).failure.code, 'too-many-streams');
  t.is(denied.length, 3);

  served.clear();
  t.is((await open(pair, 'slow')).failure.code, null);
  t.is((await open(pair, 'slow')).failure.code, 'too-many-streams');
});

test('streams that were open before the rule count, too', async (t) => {
  const { pair, registry } = setUp({});
  const { stream } = await open(pair);
  // One that this side opened, to the peer's service of that name, does not.
  pair.a.session.server = { serve: (own) => MuxStream.accept(pair.a.session, own).on('error', () => undefined) };
  MuxStream.open(pair.b.session, 'echo').on('error', () => undefined);
  await carryOn(pair);
  for (const streams of [1, 2]) {
    registry.setGate('echo', null);
    registry.setGate('echo', new ServiceGate({ streams }, pair.clock));
    t.is((await open(pair)).failure.code, streams === 1 ? 'too-many-streams' : null);
  }
  stream.destroy();
  await carryOn(pair);
  t.is((await open(pair)).failure.code, null);
  t.is((await open(pair)).failure.code, 'too-many-streams');
});

/** CPU time of an OPEN refused by the rule beside N open streams, in microseconds: the best of several rounds. */
function refusalMicros(openCount: number): number {
  const peer = FramePeer.established({ limits: { streams: openCount + 1 } });
  const registry = new ServiceRegistry();
  registry.setGate('echo', new ServiceGate({ streams: openCount }, peer.clock));
  registry.add('echo', (stream) => {
    stream.attach(new RecordingSink());
    stream.accept();
  });
  peer.session.server = registry;
  for (let opened = 0; opened < openCount; opened += 1) peer.sendOpen(2 * opened + 1, 'echo');
  let id = 2 * openCount + 1;
  const rounds = Array.from({ length: 5 }, () => {
    const frames = Array.from({ length: 500 }, () => peer.frame(FRAME_TYPE.OPEN, (id += 2), { service: 'echo' }));
    const before = process.cpuUsage();
    for (const frame of frames) peer.loop.receive(frame);
    const { user, system } = process.cpuUsage(before);
    peer.pump();
    return (user + system) / frames.length;
  });
  return Math.min(...rounds);
}

test('refusing a stream costs the same beside 20,000 streams as beside 20', (t) => {
  const [few, many] = [refusalMicros(20), refusalMicros(20_000)];
  t.true(many < 4 * few + 20, `${many} µs, ${few} µs`);
});

test('the rule limits streams opened per second', async (t) => {
  const { pair, denied } = setUp({ opensPerSecond: 3 });
  const codes: (string | null)[] = [];
  for (let opened = 0; opened < 5; opened += 1) codes.push((await open(pair)).failure.code);
  t.deepEqual(codes, [null, null, null, 'too-many-streams', 'too-many-streams']);
  t.deepEqual(denied, ['more than 3 streams a second', 'more than 3 streams a second']);
  pair.clock.advance(1000);
  t.is((await open(pair)).failure.code, null);
});

test('an idle stream is reset in time; one in use is not', async (t) => {
  const { pair } = setUp({ idleTimeoutMs: 60_000 });
  const [idle, used] = [await open(pair), await open(pair)];
  for (let second = 0; second < 100; second += 1) {
    if (second % 50 === 0) used.stream.write('x');
    pair.clock.advance(1000);
    await carryOn(pair);
    if (second < 58) t.is(idle.failure.code, null);
  }
  t.is(idle.failure.code, 'stalled');
  t.is(used.failure.code, null);
});

test('the rate limits bytes in both directions, for all streams of the service together, and all arrive', async (t) => {
  const bytesPerSecond = 1_000_000;
  const { pair } = setUp({ bytesPerSecond });
  let received = 0;
  const total = 1_500_000;
  // The echo is limited in both directions, so each is at most at the rate.
  for (let count = 0; count < 3; count += 1) {
    const { stream } = await open(pair);
    stream.on('data', (chunk: Buffer) => (received += chunk.length));
    stream.end(Buffer.alloc(total / 3, 'x'));
  }
  const { stream: free } = await open(pair, 'other');
  let freeBytes = 0;
  free.on('data', (chunk: Buffer) => (freeBytes += chunk.length));
  free.end(Buffer.alloc(1_000_000));
  await carryOn(pair);
  t.is(freeBytes, 1_000_000, 'a stream to another service does not wait');
  const at: number[] = [];
  for (let tick = 0; tick < 200 && received < total; tick += 1) {
    at.push(received);
    pair.clock.advance(20);
    await carryOn(pair);
  }
  t.is(received, total);
  const seconds = at.length / 50;
  t.true(seconds >= 1.3 && seconds <= 2, `${seconds} s`);
});
