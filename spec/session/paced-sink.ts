/** A peer's bytes to a service with a rate: local ends get no more than that, whatever is opened, ended and torn down. */
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { ServiceGate, type ServicePolicy, ServiceRegistry } from '../../lib/forward/service-registry.js';
import { Pacer } from '../../lib/session/pacing.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { dropView, keepView } from '../../lib/util/bytes/byte-queue.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { type PairOptions, SessionPair } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';

/** A local end that answers the end of the peer's direction with its own. */
class TakingSink extends RecordingSink {
  override handleFin(): void {
    super.handleFin();
    this.releases?.finish();
  }
}

/** A pair whose side b offers `sink`, at a rate. */
class Scene {
  readonly pair: SessionPair;
  readonly sinks: TakingSink[] = [];
  /** The streams that b serves. */
  readonly streams: SessionStream[] = [];

  /** Nothing waits for it after the test. */
  constructor(t: ExecutionContext, bytesPerSecond: number, options: PairOptions & ServicePolicy = {}) {
    this.pair = new SessionPair(options);
    const registry = new ServiceRegistry();
    registry.setGate('sink', new ServiceGate({ ...options, bytesPerSecond }, this.pair.clock));
    registry.add('sink', (stream) => {
      const sink = new TakingSink();
      sink.releases = stream;
      this.sinks.push(sink);
      this.streams.push(stream);
      stream.attach(sink);
      stream.accept();
    });
    this.pair.b.onSession = (session) => (session.server = registry);
    this.pair.a.onSession = (session) => {
      session.server = {
        serve: (stream) => {
          stream.attach(new RecordingSink());
          stream.accept();
        },
      };
    };
    this.pair.establish();
    t.teardown(() => this.streams.forEach((stream) => stream.reset('cancelled', 'the test is over')));
  }

  /** The bytes that reached local ends. */
  get passed(): number {
    return this.sinks.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  send(bytes: Buffer, sink = new RecordingSink()): SessionStream {
    const stream = this.pair.a.session.open('sink', null, sink);
    stream.send(bytes, 0, bytes.length, false);
    this.pair.settle();
    return stream;
  }

  pass(seconds: number, stepMs: number, act: () => void = () => undefined): void {
    for (let ms = 0; ms < seconds * 1000; ms += stepMs) {
      act();
      this.pair.clock.advance(stepMs);
      this.pair.settle();
    }
  }
}

const FIRST_CREDIT = Buffer.alloc(65_536, 'x');

/** What a guest does with a stream after using up its initial credit. */
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
    test(`at ${bytesPerSecond} bytes a second no more reaches local ends from a peer that opens, sends and ${way}`, (t) => {
      const scene = new Scene(t, bytesPerSecond);
      // More than may pass in a step, and never more than may be open.
      const perStep = Math.ceil((2 * bytesPerSecond * stepMs) / 1000 / FIRST_CREDIT.length);
      scene.pass(seconds, stepMs, () => {
        for (let opened = 0; opened < perStep && scene.pair.a.session.streams.size < 1024; opened += 1) {
          leave(scene.send(FIRST_CREDIT));
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

test('another session shares the rate, and bytes torn down with the one before never pass', (t) => {
  const scene = new Scene(t, 1024);
  const { a, b } = scene.pair;
  scene.pass(10, 200, () => {
    if (a.loop.session === null || b.loop.session === null) return;
    scene.send(FIRST_CREDIT);
    a.session.end(new VproxyError('internal', 'again'));
  });
  t.true(scene.sinks.length >= 3, 'several sessions');
  const { passed } = scene;
  t.true(passed <= 1.2 * 1024 * 10 + 262_144, `${passed}`);
  scene.pass(10, 200);
  t.is(scene.passed, passed);
});

test('bytes come in order, FIN after the last one, and the end after FIN', (t) => {
  const scene = new Scene(t, 65_536);
  const bytes = Buffer.from(Array.from({ length: 150_000 }, (_, index) => index % 251));
  scene.send(bytes).finish();
  const [sink] = scene.sinks;
  scene.pass(1, 10);
  t.false(sink?.events.includes('fin'));
  scene.pass(2, 10);
  t.deepEqual(sink?.bytes, bytes);
  t.deepEqual(sink?.events.slice(sink.events.lastIndexOf('data')), ['data', 'fin', 'end']);
  t.is(scene.streams[0]?.unreadBytes, 0);
});

test('R-STREAM-5: a stream whose bytes wait for the rate keeps its slot when it has ended both ways', (t) => {
  const scene = new Scene(t, 16_384, { limits: { streams: 1 } });
  const open = (): RecordingSink => {
    const sink = new RecordingSink();
    const stream = scene.send(FIRST_CREDIT, sink);
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
  scene.pass(4, 100);
  t.is(served?.bytes.length, FIRST_CREDIT.length);
  t.deepEqual(served?.events.slice(-2), ['fin', 'end']);
  t.is(open().reason, null);
  t.is(scene.sinks.length, 2);
});

for (const [what, code, leave] of [
  ['its local end stops reading', null, (_stream, served) => served?.stop('cancelled', 'no more')],
  ['its local end tears down', 'cancelled', (_stream, served) => served?.reset('cancelled', 'no more')],
  ['the peer resets', 'cancelled', (stream) => stream.reset('cancelled', 'no more')],
] satisfies [string, string | null, (stream: SessionStream, served?: SessionStream) => void][]) {
  test(`a stream that ends because ${what} while its last bytes wait ends once, and leaves no slot, memory or timer`, (t) => {
    const scene = new Scene(t, 1024);
    const atRest = scene.pair.clock.pending;
    for (let count = 0; count < 50; count += 1) {
      const stream = scene.send(FIRST_CREDIT);
      const served = scene.streams.at(-1);
      if (what !== 'the peer resets') {
        served?.finish();
        stream.finish();
        scene.pair.settle();
        t.deepEqual([stream.isOver, served?.isDraining], [true, true]);
      }
      leave(stream, served);
      scene.pair.settle();
      t.deepEqual([served?.isDraining, scene.sinks.at(-1)?.isOver], [false, true]);
      t.is(scene.sinks.at(-1)?.reason?.code ?? null, code);
    }
    const { passed } = scene;
    // Of the views that all queues of the process may hold.
    t.true(keepView(FIRST_CREDIT));
    dropView();
    scene.pass(10, 100);
    t.deepEqual([scene.passed, scene.pair.clock.pending], [passed, atRest]);
  });
}

test('a stream is not idle while its bytes pass at the rate, but idle once they have passed', (t) => {
  const scene = new Scene(t, 1024, { idleTimeoutMs: 10_000 });
  const stream = scene.send(FIRST_CREDIT);
  scene.pass((65_536 - 16_384) / 1024 + 5, 1000);
  t.deepEqual([scene.passed, stream.isOver], [65_536, false]);
  scene.pass(10, 1000);
  t.is(scene.sinks[0]?.reason?.code, 'stalled');
});

test('a greedy stream does not starve others, in either direction', (t) => {
  const scene = new Scene(t, 10_240);
  const [bulk, late] = [Buffer.alloc(65_536, 'b'), Buffer.from('late')];
  for (const bytes of [bulk, bulk, late]) scene.send(bytes);
  scene.pass(1, 10);
  const [first = 0, second = 0, lateBytes] = scene.sinks.map((sink) => sink.bytes.length);
  t.is(lateBytes, 4);
  t.true(Math.abs(second + 16_384 - first) <= 2 * 512, `${first} and ${second}`);

  // The other direction.
  for (const [index, bytes] of [bulk, bulk, late].entries()) scene.streams[index]?.send(bytes, 0, bytes.length, false);
  scene.pass(3, 10);
  const [firstSent = 0, secondSent = 0, lateSent] = scene.streams.map(({ sentBytes }) => sentBytes);
  t.is(lateSent, 4);
  t.true(secondSent >= 10_000, `${firstSent} and ${secondSent}`);
});

test('R-FLOW-4: the window of a stream does not grow while its bytes wait for the rate, however late the PONG', (t) => {
  const scene = new Scene(t, 100_000);
  const { pair, streams } = scene;
  const { clock, a, b } = pair;
  scene.send(Buffer.alloc(5_000_000));
  // Half of a window takes 330 ms at this rate, four round trips 2 s.
  b.session.measure();
  a.outbound.isStalled = true;
  pair.settle();
  clock.advance(500);
  a.outbound.isStalled = false;
  pair.settle();
  t.true((b.session.roundTripMs ?? 0) >= 500);
  scene.pass(5, 10);
  const windowBytes = (streams[0]?.receiveCreditBytes ?? 0) + (streams[0]?.unreadBytes ?? 0);
  t.true(windowBytes <= 65_536, `${windowBytes}`);
  t.true(scene.passed >= 490_000, `${scene.passed}`);
});

test('bytes of several streams all get through, waiting first for the channel and then for the rate', (t) => {
  const scene = new Scene(t, 16_384, { capacityBytes: 4096 });
  const { a, b } = scene.pair;
  const sinks = [new RecordingSink(), new RecordingSink(), new RecordingSink()];
  for (const sink of sinks) sink.releases = a.session.open('sink', null, sink);
  const others = [1, 2, 3].map(() => b.session.open('other', null, new RecordingSink()));
  scene.pair.settle();
  // The channel is full, so all of them are ready for their turn, and the rate leaves bytes for the first only.
  b.outbound.isStalled = true;
  for (const stream of [...others, ...scene.streams]) stream.send(Buffer.alloc(65_536), 0, 65_536, false);
  b.outbound.isStalled = false;
  scene.pair.settle();
  scene.pass(15, 50);
  t.true(sinks.every((sink) => sink.bytes.length === 65_536));
});

// ---- the bound itself --------------------------------------------------------------------------------------------------

test('a pause earns the bytes of a tenth of a second, and at least 16 KiB', (t) => {
  const clock = new ManualClock();
  for (const [bytesPerSecond, burstBytes] of [
    [1024, 16_384],
    [1_000_000, 100_000],
  ] as const) {
    const limit = new Pacer(bytesPerSecond, clock);
    t.is(limit.availableBytes, burstBytes);
    limit.spend(burstBytes);
    t.is(limit.availableBytes, 0);
    clock.advance(3_600_000);
    t.is(limit.availableBytes, burstBytes);
  }
});

test('a sender that always asks for more gets no tiny pieces', (t) => {
  const clock = new ManualClock();
  const limit = new Pacer(3_000_000, clock);
  const pieces: number[] = [];
  for (let microsecond = 0; microsecond < 10_000; microsecond += 1) {
    clock.advance(0.001);
    const bytes = limit.availableBytes;
    limit.spend(bytes);
    if (bytes > 0) pieces.push(bytes);
  }
  t.true(pieces.length > 1);
  t.true(Math.min(...pieces) >= 512, `${pieces.length} pieces`);
});

test('waiters have turns one after the other, each worth a hundredth of a second; a cancelled one has none', (t) => {
  const clock = new ManualClock();
  const limit = new Pacer(1_000_000, clock);
  limit.spend(limit.availableBytes);
  const turns: string[] = [];
  const waiters = ['a', 'b', 'c'].map((name) => {
    const takeTurn = (): void => {
      turns.push(name);
      limit.spend(limit.turnBytes);
      limit.whenAvailable(takeTurn);
    };
    limit.whenAvailable(takeTurn);
    return takeTurn;
  });
  clock.advance(70);
  t.is(turns.join(''), 'abcabca');
  // Late timers lose nothing.
  clock.jump(50);
  t.is(turns.splice(0).join(''), 'abcabcabcabc');
  t.is(limit.availableBytes, 0, 'nothing is there for others while one waits');
  for (const waiter of waiters) limit.forget(waiter);
  clock.advance(1000);
  t.deepEqual([turns, clock.pending], [[], 0]);
});
