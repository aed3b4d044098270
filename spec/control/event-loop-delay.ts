/** The delay of the event loop, which is measured only while a client asks for it. */
import test from 'ava';
import { EventLoopDelay } from '../../lib/control/context/event-loop-delay.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** Keeps the event loop busy for `ms`. */
function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test.serial('a loop that is held up is seen, from one request to the next', async (t) => {
  const delay = new EventLoopDelay(new ManualClock());
  t.teardown(() => delay.stop());
  t.is(delay.take(), null);
  const look = () => {
    // Right after a request there is no measurement yet.
    block(300);
    const seen = delay.take();
    return seen !== null && seen.maxMs > 200 ? seen : null;
  };
  const seen = await eventually(look, { what: 'a delay' });
  t.true(seen.meanMs <= seen.p99Ms && seen.p99Ms <= seen.maxMs + 1, JSON.stringify(seen));
});

test.serial('it is forgotten when nobody has asked for a minute', async (t) => {
  const clock = new ManualClock();
  const delay = new EventLoopDelay(clock);
  t.teardown(() => delay.stop());
  delay.take();
  await eventually(() => delay.take(), { what: 'the first measurement' });
  t.is(clock.pending, 1);
  clock.advance(60_000);
  t.is(clock.pending, 0);
  block(50);
  t.is(delay.take(), null);
});
