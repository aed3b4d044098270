/** What a peer sends to a service with a rate: no more than that reaches local ends, whatever is opened, ended and torn down. */
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { ServiceGate, type ServicePolicy, ServiceRegistry } from '../../lib/forward/service-registry.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { dropView, keepView } from '../../lib/util/bytes/byte-queue.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { type PairOptions, SessionPair } from '../helpers/session-pair.js';

/** A local end that answers the end of the peer's direction with its own. */
class TakingSink extends RecordingSink {
  override handleFin(): void {
    super.handleFin();
    this.releases?.finish();
  }
}

/** A pair whose side b offers `sink`, at a rate; `passed` are the bytes that reached local ends. Nothing waits for it after the test. */
function setUp(t: ExecutionContext, bytesPerSecond: number, options: PairOptions & ServicePolicy = {}) {
  const pair = new SessionPair(options);
  const registry = new ServiceRegistry();
  registry.setGate('sink', new ServiceGate({ ...options, bytesPerSecond }, pair.clock));
  const scene = {
    pair,
    sinks: [] as TakingSink[],
    streams: [] as SessionStream[],
    get passed(): number {
      return this.sinks.reduce((sum, { bytes }) => sum + bytes.length, 0);
    },
  };
  registry.add('sink', (stream) => {
    const sink = new TakingSink();
    sink.releases = stream;
    scene.sinks.push(sink);
    scene.streams.push(stream);
    stream.attach(sink);
    stream.accept();
  });
  pair.b.onSession = (session) => session.on('stream', (stream) => registry.serve(stream, session));
  pair.a.onSession = (session) => {
    session.on('stream', (stream) => {
      stream.attach(new RecordingSink());
      stream.accept();
    });
  };
  pair.establish();
  t.teardown(() => {
    for (const stream of scene.streams) stream.reset('cancelled', 'the test is over');
  });
  return scene;
}

type Scene = ReturnType<typeof setUp>;

function send({ pair }: Scene, bytes: Buffer, sink = new RecordingSink()): SessionStream {
  const stream = pair.a.session.open('sink', null, sink);
  stream.send(bytes, 0, bytes.length, false);
  pair.settle();
  return stream;
}

function pass({ pair }: Scene, seconds: number, stepMs: number, act: () => void = () => undefined): void {
  for (let ms = 0; ms < seconds * 1000; ms += stepMs) {
    act();
    pair.clock.advance(stepMs);
    pair.settle();
  }
}

const FIRST_CREDIT = Buffer.alloc(65_536, 'x');

/** What a guest does with a stream on which it has sent its first credit. */
const WAYS: Readonly<Record<string, (stream: SessionStream) => void>> = {
  ends: (stream) => void stream.finish(),
  resets: (stream) => stream.reset('cancelled', 'enough'),
  keeps: () => undefined,
};

for (const [way, leave] of Object.entries(WAYS)) {
  for (const [bytesPerSecond, seconds, stepMs] of [
    [1024, 10, 50],
    [65_536, 10, 20],
    [1_000_000, 10, 10],
    [20_000_000, 1, 2],
  ] as const) {
    test(`at ${bytesPerSecond} bytes a second no more reaches local ends from one who opens, sends and ${way}`, (t) => {
      const scene = setUp(t, bytesPerSecond);
      // More than may pass in a step, and never more than may be open.
      const perStep = Math.ceil((2 * bytesPerSecond * stepMs) / 1000 / FIRST_CREDIT.length);
      pass(scene, seconds, stepMs, () => {
        for (let opened = 0; opened < perStep && scene.pair.a.session.streams.size < 1024; opened += 1) {
          leave(send(scene, FIRST_CREDIT));
        }
      });
      const mostBytes = 1.2 * bytesPerSecond * seconds + 262_144;
      t.true(scene.passed <= mostBytes, `${scene.passed} of at most ${mostBytes}`);
      // Streams that are not torn down do pass.
      const sentBytes = scene.sinks.length * FIRST_CREDIT.length;
      const leastBytes = way === 'resets' ? 0 : Math.min(0.9 * bytesPerSecond * seconds, sentBytes);
      t.true(scene.passed >= leastBytes, `${scene.passed} of at least ${leastBytes}`);
    });
  }
}

test('another session has no other rate, and what was torn down with the one before never passes', (t) => {
  const scene = setUp(t, 1024);
  pass(scene, 10, 200, () => {
    const { a, b } = scene.pair;
    if (a.loop.session === null || b.loop.session === null) return;
    send(scene, FIRST_CREDIT);
    a.session.end(new VproxyError('internal', 'again'));
  });
  t.true(scene.sinks.length >= 3, 'several sessions');
  t.true(scene.passed <= 1.2 * 1024 * 10 + 262_144, `${scene.passed}`);
  const { passed } = scene;
  pass(scene, 10, 200);
  t.is(scene.passed, passed);
});

test('bytes come in order behind each other, FIN behind the last one, and the end behind FIN', (t) => {
  const scene = setUp(t, 65_536);
  const bytes = Buffer.from(Array.from({ length: 150_000 }, (_, index) => index % 251));
  const stream = send(scene, bytes);
  stream.finish();
  const [sink] = scene.sinks;
  const [served] = scene.streams;
  pass(scene, 1, 10);
  t.false(sink?.events.includes('fin'));
  pass(scene, 2, 10);
  t.deepEqual(sink?.bytes, bytes);
  t.deepEqual(
    sink?.events.filter((event) => event !== 'data'),
    ['fin', 'end'],
  );
  t.is(served?.heldBytes, 0);
});

test('R-STREAM-5: a stream whose bytes wait for the rate keeps its place when it has ended both ways', (t) => {
  const scene = setUp(t, 16_384, { limits: { streams: 1 } });
  const open = (): RecordingSink => {
    const sink = new RecordingSink();
    const stream = send(scene, FIRST_CREDIT, sink);
    // The served side has nothing to send, and ends its direction at once.
    scene.streams.at(-1)?.finish();
    stream.finish();
    scene.pair.settle();
    return sink;
  };
  t.true(open().isOver);
  const [served] = scene.sinks;
  t.false(served?.isOver);
  t.is(open().reason?.code, 'too-many-streams');
  pass(scene, 4, 100);
  t.is(served?.bytes.length, FIRST_CREDIT.length);
  t.deepEqual(served?.events.slice(-2), ['fin', 'end']);
  t.is(open().reason, null);
  t.is(scene.sinks.length, 2);
});

for (const [what, code, leave] of [
  ['stops reading', null, (stream?: SessionStream) => stream?.stop('cancelled', 'no more')],
  ['is torn down', 'cancelled', (stream?: SessionStream) => stream?.reset('cancelled', 'no more')],
] as const) {
  test(`a local end that ${what} while the last bytes wait is done with, once, and its place is free`, (t) => {
    const scene = setUp(t, 1024);
    const atRest = scene.pair.clock.pending;
    const stream = send(scene, FIRST_CREDIT);
    const [served] = scene.streams;
    served?.finish();
    stream.finish();
    scene.pair.settle();
    t.true(stream.isOver);
    const { passed } = scene;
    t.true(served?.isDraining);
    leave(served);
    t.false(served?.isDraining);
    const [sink] = scene.sinks;
    t.deepEqual([sink?.isOver, sink?.reason?.code ?? null], [true, code]);
    pass(scene, 10, 100);
    t.is(scene.passed, passed);
    t.is(scene.pair.clock.pending, atRest);
  });
}

test('what waits is dropped with a stream that the peer resets, and keeps neither memory nor a timer', (t) => {
  const scene = setUp(t, 1024);
  const atRest = scene.pair.clock.pending;
  const streams = Array.from({ length: 100 }, () => send(scene, FIRST_CREDIT));
  const { passed } = scene;
  for (const stream of streams) stream.reset('cancelled', 'enough');
  scene.pair.settle();
  t.deepEqual([...new Set(scene.sinks.map(({ reason }) => reason?.code))], ['cancelled']);
  // Of the views that all queues of the process may hold.
  t.true(keepView(FIRST_CREDIT));
  dropView();
  pass(scene, 10, 100);
  t.is(scene.passed, passed);
  t.is(scene.pair.clock.pending, atRest);
});

test('a stream whose bytes pass at the rate is not idle; one whose bytes have passed is', (t) => {
  const scene = setUp(t, 1024, { idleTimeoutMs: 10_000 });
  const stream = send(scene, FIRST_CREDIT);
  const secondsOfBytes = (65_536 - 16_384) / 1024;
  pass(scene, secondsOfBytes + 5, 1000);
  t.is(scene.passed, 65_536);
  t.false(stream.isOver);
  pass(scene, 10, 1000);
  t.is(scene.sinks[0]?.reason?.code, 'stalled');
});

test('a greedy stream does not starve others, in either direction', (t) => {
  const scene = setUp(t, 10_240);
  const bulk = Buffer.alloc(65_536, 'b');
  send(scene, bulk);
  send(scene, bulk);
  send(scene, Buffer.from('late'));
  pass(scene, 1, 10);
  const [first, second, late] = scene.sinks.map((sink) => sink.bytes.length);
  t.is(late, 4);
  t.true(Math.abs((second ?? 0) + 16_384 - (first ?? 0)) <= 2 * 512, `${first} and ${second}`);

  // The other way round.
  const [one, two, three] = scene.streams;
  for (const stream of [one, two]) stream?.send(bulk, 0, bulk.length, false);
  three?.send(Buffer.from('late'), 0, 4, false);
  pass(scene, 3, 10);
  const [firstSent = 0, secondSent = 0, lateSent] = [one, two, three].map((stream) => stream?.sentBytes ?? 0);
  t.is(lateSent, 4);
  t.true(secondSent >= 10_000, `${firstSent} and ${secondSent}`);
});

test('R-FLOW-4: the window of a stream does not grow while its bytes wait for the rate, however late the peer says PONG', (t) => {
  const scene = setUp(t, 100_000);
  const { pair } = scene;
  const { clock, a, b } = pair;
  const stream = a.session.open('sink', null, new RecordingSink());
  const bytes = Buffer.alloc(5_000_000);
  stream.send(bytes, 0, bytes.length, false);
  pair.settle();
  // Half of a window takes 330 ms at this rate, four round trips 2 s.
  b.session.measure();
  a.outbound.isStalled = true;
  pair.settle();
  clock.advance(500);
  a.outbound.isStalled = false;
  pair.settle();
  t.true((b.session.roundTripMs ?? 0) >= 500);
  pass(scene, 5, 10);
  const [served] = scene.streams;
  const windowBytes = (served?.receiveCreditBytes ?? 0) + (served?.heldBytes ?? 0);
  t.true(windowBytes <= 65_536, `${windowBytes}`);
  t.true(scene.passed >= 490_000, `${scene.passed}`);
});

test('bytes of several streams that wait for the channel and then for the rate all get through', (t) => {
  const scene = setUp(t, 16_384, { capacityBytes: 4096 });
  const { pair } = scene;
  const sinks = [new RecordingSink(), new RecordingSink(), new RecordingSink()];
  for (const sink of sinks) {
    sink.releases = pair.a.session.open('sink', null, sink);
  }
  const others = [1, 2, 3].map(() => pair.b.session.open('other', null, new RecordingSink()));
  pair.settle();
  // The channel is full, so all of them are ready for their turn, and the rate leaves bytes for the first only.
  pair.b.outbound.isStalled = true;
  const filler = Buffer.alloc(65_536);
  for (const stream of [...others, ...scene.streams]) stream.send(filler, 0, filler.length, false);
  pair.b.outbound.isStalled = false;
  pair.settle();
  pass(scene, 15, 50);
  t.deepEqual(
    sinks.map((sink) => sink.bytes.length),
    [65_536, 65_536, 65_536],
  );
});
