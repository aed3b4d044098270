/** The schemas of commands and jobs in the machines of peers (docs/exec.md). The types in `types.ts` derive from them. */
import * as z from './zod.js';

const amount = () => z.int().min(0);
const text = (what: string) => z.string().describe(what);
const textOrNull = (what: string) => z.string().nullable().describe(what);
const moment = () => z.iso.datetime();
const named = <S extends z.core.$ZodLooseShape>(id: string, description: string, shape: S) =>
  z.strictObject(shape).meta({ id, description });

const failureSchema = z.strictObject({ code: text('A code of docs/errors.md'), message: text('One line') });

const usageSchema = z
  .strictObject({
    cpuMs: z.number().min(0).describe('Time of processors, in milliseconds'),
    peakBytes: amount()
      .nullable()
      .describe('The most memory that one of its processes had resident, in bytes; null if vproxy there had more'),
  })
  .nullable();

export const execResultSchema = named('ExecResult', 'How a command ended: by itself, by a signal, or before it began', {
  status: amount().max(255).nullable().describe('Its exit status; null if it did not exit by itself'),
  signal: textOrNull('The signal that ended it, `SIGKILL`, or `SIG35` for one without a name; else null'),
  timedOut: z.boolean().describe('Whether it timed out'),
  durationMs: z.number().min(0).describe('From the start to the end, in milliseconds'),
  usage: usageSchema.describe('What it used, with the processes that it waited for; null if the peer does not tell'),
  error: failureSchema
    .nullable()
    .describe('Why it was not run: `command-not-found`, `command-denied` or `command-failed`; else null'),
});

const pid = amount().nullable().describe('Its process id there; null if it was not run');

export const commandAnswerSchema = execResultSchema
  .extend({
    channel: text('The label of the channel'),
    pid,
    stdout: text('Its standard output, in the `encoding` of the request'),
    stderr: text('Its standard error, likewise'),
    stdoutTruncated: z.boolean().describe('Whether `stdout` is incomplete'),
    stderrTruncated: z.boolean().describe('Whether `stderr` is incomplete'),
  })
  .meta({ id: 'CommandAnswer', description: 'The result of a command and its outputs' });

export const commandLineSchema = named('CommandLine', 'A line about a running command: one of these fields', {
  stdout: z.string().optional().describe('Standard output, in the `encoding` of the request'),
  stderr: z.string().optional().describe('Standard error, likewise'),
  end: execResultSchema.extend({ pid }).optional().describe('The last line: how it ended'),
  error: failureSchema.optional().describe('The last line, if its end is not known: why'),
});

export const jobStatusSchema = named('JobStatus', 'A command that outlives its caller, as the runner lists it', {
  id: text('8 hexadecimal digits, unique in the channel'),
  tag: textOrNull('The name that it was given'),
  argv: z.array(z.string()).describe('The first 8 words; long ones are shortened'),
  user: textOrNull('The user that it runs as'),
  pid: amount().describe('Its process id there'),
  startedAt: moment().describe('ISO 8601, by the clock of the peer'),
  endedAt: moment().nullable().describe('Null while it runs'),
  status: amount().max(255).nullable().describe('Its exit status; null while it runs, and if it did not exit'),
  signal: textOrNull('The signal that ended it; otherwise null'),
  timedOut: z.boolean().describe('Whether its timeout ended it'),
  bytes: amount().describe('Bytes of output written so far'),
  keptFrom: amount().describe('The number of the first byte that is kept'),
  terminal: z.boolean().describe('Whether it has a terminal'),
  takesInput: z.boolean().describe('Whether it runs, and has an input that has not ended'),
  hasWriter: z.boolean().describe('Whether a caller writes to its input'),
  usage: usageSchema.describe('What its processes have used; null if the peer does not tell'),
});

export const jobOfChannelSchema = jobStatusSchema
  .extend({ channel: text('The label of its channel') })
  .meta({ id: 'JobOfChannel', description: 'A job, with its channel' });

export const startedJobSchema = z.strictObject({
  channel: text('The label of the channel'),
  id: text('8 hexadecimal digits, unique in the channel'),
  pid: amount().describe('Its process id there'),
});

export const jobLineSchema = named(
  'JobLine',
  'A line about the output of a job: `at`, `next` and another field, or the last line',
  {
    at: amount().optional().describe('The number of the first byte'),
    next: amount().optional().describe('The number of the byte after the last one: continue there'),
    output: z
      .string()
      .optional()
      .describe('What the job wrote, to either of its outputs, in the `encoding` of the request'),
    droppedBytes: amount().optional().describe('How many bytes from there on are no longer kept'),
    end: execResultSchema.optional().describe('The last line: how it ended'),
    error: failureSchema.optional().describe('The last line, if its end is not known: why'),
  },
);

/** The types of `types.ts`, by name. */
export const COMMAND_TYPES = {
  ExecResult: execResultSchema,
  CommandAnswer: commandAnswerSchema,
  CommandLine: commandLineSchema,
  JobStatus: jobStatusSchema,
  JobOfChannel: jobOfChannelSchema,
  JobLine: jobLineSchema,
};

export const fileEntrySchema = named('FileEntry', 'An entry of a folder of a peer', {
  name: text('Its name in the folder; bytes that are not UTF-8 become U+FFFD'),
  kind: z.enum(['file', 'folder', 'link', 'other']).describe('`other`: a device, a FIFO or a socket'),
  size: amount().describe('In bytes'),
  mode: amount().max(0o7777).describe('Its permissions: 420 is 644 in octal'),
  uid: amount().describe('The number of its owner'),
  gid: amount().describe('The number of its group'),
  modifiedAt: moment().describe('ISO 8601, by the clock of the peer'),
});
