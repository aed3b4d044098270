/** What the service manager is told, by a systemd-notify that fails while a file says so. */
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Notifier } from '../../cli/service/notifier.js';
import type { LogEvent } from '../../lib/events.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** More than the longest pause between two attempts, in milliseconds. */
const PAUSE_MS = 10_000;

function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const program = join(folder, 'systemd-notify');
  const broken = join(folder, 'broken');
  const sent = join(folder, 'sent');
  const script = `#!/bin/sh\necho "$*" >> '${sent}'\n[ ! -e '${broken}' ] || { echo 'no barrier' >&2; exit 1; }\n`;
  writeFileSync(program, script);
  chmodSync(program, 0o755);
  writeFileSync(sent, '');
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const notifier = new Notifier({ socket: '/none', log: (event) => events.push(event), program, clock });
  return {
    notifier,
    clock,
    names: () => events.map(({ event }) => event),
    events,
    attempts: () => readFileSync(sent, 'utf8').trimEnd().split('\n'),
    breakIt: () => writeFileSync(broken, ''),
    mendIt: () => rmSync(broken),
    /** Resolves when it waits to try again. */
    pauses: () => eventually(() => clock.pending === 1, { what: 'a pause' }),
  };
}

test('what could not be sent is sent again, with what is newer, until it has arrived', async (t) => {
  const { notifier, clock, events, names, attempts, breakIt, mendIt, pauses } = setUp(t);
  breakIt();
  notifier.notify({ READY: '1', STATUS: 'no session' });
  await pauses();
  notifier.notify({ STATUS: 'a session', WATCHDOG: '1' });
  clock.advance(PAUSE_MS);
  await pauses();
  t.deepEqual(attempts(), ['READY=1 STATUS=no session', 'READY=1 STATUS=a session WATCHDOG=1']);
  t.deepEqual(names(), ['notify-failed']);
  t.regex(events[0]?.message ?? '', /not told how this goes: .*systemd-notify: no barrier; trying again$/);
  mendIt();
  clock.advance(PAUSE_MS);
  await eventually(() => names().length === 2);
  t.deepEqual(names(), ['notify-failed', 'notify-recovered']);
  notifier.notify({ WATCHDOG: '1' });
  await eventually(() => attempts().length === 4);
  t.deepEqual(attempts().slice(2), ['READY=1 STATUS=a session WATCHDOG=1', 'WATCHDOG=1']);
  // Another failure is retried as soon as the first one: after a second, with a quarter of jitter.
  breakIt();
  notifier.notify({ WATCHDOG: '1' });
  await pauses();
  clock.advance(1250);
  await eventually(() => attempts().length === 6);
  await notifier.end({ STOPPING: '1' });
  t.is(clock.pending, 0);
});

test('the pauses between two attempts stay short', async (t) => {
  const { notifier, clock, breakIt, pauses, attempts } = setUp(t);
  breakIt();
  notifier.notify({ READY: '1' });
  let passedMs = 0;
  for (let count = 2; count < 8; count += 1) {
    await pauses();
    for (; clock.pending > 0; passedMs += 100) clock.advance(100);
    await eventually(() => attempts().length === count);
  }
  // 1, 2, 4 s, and from then on 5 s, each with a quarter of jitter.
  t.true(passedMs < 1.3 * (1 + 2 + 4 + 5 + 5 + 5) * 1000, `${passedMs}`);
  await pauses();
  await notifier.end({ STOPPING: '1' });
});

test('at the end what waits is sent once more, and not again', async (t) => {
  const { notifier, clock, breakIt, pauses, attempts, names } = setUp(t);
  breakIt();
  notifier.notify({ STATUS: 'a session' });
  await pauses();
  await notifier.end({ STOPPING: '1', STATUS: 'ending' });
  t.deepEqual(attempts(), ['STATUS=a session', 'STATUS=ending STOPPING=1']);
  t.is(clock.pending, 0);
  t.deepEqual(names(), ['notify-failed']);
});

test('what comes while the end fails is tried once', async (t) => {
  const { notifier, clock, breakIt, attempts } = setUp(t);
  breakIt();
  notifier.notify({ STATUS: 'a session' });
  await notifier.end({ STOPPING: '1' });
  t.deepEqual(attempts(), ['STATUS=a session', 'STATUS=a session STOPPING=1']);
  t.is(clock.pending, 0);
});
