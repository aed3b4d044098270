import test from 'ava';
import { LogLimit } from '../../lib/proxy/log-limit.js';
import type { LogEvent, LogLevel } from '../../lib/util/log-event.js';
import { ManualClock } from '../helpers/manual-clock.js';

/** A limit on a clock that stands, what it let through, and a short way to log. */
function limited() {
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const limit = new LogLimit((event) => events.push(event), clock);
  const log = (event: LogEvent['event'], level: LogLevel = 'info') =>
    limit.log({ level, event, message: event, fields: {} });
  return { clock, limit, events, log };
}

test('200 refused streams a second for a minute are a few lines a second, and none goes uncounted', (t) => {
  const { clock, limit, events, log } = limited();
  for (let turn = 0; turn < 12_000; turn += 1) {
    log('stream-refused', 'warn');
    clock.advance(5);
  }
  limit.stop();
  const kept = events.filter(({ event }) => event === 'stream-refused').length;
  const told = events.filter(({ event }) => event === 'log-limited');
  t.true(kept >= 600 && kept <= 100 + 10 * 60 + 1, `${kept}`);
  t.true(told.length <= 61, `${told.length}`);
  t.true(told.every(({ level }) => level === 'warn'));
  t.is(
    told.reduce((sum, { fields }) => sum + Number(fields['count']), kept),
    12_000,
  );
  t.regex(told[0]?.message ?? '', /^\d+ more lines of the kind stream-refused were left out/);
});

test('one event that comes too fast takes no line from another, and debug lines and storage calls are all there', (t) => {
  const { events, log } = limited();
  for (let turn = 0; turn < 500; turn += 1) {
    log('stream-reset');
    log('stream-opened', 'debug');
    log('storage-call');
  }
  log('session-ended');
  const count = (name: string) => events.filter(({ event }) => event === name).length;
  t.is(count('stream-reset'), 100);
  t.is(count('stream-opened'), 500);
  t.is(count('storage-call'), 500);
  t.is(count('session-ended'), 1);
});

test('nothing is scheduled while every line is logged', (t) => {
  const { clock, events, log } = limited();
  for (let turn = 0; turn < 100; turn += 1) log('stream-reset');
  clock.advance(60_000);
  t.is(events.length, 100);
});
