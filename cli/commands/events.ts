/** `vproxy events`: prints a line for each event. */

import { LOG_EVENT_NAMES, LOG_EVENTS, LOG_LEVELS } from '../../lib/events.js';
import type { ControlEvent } from '../../lib/status/types.js';
import { suggestOrList, suggestWord } from '../../lib/util/closest-word.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import { DURATION_FORM, parseDuration } from '../../lib/util/units.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { formatTextLine } from '../run/output.js';
import { paintFor } from '../ui/color.js';
import { formatLocalTime, print } from '../ui/print.js';

export const command: Command = {
  usage: 'events [LABEL] [--since TIME] [--level LEVEL] [--filter KEY=VALUE]… [--replay COUNT] [--no-follow] [--json]',
  about:
    'Shows recent events, then new ones as they happen, at every level, whatever the log level is. Ends with the process, or when interrupted.',
  examples: [
    ['vproxy events', 'All events, until Ctrl-C'],
    ['vproxy events vm1 --since 10m --no-follow', 'Those of vm1 in the last ten minutes'],
    ['vproxy events --level warn', 'Only warnings and errors'],
  ],
  options: {
    ...CHANNEL_FILTER,
    since: { value: 'TIME', describe: 'Only events after this time, such as 10m (ago) or 2026-03-31T08:59:00Z' },
    level: { value: LOG_LEVELS.join('|'), describe: 'Only events of this level and more severe ones [default: debug]' },
    filter: {
      value: 'KEY=VALUE',
      describe:
        'Only events with this level, event or field, such as event=stream-reset or service=ssh. Of one key any value matches, of several keys all must',
      isRepeatable: true,
    },
    replay: { value: 'COUNT', describe: 'How many recent events to consider first [default: all that are kept, 500]' },
    follow: { short: 'f', describe: 'Show new events as they happen; the default' },
    'no-follow': { describe: 'Exit after the recent events' },
    ...JSON_OPTION,
  },
  operands: ['[LABEL]'],
  foreign: {
    '-n': 'use --replay COUNT',
    '--tail': 'use --replay COUNT',
    '--lines': 'use --replay COUNT',
  },
  async run(args) {
    const replay = args.whole('replay', 'a number of events', 0, MAX_REPLAY);
    if (args.has('follow') && args.has('no-follow')) throw badArgument('--follow: not allowed with --no-follow');
    const label = channelOf(args, args.operands[0]);
    const isWanted = readFilter(args, label);
    const control = await openControl(args);
    if (label !== undefined) await control.channel(label);
    const request = { follow: !args.has('no-follow'), ...(replay === undefined ? {} : { replay }) };
    for await (const event of control.events(request)) {
      if (!isWanted(event)) continue;
      print(`${args.has('json') ? formatJson(event) : formatEvent(event)}\n`);
      // Back-pressure of a slow terminal or pipe: the process buffers events, and reports how many it had to drop.
      if (process.stdout.writableNeedDrain) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  },
};

const MAX_REPLAY = 500;

/** As the log of a process. */
function formatEvent(event: ControlEvent): string {
  return `${formatLocalTime(new Date(event.time))} ${formatTextLine(event, false, paintFor(process.stdout))}`;
}

// Which events.

/** Every key of a filter: `event`, `level`, and the fields of the table of events. */
const KEYS: readonly string[] = [
  ...new Set([
    ...['event', 'level', 'channel', 'group'],
    ...Object.values(LOG_EVENTS).flatMap(({ fields }) => Object.keys(fields).map((name) => name.replace('?', ''))),
  ]),
];

/** The values of keys that have only these. */
const VALUES: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ['event', LOG_EVENT_NAMES],
  ['level', LOG_LEVELS],
]);

/**
 * Whether an event is meant by `--since`, `--level`, `--filter` and the label, which is a filter of its own. Events that were lost may have
 * been meant, so their number always is. Throws `bad-argument`.
 */
function readFilter(args: Arguments, label: string | undefined): (event: ControlEvent) => boolean {
  const sinceMs = readSince(args.text('since'));
  const least = readLevel(args.text('level'));
  const wanted = new Map<string, string[]>(label === undefined ? [] : [['channel', [label]]]);
  for (const text of args.texts('filter')) {
    const [key, value] = readPair(text);
    wanted.set(key, [...(wanted.get(key) ?? []), value]);
  }
  return (event) =>
    event.event === 'events-lost' ||
    (Date.parse(event.time) >= sinceMs &&
      LOG_LEVELS.indexOf(event.level) <= least &&
      [...wanted].every(([key, values]) => valuesOf(event, key).some((value) => values.includes(value))));
}

/** The place of a level among all; the last one by default. Throws `bad-argument`. */
function readLevel(text: string = 'debug'): number {
  const level = LOG_LEVELS.findIndex((one) => one === text);
  if (level >= 0) return level;
  throw badArgument(`--level: "${escapeText(text, 64)}" is not a log level; ${suggestOrList(text, LOG_LEVELS)}`);
}

function valuesOf(event: ControlEvent, key: string): readonly string[] {
  if (key === 'event' || key === 'level') return [event[key]];
  return [event.fields[key] ?? []].flat().map(String);
}

function readPair(text: string): readonly [key: string, value: string] {
  const [, key = '', value = ''] = /^([^=]*)=(.+)$/s.exec(text) ?? [];
  const quoted = `--filter: "${escapeText(text, 80)}"`;
  if (value === '') throw badArgument(`${quoted} is not KEY=VALUE, such as level=warn or service=ssh`);
  if (!KEYS.includes(key)) {
    throw badArgument(`${quoted}: no event has this field${suggestWord(key, KEYS) || '; see vproxy events --json'}`);
  }
  const known = VALUES.get(key);
  if (known === undefined || known.includes(value)) return [key, value];
  const hint = key === 'level' ? `; ${suggestOrList(value, known)}` : suggestWord(value, known);
  throw badArgument(`${quoted}: no such ${key}${hint}`);
}

/** A moment by the clock of this machine, with its parts: the time and the zone are optional. */
const MOMENT = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:\d\d)?)?$/i;

/** The moment in milliseconds: so long ago, or a time of RFC 3339. Throws `bad-argument`. */
function readSince(text: string | undefined): number {
  if (text === undefined) return Number.NEGATIVE_INFINITY;
  const agoMs = /^\d{1,10}$/.test(text) ? Number(text) * 1000 : parseDuration(text);
  if (agoMs !== null) return Date.now() - agoMs;
  const [, day, time = '00:00', zone = ''] = MOMENT.exec(text) ?? [];
  const at = day === undefined ? Number.NaN : Date.parse(`${day}T${time}${zone.toUpperCase()}`);
  if (!Number.isNaN(at)) return at;
  throw badArgument(
    `--since: "${escapeText(text, 64)}" is not ${DURATION_FORM}, nor a moment such as 2026-03-31T08:59:00Z or 2026-03-31 08:59`,
  );
}
