/** The process: its status, events and metrics; and what is done to it: ping, wait, log level, configuration, drain, stop. */
import { VproxyError } from '../../errors.js';
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
import { describeMetrics, METRICS_TYPE } from '../context/metrics.js';
import { RequestError } from './request-error.js';
import { jsonRoute, textRoute } from './route.js';
import { numberText, onlyChannel, secondsText, yesOrNoText } from './values.js';

/** How long `GET /v1/wait` waits at most by default, in seconds. */
const WAIT_S = 60;

/** How long streams may take to end by default, in seconds. */
const DRAIN_S = 30;

/** How long what cannot be handed over may take to end by default, in seconds. */
const UPGRADE_WAIT_S = 10;

/** The longest time that a request can ask for, in seconds: a day. */
const MAX_S = 86_400;

export const processRoutes = [
  jsonRoute({
    request: 'POST /v1/ping',
    summary: 'Measures the round trip through the peer of a channel',
    body: z.strictObject({ channel: onlyChannel() }),
    answer: pingAnswerSchema,
    errors: [404, 503],
    handle: async ({ proxy }, { body: { channel } }) => {
      const label = labelOf(proxy, channel);
      return { channel: label, roundTripMs: await proxy.ping(channel) };
    },
  }),
  jsonRoute({
    request: 'GET /v1/wait',
    summary: 'Answers as soon as a channel has a session, and its peer offers the service',
    query: z.strictObject({
      service: z.string().optional().describe('Default: the session is enough'),
      channel: z.string().optional().describe('The label of the channel; default: any'),
      timeout: secondsText(MAX_S).optional().describe(`Seconds; default ${WAIT_S}`),
    }),
    answer: channelStatusSchema,
    errors: [404, 503],
    handle: ({ proxy }, { query: { service = null, channel, timeout = WAIT_S }, signal }) =>
      proxy.waitFor({ service, ...(channel !== undefined && { label: channel }) }, timeout * 1000, signal),
  }),
  jsonRoute({
    request: 'PUT /v1/log-level',
    summary: 'Sets what the log shows',
    body: logLevelAnswerSchema,
    answer: logLevelAnswerSchema,
    handle: ({ process }, { body: { level } }) => {
      process.logLevel = level;
      return { level };
    },
  }),
  jsonRoute({
    request: 'GET /v1/config',
    summary: 'What is in force, in the form of a configuration file',
    answer: z.unknown(),
    handle: ({ process }): unknown => process.config,
  }),
  jsonRoute({
    request: 'POST /v1/reload',
    summary: 'Reads the configuration again, and puts the difference in force; a bad one changes nothing',
    answer: reloadAnswerSchema,
    errors: [403, 409, 422],
    handle: async ({ process }) => {
      try {
        return await process.reload();
      } catch (error) {
        // The request is right, the configuration is not.
        if (!(error instanceof VproxyError) || error.code !== 'bad-argument') throw error;
        throw new RequestError('bad-argument', error.message, { status: 422, cause: error });
      }
    },
  }),
  jsonRoute({
    request: 'POST /v1/upgrade',
    summary: 'Has a successor go on with all that the process has, and ends the process; what fails changes nothing',
    body: z.strictObject({
      program: z
        .string()
        .optional()
        .describe('The path of the program; default: the one that the process was started as'),
      waitS: z
        .number()
        .min(0)
        .max(MAX_S)
        .optional()
        .describe(`How long what cannot be handed over may take to end; default ${UPGRADE_WAIT_S}`),
      force: z
        .boolean()
        .optional()
        .describe('Whether streams that only a guest can end are reset then; default: the upgrade fails'),
    }),
    answer: upgradeAnswerSchema,
    errors: [409],
    handle: (
      { process },
      { body: { program = null, waitS = UPGRADE_WAIT_S, force = false }, answerAtOnce },
    ): Promise<UpgradeAnswer> => {
      if (process.upgrade === undefined) throw new VproxyError('upgrade-failed', 'this program cannot be upgraded');
      return process.upgrade({ program, waitMs: waitS * 1000, isForced: force }, answerAtOnce);
    },
  }),
  jsonRoute({
    request: 'POST /v1/drain',
    summary: 'Opens no more streams, and ends the process when those that are open have ended',
    body: z.strictObject({
      timeoutS: z.number().min(0).max(MAX_S).optional().describe(`The longest time that it takes; default ${DRAIN_S}`),
    }),
    status: 202,
    answer: null,
    handle: ({ process }, { body: { timeoutS = DRAIN_S }, afterAnswer }) =>
      afterAnswer(() => process.drain(timeoutS * 1000)),
  }),
  jsonRoute({
    request: 'POST /v1/stop',
    summary: 'Ends the process now, in order',
    status: 202,
    answer: null,
    handle: ({ process }, { afterAnswer }) => afterAnswer(() => process.stop()),
  }),
];

export const statusRoutes = [
  jsonRoute({
    request: 'GET /v1/status',
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

/** The status of this process. */
function describeProcess(control: ProcessControl, eventLoopDelay: LoopDelay | null): ProcessStatus {
  const { rss, heapUsed, external } = process.memoryUsage();
  const uptimeMs = Math.round(process.uptime() * 1000);
  return {
    name: control.name,
    pid: process.pid,
    version: control.version,
    node: process.versions.node,
    startedAt: new Date(Date.now() - uptimeMs).toISOString(),
    uptimeMs,
    memory: { residentBytes: rss, heapBytes: heapUsed, externalBytes: external },
    eventLoopDelay,
    logLevel: control.logLevel,
  };
}

// Events

const query = z.strictObject({
  replay: numberText(RING_EVENTS)
    .optional()
    .describe(`How many of the last events come first; default ${RING_EVENTS}, which is all that are kept`),
  follow: yesOrNoText().optional().describe('Whether to go on with those that happen; default true'),
});

export const eventRoutes = [
  textRoute({
    request: 'GET /v1/events',
    summary: 'The last events, and those that happen: a JSON object a line',
    query,
    contentType: 'application/x-ndjson',
    answer: controlEventSchema,
    send: ({ ring }, { query: { replay = RING_EVENTS, follow = true } }, response) =>
      followEvents(ring, response, { replay, isFollowing: follow }),
  }),
];

export const metricsRoutes = [
  textRoute({
    request: 'GET /metrics',
    summary: 'The figures of the process and its channels, in the text format of Prometheus',
    contentType: METRICS_TYPE,
    answer: null,
    send: (context, _input, response) => void response.end(describeMetrics(context)),
  }),
];
