/**
 * The schemas of a running process's status: shapes, units and descriptions. From them derive the types in `types.ts`, which
 * `npm run build` writes, the components of docs/openapi.json, and the check that every route answers as described. Times are
 * in milliseconds, amounts in bytes, rates in bytes per second. Text from a peer is unescaped: escape it before showing it.
 */
import { INTEGRITY_LEVELS } from '../codec/header.js';
import { LOG_LEVELS } from '../events.js';
import { STREAM_WAITS } from '../session/local-end.js';
import { CHANNEL_STATES } from './describe.js';
import { MACHINE_TYPES } from './machine-schemas.js';
import { CHANNEL_TOTALS } from './totals.js';
import * as z from './zod.js';

/** A non-negative integer. */
const amount = () => z.int().min(0);

/** A non-negative number. */
const measure = () => z.number().min(0);

/** Creates an amount for each of these descriptions. */
const amounts = <Key extends string>(descriptions: Readonly<Record<Key, string>>) =>
  Object.fromEntries(
    Object.entries<string>(descriptions).map(([key, description]) => [key, amount().describe(description)]),
  ) as Record<Key, ReturnType<typeof amount>>;

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
    '`opening`: the channel is being opened, or is open and its peer has not answered yet. `waiting`: for the host or ' +
      'the peer. `backing-off`: the last attempt failed, and the next is scheduled. `auth-failed`: the two sides ' +
      'have no key in common, or not the same protection; retries come at growing intervals. ' +
      '`established`: it has a session. `suspended`: its session waits for another link. `draining`: it takes no new ' +
      'streams; open ones may finish. `failed`: it can never work',
  );

// Channels.

const sessionStatusSchema = z
  .strictObject({
    peer: z
      .strictObject({
        agent: z.string().describe('Program and version, as sent by the peer'),
        name: z.string().nullable().describe('The name set by its operator, or null'),
        services: z.array(z.string()).describe('The services that it offers'),
      })
      .describe('The peer'),
    protocolVersion: amount().describe('The version of the protocol that both sides speak'),
    integrity: z
      .enum(INTEGRITY_LEVELS)
      .describe('How stream data is checked: for lost, repeated or truncated data, or also for changed data'),
    key: z
      .string()
      .nullable()
      .describe('The id of the key with which the two sides authenticated each other; null without a key'),
    tls: z
      .enum(['psk', 'cert'])
      .nullable()
      .describe('How the channel is encrypted: with a key, or with certificates on both sides; null: not by vproxy'),
    resume: z
      .strictObject({
        here: z.boolean().describe('Whether this side does'),
        peer: z.boolean().describe('Whether the peer does'),
      })
      .describe('Whether each side lets the session outlive its link; both must'),
    ageMs: amount().describe('The age of the session'),
    roundTripMs: measure().nullable().describe('The round trip through the peer; null before the first measurement'),
    clockOffsetMs: z
      .int()
      .nullable()
      .describe("How far the peer's clock was ahead when it last announced its services; null if it sent no time"),
    streams: amount().describe('The number of open streams'),
    sendCreditBytes: z.int().describe('What may be sent before the peer grants more credit, all streams together'),
    unwrittenBytes: amount().describe('Data queued on the channel and not yet written'),
  })
  .meta({ id: 'SessionStatus', description: 'The current session' });

const sessionHistorySchema = z
  .strictObject({
    sessions: amount().describe('The number of sessions established, including the current one'),
    ends: z
      .record(z.string(), amount())
      .describe('The number that ended with each code of docs/errors.md; `other` for codes that are not in it'),
    recent: z
      .array(
        z.strictObject({
          at: moment('When it ended'),
          ageMs: amount().describe('How long it had lasted'),
          code: z.string().describe('Why it ended: a code of docs/errors.md, or one sent by the peer'),
          message: z.string().describe('Why it ended, in one line'),
        }),
      )
      .describe('The last ended sessions, newest first; at most 16'),
  })
  .meta({ id: 'SessionHistory', description: 'The sessions of a channel' });

const channelTotalsSchema = z
  .strictObject(amounts(CHANNEL_TOTALS))
  .meta({ id: 'ChannelTotals', description: 'The traffic of a channel since it was added' });

export const channelStatusSchema = z
  .strictObject({
    label: z.string().describe('Its name in this process'),
    group: z.string().nullable().describe('The label of the group that created it; null if it belongs to none'),
    address: z.string().describe('Its address in canonical form'),
    state: channelStateSchema,
    since: moment('Since when it has been in this state'),
    detail: z.string().nullable().describe('What it waits for, or why it failed; otherwise null'),
    nextTryMs: amount()
      .nullable()
      .describe('The time until the next attempt; null unless `backing-off`, or `suspended`'),
    session: sessionStatusSchema.nullable().describe('Null while it has no session'),
    bufferBytes: amount()
      .nullable()
      .describe(
        'The socket buffer granted by the system; null until a write has filled the default one, and for other sockets than unix',
      ),
    history: sessionHistorySchema,
    totals: channelTotalsSchema,
  })
  .meta({ id: 'ChannelStatus', description: 'One channel' });

export const channelChangesSchema = z
  .strictObject({
    addedChannels: z.array(z.string()).describe('Labels of new channels'),
    removedChannels: z.array(z.string()).describe('Labels of removed channels'),
    replacedChannels: z
      .array(z.string())
      .describe('Labels of channels that were restarted because their address or settings changed'),
    addedForwards: z.array(z.string()).describe('New forwards, each as LABEL and its text'),
    removedForwards: z
      .array(z.string())
      .describe('Forwards that were removed, or will be when their streams have ended, each as LABEL and its text'),
    changedPolicies: z
      .array(z.string())
      .describe('Services whose rule or permission changed, each as LABEL and its name'),
    changedEgress: z.array(z.string()).describe('Egresses whose rules changed, each as LABEL and its name'),
  })
  .meta({ id: 'ChannelChanges', description: 'The changes made by a reload' });

export const reloadAnswerSchema = channelChangesSchema
  .extend({
    nextStart: z.array(z.string()).describe('Keys of the file whose changes take effect at the next start'),
  })
  .meta({ id: 'ReloadAnswer', description: 'The changes made by a reload, and those that need a restart' });

// Forwards, services and streams.

const datagramCountsSchema = z
  .strictObject({
    sent: amount().describe('Messages sent to the peer'),
    sendDropped: amount().describe('Messages to the peer dropped on this side'),
    received: amount().describe('Messages received from the peer and passed on'),
    receiveDropped: amount().describe('Messages from the peer dropped on this side'),
  })
  .meta({ id: 'DatagramCounts', description: 'The messages of datagram flows' });

export const forwardStatusSchema = z
  .strictObject({
    id: z.string().describe('`f1`, `f2`, …: unique in the process'),
    channel: z.string().describe('The label of its channel'),
    direction: directionSchema,
    service: z.string().describe('The service that it leads to, or serves; `*` if the connecting program names it'),
    endpoint: z.string().describe('The endpoint in use, with the chosen port if 0 was requested'),
    spec: z.string().describe('Its text, as for `-o` and `-i`'),
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
  })
  .meta({ id: 'ForwardStatus', description: 'One forward' });

export const serviceStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    service: z.string().describe('Its name'),
    offeredBy: z.enum(['here', 'peer']).describe('Which side serves it'),
    forward: z
      .string()
      .nullable()
      .describe(
        "The incoming forward that serves it; null for the peer's services, and for those of a program or the broker",
      ),
  })
  .meta({ id: 'ServiceStatus', description: 'A service offered to the peer of a channel, or by it' });

// Egresses.

export const egressStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    name: z.string().describe('Its name'),
    services: z.array(z.string()).describe('The services whose forwards lead to it'),
    rules: z
      .strictObject({
        allow: z.array(z.string()).describe('The entries of allowed destinations'),
        deny: z.array(z.string()).describe('The entries of denied destinations'),
        upstream: z.string().nullable().describe('The HTTP proxy for all connections, or null'),
      })
      .nullable()
      .describe('The rules in effect on the channel; null if the egress is not defined, so that everything is refused'),
  })
  .meta({ id: 'EgressStatus', description: 'An egress of a channel' });

const verdictFields = {
  isAllowed: z.boolean().describe('Whether it is allowed'),
  rule: z
    .string()
    .nullable()
    .describe('The deciding entry with its list, such as `allow "*.example.org:443"`; null for none'),
  why: z.string().describe('Why, in human-readable form'),
};

export const egressTestSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    name: z.string().describe('The name of the egress'),
    destination: z.string().describe('`HOST:PORT`, as parsed'),
    ...verdictFields,
    addresses: z
      .array(z.strictObject({ address: z.string().describe('An address of the destination'), ...verdictFields }))
      .describe('The current addresses of its name; empty if it is not resolved here'),
  })
  .meta({ id: 'EgressTest', description: 'The verdict on a destination' });
export const portStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    port: amount().describe('Its number on the machine of the side that announces it'),
    program: z.string().nullable().describe('The program that listens there, as that side reports; null if unknown'),
    announcedBy: z.enum(['here', 'peer']).describe('Which side announces it'),
    endpoint: z
      .string()
      .nullable()
      .describe('`here`: what its streams connect to. `peer`: where this side listens for it, or null'),
    forward: z.string().nullable().describe('The id of its forward, or null'),
    streams: amount().describe('The number of open streams'),
  })
  .meta({ id: 'PortStatus', description: 'A listening port that a side announces' });

const streamStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of its channel'),
    id: amount().describe('Its number in the session; 0 while its opening is held back'),
    service: z.string().describe('The service that it leads to'),
    direction: directionSchema,
    forward: z.string().nullable().describe('The id of its forward, or null'),
    from: z.string().nullable().describe('The origin of the program that opened it, as reported by its side'),
    ageMs: amount().describe('The age of the stream'),
    sentBytes: amount().describe('Payload sent to the peer'),
    receivedBytes: amount().describe('Payload received from the peer'),
    sendCreditBytes: z.int().describe('What may be sent before the peer grants more credit'),
    receiveCreditBytes: z.int().describe('What the peer may send before it gets more credit'),
    waitsFor: streamWaitSchema.nullable().describe('What it waits for; null if nothing waits'),
    datagrams: datagramCountsSchema.nullable().describe('The messages of a datagram flow; null for any other stream'),
  })
  .describe('One stream');

export const streamWithRatesSchema = streamStatusSchema
  .extend({
    sendRate: amount().describe('Bytes per second over the last 0.2 to 3 s, or since it was opened'),
    receiveRate: amount().describe('As `sendRate`'),
  })
  .meta({ id: 'StreamStatus', description: 'One stream, with its rates' });

export const streamEndSchema = z
  .strictObject({
    state: z
      .enum(['open', 'ended', 'reset'])
      .describe('`open`: at least one direction is open; `ended`: both have ended cleanly; `reset`: it failed'),
    error: z
      .strictObject({
        code: z.string().describe('A code of docs/errors.md, or a newer one that the peer sent'),
        message: z.string().describe('One human-readable line'),
      })
      .nullable()
      .describe('Why it was reset; otherwise null'),
  })
  .meta({ id: 'StreamEnd', description: 'How a stream opened by a connection has ended' });

// The process.

const loopDelaySchema = z
  .strictObject({
    meanMs: measure().describe('The average'),
    p99Ms: measure().describe('The 99th percentile'),
    maxMs: measure().describe('The maximum'),
  })
  .describe('The delay of timers, in milliseconds');

const processStatusSchema = z
  .strictObject({
    name: z.string().nullable().describe('The name set by its operator, or null'),
    pid: amount().describe('Its process id'),
    version: z.string().describe('Program and version, such as `vproxy 0.1.0`'),
    node: z.string().describe('The version of Node.js'),
    startedAt: moment('When it was started'),
    uptimeMs: amount().describe('The time since then'),
    memory: z
      .strictObject({
        residentBytes: amount().describe("Resident in the machine's memory"),
        heapBytes: amount().describe('JavaScript heap'),
        externalBytes: amount().describe('Memory outside the heap, such as buffers'),
      })
      .describe('Its memory use'),
    eventLoopDelay: loopDelaySchema
      .nullable()
      .describe(
        'Since the last request for it; null on the first request within a minute, which starts the measurement',
      ),
    logLevel: logLevelSchema.describe('The least important level that it logs'),
  })
  .meta({ id: 'ProcessStatus', description: 'The process as a whole; amounts in bytes, times in milliseconds' });

export const controlStatusSchema = z
  .strictObject({
    process: processStatusSchema,
    channels: z.array(channelStatusSchema).describe('Every channel'),
    forwards: amount().describe('The number of forwards, on all channels together'),
    streams: amount().describe('The number of open streams, on all channels together'),
  })
  .meta({ id: 'Status', description: 'The process and its channels' });

export const controlEventSchema = z
  .strictObject({
    seq: amount().describe('1 for the first event of the process, then consecutive'),
    time: moment('When it happened'),
    level: logLevelSchema.describe('How much it matters'),
    event: z.string().describe('What happened, as a stable name'),
    message: z.string().describe('One human-readable line. Foreign text in it is escaped'),
    fields: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]))
      .describe('The same facts, machine-readable; `channel` is the label of the channel'),
  })
  .meta({ id: 'Event', description: 'One event' });

export const pingAnswerSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    roundTripMs: measure().describe('The round trip to the peer, in milliseconds'),
  })
  .describe('The answer of `POST /v1/ping`');

export const upgradeAnswerSchema = z
  .strictObject({
    pid: amount().describe('The process id of the successor'),
    version: z.string().describe('Its program and version'),
    sessions: amount().describe('Number of sessions handed over'),
    streams: amount().describe('Number of streams handed over'),
    listeners: amount().describe('Number of listening sockets handed over'),
    cut: z.array(z.string()).describe('With `force`: streams that were reset because they could not be handed over'),
    durationMs: measure().describe('How long the process was paused, in milliseconds'),
  })
  .describe('The answer of `POST /v1/upgrade`');

export const logLevelAnswerSchema = z.strictObject({ level: logLevelSchema.describe('The level of the log') });

export const errorSchema = z
  .strictObject({
    error: z
      .strictObject({
        code: z.string().describe('A code of docs/errors.md, or a newer one that the peer sent'),
        message: z.string().describe('One human-readable line'),
        field: z.string().exactOptional().describe('The path of the invalid field in the body or the query'),
      })
      .describe('The error'),
  })
  .meta({ id: 'Error', description: 'The body of every error response' });

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
  EgressStatus: egressStatusSchema,
  EgressTest: egressTestSchema,
  PortStatus: portStatusSchema,
  StreamStatus: streamStatusSchema,
  StreamWithRates: streamWithRatesSchema,
  StreamEnd: streamEndSchema,
  LoopDelay: loopDelaySchema,
  ProcessStatus: processStatusSchema,
  ControlStatus: controlStatusSchema,
  ControlEvent: controlEventSchema,
  PingAnswer: pingAnswerSchema,
  ...MACHINE_TYPES,
  UpgradeAnswer: upgradeAnswerSchema,
  ErrorBody: errorSchema,
};

/** Types that `types.ts` imports, with their files. */
export const IMPORTED_TYPES: Readonly<Record<string, { readonly schema: z.ZodType; readonly file: string }>> = {
  Direction: { schema: directionSchema, file: '../forward/endpoint-kind.js' },
  StreamWait: { schema: streamWaitSchema, file: '../session/local-end.js' },
  LogLevel: { schema: logLevelSchema, file: '../events.js' },
};
