/**
 * What a running process says of itself, as schemas: shapes, units and descriptions. From them come the types in
 * `types.ts`, which `npm run build` writes, the components of docs/openapi.json, and the check that every route answers
 * as described. Times are in milliseconds, amounts in bytes, rates in bytes per second. Text from a peer is as the peer
 * sent it: escape it before showing it.
 */
import { INTEGRITY_LEVELS } from '../codec/header.js';
import { LOG_LEVELS } from '../events.js';
import { STREAM_WAITS } from '../session/local-end.js';
import { CHANNEL_STATES } from './describe.js';
import { MACHINE_TYPES } from './machine-schemas.js';
import { CHANNEL_TOTALS } from './totals.js';
import * as z from './zod.js';

/** A whole number that is not negative. */
const amount = () => z.int().min(0);

/** A number that is not negative. */
const measure = () => z.number().min(0);

/** An amount for each of these descriptions. */
const amounts = <Key extends string>(descriptions: Readonly<Record<Key, string>>) =>
  Object.fromEntries(
    Object.entries<string>(descriptions).map(([key, description]) => [key, amount().describe(description)]),
  ) as Record<Key, ReturnType<typeof amount>>;

/** A moment; its description begins with `what`. */
const moment = (what: string) => z.iso.datetime().describe(`${what}; ISO 8601, UTC`);

// Words that several of them use.

export const directionSchema = z
  .enum(['outgoing', 'incoming'])
  .describe('`outgoing`: opened or listened for on this side; `incoming`: opened by the peer, served on this side');

const logLevelSchema = z
  .enum(LOG_LEVELS, 'it is not error, warn, info or debug')
  .describe('How much an event matters, the most important level first');

const streamWaitSchema = z.enum(STREAM_WAITS);

const channelStateSchema = z
  .enum(CHANNEL_STATES)
  .describe(
    '`opening`: the channel is being opened, or is open and its peer has not answered yet. `waiting`: for the host or ' +
      'the peer. `backing-off`: the last attempt failed, and the next follows by itself. `auth-failed`: the two sides ' +
      'have no key in common, or not the same protection; the next attempts come at growing intervals. ' +
      '`established`: it has a session. `suspended`: its session waits for another link. `draining`: it takes no new streams; those that are open may finish. ' +
      '`failed`: it can never work',
  );

// Channels.

const sessionStatusSchema = z
  .strictObject({
    peer: z
      .strictObject({
        agent: z.string().describe('Program and version, as the peer says'),
        name: z.string().nullable().describe('The name that its operator gave it, or null'),
        services: z.array(z.string()).describe('The services that it offers'),
      })
      .describe('What the peer says of itself'),
    protocolVersion: amount().describe('The version of the protocol that both sides speak'),
    integrity: z
      .enum(INTEGRITY_LEVELS)
      .describe(
        'How the bytes of streams are checked: that none are lost, repeated or cut off, or also that none are changed',
      ),
    key: z
      .string()
      .nullable()
      .describe('The id of the key by which the two sides have authenticated each other; null without a key'),
    tls: z
      .enum(['psk', 'cert'])
      .nullable()
      .describe('How the channel is encrypted: with a key, or with certificates on both sides; null: not by vproxy'),
    resume: z
      .strictObject({
        here: z.boolean().describe('Whether this side does'),
        peer: z.boolean().describe('Whether the peer does'),
      })
      .describe('Whether each side lets the session outlive its link; it does where both do'),
    ageMs: amount().describe('The time since it was established'),
    roundTripMs: measure().nullable().describe('The round trip through the peer; null before the first measurement'),
    clockOffsetMs: z
      .int()
      .nullable()
      .describe("By how much the peer's clock was ahead when it last said what it offers; null if it sent no time"),
    streams: amount().describe('The number of open streams'),
    sendCreditBytes: z.int().describe('What may still be sent before the peer gives more, all streams together'),
    unwrittenBytes: amount().describe('What the channel was given and has not written'),
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
          code: z.string().describe('Why it ended, as a code of docs/errors.md, or as the peer said it'),
          message: z.string().describe('Why it ended, in one line'),
        }),
      )
      .describe('The last ones that ended, the newest first; at most 16'),
  })
  .meta({ id: 'SessionHistory', description: 'The sessions that a channel had' });

const channelTotalsSchema = z
  .strictObject(amounts(CHANNEL_TOTALS))
  .meta({ id: 'ChannelTotals', description: 'What went over a channel since it was added' });

export const channelStatusSchema = z
  .strictObject({
    label: z.string().describe('Its name in this process'),
    group: z
      .string()
      .nullable()
      .describe('The label of the group that it was made for; null if it was added by itself'),
    address: z.string().describe('Its canonical text'),
    state: channelStateSchema,
    since: moment('Since when it has been in this state'),
    detail: z.string().nullable().describe('What it waits for, or why it failed; else null'),
    nextTryMs: amount()
      .nullable()
      .describe('The time until the next attempt; null unless `backing-off`, or `suspended`'),
    session: sessionStatusSchema.nullable().describe('Null while it has no session'),
    bufferBytes: amount()
      .nullable()
      .describe(
        'What the system granted of `buffer`; null before a write filled its own one, and on a channel that is no unix socket',
      ),
    history: sessionHistorySchema,
    totals: channelTotalsSchema,
  })
  .meta({ id: 'ChannelStatus', description: 'One channel' });

export const channelChangesSchema = z
  .strictObject({
    addedChannels: z.array(z.string()).describe('Labels of new channels'),
    removedChannels: z.array(z.string()).describe('Labels of channels that were removed'),
    replacedChannels: z
      .array(z.string())
      .describe('Labels of channels that were started again, because their address or settings have changed'),
    addedForwards: z.array(z.string()).describe('New forwards, each as LABEL and its text'),
    removedForwards: z
      .array(z.string())
      .describe('Forwards that were removed, or are when their streams have ended, each as LABEL and its text'),
    changedPolicies: z
      .array(z.string())
      .describe('Services whose rule or permission has changed, each as LABEL and its name'),
    changedEgress: z.array(z.string()).describe('Egresses whose rules have changed, each as LABEL and its name'),
  })
  .meta({ id: 'ChannelChanges', description: 'What a reload has changed' });

export const reloadAnswerSchema = channelChangesSchema
  .extend({
    nextStart: z.array(z.string()).describe('Keys of the file whose change counts from the next start on'),
  })
  .meta({ id: 'ReloadAnswer', description: 'What a reload has changed, and what it has not' });

// Forwards, services and streams.

const datagramCountsSchema = z
  .strictObject({
    sent: amount().describe('Messages that went to the peer'),
    sendDropped: amount().describe('Messages for the peer that were dropped on this side'),
    received: amount().describe('Messages that came from the peer and were passed on'),
    receiveDropped: amount().describe('Messages from the peer that were dropped on this side'),
  })
  .meta({ id: 'DatagramCounts', description: 'What flows of datagrams have carried' });

export const forwardStatusSchema = z
  .strictObject({
    id: z.string().describe('`f1`, `f2`, …: unique in the process'),
    channel: z.string().describe('The label of its channel'),
    direction: directionSchema,
    service: z
      .string()
      .describe('The service that it leads to, or serves; `*` where the program that connects names it'),
    endpoint: z.string().describe('The endpoint in force, with the port that was picked where 0 was asked for'),
    spec: z.string().describe('The text that it was made from, as `-o` and `-i` take it'),
    state: z
      .enum(['active', 'draining'])
      .describe('`draining`: it takes nothing new, and is removed when its streams have ended'),
    streams: amount().describe('The number of open streams'),
    opened: amount().describe('The number of streams that it ever had'),
    datagrams: datagramCountsSchema
      .nullable()
      .describe('The messages of all its flows, those that have ended too; null where it has no datagrams'),
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
        "The incoming forward that serves it; null for the peer's, and for one that a program or the broker serves",
      ),
  })
  .meta({ id: 'ServiceStatus', description: 'A service that is offered to the peer of a channel, or by it' });

// Egresses.

export const egressStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    name: z.string().describe('Its name'),
    services: z.array(z.string()).describe('The services whose forwards lead to it'),
    rules: z
      .strictObject({
        allow: z.array(z.string()).describe('The entries of what may be reached'),
        deny: z.array(z.string()).describe('The entries of what may not'),
        upstream: z.string().nullable().describe('The HTTP proxy behind which everything is reached, or null'),
      })
      .nullable()
      .describe('What is in force on the channel; null: nothing is said of it, and everything is refused'),
  })
  .meta({ id: 'EgressStatus', description: 'An egress of a channel' });

const verdictFields = {
  isAllowed: z.boolean().describe('Whether it may be reached'),
  rule: z
    .string()
    .nullable()
    .describe('The entry that decides, with its list, such as `allow "*.example.org:443"`; null: none'),
  why: z.string().describe('Why, for people'),
};

export const egressTestSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    name: z.string().describe('The name of the egress'),
    destination: z.string().describe('`HOST:PORT` as it was understood'),
    ...verdictFields,
    addresses: z
      .array(z.strictObject({ address: z.string().describe('An address of the destination'), ...verdictFields }))
      .describe('The addresses that its name has now; empty where it is not resolved here'),
  })
  .meta({ id: 'EgressTest', description: 'What would become of a destination' });
export const portStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    port: amount().describe('Its number on the machine of the side that announces it'),
    program: z
      .string()
      .nullable()
      .describe('The program that listens there, as that side says; null where it is not known'),
    announcedBy: z.enum(['here', 'peer']).describe('Which side announces it'),
    endpoint: z
      .string()
      .nullable()
      .describe('`here`: what is dialled for its streams. `peer`: where this side listens for it, or null'),
    forward: z.string().nullable().describe('The id of its forward, or null'),
    streams: amount().describe('The number of open streams'),
  })
  .meta({ id: 'PortStatus', description: 'A port that somebody listens on, and that a side announces' });

const streamStatusSchema = z
  .strictObject({
    channel: z.string().describe('The label of its channel'),
    id: amount().describe('Its number in the session; 0 while its opening is held back'),
    service: z.string().describe('The service that it was opened to'),
    direction: directionSchema,
    forward: z.string().nullable().describe('The id of its forward, or null'),
    from: z.string().nullable().describe('Where the program that opened it came from, as its side says'),
    ageMs: amount().describe('The time since it was opened'),
    sentBytes: amount().describe('Payload that went to the peer'),
    receivedBytes: amount().describe('Payload that came from the peer'),
    sendCreditBytes: z.int().describe('What may be sent before the peer gives more'),
    receiveCreditBytes: z.int().describe('What the peer may send before it is given more'),
    waitsFor: streamWaitSchema.nullable().describe('What it waits for; null if nothing waits'),
    datagrams: datagramCountsSchema.nullable().describe('The messages of a flow of datagrams; null for all else'),
  })
  .describe('One stream');

export const streamWithRatesSchema = streamStatusSchema
  .extend({
    sendRate: amount().describe('Bytes per second, over the last 0.2 to 3 s, or since it was opened'),
    receiveRate: amount().describe('As `sendRate`'),
  })
  .meta({ id: 'StreamStatus', description: 'One stream, with its rates' });

export const streamEndSchema = z
  .strictObject({
    state: z
      .enum(['open', 'ended', 'reset'])
      .describe('`open`: at least one direction goes on; `ended`: both have ended in order; `reset`: it has failed'),
    error: z
      .strictObject({
        code: z.string().describe('A code of docs/errors.md, or a newer one that the peer sent'),
        message: z.string().describe('One line for people'),
      })
      .nullable()
      .describe('Why it was reset, else null'),
  })
  .meta({ id: 'StreamEnd', description: 'How a stream of one connection has ended' });

// The process.

const loopDelaySchema = z
  .strictObject({
    meanMs: measure().describe('The average'),
    p99Ms: measure().describe('The 99th percentile'),
    maxMs: measure().describe('The maximum'),
  })
  .describe('By how much timers came late, in milliseconds');

const processStatusSchema = z
  .strictObject({
    name: z.string().nullable().describe('The name that its operator gave it, or null'),
    pid: amount().describe('Its process id'),
    version: z.string().describe('Program and version, such as `vproxy 0.1.0`'),
    node: z.string().describe('The version of Node'),
    startedAt: moment('When it was started'),
    uptimeMs: amount().describe('The time since then'),
    memory: z
      .strictObject({
        residentBytes: amount().describe("Resident in the machine's memory"),
        heapBytes: amount().describe('Objects of JavaScript'),
        externalBytes: amount().describe('Memory of these objects outside the heap, such as buffers'),
      })
      .describe('The memory that it uses'),
    eventLoopDelay: loopDelaySchema
      .nullable()
      .describe('Since the last request for it; null on the first request in a minute, which starts the measurement'),
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
    seq: amount().describe('1 for the first event of the process, and one more for each'),
    time: moment('When it happened'),
    level: logLevelSchema.describe('How much it matters'),
    event: z.string().describe('What happened, as a stable name'),
    message: z.string().describe('One line for people. Foreign text in it is escaped'),
    fields: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]))
      .describe('The same facts for programs; `channel` is the label of the channel'),
  })
  .meta({ id: 'Event', description: 'One event' });

export const pingAnswerSchema = z
  .strictObject({
    channel: z.string().describe('The label of the channel'),
    roundTripMs: measure().describe('To the peer and back, in milliseconds'),
  })
  .describe('The answer of `POST /v1/ping`');

export const upgradeAnswerSchema = z
  .strictObject({
    pid: amount().describe('The number of the process that goes on'),
    version: z.string().describe('Its program and version'),
    sessions: amount().describe('The sessions that it goes on with'),
    streams: amount().describe('The streams that it goes on with'),
    listeners: amount().describe('The sockets that it listens on'),
    cut: z.array(z.string()).describe('Streams that were reset, as they could not be handed over: `force` was given'),
    durationMs: measure().describe('For how long nothing else was done, in milliseconds'),
  })
  .describe('The answer of `POST /v1/upgrade`');

export const logLevelAnswerSchema = z.strictObject({ level: logLevelSchema.describe('What the process logs') });

export const errorSchema = z
  .strictObject({
    error: z
      .strictObject({
        code: z.string().describe('A code of docs/errors.md, or a newer one that the peer sent'),
        message: z.string().describe('One line for people'),
        field: z.string().exactOptional().describe('The path of the field that is wrong, in the body or the query'),
      })
      .describe('What was wrong'),
  })
  .meta({ id: 'Error', description: 'The body of every answer that is an error' });

/** The types of `types.ts`, in their order there. */
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
