/** Rates of streams, by a clock that the test moves. */
import test from 'ava';
import { StreamRates } from '../../lib/control/context/stream-rates.js';
import type { StreamStatus } from '../../lib/status/types.js';
import { ManualClock } from '../helpers/time.js';

const stream = (changes: Partial<StreamStatus>): StreamStatus => ({
  channel: 'default',
  id: 1,
  service: 'x',
  direction: 'outgoing',
  forward: 'f1',
  from: null,
  ageMs: 60_000,
  sentBytes: 0,
  receivedBytes: 0,
  sendCreditBytes: 0,
  receiveCreditBytes: 0,
  waitsFor: null,
  datagrams: null,
  ...changes,
});

function setUp() {
  const clock = new ManualClock();
  const setup = { clock, streams: [stream({})], looks: 0 };
  const rates = new StreamRates(() => {
    setup.looks += 1;
    return setup.streams;
  }, clock);
  const measure = async () =>
    (await rates.measure()).map(({ sendRate, receiveRate }) => [sendRate, receiveRate] as const);
  return { setup, clock, measure };
}

test('the first answer takes 200 ms, the next ones none, and nothing is left to do at rest', async (t) => {
  const { setup, clock, measure } = setUp();
  const first = measure();
  t.is(clock.pending, 1);
  setup.streams = [stream({ sentBytes: 1000, receivedBytes: 50 })];
  clock.advance(200);
  t.deepEqual(await first, [[5000, 250]]);
  clock.advance(1000);
  setup.streams = [stream({ sentBytes: 3000, receivedBytes: 50 })];
  t.deepEqual(await measure(), [[2000, 0]]);
  t.is(clock.pending, 0);
});

test('after 3 s in which nobody asked a new look is taken', async (t) => {
  const { setup, clock, measure } = setUp();
  const first = measure();
  clock.advance(200);
  await first;
  clock.advance(3001);
  setup.streams = [stream({ sentBytes: 1_000_000 })];
  const later = measure();
  t.is(clock.pending, 1);
  setup.streams = [stream({ sentBytes: 1_000_100 })];
  clock.advance(200);
  t.deepEqual(await later, [[500, 0]]);
});

test('two who ask at once wait for the same look, and one who asks right after another sees no jump', async (t) => {
  const { setup, clock, measure } = setUp();
  const both = Promise.all([measure(), measure()]);
  t.is(clock.pending, 1);
  setup.streams = [stream({ sentBytes: 200 })];
  clock.advance(200);
  t.deepEqual(await both, [[[1000, 0]], [[1000, 0]]]);
  clock.advance(1);
  // Within a millisecond of the last look: measured from it alone, the rate would be 100,000 a second.
  setup.streams = [stream({ sentBytes: 300 })];
  const [[rate] = [0, 0]] = await measure();
  t.true(rate < 2000, String(rate));
});

test('a new stream counts from its beginning, also where its number was that of another', async (t) => {
  const { setup, clock, measure } = setUp();
  setup.streams = [stream({ sentBytes: 1_000_000 })];
  const first = measure();
  clock.advance(200);
  await first;
  clock.advance(1000);
  setup.streams = [stream({ sentBytes: 400, ageMs: 500 }), stream({ id: 3, sentBytes: 100, ageMs: 100 })];
  t.deepEqual(await measure(), [
    [800, 0],
    [1000, 0],
  ]);
});
