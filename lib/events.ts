/**
 * Everything that a running vproxy logs: one table of events, and the event itself. The table says how much an event
 * matters, which fields it has, whether it goes into the audit log, and how it is rate-limited. docs/errors.md
 * explains what each means and what to do about it.
 */

/** All levels, the most important first. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;

/** How much an event matters: `error`, `warn`, `info` or `debug`. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What a field may hold. Foreign text is stored unescaped; whatever displays it escapes it. */
interface FieldTypes {
  string: string;
  'string | null': string | null;
  'string[]': readonly string[];
  number: number;
  'number | null': number | null;
  boolean: boolean;
}

/** Fields by name, in order; the name of an optional one ends in `?`. */
type FieldTable = Readonly<Record<string, keyof FieldTypes>>;

/**
 * The rate limit of an event of a channel (lib/proxy/channel/log-limit.ts). `let-happen`: something the peer was allowed to do,
 * and its outcome; no number of refusals crowds it out. `session`, `session-end`: the start and end of a session, which a
 * peer can repeat without limit. `refused`: everything else.
 */
export type EventRate = 'let-happen' | 'session' | 'session-end' | 'refused';

interface EventRow {
  /** Its level; where there are several, the caller chooses one. */
  readonly level: LogLevel | readonly LogLevel[];
  /** Its fields, without the `channel` or `group` that its line begins with. */
  readonly fields: FieldTable;
  /** Whether it also goes into the audit log. */
  readonly isAudited: boolean;
  readonly rate: EventRate;
  /** The level at which it counts as `refused`, whatever its rate; null for none. */
  readonly refusedAt: LogLevel | null;
}

type Handling = Omit<EventRow, 'level' | 'fields'>;

/** Creates rows that are handled alike. */
const rows =
  ({ isAudited = false, rate = 'refused', refusedAt = null }: Partial<Handling>) =>
  <const Level extends EventRow['level'], const Fields extends FieldTable>(level: Level, fields: Fields) => ({
    level,
    fields,
    isAudited,
    rate,
    refusedAt,
  });

const row = rows({});
const audited = rows({ isAudited: true });
const letHappen = rows({ isAudited: true, rate: 'let-happen' });
const letHappenUnaudited = rows({ rate: 'let-happen' });
const letHappenUnlessWarned = rows({ isAudited: true, rate: 'let-happen', refusedAt: 'warn' });
const session = rows({ isAudited: true, rate: 'session' });
const sessionEnd = rows({ isAudited: true, rate: 'session-end' });

/** Where a stream leads; one that a program opened or serves has only a service. */
const PLACE = {
  'forward?': 'string | null',
  'direction?': 'string',
  'endpoint?': 'string',
  service: 'string',
} as const;
const STREAM = { ...PLACE, stream: 'number | null' } as const;
const OPEN_STREAM = { ...STREAM, from: 'string | null' } as const;
const REACHED = {
  ...OPEN_STREAM,
  egress: 'string',
  host: 'string',
  port: 'number',
  'redirectedFrom?': 'string',
  address: 'string',
  rule: 'string',
} as const;
const AMOUNT = { sentBytes: 'number', receivedBytes: 'number', durationMs: 'number' } as const;
const ENDED_STREAM = { ...OPEN_STREAM, ...AMOUNT, code: 'string | null' } as const;
/** A refused stream may or may not have existed. */
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

/** The table of events. A spec compares the one in docs/errors.md with it. */
export const LOG_EVENTS = {
  'accept-failed': row('warn', STREAM),
  'audit-failed': row('warn', {}),
  'audit-lost': row('warn', { 'count?': 'number' }),
  'audit-recovered': row('info', {}),
  'capabilities-inherited': row('warn', {}),
  'channel-closed': row('debug', { link: 'string', code: 'string' }),
  'channel-crowded': row('info', {}),
  'channel-echo': row('info', { link: 'string' }),
  'channel-failed': row('error', { channel: 'string', code: 'string' }),
  'channel-listening': row('info', {}),
  'channel-redialled': row('debug', { link: 'string' }),
  'channel-taken': row('warn', { pid: 'number', name: 'string' }),
  'channel-waiting': row('info', { 'link?': 'string', 'skippedBytes?': 'number', 'code?': 'string' }),
  'clock-failed': row('warn', {}),
  'clock-stepped': letHappen('info', { offsetMs: 'number', cause: 'string' }),
  'control-failed': row('error', {}),
  'control-listening': row('info', { 'descriptor?': 'number', 'path?': 'string' }),
  'control-off': row(['info', 'warn'], { 'code?': 'string' }),
  copy: row('warn', {}),
  'copy-ended': letHappen(['info', 'warn'], ENDED_COPY),
  'copy-refused': audited('warn', ENDED_COPY),
  'copy-started': letHappen('info', COPY),
  'datagrams-dropped': row('warn', {
    ...PLACE,
    sendDropped: 'number',
    receiveDropped: 'number',
    systemDropped: 'number',
  }),
  draining: row('info', { timeoutMs: 'number' }),
  egress: letHappen('debug', {
    ...REACHED,
    uploadedBytes: 'number',
    downloadedBytes: 'number',
    durationMs: 'number',
    code: 'string | null',
  }),
  'egress-answered': letHappen('info', {
    egress: 'string',
    question: 'string',
    host: 'string',
    port: 'number',
    answer: 'string',
    connections: 'number',
  }),
  'egress-asked': letHappen('info', {
    egress: 'string',
    question: 'string',
    host: 'string',
    port: 'number',
    why: 'string',
    until: 'string',
  }),
  'egress-changed': letHappen('info', {
    egress: 'string',
    change: 'string',
    entries: 'string[]',
    until: 'string | null',
    connections: 'number',
  }),
  'egress-opened': letHappenUnaudited('debug', REACHED),
  'egress-refused': audited('warn', {
    ...OPEN_STREAM,
    egress: 'string',
    destination: 'string | null',
    'redirectedFrom?': 'string',
    reason: 'string',
    rule: 'string | null',
    why: 'string',
  }),
  ended: row('info', { code: 'string' }),
  'events-lost': row('warn', { count: 'number' }),
  'exec-attached': letHappen('info', { job: 'string', from: 'string | null' }),
  'exec-detached': letHappen('info', { job: 'string', from: 'string | null', inputBytes: 'number' }),
  'exec-ended': letHappen('info', {
    ...COMMAND,
    pid: 'number',
    status: 'number | null',
    signal: 'string | null',
    timedOut: 'boolean',
    durationMs: 'number',
    inputBytes: 'number',
    outputBytes: 'number',
    'recording?': 'string',
    'job?': 'string',
  }),
  'exec-missing': row('warn', { path: 'string' }),
  'exec-recorded': letHappen('info', { ...COMMAND, pid: 'number | null', recording: 'string' }),
  'exec-refused': audited('warn', { ...COMMAND, code: 'string', reason: 'string' }),
  'exec-started': letHappen('info', { ...COMMAND, pid: 'number', 'recording?': 'string', 'job?': 'string' }),
  failed: row('error', { code: 'string' }),
  'freeze-failed': audited('warn', { paths: 'string[]' }),
  freezing: letHappen('info', { paths: 'string[]', forMs: 'number' }),
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
  'hosts-cut': row('warn', { path: 'string' }),
  hook: row(['info', 'warn'], { path: 'string', ok: 'boolean' }),
  internal: row('error', { code: 'string', stack: 'string' }),
  listening: row('info', { ...PLACE, endpoint: 'string', 'stream?': 'number | null' }),
  'listeners-not-kept': row('warn', {}),
  'log-limited': row(LOG_LEVELS, { kind: 'string', count: 'number', durationMs: 'number' }),
  'log-lost': row('warn', { count: 'number' }),
  'metrics-listening': row('info', { endpoint: 'string' }),
  'http-ports-listening': row('info', { endpoint: 'string' }),
  'no-channels': row('info', {}),
  'notify-failed': row('warn', {}),
  'notify-recovered': row('info', {}),
  'open-port': row('warn', { endpoint: 'string' }),
  'origin-refused': audited('warn', {
    ...OPEN_STREAM,
    method: 'string | null',
    path: 'string | null',
    reason: 'string',
    why: 'string',
  }),
  'origin-request': letHappen('debug', {
    ...OPEN_STREAM,
    method: 'string',
    path: 'string',
    status: 'number | null',
    uploadedBytes: 'number',
    downloadedBytes: 'number',
    durationMs: 'number',
    code: 'string | null',
  }),
  'outage-over': row('info', { ...PLACE, count: 'number' }),
  'port-announced': row('info', PORT),
  'port-closed': row('info', { ...PORT, endpoint: 'string', forward: 'string' }),
  'port-failed': row('warn', { ...PORT, code: 'string' }),
  'port-opened': row('info', { ...PORT, endpoint: 'string', forward: 'string' }),
  'port-withdrawn': row('info', PORT),
  'recording-failed': audited('warn', { recording: 'string', why: 'string' }),
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
    changedSettings: 'string[]',
  }),
  'resolver-refused': audited('warn', {
    ...OPEN_STREAM,
    egress: 'string',
    name: 'string',
    type: 'string',
    rule: 'string | null',
    why: 'string',
  }),
  'service-failed': row('error', { service: 'string', 'stream?': 'number' }),
  'service-missing': row('warn', { service: 'string', forward: 'string', services: 'string' }),
  services: row('debug', { services: 'string' }),
  'session-ended': sessionEnd(['info', 'warn', 'debug'], { link: 'string', code: 'string', ageMs: 'number' }),
  'session-established': session('info', { link: 'string', agent: 'string', name: 'string | null' }),
  'session-resumed': session('info', {
    link: 'string',
    suspendedMs: 'number',
    againBytes: 'number',
    streams: 'number',
  }),
  'session-suspended': sessionEnd('info', { link: 'string', streams: 'number' }),
  'sftp-ended': letHappen(['info', 'warn'], {
    paths: 'string[]',
    opened: 'number',
    refused: 'number',
    readBytes: 'number',
    writtenBytes: 'number',
    durationMs: 'number',
    code: 'string | null',
  }),
  'sftp-started': letHappen('info', { root: 'string | null' }),
  'storage-call': letHappenUnlessWarned(['info', 'warn'], {
    command: 'string',
    argv: 'string[]',
    status: 'number | null',
    replyBytes: 'number | null',
    emulator: 'string | null',
    durationMs: 'number',
    code: 'string | null',
  }),
  'storage-emulator': row('debug', { emulator: 'string', state: 'string', code: 'string | null' }),
  'storage-off': row('warn', { code: 'string' }),
  'stream-closed': letHappen('debug', ENDED_STREAM),
  'stream-denied': audited('warn', { service: 'string', stream: 'number', from: 'string | null', why: 'string' }),
  'stream-opened': letHappen('debug', OPEN_STREAM),
  'stream-refused': audited(['warn', 'debug'], REFUSED_STREAM),
  'stream-reset': letHappen('info', ENDED_STREAM),
  'target-failed': row('warn', STREAM),
  'target-recovered': row('info', STREAM),
  'target-stderr': row('debug', OPEN_STREAM),
  thawed: letHappen(['info', 'warn'], { paths: 'string[]', heldMs: 'number', cause: 'string' }),
  'upgrade-failed': row('error', { code: 'string' }),
  'upgrade-waits': row('info', {}),
} as const satisfies Record<string, EventRow>;

/** The stable name of an event: a row of the table in docs/errors.md. */
export type LogEventName = keyof typeof LOG_EVENTS;

export const LOG_EVENT_NAMES = Object.keys(LOG_EVENTS) as readonly LogEventName[];

type FieldsOf<Fields extends FieldTable> = {
  readonly [Key in keyof Fields as Key extends `${string}?` ? never : Key]: FieldTypes[Fields[Key]];
} & {
  readonly [Key in keyof Fields as Key extends `${infer Name}?` ? Name : never]?: FieldTypes[Fields[Key]];
};

export type EventFields<Name extends LogEventName> = FieldsOf<(typeof LOG_EVENTS)[Name]['fields']>;

type LevelOf<Name extends LogEventName> = (typeof LOG_EVENTS)[Name]['level'];

type Choices<Name extends LogEventName> = Extract<LevelOf<Name>, readonly LogLevel[]>;

/** The level argument, where the table leaves a choice. */
type LevelChoice<Name extends LogEventName> = [Choices<Name>] extends [never] ? [] : [Choices<Name>[number]];

/** Something that happened. */
export interface LogEvent {
  /** How much it matters. */
  readonly level: LogLevel;
  /** What happened, as a stable name. */
  readonly event: LogEventName;
  /** One human-readable line. Foreign text in it is escaped. */
  readonly message: string;
  /** The same facts, machine-readable. */
  readonly fields: Readonly<Record<string, FieldTypes[keyof FieldTypes]>>;
}

export type Log = (event: LogEvent) => void;

/** Creates an event of the table; the last argument is its level where the table has several. */
export function makeEvent<Name extends LogEventName>(
  event: Name,
  message: string,
  fields: EventFields<Name>,
  ...[chosen]: LevelChoice<Name>
): LogEvent {
  const { level } = LOG_EVENTS[event];
  return { level: typeof level === 'string' ? level : (chosen as LogLevel), event, message, fields };
}

export function rateOf({ event, level }: LogEvent): EventRate {
  const { rate, refusedAt } = LOG_EVENTS[event];
  return level === refusedAt ? 'refused' : rate;
}

/** The subject of an event: the first word of its name. */
export function subjectOf({ event }: LogEvent): string {
  return event.split('-', 1)[0] ?? event;
}
