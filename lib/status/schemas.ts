/**
 * The schemas of a running process's status: shapes, units and descriptions. From them derive the types in `types.ts`, which
 * `npm run build` writes, the components of docs/openapi.json, and the check that every route answers as described. Times are
 * in milliseconds, amounts in bytes, rates in bytes per second. Text from a peer is unescaped: escape it before showing it.
 */
import { INTEGRITY_LEVELS } from '../codec/header.js';
import { LOG_LEVELS } from '../events.js';
import { STREAM_WAITS } from '../session/local-end.js';
import { COMMAND_TYPES } from './command-schemas.js';
import { CHANNEL_STATES } from './describe.js';
import { MACHINE_TYPES, machineHistorySchema } from './machine-schemas.js';
import { CHANNEL_TOTALS } from './totals.js';
import * as z from './zod.js';

const amount = () => z.int().min(0);

const measure = () => z.number().min(0);

/** Creates an amount for each of these descriptions. */
const amounts = <Key extends string>(descriptions: Readonly<Record<Key, string>>) =>
  Object.fromEntries(
    Object.entries<string>(descriptions).map(([key, description]) => [key, amount().describe(description)]),
  ) as Record<Key, ReturnType<typeof amount>>;

/** A text, a text or null, and a list of texts. */
const text = (what: string) => z.string().describe(what);
const textOrNull = (what: string) => z.string().nullable().describe(what);
const texts = (what: string) => z.array(z.string()).describe(what);
/** An object with a name of its own, and one without. */
const named = <S extends z.core.$ZodLooseShape>(id: string, description: string, shape: S) =>
  z.strictObject(shape).meta({ id, description });
const part = <S extends z.core.$ZodLooseShape>(description: string, shape: S) =>
  z.strictObject(shape).describe(description);
/** A moment; its description begins with `what`. */
const moment = (what: string) => z.iso.datetime().describe(`${what}; ISO 8601, UTC`);

// Shared enumerations.

export const directionSchema = z
  .enum(['outgoing', 'incoming'])
  .describe('`outgoing`: opened or listened for on this side; `incoming`: opened by the peer, served on this side');

const logLevelSchema = z
  .enum(LOG_LEVELS, 'must be error, warn, info or debug')
  .describe('How much an event matters, the most important level first');

const streamWaitSchema = z.enum(STREAM_WAITS);

const channelStateSchema = z
  .enum(CHANNEL_STATES)
  .describe(
    'The state of a channel. `opening`: it is being opened, or is open and its peer has not answered yet. `waiting`: ' +
      'for the host or the peer. `backing-off`: the last attempt failed, and the next is scheduled. `auth-failed`: the two sides ' +
      'have no key in common, or not the same protection; retries come at growing intervals. ' +
      '`established`: it has a session. `suspended`: its session waits for another link. `draining`: it takes no new ' +
      'streams; open ones may finish. `failed`: it can never work',
  );

// Channels.

const sessionStatusSchema = named('SessionStatus', 'The current session', {
  peer: part('The peer', {
    agent: text('Program and version, as sent by the peer'),
    name: textOrNull('The name set by its operator, or null'),
    services: texts('The services that it offers'),
  }),
  protocolVersion: amount().describe('The version of the protocol that both sides speak'),
  integrity: z
    .enum(INTEGRITY_LEVELS)
    .describe('How stream data is checked: for lost, repeated or truncated data, or also for changed data'),
  key: textOrNull('The id of the key with which the two sides authenticated each other; null without a key'),
  tls: z
    .enum(['psk', 'cert'])
    .nullable()
    .describe('How the channel is encrypted: with a key, or with certificates on both sides; null: not by vproxy'),
  resume: part('Whether each side lets the session outlive its link; both must', {
    here: z.boolean().describe('Whether this side does'),
    peer: z.boolean().describe('Whether the peer does'),
  }),
  ageMs: amount().describe('The age of the session'),
  roundTripMs: measure().nullable().describe('The round trip through the peer; null before the first measurement'),
  silentMs: amount().nullable().describe('How long nothing has come although an answer is overdue; null if none is'),
  clockOffsetMs: z
    .int()
    .nullable()
    .describe("How far the peer's clock was ahead when it last announced its services; null if it sent no time"),
  streams: amount().describe('The number of open streams'),
  sendCreditBytes: z.int().describe('What may be sent before the peer grants more credit, all streams together'),
  unwrittenBytes: amount().describe('Data queued on the channel and not yet written'),
});

const sessionHistorySchema = named('SessionHistory', 'The sessions of a channel', {
  sessions: amount().describe('The number of sessions established, including the current one'),
  ends: z
    .record(z.string(), amount())
    .describe('The number that ended with each code of docs/errors.md; `other` for codes that are not in it'),
  recent: z
    .array(
      z.strictObject({
        at: moment('When it ended'),
        ageMs: amount().describe('How long it had lasted'),
        code: text('Why it ended: a code of docs/errors.md, or one sent by the peer'),
        message: text('Why it ended, in one line'),
      }),
    )
    .describe('The last ended sessions, newest first; at most 16'),
});

const channelTotalsSchema = named(
  'ChannelTotals',
  'The traffic of a channel since it was added',
  amounts(CHANNEL_TOTALS),
);

export const channelStatusSchema = named('ChannelStatus', 'One channel', {
  label: text('Its name in this process'),
  group: textOrNull('The label of the group that created it; null if it belongs to none'),
  address: text('Its address in canonical form'),
  state: channelStateSchema,
  since: moment('Since when it has been in this state'),
  detail: textOrNull('What it waits for, or why it failed; otherwise null'),
  nextTryMs: amount().nullable().describe('The time until the next attempt; null unless `backing-off`, or `suspended`'),
  session: sessionStatusSchema.nullable().describe('Null while it has no session'),
  bufferBytes: amount()
    .nullable()
    .describe(
      'The socket buffer granted by the system; null until a write has filled the default one, and for other sockets than unix',
    ),
  history: sessionHistorySchema,
  totals: channelTotalsSchema,
});

export const channelChangesSchema = named('ChannelChanges', 'The changes made by a reload', {
  addedChannels: texts('Labels of new channels'),
  removedChannels: texts('Labels of removed channels'),
  replacedChannels: texts('Labels of channels that were restarted because their address or settings changed'),
  addedForwards: texts('New forwards, each as LABEL and its text'),
  removedForwards: texts(
    'Forwards that were removed, or will be when their streams have ended, each as LABEL and its text',
  ),
  changedPolicies: texts('Services whose rule or permission changed, each as LABEL and its name'),
  changedEgress: texts('Egresses whose rules changed, each as LABEL and its name'),
  changedSettings: texts(
    'What else changed without a restart, each as LABEL and keys, announce-ports or forward-ports',
  ),
});

export const reloadAnswerSchema = channelChangesSchema
  .extend({
    nextStart: texts('Keys of the file whose changes take effect at the next start'),
  })
  .meta({ id: 'ReloadAnswer', description: 'The changes made by a reload, and those that need a restart' });

// Forwards, services and streams.

const datagramCountsSchema = named('DatagramCounts', 'The messages of datagram flows', {
  sent: amount().describe('Messages sent to the peer'),
  sendDropped: amount().describe('Messages to the peer dropped on this side'),
  received: amount().describe('Messages received from the peer and passed on'),
  receiveDropped: amount().describe('Messages from the peer dropped on this side'),
});

export const forwardStatusSchema = named('ForwardStatus', 'One forward', {
  id: text('`f1`, `f2`, …: unique in the process'),
  channel: text('The label of its channel'),
  direction: directionSchema,
  service: text('The service that it leads to, or serves; `*` if the connecting program names it'),
  endpoint: text('The endpoint in use, with the chosen port if 0 was requested'),
  spec: text('Its text, as for `-o` and `-i`'),
  state: z
    .enum(['active', 'draining'])
    .describe('`draining`: it takes no new streams, and is removed when its streams have ended'),
  offered: z
    .boolean()
    .nullable()
    .describe(
      'Whether the peer offers the service; null without a session, for `incoming`, and if the connecting program names it',
    ),
  streams: amount().describe('The number of open streams'),
  opened: amount().describe('The total number of streams'),
  datagrams: datagramCountsSchema
    .nullable()
    .describe('The messages of all its flows, including ended ones; null if it carries no datagrams'),
});

export const serviceStatusSchema = named('ServiceStatus', 'A service offered to the peer of a channel, or by it', {
  channel: text('The label of the channel'),
  service: text('Its name'),
  offeredBy: z.enum(['here', 'peer']).describe('Which side serves it'),
  forward: textOrNull(
    "The incoming forward that serves it; null for the peer's services, and for those of a program or the broker",
  ),
});

// Egresses.

const addedEntries = (what: string) =>
  z
    .array(
      z.strictObject({
        entry: text('The entry'),
        until: z.iso.datetime().nullable().describe('When it is removed, in ISO 8601 and UTC; null: not by itself'),
      }),
    )
    .describe(what);

export const egressStatsSchema = named('EgressStats', 'What an egress did for a destination in the last hour', {
  channel: text('The label of the channel'),
  egress: text('The name of the egress'),
  destination: textOrNull('`HOST:PORT`; null: those beyond the first 1,000 of the channel'),
  opened: amount().describe('Connections that were opened'),
  refused: amount().describe('Connections that the rules refused'),
  asked: amount().describe('Questions to operators'),
  uploadedBytes: amount().describe('Sent there by connections that have ended'),
  downloadedBytes: amount().describe('Received from there, likewise'),
});

export const egressStatusSchema = named('EgressStatus', 'An egress of a channel', {
  channel: text('The label of the channel'),
  name: text('Its name'),
  services: texts('The services whose forwards lead to it'),
  rules: z
    .strictObject({
      allow: texts('The entries of allowed destinations'),
      deny: texts('The entries of denied destinations'),
      upstream: textOrNull('The HTTP proxy for all connections, or null'),
      askS: z
        .number()
        .nullable()
        .describe('How long a destination that no entry names waits for an answer, in seconds; null: not at all'),
    })
    .nullable()
    .describe('The rules in effect on the channel; null if the egress is not defined, so that everything is refused'),
  isBlocked: z.boolean().describe('Whether everything is denied, by `POST /v1/egress/block`'),
  added: addedEntries('The entries of `rules.allow` that `POST /v1/egress/allow` and answers have added'),
  denied: addedEntries('The entries of `rules.deny` that answers have added'),
});

export const egressQuestionSchema = named(
  'EgressQuestion',
  'A destination that no entry names, and that waits for an answer',
  {
    id: text('8 hexadecimal digits'),
    channel: text('The label of the channel'),
    egress: text('The name of the egress'),
    destination: text('`HOST:PORT`, as parsed'),
    why: text('Why it is not allowed, in human-readable form'),
    askedAt: z.iso.datetime().describe('When it was first asked for, in ISO 8601 and UTC'),
    until: z.iso.datetime().describe('When it is refused without an answer'),
    connections: amount().describe('How many connections wait for it'),
  },
);

const verdictFields = {
  isAllowed: z.boolean().describe('Whether it is allowed'),
  rule: textOrNull('The deciding entry with its list, such as `allow "*.example.org:443"`; null for none'),
  why: text('Why, in human-readable form'),
};

export const egressTestSchema = named('EgressTest', 'The verdict on a destination', {
  channel: text('The label of the channel'),
  name: text('The name of the egress'),
  destination: text('`HOST:PORT`, as parsed'),
  ...verdictFields,
  isAsked: z.boolean().describe('Whether a connection would wait for an answer'),
  addresses: z
    .array(z.strictObject({ address: text('An address of the destination'), ...verdictFields }))
    .describe('The current addresses of its name; empty if it is not resolved here'),
});
const portStatusSchema = part('A listening port that a side announces', {
  channel: text('The label of the channel'),
  port: amount().describe('Its number on the machine of the side that announces it'),
  program: textOrNull('The program that listens there, as that side reports; null if unknown'),
  announcedBy: z.enum(['here', 'peer']).describe('Which side announces it'),
  endpoint: textOrNull('`here`: what its streams connect to. `peer`: where this side listens for it, or null'),
  forward: textOrNull('The id of its forward, or null'),
  streams: amount().describe('The number of open streams'),
});

export const portWithUrlSchema = portStatusSchema
  .extend({ url: textOrNull('Where a browser on this machine finds a port of the peer, by `http-ports`; or null') })
  .meta({ id: 'PortStatus', description: 'A listening port that a side announces, with its URL' });

const streamStatusSchema = part('One stream', {
  channel: text('The label of its channel'),
  id: amount().describe('Its number in the session; 0 while its opening is held back'),
  service: text('The service that it leads to'),
  direction: directionSchema,
  forward: textOrNull('The id of its forward, or null'),
  from: textOrNull('The origin of the program that opened it, as reported by its side'),
  ageMs: amount().describe('The age of the stream'),
  sentBytes: amount().describe('Payload sent to the peer'),
  receivedBytes: amount().describe('Payload received from the peer'),
  sendCreditBytes: z.int().describe('What may be sent before the peer grants more credit'),
  receiveCreditBytes: z.int().describe('What the peer may send before it gets more credit'),
  waitsFor: streamWaitSchema.nullable().describe('What it waits for; null if nothing waits'),
  reached: z
    .strictObject({
      destination: text('`HOST:PORT`, as requested'),
      address: text('`ADDRESS:PORT` that was connected to'),
      rule: text('The entry that allowed it'),
    })
    .nullable()
    .describe('What an egress connected it to last; null if nothing'),
  datagrams: datagramCountsSchema.nullable().describe('The messages of a datagram flow; null for any other stream'),
});

export const streamWithRatesSchema = streamStatusSchema
  .extend({
    sendRate: amount().describe('Bytes per second over the last 0.2 to 3 s, or since it was opened'),
    receiveRate: amount().describe('As `sendRate`'),
  })
  .meta({ id: 'StreamStatus', description: 'One stream, with its rates' });

export const streamEndSchema = named('StreamEnd', 'How a stream opened by a connection has ended', {
  state: z
    .enum(['open', 'ended', 'reset'])
    .describe('`open`: at least one direction is open; `ended`: both have ended cleanly; `reset`: it failed'),
  error: z
    .strictObject({
      code: text(
        'A code of docs/errors.md, or a newer one that the peer sent; about a file, its name in the system there: `ENOENT`',
      ),
      message: text('One human-readable line'),
    })
    .nullable()
    .describe('Why it was reset; otherwise null'),
});

// The process.

const loopDelaySchema = part('The delay of timers, in milliseconds', {
  meanMs: measure().describe('The average'),
  p99Ms: measure().describe('The 99th percentile'),
  maxMs: measure().describe('The maximum'),
});

const processStatusSchema = named('ProcessStatus', 'The process as a whole; amounts in bytes, times in milliseconds', {
  name: textOrNull('The name set by its operator, or null'),
  pid: amount().describe('Its process id'),
  version: text('Program and version, such as `vproxy 0.1.0`'),
  node: text('The version of Node.js'),
  startedAt: moment('When it was started'),
  uptimeMs: amount().describe('The time since then'),
  memory: part('Its memory use', {
    residentBytes: amount().describe("Resident in the machine's memory"),
    heapBytes: amount().describe('JavaScript heap'),
    externalBytes: amount().describe('Memory outside the heap, such as buffers'),
  }),
  eventLoopDelay: loopDelaySchema
    .nullable()
    .describe('Since the last request for it; null on the first request within a minute, which starts the measurement'),
  logLevel: logLevelSchema.describe('The least important level that it logs'),
  machine: machineHistorySchema.describe('What it did to its machine'),
});

export const controlStatusSchema = named('Status', 'The process and its channels', {
  process: processStatusSchema,
  channels: z.array(channelStatusSchema).describe('Every channel'),
  forwards: amount().describe('The number of forwards, on all channels together'),
  streams: amount().describe('The number of open streams, on all channels together'),
});

export const controlEventSchema = named('Event', 'One event', {
  seq: amount().describe('1 for the first event of the process, then consecutive'),
  time: moment('When it happened'),
  level: logLevelSchema.describe('How much it matters'),
  event: text('What happened, as a stable name'),
  message: text('One human-readable line. Foreign text in it is escaped'),
  fields: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]))
    .describe('The same facts, machine-readable; `channel` is the label of the channel'),
});

export const pingAnswerSchema = part('The answer of `POST /v1/ping`', {
  channel: text('The label of the channel'),
  roundTripMs: measure().describe('The round trip to the peer, in milliseconds'),
});

export const upgradeAnswerSchema = part('The answer of `POST /v1/upgrade`', {
  pid: amount().describe('The process id of the successor'),
  version: text('Its program and version'),
  sessions: amount().describe('Number of sessions handed over'),
  streams: amount().describe('Number of streams handed over'),
  listeners: amount().describe('Number of listening sockets handed over'),
  cut: texts('With `force`: streams that were reset because they could not be handed over'),
  durationMs: measure().describe('How long the process was paused, in milliseconds'),
});

export const logLevelAnswerSchema = z.strictObject({ level: logLevelSchema.describe('The level of the log') });

export const errorSchema = named('Error', 'The body of every error response', {
  error: part('The error', {
    code: text('A code of docs/errors.md, or a newer one that the peer sent'),
    message: text('One human-readable line'),
    field: z.string().exactOptional().describe('The path of the invalid field in the body or the query'),
  }),
});

/** The types of `types.ts`, in order. */
export const STATUS_TYPES: Readonly<Record<string, z.ZodType>> = {
  ChannelState: channelStateSchema,
  ChannelStatus: channelStatusSchema,
  SessionStatus: sessionStatusSchema,
  SessionHistory: sessionHistorySchema,
  ChannelTotals: channelTotalsSchema,
  ChannelChanges: channelChangesSchema,
  ReloadAnswer: reloadAnswerSchema,
  DatagramCounts: datagramCountsSchema,
  ForwardStatus: forwardStatusSchema,
  ServiceStatus: serviceStatusSchema,
  EgressQuestion: egressQuestionSchema,
  EgressStats: egressStatsSchema,
  EgressStatus: egressStatusSchema,
  EgressTest: egressTestSchema,
  PortStatus: portStatusSchema,
  PortWithUrl: portWithUrlSchema,
  StreamStatus: streamStatusSchema,
  StreamWithRates: streamWithRatesSchema,
  StreamEnd: streamEndSchema,
  LoopDelay: loopDelaySchema,
  ProcessStatus: processStatusSchema,
  ControlStatus: controlStatusSchema,
  ControlEvent: controlEventSchema,
  PingAnswer: pingAnswerSchema,
  ...MACHINE_TYPES,
  ...COMMAND_TYPES,
  UpgradeAnswer: upgradeAnswerSchema,
  ErrorBody: errorSchema,
};

/** Types that `types.ts` imports, with their files. */
export const IMPORTED_TYPES: Readonly<Record<string, { readonly schema: z.ZodType; readonly file: string }>> = {
  Direction: { schema: directionSchema, file: '../forward/forms/endpoint-form.js' },
  StreamWait: { schema: streamWaitSchema, file: '../session/local-end.js' },
  LogLevel: { schema: logLevelSchema, file: '../events.js' },
};
