/** Rate limits of a channel's events, on a manual clock. */
import test from 'ava';
import { LOG_EVENT_NAMES, LOG_EVENTS, type LogEvent, type LogLevel } from '../../lib/events.js';
import {
  auditPart,
  boundEvent,
  boundLogEvent,
  jsonLineBytes,
  LogLimit,
  logPart,
  type PartOf,
} from '../../lib/proxy/channel/log-limit.js';
import { formatJsonLine } from '../../lib/util/escape.js';
import { ManualClock } from '../helpers/time.js';

/** A limiter, the events that it let through and when, and a short way to log. */
function limited(partOf?: PartOf) {
  const clock = new ManualClock();
  const lines: { readonly atMs: number; readonly bytes: () => number; readonly event: LogEvent }[] = [];
  const counts = new Map<string, number>();
  const shown = (kind: string) => counts.get(kind) ?? 0;
  const record = (event: LogEvent): void => {
    // Many specs need no sizes.
    lines.push({ atMs: clock.now(), event, bytes: () => jsonLineBytes(event) });
    counts.set(event.event, shown(event.event) + 1);
  };
  const limit = new LogLimit({ log: record, clock, ...(partOf === undefined ? {} : { partOf }) });
  const log = (event: LogEvent['event'], level: LogLevel = 'info', fields: LogEvent['fields'] = {}) =>
    limit.log({ level, event, message: event, fields });
  const told = () => lines.filter(({ event }) => event.event === 'log-limited');
  const countOf = (kind: string) =>
    told()
      .filter(({ event }) => event.fields['kind'] === kind)
      .reduce((sum, { event }) => sum + Number(event.fields['count']), shown(kind));
  return { clock, limit, lines, log, shown, told, countOf };
}

/** The events of a peer that is always refused, each with its level. */
const REFUSED: readonly (readonly [LogEvent['event'], LogLevel])[] = [
  ['session-ended', 'info'],
  ['session-ended', 'warn'],
  ['session-ended', 'debug'],
  ['stream-refused', 'debug'],
  ['stream-refused', 'warn'],
  ['stream-denied', 'warn'],
  ['exec-refused', 'warn'],
  ['copy-refused', 'warn'],
  ['storage-call', 'warn'],
  ['storage-emulator', 'debug'],
  ['services', 'debug'],
  ['channel-closed', 'debug'],
  ['channel-crowded', 'info'],
  ['channel-listening', 'info'],
];

/** Those of them that go into the audit log. */
const REFUSED_IN_AUDIT = REFUSED.filter(([event]) => LOG_EVENTS[event].isAudited);

/** The largest fields that such an event can have. */
const FAT = boundLogEvent({
  ...({ level: 'info', event: 'exec-refused', message: '' } as const),
  fields: { from: '\u202e'.repeat(100), argv: Array<string>(1000).fill('\u202e') },
}).fields;

/** Limit on all of these events together in a second, in KiB: less than 64 in both logs. */
const most = { logPart: 51, auditPart: 13 };
const parts = Object.entries({ logPart, auditPart }) as (readonly [keyof typeof most, PartOf])[];

for (const [name, partOf] of parts) {
  for (const [what, fields] of Object.entries({ short: { from: 'me' }, fat: FAT })) {
    test(`${name}: of refusals with ${what} texts, at most ${most[name]} KiB are written in any second, and all are counted`, (t) => {
      const { clock, limit, lines, log, countOf, shown } = limited(partOf);
      const refused = partOf === auditPart ? REFUSED_IN_AUDIT : REFUSED;
      const turns = 200;
      for (let turn = 0; turn < turns; turn += 1) {
        for (const [event, level] of refused) log(event, level, fields);
        log('session-established', 'info', fields);
        clock.advance(20);
      }
      limit.stop();
      let [first, bytes, worst] = [0, 0, 0];
      for (const line of lines) {
        bytes += line.bytes();
        for (; (lines[first]?.atMs ?? 0) <= line.atMs - 1000; first += 1) bytes -= lines[first]?.bytes() ?? 0;
        worst = Math.max(worst, bytes);
      }
      t.true(worst <= most[name] * 1024, `${worst}`);
      for (const event of new Set(refused.map(([event]) => event))) {
        t.is(countOf(event), turns * refused.filter(([other]) => other === event).length, event);
        t.true(shown(event) > 0, event);
      }
      t.is(countOf('session-established'), turns);
    });
  }
}

test('floods of all other events cost a rare event no line', (t) => {
  const { clock, log, shown } = limited();
  const others = REFUSED.filter(([event]) => event !== 'stream-denied');
  for (let turn = 1; turn <= 1000; turn += 1) {
    for (const [event, level] of others) log(event, level, FAT);
    if (turn % 100 === 0) log('stream-denied', 'warn', { service: 'ssh', from: 'me' });
    clock.advance(60);
  }
  t.is(shown('stream-denied'), 10);
});

for (const [name, partOf] of parts) {
  test(`${name}: during a flood of refusals, each permitted action is logged at once`, (t) => {
    const { clock, log, shown } = limited(partOf);
    const happens = ['session-established', 'exec-started', 'exec-ended', 'copy-started', 'copy-ended'] as const;
    for (let turn = 1; turn <= 1000; turn += 1) {
      for (const [event, level] of REFUSED) for (let line = 0; line < 2; line += 1) log(event, level, FAT);
      if (turn % 100 === 0) {
        for (const event of happens) {
          log(event, 'info', { from: 'me' });
          t.is(shown(event), turn / 100, event);
        }
      }
      clock.advance(10);
    }
  });
}

test('permitted actions are limited as well: hundreds a second of one event in the audit log, ten thousand at once', (t) => {
  const { clock, limit, lines, log, shown, countOf } = limited(auditPart);
  const argv = ['/usr/bin/uname'];
  for (let turn = 0; turn < 5000; turn += 1) log('exec-started', 'info', { argv });
  t.is(shown('exec-started'), 5000);
  for (let turn = 0; turn < 20_000; turn += 1) log('exec-started', 'info', { argv });
  clock.advance(10_000);
  for (let turn = 0; turn < 20_000; turn += 1) log('exec-started', 'info', { argv });
  limit.stop();
  t.is(countOf('exec-started'), 45_000);
  const bytes = lines.reduce((sum, line) => sum + line.bytes(), 0);
  t.true(bytes <= 2 ** 22 + 11 * 2 ** 18, `${bytes}`);
});

test('suppressed lines are reported after a second, then ever less often, with their number and time', (t) => {
  const { clock, limit, log, shown, told, countOf } = limited();
  for (let turn = 0; turn < 12_000; turn += 1) {
    log('stream-refused', 'warn');
    clock.advance(50);
  }
  const delays = told().map(({ atMs }, index, all) => Math.round((atMs - (all[index - 1]?.atMs ?? 0)) / 1000));
  t.deepEqual(delays.slice(1, 6), [2, 4, 8, 16, 32]);
  t.true(Math.max(...delays) <= 61 && told().length < 20, delays.join());
  const [first] = told().map(({ event }) => event);
  t.is(first?.level, 'warn');
  t.like(first?.fields, { kind: 'stream-refused', durationMs: 1000 });
  const what = /^\d+ more stream-refused lines? suppressed within 1\.0 s: too many$/;
  t.regex(first?.message ?? '', what);
  limit.stop();
  t.is(countOf('stream-refused'), 12_000);
  t.is(limit.suppressedCount, 12_000 - shown('stream-refused'));

  clock.advance(120_000);
  const before = told().length;
  for (let turn = 0; turn < 500; turn += 1) log('stream-refused', 'warn');
  clock.advance(1000);
  t.is(told().length, before + 1, 'after a pause the report is as early as the first');
});

test('every event is limited, whatever its name, and the first of each is logged, however long its texts are', (t) => {
  const { limit, log, shown } = limited();
  for (const event of LOG_EVENT_NAMES) {
    const before = limit.suppressedCount;
    while (shown(event) < 600 && limit.suppressedCount === before) log(event, 'debug', { text: 'x'.repeat(8000) });
    t.true(shown(event) < 600, `${event}: ${shown(event)}`);
  }
  const text = '\u202e'.repeat(5000);
  for (const [name, partOf] of parts) {
    for (const event of LOG_EVENT_NAMES) {
      for (const level of ['info', 'warn', 'debug'] as const) {
        const { limit, shown } = limited(partOf);
        limit.log(boundLogEvent({ level, event, message: text, fields: { text, list: [text, text] } }));
        t.is(shown(event), 1, `${name}: ${level} ${event}`);
      }
    }
  }
});

test('rare events are all logged, and so are hundreds of stream lines a second; nothing is scheduled', (t) => {
  const { clock, log, shown } = limited();
  for (let turn = 0; turn < 20; turn += 1) log('stream-refused', 'warn');
  const opened = ['stream-opened', 'egress-opened'] as const;
  for (let turn = 0; turn < 5000; turn += 1) for (const event of opened) log(event, 'debug');
  t.is(clock.pending, 0);
  t.deepEqual([shown('stream-refused'), ...opened.map(shown)], [20, 5000, 5000]);
});

// The bound on a single event, whatever the source of its texts.

const eventOf = (message: string, fields: LogEvent['fields'] = {}): LogEvent => {
  return { level: 'info', event: 'exec-started', message, fields };
};

test('overlong texts are cut, wherever they are, and whatever their characters take in JSON; no others are', (t) => {
  const ordinary = eventOf('a command', { argv: ['sh', '-c', 'x'.repeat(2000)], user: 'me', pid: 7, cwd: null });
  t.deepEqual(boundEvent(ordinary, 4096), ordinary);
  for (const character of ['x', '"', '\u0000', '\u202e', '𝄞', '\ud800']) {
    const text = character.repeat(20_000);
    const many = Array<string>(5000).fill(character);
    for (const fields of [{ text }, { one: text, other: text }, { many }, { many: [text, text] }, { text, many }]) {
      const bytes = Buffer.byteLength(formatJsonLine(boundEvent(eventOf(text, fields), 4096)));
      t.true(bytes <= 4864 && bytes >= 3000, `${bytes} of ${JSON.stringify(character)}`);
    }
  }
});

test('a cut message keeps its beginning and end, a cut list its count, and long texts are cut before short ones', (t) => {
  const long = `stream 7: ${'\\u{202e}'.repeat(1000)} (denied); 5 bytes sent, 0 received`;
  const { message } = boundEvent(eventOf(long), 1024);
  t.regex(message, /^stream 7: [^…]{150,}…[^…]+ \(denied\); 5 bytes sent, 0 received$/);
  const listOf = (length: number, text: string) =>
    boundEvent(eventOf('a list', { list: Array<string>(length).fill(text) }), 4096).fields['list'] as readonly string[];
  const list = listOf(5000, 'four');
  t.is(list.at(-1), `… ${5000 - (list.length - 1)} more`);
  t.true(list.length > 500);
  t.true(listOf(100_000, '').length <= 1367, 'empty texts take their place, too');
  const facts = { argv: ['a'.repeat(9000)], command: 'b'.repeat(9000), code: 'denied' };
  const { fields } = boundEvent(eventOf('x', facts), 1024);
  t.is(fields['code'], 'denied');
  t.deepEqual(Object.keys(fields), ['argv', 'command', 'code']);
  t.regex((fields['argv'] as readonly string[]).join(), /^a+…$/);
});
