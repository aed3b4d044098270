/** The schemas of what `lib/proxy/status.ts` describes: the types say that they cannot differ. */
import * as z from 'zod';
import { LOG_LEVELS } from '../../events.js';
import type { ChannelChanges } from '../../proxy/apply.js';
import {
  CHANNEL_STATES,
  type ChannelStatus,
  type ChannelTotals,
  type ForwardStatus,
  type ServiceStatus,
  type SessionHistory,
  type SessionStatus,
} from '../../proxy/status.js';
import { STREAM_WAITS } from '../../session/local-end.js';
import type { ControlStatus } from '../routes/process.js';
import type { ControlEvent } from '../server/events.js';
import type { StreamEnd } from '../server/join-stream.js';
import type { ProcessStatus } from '../server/process-status.js';
import type { ErrorBody } from '../server/request-error.js';
import type { StreamWithRates } from '../server/stream-rates.js';
import { amount, measure, moment } from './values.js';

export const directionSchema = z
  .enum(['outgoing', 'incoming'])
  .describe('outgoing: opened or listened for on this side; incoming: opened by the peer, served on this side');

const sessionStatusSchema = z
  .strictObject({
    peer: z.strictObject({
      agent: z.string().describe('Program and version, as the peer says'),
      name: z.string().nullable(),
      services: z.array(z.string()),
    }),
    protocolVersion: amount(),
    integrity: z.boolean(),
    key: z.string().nullable().describe('The id of the key by which the two sides have authenticated each other'),
    tls: z.enum(['psk', 'cert']).nullable().describe('How what passes is encrypted; null: not by vproxy'),
    ageMs: amount(),
    roundTripMs: measure().nullable().describe('Null before the first measurement'),
    clockOffsetMs: z
      .int()
      .nullable()
      .describe('By how much the clock of the peer was ahead when it last said what it offers'),
    streams: amount(),
    sendCreditBytes: z.int().describe('What may still be sent before the peer gives more, all streams together'),
    unwrittenBytes: amount().describe('What the channel was given and has not written'),
  })
  .meta({ id: 'SessionStatus', description: 'The session of the moment' }) satisfies z.ZodType<SessionStatus>;

const sessionHistorySchema = z
  .strictObject({
    sessions: amount().describe('How many were established, the one of the moment included'),
    ends: z
      .record(z.string(), amount())
      .describe('How many ended with each code of docs/errors.md; `other` for codes that it does not have'),
    recent: z
      .array(z.strictObject({ at: moment(), ageMs: amount(), code: z.string(), message: z.string() }))
      .describe('The last ones that ended, the newest first'),
  })
  .meta({ id: 'SessionHistory', description: 'The sessions that a channel had' }) satisfies z.ZodType<SessionHistory>;

const channelTotalsSchema = z
  .strictObject({
    sentBytes: amount().describe('Payload of streams'),
    receivedBytes: amount(),
    sentFrames: amount(),
    receivedFrames: amount(),
    skippedBytes: amount().describe('Bytes that belonged to no session'),
    stallMs: amount().describe('For how long the channel took nothing although something waited'),
    streamsOpened: amount(),
    streamsFailed: amount().describe('Streams that did not end in order, refused ones included'),
  })
  .meta({ id: 'ChannelTotals', description: 'Since the channel was added' }) satisfies z.ZodType<ChannelTotals>;

export const channelStatusSchema = z
  .strictObject({
    label: z.string(),
    group: z.string().nullable().describe('The label of the group that it was made for'),
    address: z.string(),
    state: z.enum(CHANNEL_STATES),
    since: moment(),
    detail: z.string().nullable().describe('What it waits for, or why it failed'),
    nextTryMs: amount().nullable().describe('Until the next attempt; null unless backing off'),
    session: sessionStatusSchema.nullable().describe('Null while there is none'),
    history: sessionHistorySchema,
    totals: channelTotalsSchema,
  })
  .meta({ id: 'ChannelStatus', description: 'One channel' }) satisfies z.ZodType<ChannelStatus>;

export const forwardStatusSchema = z
  .strictObject({
    id: z.string(),
    channel: z.string(),
    direction: directionSchema,
    service: z.string(),
    endpoint: z.string().describe('The endpoint in force, with the port that was picked where 0 was asked for'),
    spec: z.string().describe('The text that it was made from, as -o and -i take it'),
    state: z.enum(['active', 'draining']),
    streams: amount().describe('Open now'),
    opened: amount().describe('Ever'),
  })
  .meta({ id: 'ForwardStatus', description: 'One forward' }) satisfies z.ZodType<ForwardStatus>;

export const serviceStatusSchema = z
  .strictObject({
    channel: z.string(),
    service: z.string(),
    offeredBy: z.enum(['here', 'peer']),
    forward: z.string().nullable().describe('The incoming forward that serves it, where one does'),
  })
  .meta({ id: 'ServiceStatus', description: 'One service' }) satisfies z.ZodType<ServiceStatus>;

export const streamStatusSchema = z
  .strictObject({
    channel: z.string(),
    id: amount().describe('Its number in the session; 0 while its opening is held back'),
    service: z.string(),
    direction: directionSchema,
    forward: z.string().nullable(),
    from: z.string().nullable().describe('Where the program that opened it came from, as its side says'),
    ageMs: amount(),
    sentBytes: amount(),
    receivedBytes: amount(),
    sendCreditBytes: z.int(),
    receiveCreditBytes: z.int(),
    waitsFor: z.enum(STREAM_WAITS).nullable().describe('Null where nothing waits'),
    sendRate: amount().describe('Bytes a second'),
    receiveRate: amount().describe('Bytes a second'),
  })
  .meta({ id: 'StreamStatus', description: 'One stream' }) satisfies z.ZodType<StreamWithRates>;

export const streamEndSchema = z
  .strictObject({
    state: z.enum(['open', 'ended', 'reset']),
    error: z.strictObject({ code: z.string(), message: z.string() }).nullable().describe('Why it was reset, else null'),
  })
  .meta({ id: 'StreamEnd', description: 'How a stream of one connection has ended' }) satisfies z.ZodType<StreamEnd>;

export const channelChangesSchema = z
  .strictObject({
    addedChannels: z.array(z.string()),
    removedChannels: z.array(z.string()),
    replacedChannels: z.array(z.string()),
    addedForwards: z.array(z.string()),
    removedForwards: z.array(z.string()),
    changedPolicies: z.array(z.string()),
  })
  .meta({ id: 'ChannelChanges', description: 'What a reload has changed' }) satisfies z.ZodType<ChannelChanges>;

// The schemas of what concerns the process.

export const logLevelSchema = z.strictObject({ level: z.enum(LOG_LEVELS, 'it is not error, warn, info or debug') });

const processStatusSchema = z
  .strictObject({
    name: z.string().nullable(),
    pid: amount(),
    version: z.string().describe('Program and version'),
    node: z.string().describe('The version of Node'),
    startedAt: moment(),
    uptimeMs: amount(),
    memory: z.strictObject({ residentBytes: amount(), heapBytes: amount(), externalBytes: amount() }),
    eventLoopDelay: z
      .strictObject({ meanMs: measure(), p99Ms: measure(), maxMs: measure() })
      .nullable()
      .describe('Since the last request for it; null for the first one in a while: it is measured from then on'),
    logLevel: z.enum(LOG_LEVELS),
  })
  .meta({ id: 'ProcessStatus', description: 'The process as a whole' }) satisfies z.ZodType<ProcessStatus>;

export const controlStatusSchema = z
  .strictObject({
    process: processStatusSchema,
    channels: z.array(channelStatusSchema),
    forwards: amount(),
    streams: amount(),
  })
  .meta({ id: 'Status', description: 'Everything at a glance' }) satisfies z.ZodType<ControlStatus>;

export const controlEventSchema = z
  .strictObject({
    seq: amount().describe('1 for the first event of the process, and one more for each'),
    time: moment(),
    level: z.enum(LOG_LEVELS),
    event: z.string().describe('What happened, as a stable name'),
    message: z.string().describe('One line for people'),
    fields: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]))
      .describe('The same facts for programs; `channel` is the label of the channel'),
  })
  .meta({ id: 'Event', description: 'One event' }) satisfies z.ZodType<ControlEvent>;

export const errorSchema = z
  .strictObject({
    error: z.strictObject({
      code: z.string().describe('A code of docs/errors.md'),
      message: z.string().describe('One line for people'),
      field: z.string().exactOptional().describe('The path of the field that is wrong, in the body or the query'),
    }),
  })
  .meta({ id: 'Error', description: 'What was wrong' }) satisfies z.ZodType<ErrorBody>;
