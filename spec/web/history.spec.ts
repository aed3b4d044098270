/** The last hour of a channel, by a given clock. */
import test from 'ava';
import type { ChannelStatus } from '../../lib/status/types.js';
import { History } from '../../web/server/history.js';
import { STEP_MS } from '../../web/views.js';

const status = (sentBytes: number, receivedBytes: number, roundTripMs: number | null) =>
  ({
    session: roundTripMs === null ? null : { roundTripMs },
    totals: { sentBytes, receivedBytes },
  }) as unknown as ChannelStatus;

test('rates are those since the last look, and steps are five seconds, however often one looks', (t) => {
  const history = new History();
  history.add(status(1000, 0, 2), 0);
  t.deepEqual([history.sendRate, history.receiveRate, history.recent], [0, 0, []]);
  history.add(status(3000, 500, 2), 1000);
  t.deepEqual([history.sendRate, history.receiveRate], [2000, 500]);
  for (const second of [2, 3, 4]) history.add(status(3000, 500, 2), second * 1000);
  t.is(history.sendRate, 0);
  // Early, but it is the look of this step.
  history.add(status(6000, 500, 1.234), 4990);
  history.add(status(6000, 500, null), 2 * STEP_MS);
  t.deepEqual(history.since(0), {
    ...{ first: 0, next: 2 },
    sendRates: [1002, 0],
    receiveRates: [100, 0],
    roundTrips: [1.23, null],
  });
  t.deepEqual(history.since(1).roundTrips, [null]);
  t.deepEqual(history.since(2), { first: 2, next: 2, sendRates: [], receiveRates: [], roundTrips: [] });
  // A page that knows more steps has seen another server, or a channel that was removed and added again.
  t.deepEqual(history.since(7), history.since(0));
  t.deepEqual(history.recent, [1102, 0]);
});

test('an hour is kept, and totals that go back are no rates', (t) => {
  const history = new History();
  for (let step = 0; step <= 1000; step++) history.add(status(step * 5000, 0, step), step * STEP_MS);
  const { first, next, sendRates, roundTrips } = history.since(0);
  t.deepEqual([first, next, sendRates.length], [280, 1000, 720]);
  t.deepEqual([roundTrips[0], roundTrips.at(-1), new Set(sendRates)], [281, 1000, new Set([1000])]);
  t.is(history.recent.length, 60);
  history.add(status(0, 0, 1), 1001 * STEP_MS);
  t.deepEqual([history.sendRate, history.since(1000).sendRates], [0, [0]]);
});

test('a pause has as many steps as it took', (t) => {
  const history = new History();
  history.add(status(0, 0, 1), 0);
  history.add(status(5000, 0, 1), STEP_MS);
  history.add(status(20_000, 0, 2), 4 * STEP_MS);
  t.like(history.since(0), { next: 4, sendRates: [1000, 1000, 1000, 1000], roundTrips: [1, 2, 2, 2] });
});
