/** The limit of the log: of any events at any times, each is logged or counted, and never too many in a second. */
import assert from 'node:assert/strict';
import type { LogEvent } from '../../../lib/events.js';
import { jsonLineBytes, LogLimit } from '../../../lib/proxy/log-limit.js';
import { ManualClock } from '../../helpers/time.js';
import { FuzzInput } from '../fuzz-input.js';

const EVENTS = [
  'stream-refused',
  'session-ended',
  'channel-waiting',
  'accept-failed',
  'listening',
  'services',
] as const;
const LEVELS = ['info', 'warn', 'error', 'debug'] as const;
/**
 * Of all of them together: at once, per second, and for the one line a second that reports the number left out, for
 * each event and level.
 */
const [BURST_BYTES, BYTES_PER_SECOND, TELLING_BYTES] = [30_720, 6144, 500 * EVENTS.length * LEVELS.length];

/** Input: pairs of an event (by its low bits, then its level) and how many of it; or a time to wait, in 16 ms. */
export function fuzzLogLimit(bytes: Uint8Array): void {
  const clock = new ManualClock();
  const logged: LogEvent[] = [];
  const limit = new LogLimit({ log: (event) => logged.push(event), clock });
  const sent = new Map<string, number>();
  const input = new FuzzInput(bytes);
  for (let pair = 0; pair < bytes.length; pair += 2) {
    const [what, count] = [input.byte(), input.byte()];
    const event = EVENTS[what & 7];
    if (event === undefined) {
      clock.advance(16 * count);
      continue;
    }
    const level = LEVELS[(what >> 3) & 3] ?? 'info';
    for (let index = 0; index < count; index += 1) limit.log({ level, event, message: 'it', fields: {} });
    sent.set(event, (sent.get(event) ?? 0) + count);
  }
  limit.stop();
  assert.equal(clock.pending, 0);
  for (const [event, count] of sent) {
    const lines = logged.filter((line) => line.event === event);
    const leftOut = logged
      .filter(({ event: name, fields }) => name === 'log-limited' && fields['kind'] === event)
      .reduce((sum, { fields }) => sum + Number(fields['count']), 0);
    assert.equal(lines.length + leftOut, count);
  }
  const loggedBytes = logged.reduce((sum, event) => sum + jsonLineBytes(event), 0);
  const seconds = clock.now() / 1000;
  const most = BURST_BYTES + BYTES_PER_SECOND * seconds + TELLING_BYTES * (seconds + 1);
  assert.ok(loggedBytes <= most, `${loggedBytes} bytes in ${seconds} s`);
}
