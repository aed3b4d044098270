/** A session that continues in another process: what waits, and what has a timer. */
import { deserialize, serialize } from 'node:v8';
import test, { type ExecutionContext } from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS, HEADER_BYTES } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { newReceiveWindow, ReceiveWindow } from '../../lib/session/flow.js';
import type { LocalEnd } from '../../lib/session/local-end.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { Pacer } from '../../lib/session/pacing.js';
import { Session, type SessionState } from '../../lib/session/session.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { Budget } from '../../lib/util/bounds.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { carry, type HandOver, MemoryPipe, RESUME_MS, SessionPair, seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
import { ResumePair } from './resume-pair.js';

const KEY = SecretKey.parse('1f'.repeat(32));
const RATE = 100_000;
const BYTES = Buffer.from(Array.from({ length: 60_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff));

const arrived = ({ state }: Session): SessionState => deserialize(serialize(state)) as SessionState;

/** A local end that hands over received bytes if the stream was not answered. */
class HoldingSink extends RecordingSink {
  listHeld(): readonly Buffer[] {
    return this.chunks;
  }
}

/** A pair in which `b` treats each stream as `serve` says; `a` opens one, and has sent on it. */
function withStream(serve: (stream: SessionStream) => void) {
  const pair = new ResumePair();
  pair.b.session.server = { serve };
  pair.b.onSession = (session) => (session.server = { serve });
  const opener = new RecordingSink();
  const stream = pair.a.session.open('sink', null, opener);
  opener.releases = stream;
  stream.send(Buffer.from(BYTES), 0, BYTES.length, false);
  return { pair, opener, stream };
}

/** Continues the streams of `b` in another process, each with the local end that `attach` returns. */
function onMoved({ b }: ResumePair, attach: (stream: SessionStream) => LocalEnd | null): void {
  b.onMoved = (_from, _to, _before, streams) => {
    for (const [stream, end] of streams.map((one) => [one, attach(one)] as const)) if (end !== null) stream.attach(end);
  };
}

// ---- what waits -------------------------------------------------------------------------------------------------------

const setPace = (stream: SessionStream, { b }: ResumePair, rate = RATE): void =>
  stream.setPace({ send: new Pacer(rate, b.processClock), receive: new Pacer(rate, b.processClock) });

/** A paced stream on which `b` sends as much as it receives; both have let a part pass, and will end after the rest. */
function pacedStream(t: ExecutionContext) {
  const sinks: RecordingSink[] = [];
  const take = (stream: SessionStream): RecordingSink => {
    const sink = new RecordingSink();
    sink.releases = stream;
    sinks.push(sink);
    return sink;
  };
  const { pair, opener, stream } = withStream((incoming) => {
    setPace(incoming, pair);
    incoming.attach(take(incoming));
    incoming.accept();
    incoming.send(Buffer.from(BYTES), 0, BYTES.length, false);
    incoming.finish();
  });
  stream.finish();
  pair.settle();
  /** Bytes received at `a`, and at `b` in all its processes. */
  const all = (): Buffer[] => [opener.bytes, Buffer.concat(sinks.map(({ bytes }) => bytes))];
  const isPart = (): boolean => all().every(({ length }) => length > 0 && length < BYTES.length);
  t.true(isPart());
  return { pair, opener, sinks, take, all, isPart };
}

/** Carries each turn of a limit, so that the credit of the stream comes back. */
function pass(pair: ResumePair, seconds: number): void {
  for (let turn = 0; turn < 100 * seconds; turn += 1) {
    pair.clock.advance(10);
    pair.settle();
  }
}

for (const isPaced of [true, false]) {
  const how = isPaced ? 'at that pace' : 'without a pace';
  test(`bytes that wait for the pace of a stream, either way, continue ${how} in the other process, and the end follows them`, (t) => {
    const { pair, opener, sinks, take, all, isPart } = pacedStream(t);
    onMoved(pair, (stream) => {
      if (isPaced) setPace(stream, pair);
      return take(stream);
    });
    pair.b.handOver();
    pair.settle();
    t.is(isPart(), isPaced);
    pass(pair, 2);
    for (const bytes of all()) t.true(bytes.equals(BYTES));
    for (const { events } of [opener, sinks[1] as RecordingSink]) {
      const ending = events.slice(events.lastIndexOf('data') + 1).filter((event) => event !== 'sent');
      t.deepEqual(ending, ['fin', 'end']);
    }
    t.is(pair.b.session.streams.listAll().length, 0, 'it is drained');
  });
}

test('bytes that wait for the pace of a stream are captured again and again, and dropped with it', (t) => {
  const { pair, take, all } = pacedStream(t);
  onMoved(pair, (stream) => {
    setPace(stream, pair, 1);
    return take(stream);
  });
  for (let time = 0; time < 3; time += 1) pair.b.handOver();
  onMoved(pair, (stream) => {
    stream.reset('cancelled', 'not wanted any more');
    return null;
  });
  pair.b.handOver();
  pass(pair, 1);
  for (const bytes of all()) t.true(bytes.equals(BYTES.subarray(0, bytes.length)));
  t.is(pair.b.session.streams.listAll().length, 0);
});

test('bytes and FIN that came before the answer are delivered again when the other process announces the stream', (t) => {
  const sinks: HoldingSink[] = [];
  const { pair, opener, stream } = withStream((incoming) => {
    const sink = new HoldingSink();
    sinks.push(sink);
    incoming.attach(sink);
  });
  pair.settle();
  t.is(sinks[0]?.bytes.length, 16_384);
  onMoved(pair, () => null);
  pair.b.handOver();
  stream.stop('cancelled', 'reads no more');
  pair.settle();
  t.true(sinks[1]?.bytes.equals(BYTES.subarray(0, 16_384)));
  t.deepEqual(sinks[1]?.events, ['data', 'stop cancelled']);
  pair.b.handOver();
  t.deepEqual(sinks[2]?.events, ['stop cancelled', 'data']);
  const [incoming] = pair.b.session.streams.list();
  const last = sinks[2] as HoldingSink;
  last.releases = incoming ?? null;
  incoming?.release(last.bytes.length);
  incoming?.accept();
  stream.finish();
  pair.a.session.open('empty', null, new RecordingSink()).finish();
  pair.settle();
  t.true(last.bytes.equals(BYTES));
  t.deepEqual(last.events.slice(-2), ['fin', 'end']);
  t.true(opener.isOver && opener.reason === null);
  pair.b.handOver();
  t.is(
    sinks
      .slice(3)
      .flatMap(({ events }) => events)
      .join(),
    'fin,fin',
  );
});

test('an unanswered stream with bytes that its local end cannot list cannot be captured, and continues', (t) => {
  const sink = new RecordingSink();
  const { pair, stream } = withStream((incoming) => incoming.attach(sink));
  pair.settle();
  t.throws(() => pair.b.session.state, { code: 'upgrade-failed', message: /before its answer/ });
  const [incoming] = pair.b.session.streams.list();
  sink.releases = incoming ?? null;
  incoming?.release(sink.bytes.length);
  incoming?.accept();
  stream.finish();
  pair.settle();
  t.true(sink.bytes.equals(BYTES));
});

test('a stream that nothing takes over is torn down, or refused if unanswered', (t) => {
  const { pair, opener } = withStream((incoming) => {
    incoming.attach(new RecordingSink());
    if (incoming.service === 'sink') incoming.accept();
  });
  const other = new RecordingSink();
  pair.a.session.open('other', null, other);
  pair.settle();
  onMoved(pair, () => null);
  pair.b.onSession = () => undefined;
  pair.b.handOver();
  pair.settle();
  t.deepEqual([opener.events.at(-1), other.events.at(-1)], ['end cancelled', 'end unknown-service']);
});

test('what a stream has written is delivered even if nothing takes it over, once it has ended and reads no more', (t) => {
  const { pair, opener, stream } = withStream((incoming) => {
    setPace(incoming, pair);
    incoming.attach(new RecordingSink());
    incoming.accept();
    incoming.send(Buffer.from(BYTES), 0, BYTES.length, false);
    incoming.stop('cancelled', 'no more');
    incoming.finish();
  });
  pair.settle();
  t.true(opener.bytes.length < BYTES.length);
  onMoved(pair, () => null);
  pair.b.handOver();
  pair.settle();
  t.true(opener.bytes.equals(BYTES));
  stream.finish();
  pair.settle();
  t.is(opener.events.at(-1), 'end');
  t.is(pair.b.session.streams.listAll().length, 0);
});

test('a stream that nothing takes over ends after 10 s if the peer does not end it', (t) => {
  const { pair, opener, stream } = withStream((incoming) => {
    incoming.attach(new RecordingSink());
    incoming.accept();
    incoming.stop('cancelled', 'no more');
    incoming.finish();
  });
  // A session answers STOP with FIN: the frame is lost here.
  while (carry(pair.a, pair.b, 65_536));
  onMoved(pair, () => null);
  pair.b.handOver();
  const left = () => pair.b.session.streams.listAll().length;
  t.is(left(), 1);
  pair.clock.advance(10_000);
  t.is(left(), 0);
  t.false(opener.isOver || stream.isOver);
});

test('control frames that wait for the channel are sent in order, with the services and the newest credit, PONG and ACK', (t) => {
  const pair = new ResumePair({ capacityBytes: 10 });
  const { a, b, clock, traffic } = pair;
  // What waits later, not what waited now, goes with the next one.
  a.handOver();
  const ends = Array.from({ length: 6 }, () => traffic.open(a));
  pair.settle();
  for (const end of ends) end?.send(60_000);
  t.true(a.session.unwrittenBytes >= 131_072, 'the channel takes no control frame now');
  for (const end of ends) end?.other?.send(60_000);
  b.session.measure();
  while (carry(b, a, 65_536));
  clock.advance(200);
  const { queue } = a.session.state.scheduler;
  t.true(queue.creditors.some(({ id }) => id === 0) && queue.creditors.some(({ id }) => id > 0));
  t.true(queue.pong !== null && queue.ackBytes !== null);
  ends[0]?.stop();
  ends[1]?.stream?.reset('cancelled', 'as the spec has it');
  traffic.open(a)?.send(1000);
  a.session.setServices(['later']);
  t.is(a.session.state.scheduler.queue.frames.length, 3);
  a.handOver();
  const seen: number[] = [];
  b.session.on('measured', (ms) => seen.push(ms));
  pair.settle();
  t.is(seen.length, 1);
  t.deepEqual([...b.session.peerServices.names], ['later']);
  t.deepEqual(pair.finish(), []);
  t.is(a.session.streams.size + b.session.streams.size, 0);
  t.is(ends[1]?.other?.reason?.code, 'cancelled');
});

test('actions of local ends before the session continues wait until then', (t) => {
  const { pair, opener, stream } = withStream((incoming) => incoming.attach(new HoldingSink()));
  pair.settle();
  const sink = new RecordingSink();
  onMoved(pair, (incoming) => {
    incoming.attach(sink);
    incoming.accept();
    incoming.send(Buffer.from('answer'), 0, 6, false);
    incoming.finish();
    sink.releases = incoming;
    return null;
  });
  // That also checks that nothing is sent before `goOn`.
  pair.b.handOver();
  stream.finish();
  pair.settle();
  t.is(opener.bytes.toString(), 'answer');
  t.true(sink.bytes.equals(BYTES));
  t.true(sink.isOver && sink.reason === null);
});

test('a link that has drained, but whose drain event was lost with the old process, is written to', (t) => {
  const { a, b, traffic } = new ResumePair({ capacityBytes: 1000 });
  traffic.open(a)?.send(200_000);
  a.session.setServices(['later']);
  while (a.outbound.totalBytes > 0) b.deliver(a.outbound.take(1_000_000).bytes);
  t.deepEqual([...b.session.peerServices.names], []);
  a.handOver();
  while (carry(a, b, 65_536));
  t.deepEqual([...b.session.peerServices.names], ['later']);
});

// ---- timers -------------------------------------------------------------------------------------------------------------

for (const [what, begin, how, beforeMs, afterMs, code] of [
  ['an open', ({ traffic, a }) => traffic.open(a, 'later'), 'with link', 29_900, 100, null],
  ['a drain', ({ a }) => a.session.drain('bye'), 'with link', 10_000, 20_000, 'shutdown'],
  ['a wait for a link', (pair) => pair.disconnect(), 'without link', 59_000, 1000, 'resume-expired'],
] satisfies [string, (pair: ResumePair) => unknown, HandOver, number, number, string | null][]) {
  test(`${what} has the rest of its time in the other process`, (t) => {
    const { pair } = ResumePair.withStream();
    const { a, clock, traffic } = pair;
    begin(pair);
    if (code === null) pair.settle();
    const end = traffic.ends.at(code === null ? -2 : 0);
    clock.advance(beforeMs);
    a.handOver(how);
    if (a.session.isDraining) t.throws(() => a.session.open('more', null, new RecordingSink()), { code: 'shutdown' });
    clock.advance(afterMs - 1);
    t.false(a.session.isOver || end?.isOver);
    clock.advance(1);
    t.is(end?.reason?.code, code ?? 'open-timeout');
    t.is(a.ended[0]?.split(' ')[0] ?? null, code);
    if (code !== null) t.deepEqual(a.kept.named([]), []);
  });
}

test('a session that loses its link in the hand-over has the full timeout, and continues on another one', (t) => {
  const { pair, end } = ResumePair.withStream();
  end.send(50_000);
  pair.step(10_000);
  pair.clock.advance(RESUME_MS / 2);
  pair.a.handOver('without link');
  t.is(pair.a.kept.endAtMs(pair.a.session), pair.clock.now() + RESUME_MS);
  pair.b.disconnect();
  pair.clock.advance(RESUME_MS - 1);
  pair.cut();
  t.deepEqual(pair.finish(), []);
  t.is(end.other?.receivedBytes, 50_000);
  t.is(pair.a.kept.endAtMs(pair.a.session), null);
});

test('a peer due to be asked for a sign of life, because streams were opened and reset too fast, is asked', (t) => {
  const { a, clock } = new ResumePair();
  for (let count = 0; count < 400; count += 1) {
    a.session.open('sink', null, new RecordingSink()).reset('cancelled', 'at once');
  }
  a.handOver();
  const sentBytes = a.outbound.totalBytes;
  clock.advance(100);
  t.is(a.outbound.totalBytes, sentBytes + HEADER_BYTES + 8, 'a PING');
});

test('silence before and after the hand-over is one silence', (t) => {
  const { a, clock } = new ResumePair({ settings: { deadAfterMs: 30_000, resume: null } });
  clock.advance(20_000);
  a.handOver();
  clock.advance(9999);
  t.deepEqual(a.ended, []);
  clock.advance(2501);
  t.regex(a.ended.join(), /^channel-silent [^,]*$/);
});

test('the time of an incomplete frame counts in both processes together', (t) => {
  const bytesUntilEnd = (handsOverAt: number): number => {
    const pair = new ResumePair({ settings: { resume: null } });
    const { a, b, clock, traffic } = pair;
    const end = traffic.open(b);
    pair.settle();
    end?.send(4000);
    let bytes = 0;
    for (; !a.session.isOver; bytes += 1) {
      if (bytes === handsOverAt) a.handOver();
      clock.advance(10_000);
      carry(b, a, 1);
    }
    t.regex(a.ended.join(), /^desync [^,]*$/);
    return bytes;
  };
  const bytes = bytesUntilEnd(-1);
  for (let at = 1; at < bytes; at += 1) t.is(bytesUntilEnd(at), bytes, `${at}`);
});

test('received bytes are acknowledged when due', (t) => {
  const { pair, end } = ResumePair.withStream();
  const { a, b, clock } = pair;
  clock.advance(1000);
  pair.settle();
  end.other?.send(100);
  pair.settle();
  clock.advance(150);
  a.handOver();
  clock.advance(49);
  t.is(a.outbound.totalBytes, 0);
  clock.advance(1);
  t.true(a.outbound.totalBytes > 0);
  pair.settle();
  let isKept = true;
  b.session.afterDrain(() => (isKept = false));
  t.false(isKept, 'nothing waits for the peer');
});

test('a round trip measured meanwhile spans both processes', (t) => {
  const pair = new ResumePair();
  pair.a.session.measure();
  pair.clock.advance(30);
  const measured: number[] = [];
  pair.a.onSession = (session) => void session.on('measured', (ms) => measured.push(ms));
  pair.a.handOver();
  pair.clock.advance(12);
  pair.settle();
  t.deepEqual([...measured, pair.a.session.roundTripMs], [42, 42]);
});

// ---- what can be handed over ----------------------------------------------------------------------------------------------

for (const every of [1, 30]) {
  test(`a session continues from its first byte on, handed over at every step of ${every}`, (t) => {
    const pair = new SessionPair({ memoryBytes: 1_000_000, settings: { keys: () => [KEY] }, limits: { frame: 4096 } });
    const { a, b } = pair;
    for (const side of pair.sides) side.services = [`of-${side.name}`];
    pair.start();
    let count = 0;
    while ([carry(a, b, every), carry(b, a, every)].includes(true)) {
      const isThere = a.loop.session?.wasEstablished === true;
      t.is(a.loop.joinedAtMs !== null, isThere);
      if (!isThere) continue;
      a.handOver();
      count += 1;
    }
    t.true(count > 5, `${count}`);
    t.deepEqual([a.sessions.length, b.sessions.length, ...a.ended, ...b.ended], [1, 1]);
    t.is(a.session.secret?.id, b.session.secret?.id);
    t.deepEqual(a.kept.named([KEY.id]), [a.session.secret?.id]);
    t.deepEqual([...a.session.peerServices.names, ...b.session.peerServices.names], ['of-b', 'of-a']);
  });
}

interface Incident {
  readonly settings: Partial<SessionSettings>;
  /** How many bytes are carried each way at a time, in exchanges of their own. */
  readonly strides: readonly number[];
  /** Called after each step of an exchange; false if nothing happens then. */
  readonly happen: (pair: ResumePair, step: number, stride: number) => boolean;
}

const handOverInTurn = ({ sides }: ResumePair, step: number): boolean => {
  sides[step % 2]?.handOver();
  return true;
};

const INCIDENTS: Readonly<Record<string, Incident>> = {
  'hand-overs of either side, resumed': { settings: {}, strides: [199], happen: handOverInTurn },
  'hand-overs of either side, on one link': { settings: { resume: null }, strides: [211], happen: handOverInTurn },
  'losses of the link': {
    ...{ settings: {}, strides: Array.from({ length: 60 }, (_, index) => 100 + index) },
    happen: (pair, step, stride) => step === stride % 47 && (pair.cut(), true),
  },
};

/** The answers to the streams that each side opens. */
const ANSWERS = ['accept', 'accept', 'accept', 'later', 'refuse'] as const;
/** The codes with which they end at both ends: the third is reset. */
const CODES = [',', ',', 'cancelled,cancelled', ',', 'denied,denied'];
/** More than the credit of a stream: the rest waits for CREDIT. */
const LONG = 1200;

for (const [what, { settings, strides, happen }] of Object.entries(INCIDENTS)) {
  for (const integrity of INTEGRITY_LEVELS) {
    test(`integrity ${integrity}: streams end as ever, whatever the bytes between which there are ${what}`, (t) => {
      const limits = { ...DEFAULT_LIMITS, frame: 4096, streamCredit: 1024, inFlight: 4096 };
      let count = 0;
      for (const stride of strides) {
        const pair = new ResumePair({ settings: { limits, integrity, ...settings } });
        const { traffic, sides, clock } = pair;
        let step = 0;
        /** Carries everything; acknowledgements follow after a pause. */
        const carryAll = (): void => {
          for (let pause = 0; pause < 3; pause += 1) {
            while (pair.step(stride)) count += Number(happen(pair, step++, stride));
            clock.advance(250);
          }
        };
        const openers = sides.flatMap((side) => ANSWERS.map((answer) => traffic.open(side, answer)));
        for (const opener of openers) opener?.send(LONG);
        carryAll();
        for (const [index, opener] of openers.entries()) {
          // It holds what comes until the end.
          if (opener !== null && index % 5 === 0) opener.isPaused = true;
          opener?.other?.send(LONG);
          if (index % 5 === 1) opener?.stop();
          if (index % 5 === 2) opener?.stream?.reset('cancelled', 'as the spec has it');
        }
        carryAll();
        traffic.finishAll();
        carryAll();
        t.deepEqual(pair.leftovers(), [], `${stride}`);
        const codes = openers.map((opener) => [opener, opener?.other].map((end) => end?.reason?.code).join());
        t.deepEqual(codes, [...CODES, ...CODES]);
      }
      t.true(count > 40, `${count}`);
    });
  }
}

test('a loop without a session of its own link has nothing to hand over', (t) => {
  const { loop } = new SessionPair().a;
  t.is(loop.joinedAtMs, null);
  loop.start();
  t.is(loop.joinedAtMs, null);
  const { a, clock } = new ResumePair();
  clock.advance(500);
  t.is(a.loop.joinedAtMs, 0);
  a.loop.stop(new VproxyError('shutdown', 'stopped'));
  t.is(a.loop.joinedAtMs, null);
});

test('rare state is restored, too', (t) => {
  const { session, settings } = new ResumePair().a;
  const clock = new ManualClock();
  clock.advance(1_000_000);
  const plain = arrived(session);
  const state: SessionState = {
    ...plain,
    frameTimer: { atMs: 999_995, frame: 3, spentMs: 77 },
    credit: { ...plain.credit, wasHeldBack: true, roundFromBytes: 1000, roundFromMs: 50, receivedBytes: 1100 },
    leaving: { drainReason: null, renewReason: { code: 'shutdown', message: 'used up' }, endsAtMs: 1_005_000 },
    liveness: { tickedAtMs: 999_999, received: 2, sent: 3, silentMs: 4, quietMs: 5, sincePingMs: 6 },
    ownServices: { announced: 'one', wanted: ['two'], ports: [{ port: 3000, program: 'node' }] },
    peerServices: { names: new Set(['one']), partial: ['two'], clockOffsetMs: 42, ports: [{ port: 1, program: null }] },
    scheduler: {
      ...plain.scheduler,
      ready: { small: [], others: [], smallTurns: 7 },
      interactiveId: 9,
      interactiveAtMs: 999_992,
      stalledAtMs: 999_990,
      stalledMs: 123,
    },
    table: {
      ...plain.table,
      resets: { tokens: 10, filledAtMs: 999_000 },
      retractions: { heardAtMs: 999_997, keptCount: 2, bucket: { tokens: 5, filledAtMs: 999_997 } },
    },
    isMeasureDue: true,
  };
  const copy = deserialize(serialize(state)) as SessionState;
  const restored = Session.restore(copy, { sink: new MemoryPipe(1), clock, settings });
  t.deepEqual(restored.state, state);
  const endings: string[] = [];
  restored.on('end', ({ message }) => endings.push(message));
  restored.goOn();
  clock.advance(5000);
  t.deepEqual(endings, ['used up']);
});

test('a session that is over or unproved is not captured; one that ends with its link is not restored without it, or with other settings', (t) => {
  const refused = { code: 'upgrade-failed' };
  const { clock, a } = new ResumePair({ settings: { resume: null } });
  const { settings, session, outbound: sink } = a;
  t.throws(() => Session.restore(arrived(session), { sink: null, clock, settings }), refused);
  const resumed = new ResumePair();
  t.throws(() => Session.restore(arrived(resumed.a.session), { sink, clock, settings }), refused);
  resumed.disconnect();
  const context = { sink, clock, settings: resumed.a.settings };
  t.throws(() => Session.restore(arrived(resumed.a.session), context), { code: 'internal' });

  session.end(new VproxyError('shutdown', 'over'));
  t.throws(() => session.state, refused);
  const proved = sessionSettings({ ...seededIdentity('x', 7), keys: () => [KEY] });
  t.throws(() => new Session(session.agreement, { sink, clock, settings: proved }).state, refused);
});

test('a window without room in the budget becomes that of a new stream, and returns no more than it took', (t) => {
  const large = new Budget(1_000_000);
  const window = new ReceiveWindow(1000, large, newReceiveWindow(1000, 0));
  const { state } = window;
  const pace = { nowMs: 0, roundTripMs: 10 };
  for (let round = 0; round < 5; round += 1) {
    window.receive(state.grantedBytes - state.receivedBytes, 1);
    window.release(window.unreadBytes, pace, true);
  }
  t.true(state.windowBytes > 4000);
  for (const budget of [new Budget(1_000_000), new Budget(0)]) {
    const restored = new ReceiveWindow(1000, budget, { ...state });
    t.is(restored.state.windowBytes, budget.limitBytes > 0 ? state.windowBytes : 1000);
    t.is(restored.state.grantedBytes, state.grantedBytes);
    t.is(budget.usedBytes, restored.state.windowBytes - 1000);
    restored.close();
    t.is(budget.usedBytes, 0);
  }
});
