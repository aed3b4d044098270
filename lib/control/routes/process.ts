/** Routes of the process: status, events, metrics, ping, wait, log level, configuration, upgrade, drain, stop. */
import { VproxyError } from '../../errors.js';
import { describeHistory } from '../../services/machine-history.js';
import {
  channelStatusSchema,
  controlEventSchema,
  controlStatusSchema,
  logLevelAnswerSchema,
  pingAnswerSchema,
  reloadAnswerSchema,
  upgradeAnswerSchema,
} from '../../status/schemas.js';
import type { LoopDelay, ProcessStatus, UpgradeAnswer } from '../../status/types.js';
import * as z from '../../status/zod.js';
import { labelOf, type ProcessControl } from '../context/context.js';
import { followEvents, RING_EVENTS } from '../context/event-ring.js';
import { describeMetrics } from '../context/metrics.js';
import { METRICS_TYPE } from '../context/metrics-text.js';
import { RequestError } from './request-error.js';
import { jsonRoute, LINES_TYPE, textRoute } from './route.js';
import { numberText, onlyChannel, secondsText, yesOrNoText } from './values.js';

/** The default timeout of `GET /v1/wait`, in seconds. */
const WAIT_S = 60;

/** The default timeout of a drain, in seconds. */
const DRAIN_S = 30;

/** The default time for what cannot be handed over to end, in seconds. */
const UPGRADE_WAIT_S = 10;

/** The longest timeout in a request, in seconds: a day. */
const MAX_S = 86_400;

export const sessionRoutes = [
  jsonRoute('POST /v1/ping', 'ping', {
    summary: 'Measures the round trip to the peer of a channel',
    body: z.strictObject({ channel: onlyChannel() }),
    answer: pingAnswerSchema,
    errors: [404, 503],
    handle: async ({ proxy }, { body: { channel } }) => {
      const label = labelOf(proxy, channel);
      return { channel: label, roundTripMs: await proxy.ping(channel) };
    },
  }),
  jsonRoute('GET /v1/wait', 'waitFor', {
    summary: 'Waits until a channel has a session, and its peer offers the service',
    query: z.strictObject({
      service: z.string().optional().describe('Default: a session is enough'),
      channel: z.string().optional().describe('The label of the channel; default: any'),
      timeout: secondsText(MAX_S).optional().describe(`Seconds; default ${WAIT_S}`),
    }),
    answer: channelStatusSchema,
    errors: [404, 503],
    handle: ({ proxy }, { query: { service = null, channel, timeout = WAIT_S }, signal }) =>
      proxy.waitFor({ service, ...(channel !== undefined && { label: channel }) }, timeout * 1000, signal),
  }),
];

export const processRoutes = [
  jsonRoute('PUT /v1/log-level', 'setLogLevel', {
    summary: 'Sets the level of the log',
    body: logLevelAnswerSchema,
    answer: logLevelAnswerSchema,
    handle: ({ process }, { body: { level } }) => {
      process.logLevel = level;
      return { level };
    },
  }),
  jsonRoute('GET /v1/config', 'getConfig', {
    summary: 'The configuration in effect, in the form of a configuration file',
    answer: z.unknown(),
    handle: ({ process }): unknown => process.config,
  }),
  jsonRoute('POST /v1/reload', 'reload', {
    summary: 'Reloads the configuration and applies the changes; an invalid one changes nothing',
    answer: reloadAnswerSchema,
    errors: [403, 409, 422],
    handle: async ({ process }) => {
      try {
        return await process.reload();
      } catch (error) {
        // The configuration is wrong, not the request.
        if (!(error instanceof VproxyError) || error.code !== 'bad-argument') throw error;
        throw new RequestError('bad-argument', error.message, { status: 422, cause: error });
      }
    },
  }),
  jsonRoute('POST /v1/upgrade', 'upgrade', {
    summary: 'Hands everything over to a successor and ends the process; a failure changes nothing',
    body: z.strictObject({
      program: z
        .string()
        .optional()
        .describe('The path of the program; default: the program that the process was started as'),
      waitS: z
        .number()
        .min(0)
        .max(MAX_S)
        .optional()
        .describe(`How long to wait for the end of what cannot be handed over; default ${UPGRADE_WAIT_S}`),
      force: z
        .boolean()
        .optional()
        .describe('Whether to reset streams that only a guest can end after that; default: the upgrade fails'),
    }),
    answer: upgradeAnswerSchema,
    errors: [409],
    handle: (
      { process },
      { body: { program = null, waitS = UPGRADE_WAIT_S, force = false }, answerAtOnce },
    ): Promise<UpgradeAnswer> => {
      if (process.upgrade === undefined)
        throw new VproxyError('upgrade-failed', 'this program does not support upgrades');
      return process.upgrade({ program, waitMs: waitS * 1000, isForced: force }, answerAtOnce);
    },
  }),
  jsonRoute('POST /v1/drain', 'drain', {
    summary: 'Opens no more streams, and ends the process when all open streams have ended',
    body: z.strictObject({
      timeoutS: z.number().min(0).max(MAX_S).optional().describe(`The longest time to wait; default ${DRAIN_S}`),
    }),
    status: 202,
    answer: null,
    handle: ({ process }, { body: { timeoutS = DRAIN_S }, afterAnswer }) =>
      afterAnswer(() => process.drain(timeoutS * 1000)),
  }),
  jsonRoute('POST /v1/stop', 'stop', {
    summary: 'Shuts the process down now',
    status: 202,
    answer: null,
    handle: ({ process }, { afterAnswer }) => afterAnswer(() => process.stop()),
  }),
];

export const statusRoutes = [
  jsonRoute('GET /v1/status', 'getStatus', {
    summary: 'The process and its channels',
    answer: controlStatusSchema,
    handle: ({ proxy, process, eventLoopDelay }) => {
      const channels = proxy.listChannels();
      return {
        process: describeProcess(process, eventLoopDelay.take()),
        channels,
        forwards: proxy.listForwards().length,
        streams: channels.reduce((sum, { session }) => sum + (session?.streams ?? 0), 0),
      };
    },
  }),
];

function describeProcess(control: ProcessControl, eventLoopDelay: LoopDelay | null): ProcessStatus {
  const { rss, heapUsed, external } = process.memoryUsage();
  return {
    name: control.name,
    pid: process.pid,
    version: control.version,
    node: process.versions.node,
    startedAt: new Date(performance.timeOrigin).toISOString(),
    uptimeMs: Math.round(process.uptime() * 1000),
    memory: { residentBytes: rss, heapBytes: heapUsed, externalBytes: external },
    eventLoopDelay,
    logLevel: control.logLevel,
    machine: describeHistory(),
  };
}

// Events

const query = z.strictObject({
  replay: numberText(RING_EVENTS)
    .optional()
    .describe(`How many past events to begin with; default ${RING_EVENTS}, all that are kept`),
  follow: yesOrNoText().optional().describe('Whether to continue with new events; default true'),
});

export const eventRoutes = [
  textRoute('GET /v1/events', 'listEvents', {
    summary: 'Past and new events, one JSON object a line',
    query,
    contentType: LINES_TYPE,
    answer: controlEventSchema,
    send: ({ ring }, { query: { replay = RING_EVENTS, follow = true } }, response) =>
      followEvents(ring, response, { replay, isFollowing: follow }),
  }),
];

export const metricsRoutes = [
  textRoute('GET /metrics', 'getMetrics', {
    summary: 'Metrics of the process and its channels, in the text format of Prometheus',
    contentType: METRICS_TYPE,
    answer: null,
    send: async (context, _input, response) => void response.end(await describeMetrics(context)),
  }),
];
