/** The schemas of what concerns the process. */
import * as z from 'zod';
import type { LogLevel } from '../../util/log-event.js';
import type { ErrorBody } from '../error-answer.js';
import type { ControlEvent } from '../event-ring.js';
import type { ProcessStatus } from '../process-status.js';
import type { ControlStatus } from '../routes/status.js';
import { channelStatusSchema } from './status.js';
import { amount, measure, moment } from './values.js';

const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const satisfies readonly LogLevel[];

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
