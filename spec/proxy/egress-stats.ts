/** Counts of the destinations of egresses: within the last hour, and bounded. */
import test from 'ava';
import { makeEvent } from '../../lib/events.js';
import { EgressCounts, MAX_DESTINATIONS } from '../../lib/proxy/egress/egress-stats.js';
import { ManualClock } from '../helpers/time.js';

const STREAM = { forward: 'f1', service: 'internet', direction: 'incoming', stream: 1, from: null } as const;
const MINUTE_MS = 60_000;

function setUp() {
  const clock = new ManualClock();
  const counts = new EgressCounts(clock);
  const place = (host: string) => ({
    ...STREAM,
    egress: 'internet',
    host,
    port: 443,
    address: '192.0.2.1:443',
    rule: '',
  });
  const open = (host: string) => counts.record(makeEvent('egress-opened', '', place(host)));
  const close = (host: string, uploadedBytes: number, downloadedBytes: number) =>
    counts.record(
      makeEvent('egress', '', { ...place(host), uploadedBytes, downloadedBytes, durationMs: 1, code: null }),
    );
  const refuse = (destination: string | null, reason = 'denied') =>
    counts.record(
      makeEvent('egress-refused', '', { ...STREAM, egress: 'internet', destination, reason, rule: null, why: '' }),
    );
  const list = () => counts.list('vm1').map((row) => (Object.values(row) as unknown[]).slice(2));
  return { clock, counts, open, close, refuse, list };
}

test('what was opened, refused and transferred is counted by destination, for an hour', (t) => {
  const { clock, open, close, refuse, list } = setUp();
  open('a.example');
  refuse('b.example:443');
  // Not by the rules, or of nothing that is known.
  refuse('b.example:443', 'timeout');
  refuse(null);
  clock.advance(30 * MINUTE_MS);
  open('a.example');
  close('a.example', 10, 5);
  t.deepEqual(list(), [
    ['a.example:443', 2, 0, 0, 10, 5],
    ['b.example:443', 0, 1, 0, 0, 0],
  ]);
  clock.advance(31 * MINUTE_MS);
  t.deepEqual(list(), [['a.example:443', 1, 0, 0, 10, 5]]);
  clock.advance(30 * MINUTE_MS);
  t.deepEqual(list(), []);
});

test('beyond a thousand destinations the others are counted as one, until there is room', (t) => {
  const { clock, open, close, list } = setUp();
  for (let index = 0; index < MAX_DESTINATIONS + 50; index += 1) open(`n${index}.example`);
  close('n5.example', 1, 0);
  t.is(list().length, MAX_DESTINATIONS + 1);
  t.deepEqual(list()[0], ['n5.example:443', 1, 0, 0, 1, 0]);
  t.deepEqual(
    list().find(([destination]) => destination === null),
    [null, 50, 0, 0, 0, 0],
  );
  clock.advance(61 * MINUTE_MS);
  open('new.example');
  t.deepEqual(list(), [['new.example:443', 1, 0, 0, 0, 0]]);
});
