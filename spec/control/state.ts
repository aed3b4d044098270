/** The state and measurements of a control server, without its sockets; and the path of its socket. */
import test from 'ava';
import { EventLoopDelay } from '../../lib/control/context/event-loop-delay.js';
import { StreamRates } from '../../lib/control/context/stream-rates.js';
import { controlFolder, controlSocketPath, isControlName } from '../../lib/control/socket-paths.js';
import { VproxyError } from '../../lib/errors.js';
import { KNOWN_ENDS, StreamEnds } from '../../lib/proxy/services/stream-ends.js';
import type { StreamStatus } from '../../lib/status/types.js';
import { eventually, ManualClock } from '../helpers/time.js';

test('the socket is in /run/vproxy for root, else in the user’s runtime folder; its name is a valid file name', (t) => {
  const runtimeDirectory = '/run/user/1000';
  t.is(controlSocketPath('vm1', { isRoot: true, runtimeDirectory }), '/run/vproxy/vm1.sock');
  t.is(controlSocketPath('4711', { isRoot: false, runtimeDirectory }), '/run/user/1000/vproxy/4711.sock');
  t.is(controlSocketPath('vm1', { isRoot: false, runtimeDirectory: null }), null);
  for (const folder of ['relative', '']) t.is(controlFolder({ isRoot: false, runtimeDirectory: folder }), null);
  for (const name of ['vm1', 'host.example_2', 'A-b']) t.true(isControlName(name), name);
  for (const name of ['', '.', '..', '../x', 'a/b', '-x', 'a b', 'ü', 'storage', 'x'.repeat(65)])
    t.false(isControlName(name), name);
});

test('open streams and the last ended ones are known, each with its own end', (t) => {
  const ends = new StreamEnds();
  const open = ends.add();
  const [first, second] = [ends.add(), ends.add()];
  ends.end(first, null);
  ends.end(second, new VproxyError('idle-timeout', `it was silent\u001b[2J${'x'.repeat(100_000)}`));
  t.deepEqual(ends.find(first), { state: 'ended', error: null });
  const { state, error } = ends.find(second);
  t.deepEqual([state, error?.code], ['reset', 'idle-timeout']);
  t.regex(error?.message ?? '', /^it was silent\\x1b\[2Jx{400,500}.{0,3}$/);

  for (let count = 1; count < KNOWN_ENDS; count += 1) ends.end(ends.add(), null);
  t.is(ends.find(second).state, 'reset');
  ends.end(ends.add(), null);
  for (const unknown of [first, second, 1_000_000]) t.throws(() => ends.find(unknown), { code: 'not-found' });
  t.deepEqual(ends.find(open), { state: 'open', error: null });
});

// The delay of the event loop, measured only while a client asks for it.

function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test.serial('a blocked loop is seen from one request to the next; after a minute without, nothing is', async (t) => {
  const clock = new ManualClock();
  const delay = new EventLoopDelay(clock);
  t.teardown(() => delay.stop());
  t.is(delay.take(), null);
  const look = () => {
    // There is no sample yet right after a request.
    block(300);
    const seen = delay.take();
    return seen !== null && seen.maxMs > 200 ? seen : null;
  };
  // At most one sample between two looks: the first after a request is dropped.
  const seen = await eventually(look, { what: 'a delay', intervalMs: 1 });
  t.true(seen.meanMs <= seen.p99Ms && seen.p99Ms <= seen.maxMs + 1, JSON.stringify(seen));
  t.is(clock.pending, 1);
  clock.advance(60_000);
  t.is(clock.pending, 0);
  block(50);
  t.is(delay.take(), null);
});

// Rates of streams.

const stream = (changes: Partial<StreamStatus>): StreamStatus => ({
  ...{ channel: 'default', id: 1, service: 'x', direction: 'outgoing', forward: 'f1', from: null, ageMs: 60_000 },
  ...{
    sentBytes: 0,
    receivedBytes: 0,
    sendCreditBytes: 0,
    receiveCreditBytes: 0,
    waitsFor: null,
    datagrams: null,
    reached: null,
  },
  ...changes,
});

function setUp() {
  const clock = new ManualClock();
  let streams = [stream({})];
  const rates = new StreamRates(() => streams, clock);
  const measure = async () =>
    (await rates.measure()).map(({ sendRate, receiveRate }) => [sendRate, receiveRate] as const);
  /** Advances the clock, and sets the counters of the streams. */
  const pass = (ms: number, ...changes: readonly Partial<StreamStatus>[]): void => {
    streams = changes.map(stream);
    clock.advance(ms);
  };
  return { clock, measure, pass };
}

test('the first answer takes 200 ms, the next ones none; after 3 s without a request a new sample is taken', async (t) => {
  const { clock, measure, pass } = setUp();
  const first = measure();
  t.is(clock.pending, 1);
  pass(200, { sentBytes: 1000, receivedBytes: 50 });
  t.deepEqual(await first, [[5000, 250]]);
  pass(1000, { sentBytes: 3000, receivedBytes: 50 });
  t.deepEqual(await measure(), [[2000, 0]]);
  t.is(clock.pending, 0, 'nothing is left to do at rest');
  pass(3001, { sentBytes: 1_000_000 });
  const later = measure();
  t.is(clock.pending, 1);
  pass(200, { sentBytes: 1_000_100 });
  t.deepEqual(await later, [[500, 0]]);
});

test('concurrent requests share a sample, and a request right after another sees no jump', async (t) => {
  const { clock, measure, pass } = setUp();
  const both = Promise.all([measure(), measure()]);
  t.is(clock.pending, 1);
  pass(200, { sentBytes: 200 });
  t.deepEqual(await both, [[[1000, 0]], [[1000, 0]]]);
  // Within a millisecond of the last sample: measured from it alone, the rate would be 100,000 a second.
  pass(1, { sentBytes: 300 });
  const [[rate] = [0, 0]] = await measure();
  t.true(rate < 2000, String(rate));
});

test('a new stream counts from its beginning, even if its number was reused', async (t) => {
  const { measure, pass } = setUp();
  pass(0, { sentBytes: 1_000_000 });
  const first = measure();
  pass(200, { sentBytes: 1_000_000 });
  await first;
  pass(1000, { sentBytes: 400, ageMs: 500 }, { id: 3, sentBytes: 100, ageMs: 100 });
  t.deepEqual(await measure(), [
    [800, 0],
    [1000, 0],
  ]);
});
