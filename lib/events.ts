/**
 * Everything that a running vproxy logs: one table of events, and the event itself. The table says how much an event
 * matters, which facts it has, whether the audit log has it, and how much of it may be written. What each means, and
 * what to do about it, is in docs/troubleshooting.md.
 */

/** Every level, the most important first. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;

/** How much an event matters: `error`, `warn`, `info` or `debug`. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What a field may hold. Foreign text in it is as it came; a line that shows it escapes it. */
interface FieldTypes {
  string: string;
  'string | null': string | null;
  'string[]': readonly string[];
  number: number;
  'number | null': number | null;
  boolean: boolean;
}

/** Fields by name, in their order; the name of one that is not always present ends in `?`. */
type FieldTable = Readonly<Record<string, keyof FieldTypes>>;

/**
 * How much of a channel's event is written (lib/proxy/log-limit.ts). `let-happen`: what a peer was let do, and how it
 * ended; no number of refusals takes its place. `session`, `session-end`: a session, which a peer can have again and
 * again. `refused`: everything else.
 */
export type EventRate = 'let-happen' | 'session' | 'session-end' | 'refused';

/** One row of the table of events. */
interface EventRow {
  /** Its level; where it has several, the code that logs it says which. */
  readonly level: LogLevel | readonly LogLevel[];
  /** Its facts, without the `channel` or `group` that its line begins with. */
  readonly fields: FieldTable;
  /** Whether the audit log has it. */
  readonly isAudited: boolean;
  readonly rate: EventRate;
  /** The level at which it counts as `refused`, whatever its rate; null: none. */
  readonly refusedAt: LogLevel | null;
}

const row = <const Level extends EventRow['level'], const Fields extends FieldTable>(
  level: Level,
  fields: Fields,
  { isAudited = false, rate = 'refused', refusedAt = null }: Partial<EventRow> = {},
) => ({ level, fields, isAudited, rate, refusedAt });

const AUDITED = { isAudited: true } as const;
const LET_HAPPEN = { isAudited: true, rate: 'let-happen' } as const;

/** Where a stream goes; a stream that a program opened or serves has a service only. */
const PLACE = {
  'forward?': 'string | null',
  'direction?': 'string',
  'endpoint?': 'string',
  service: 'string',
} as const;
const STREAM = { ...PLACE, stream: 'number | null' } as const;
const OPEN_STREAM = { ...STREAM, from: 'string | null' } as const;
const AMOUNT = { sentBytes: 'number', receivedBytes: 'number', durationMs: 'number' } as const;
const ENDED_STREAM = { ...OPEN_STREAM, ...AMOUNT, code: 'string | null' } as const;
/** A stream that was refused may have existed, or not. */
const REFUSED_STREAM = {
  ...STREAM,
  'from?': 'string | null',
  'sentBytes?': 'number',
  'receivedBytes?': 'number',
  'durationMs?': 'number',
  'code?': 'string | null',
} as const;
const PORT = { port: 'number', program: 'string | null' } as const;
const COMMAND = { argv: 'string[]', user: 'string | null', cwd: 'string | null', from: 'string | null' } as const;
const COPY = { direction: 'string', paths: 'string[]' } as const;
const COPIED = { files: 'number', folders: 'number', links: 'number', bytes: 'number', sentBytes: 'number' } as const;
const ENDED_COPY = { ...COPY, ...COPIED, durationMs: 'number', code: 'string | null' } as const;

/** The table of events. The one of docs/troubleshooting.md is compared with it. */
export const LOG_EVENTS = {
  'accept-failed': row('warn', STREAM),
  'audit-failed': row('warn', {}),
  'audit-lost': row('warn', { 'count?': 'number' }),
  'audit-recovered': row('info', {}),
  'channel-closed': row('debug', { link: 'string', code: 'string' }),
  'channel-crowded': row('info', {}),
  'channel-echo': row('info', { link: 'string' }),
  'channel-failed': row('error', { channel: 'string', code: 'string' }),
  'channel-listening': row('info', {}),
  'channel-redialled': row('debug', { link: 'string' }),
  'channel-taken': row('warn', { pid: 'number', name: 'string' }),
  'channel-waiting': row('info', { 'link?': 'string', 'skippedBytes?': 'number', 'code?': 'string' }),
  'control-listening': row('info', { 'descriptor?': 'number', 'path?': 'string' }),
  'control-off': row(['info', 'warn'], { 'code?': 'string' }),
  copy: row('warn', {}),
  'copy-ended': row(['info', 'warn'], ENDED_COPY, LET_HAPPEN),
  'copy-refused': row('warn', ENDED_COPY, AUDITED),
  'copy-started': row('info', COPY, LET_HAPPEN),
  'datagrams-dropped': row('warn', { ...PLACE, sendDropped: 'number', receiveDropped: 'number' }),
  draining: row('info', { timeoutMs: 'number' }),
  egress: row(
    'debug',
    {
      ...OPEN_STREAM,
      egress: 'string',
      host: 'string',
      port: 'number',
      address: 'string',
      rule: 'string',
      uploadedBytes: 'number',
      downloadedBytes: 'number',
      durationMs: 'number',
      code: 'string | null',
    },
    LET_HAPPEN,
  ),
  'egress-refused': row(
    'warn',
    {
      ...OPEN_STREAM,
      egress: 'string',
      destination: 'string | null',
      reason: 'string',
      rule: 'string | null',
      why: 'string',
    },
    AUDITED,
  ),
  ended: row('info', { code: 'string' }),
  'events-lost': row('warn', { count: 'number' }),
  'exec-ended': row(
    'info',
    {
      ...COMMAND,
      pid: 'number',
      status: 'number | null',
      signal: 'string | null',
      timedOut: 'boolean',
      durationMs: 'number',
      inputBytes: 'number',
      outputBytes: 'number',
      'recording?': 'string',
    },
    LET_HAPPEN,
  ),
  'exec-missing': row('warn', { path: 'string' }),
  'exec-recorded': row('info', { ...COMMAND, pid: 'number | null', recording: 'string' }, LET_HAPPEN),
  'exec-refused': row('warn', { ...COMMAND, code: 'string', reason: 'string' }, AUDITED),
  'exec-started': row('info', { ...COMMAND, pid: 'number', 'recording?': 'string' }, LET_HAPPEN),
  failed: row('error', { code: 'string' }),
  'group-added': row('info', { channel: 'string' }),
  'group-failed': row('warn', {}),
  'group-removed': row('info', { channel: 'string' }),
  'group-skipped': row('warn', { 'channel?': 'string', 'code?': 'string' }),
  'group-unwatched': row('warn', {}),
  'group-waiting': row('info', {}),
  'handed-over': row('info', {
    pid: 'number',
    sessions: 'number',
    streams: 'number',
    listeners: 'number',
    durationMs: 'number',
  }),
  internal: row('error', { code: 'string', stack: 'string' }),
  listening: row('info', { ...PLACE, endpoint: 'string', 'stream?': 'number | null' }),
  'listeners-not-kept': row('warn', {}),
  'log-limited': row(LOG_LEVELS, { kind: 'string', count: 'number', durationMs: 'number' }),
  'log-lost': row('warn', { count: 'number' }),
  'metrics-listening': row('info', { endpoint: 'string' }),
  'notify-failed': row('warn', {}),
  'notify-recovered': row('info', {}),
  'open-port': row('warn', { endpoint: 'string' }),
  'port-announced': row('info', PORT),
  'port-closed': row('info', { ...PORT, endpoint: 'string', forward: 'string' }),
  'port-failed': row('warn', { ...PORT, code: 'string' }),
  'port-opened': row('info', { ...PORT, endpoint: 'string', forward: 'string' }),
  'port-withdrawn': row('info', PORT),
  'recording-failed': row('warn', { recording: 'string', why: 'string' }, AUDITED),
  'reload-failed': row('error', { code: 'string' }),
  'reload-incomplete': row('warn', { keys: 'string[]' }),
  reloaded: row('info', {
    addedChannels: 'string[]',
    removedChannels: 'string[]',
    replacedChannels: 'string[]',
    addedForwards: 'string[]',
    removedForwards: 'string[]',
    changedPolicies: 'string[]',
    changedEgress: 'string[]',
  }),
  'resolver-refused': row(
    'warn',
    { ...OPEN_STREAM, egress: 'string', name: 'string', type: 'string', rule: 'string | null', why: 'string' },
    AUDITED,
  ),
  'service-failed': row('error', { service: 'string', 'stream?': 'number' }),
  'service-missing': row('warn', { service: 'string', forward: 'string', services: 'string' }),
  services: row('debug', { services: 'string' }),
  'session-ended': row(
    ['info', 'warn', 'debug'],
    { link: 'string', code: 'string', ageMs: 'number' },
    { isAudited: true, rate: 'session-end' },
  ),
  'session-established': row(
    'info',
    { link: 'string', agent: 'string', name: 'string | null' },
    { isAudited: true, rate: 'session' },
  ),
  'session-resumed': row(
    'info',
    { link: 'string', suspendedMs: 'number', againBytes: 'number', streams: 'number' },
    { isAudited: true, rate: 'session' },
  ),
  'session-suspended': row('info', { link: 'string', streams: 'number' }, { isAudited: true, rate: 'session-end' }),
  'storage-call': row(
    ['info', 'warn'],
    {
      command: 'string',
      argv: 'string[]',
      status: 'number | null',
      replyBytes: 'number | null',
      emulator: 'string | null',
      durationMs: 'number',
      code: 'string | null',
    },
    { ...LET_HAPPEN, refusedAt: 'warn' },
  ),
  'storage-emulator': row('debug', { emulator: 'string', state: 'string', code: 'string | null' }),
  'storage-off': row('warn', { code: 'string' }),
  'stream-closed': row('debug', ENDED_STREAM, LET_HAPPEN),
  'stream-denied': row('warn', { service: 'string', stream: 'number', from: 'string | null', why: 'string' }, AUDITED),
  'stream-opened': row('debug', OPEN_STREAM, LET_HAPPEN),
  'stream-refused': row(['warn', 'debug'], REFUSED_STREAM, AUDITED),
  'stream-reset': row('info', ENDED_STREAM, LET_HAPPEN),
  'target-failed': row('warn', STREAM),
  'target-recovered': row('info', STREAM),
  'target-stderr': row('debug', OPEN_STREAM),
  'upgrade-failed': row('error', { code: 'string' }),
} as const satisfies Record<string, EventRow>;

/** The stable name of an event: a row of the table in docs/troubleshooting.md. */
export type LogEventName = keyof typeof LOG_EVENTS;

/** The names of all events. */
export const LOG_EVENT_NAMES = Object.keys(LOG_EVENTS) as readonly LogEventName[];

type FieldsOf<Fields extends FieldTable> = {
  readonly [Key in keyof Fields as Key extends `${string}?` ? never : Key]: FieldTypes[Fields[Key]];
} & {
  readonly [Key in keyof Fields as Key extends `${infer Name}?` ? Name : never]?: FieldTypes[Fields[Key]];
};

/** The facts of an event. */
export type EventFields<Name extends LogEventName> = FieldsOf<(typeof LOG_EVENTS)[Name]['fields']>;

type LevelOf<Name extends LogEventName> = (typeof LOG_EVENTS)[Name]['level'];

type Choices<Name extends LogEventName> = Extract<LevelOf<Name>, readonly LogLevel[]>;

/** The level, where the table leaves a choice. */
type LevelChoice<Name extends LogEventName> = [Choices<Name>] extends [never] ? [] : [Choices<Name>[number]];

/** Something that happened. */
export interface LogEvent {
  /** How much it matters. */
  readonly level: LogLevel;
  /** What happened, as a stable name. */
  readonly event: LogEventName;
  /** One line for people. Foreign text in it is escaped. */
  readonly message: string;
  /** The same facts for programs. */
  readonly fields: Readonly<Record<string, FieldTypes[keyof FieldTypes]>>;
}

/** Takes log events. */
export type Log = (event: LogEvent) => void;

/** An event of the table; where the table has several levels for it, the last argument says which. */
export function makeEvent<Name extends LogEventName>(
  event: Name,
  message: string,
  fields: EventFields<Name>,
  ...[chosen]: LevelChoice<Name>
): LogEvent {
  const { level } = LOG_EVENTS[event];
  return { level: typeof level === 'string' ? level : (chosen as LogLevel), event, message, fields };
}

/** How much of an event is written. */
export function rateOf({ event, level }: LogEvent): EventRate {
  const { rate, refusedAt } = LOG_EVENTS[event];
  return level === refusedAt ? 'refused' : rate;
}

/** What an event is about, as a word: the first part of its name. */
export function subjectOf({ event }: LogEvent): string {
  return event.split('-', 1)[0] ?? event;
}
