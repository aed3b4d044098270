/** Routes that run commands on the peer, and start, list, read and end its jobs: for programs that speak only HTTP. */
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import { acceptedStream } from '../../peer.js';
import type { Proxy } from '../../proxy/proxy.js';
import type { OpenOptions } from '../../proxy/services/program-streams.js';
import {
  type CommandOutput,
  collectOutput,
  type ExecCall,
  openError,
  runCommand,
  streamOver,
} from '../../services/exec/exec-call.js';
import {
  DEFAULT_KEEP_BYTES,
  EXEC_KIND,
  EXEC_SERVICE,
  type ExecRequest,
  encodeStart,
  MAX_KEEP_BYTES,
  MAX_TAG_BYTES,
} from '../../services/exec/exec-messages.js';
import { listJobs, readJob, startJob, stopJob } from '../../services/exec/jobs/job-calls.js';
import { encodeJobRequest, type JobPiece } from '../../services/exec/jobs/job-messages.js';
import type { MuxStream } from '../../session/mux-stream.js';
import {
  commandAnswerSchema,
  commandLineSchema,
  execResultSchema,
  jobLineSchema,
  jobOfChannelSchema,
  startedJobSchema,
} from '../../status/command-schemas.js';
import type { CommandLine, JobLine, JobStatus } from '../../status/types.js';
import * as z from '../../status/zod.js';
import { MAX_TIMER_MS } from '../../util/clock.js';
import { LoopTurns, onAbort } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { labelOf } from '../context/context.js';
import { MAX_LONG_BODY_BYTES } from '../server/read-input.js';
import { isSent, withPlace, write } from './long-requests.js';
import { inField } from './request-error.js';
import { jsonRoute, LINES_TYPE, textRoute } from './route.js';
import { numberText, onlyChannel, secondsText, side, yesOrNoText } from './values.js';

/** The longest input of a command, in bytes. */
export const MAX_INPUT_BYTES = 1_048_576;

/** How much of each output of a command is kept, in bytes: by default, and at most. */
export const DEFAULT_OUTPUT_BYTES = 1_048_576;
export const MAX_OUTPUT_BYTES = 4_194_304;

const ENCODINGS = ['utf8', 'base64'] as const;

type Encoding = (typeof ENCODINGS)[number];

/** How long an answer waits for the end of the stream after that of its command, in milliseconds: with a fast peer, less than one. */
const STREAM_END_MS = 5000;

const MAX_S = MAX_TIMER_MS / 1000;

const seconds = () => z.number().min(0).max(MAX_S).optional();

const command = {
  channel: onlyChannel(),
  argv: z.array(z.string()).describe('The command and its arguments; empty: the login shell of the user'),
  cwd: z.string().optional().describe("The folder to run it in; default: the user's home"),
  env: z.record(z.string(), z.string()).optional().describe('Variables added to its environment'),
  user: z.string().optional().describe('The user to run it as; default: the user that runs the proxy'),
  timeoutS: seconds().describe('Ends the command (TERM, later KILL) after this time; default, and 0: never'),
  killAfterS: seconds().describe('From TERM to KILL; default 5'),
};

const encoding = (what: string) =>
  z
    .enum(ENCODINGS, 'must be utf8 or base64')
    .default('utf8')
    .describe(`Of ${what}; in utf8, other bytes become U+FFFD`);

const execBody = z.strictObject({
  ...command,
  input: z.string().optional().describe('Its standard input; default: none'),
  encoding: encoding('`input` and the outputs'),
  maxOutputBytes: z
    .int()
    .min(0)
    .max(MAX_OUTPUT_BYTES)
    .default(DEFAULT_OUTPUT_BYTES)
    .describe('How much of each output the answer contains; no limit with `stream`'),
  wait: z.boolean().optional().describe('Whether to wait for room while too many commands run, within `timeoutS`'),
});

const jobBody = z.strictObject({
  ...command,
  tag: z.string().optional().describe(`A name to recognize it by, at most ${MAX_TAG_BYTES} bytes`),
  keepBytes: z
    .int()
    .min(0)
    .max(MAX_KEEP_BYTES)
    .optional()
    .describe(`How much of its output is kept; default ${DEFAULT_KEEP_BYTES}`),
  unique: z.boolean().optional().describe('Whether to refuse it if a job with its tag runs; default false'),
  terminal: z
    .strictObject({ columns: side().default(80), rows: side().default(24), term: z.string().default('xterm-256color') })
    .optional()
    .describe('A terminal for it, which `GET /v1/terminal` opens; default: none'),
  input: z
    .boolean()
    .optional()
    .describe('Whether it takes input from callers that attach with `input`; default: with `terminal`'),
});

const jobParams = z.strictObject({ id: z.string() });

const position = () => numberText(Number.MAX_SAFE_INTEGER).optional();

export const commandRoutes = [
  textRoute('POST /v1/exec', 'exec', {
    summary:
      'Runs a command; answers when it has ended or, with `stream`, with its outputs as they come, as lines of JSON',
    query: z.strictObject({ stream: yesOrNoText().optional().describe('Default false') }),
    body: execBody,
    maxBodyBytes: MAX_LONG_BODY_BYTES,
    contentType: 'application/json',
    answer: commandAnswerSchema,
    lines: commandLineSchema,
    errors: [403, 404, 503],
    send: ({ proxy }, { query, body, signal }, response) =>
      withPlace(proxy, async () => {
        const { channel, input, encoding, maxOutputBytes } = body;
        const bytes = input === undefined ? null : decodeInput(input, encoding);
        const request = { ...requestOf(body), hasInput: bytes !== null };
        encodeStart(request); // throws before a stream is opened
        const stream = await openExec(proxy, { channel, signal });
        const call = runCommand(stream, request);
        if (bytes !== null) call.stdin.end(bytes);
        onAbort(signal, () => call.cancel());
        if (query.stream === true) await sendLines(response, () => sendOutputs(call, encoding, response));
        else {
          const output = await collectOutput(call, { maxBytes: maxOutputBytes });
          await streamOver(call, STREAM_END_MS);
          await sendWhole(response, { channel: labelOf(proxy, channel), ...output }, encoding);
        }
        await isSent(response);
      }),
  }),
  jsonRoute('POST /v1/jobs', 'startJob', {
    summary: 'Starts a command that outlives its caller; answers when it runs',
    body: jobBody,
    maxBodyBytes: MAX_LONG_BODY_BYTES,
    status: 201,
    answer: startedJobSchema,
    errors: [403, 404, 409, 422, 503],
    handle: ({ proxy }, { body, signal }) =>
      withPlace(proxy, async () => {
        const { channel, tag, keepBytes, unique, terminal, input } = body;
        const open = () => openExec(proxy, { channel, signal });
        const job = await startJob(open, {
          ...requestOf(body),
          ...(terminal !== undefined && { terminal }),
          ...(input !== undefined && { hasInput: input }),
          detach: { tag, keepBytes, unique },
        });
        return { channel: labelOf(proxy, channel), ...job };
      }),
  }),
  jsonRoute('GET /v1/jobs', 'listJobs', {
    summary: 'The jobs of a channel: those that run, and for an hour those that have ended',
    query: z.strictObject({ channel: onlyChannel() }),
    answer: z.array(jobOfChannelSchema),
    errors: [403, 404, 503],
    handle: ({ proxy }, { query: { channel }, signal }) =>
      withPlace(proxy, async () => {
        const jobs = await listJobs(await openExec(proxy, { channel, signal }));
        return jobs.map((job) => ({ channel: labelOf(proxy, channel), ...job }));
      }),
  }),
  textRoute('GET /v1/jobs/{id}/output', 'attachJob', {
    summary: 'The output of a job, as lines of JSON; the last line says how it ended',
    params: jobParams,
    query: z.strictObject({
      channel: onlyChannel(),
      from: position().describe('The number of the first byte; default: the first that is kept'),
      tail: position().describe('Bytes before the end, in place of `from`'),
      encoding: encoding('the output'),
      follow: yesOrNoText()
        .optional()
        .describe('Whether to continue with what the job writes from now on; default true'),
    }),
    contentType: LINES_TYPE,
    answer: jobLineSchema,
    errors: [403, 404, 503],
    send: ({ proxy }, { params: { id }, query, signal }, response) =>
      withPlace(proxy, async () => {
        const { channel, from, tail, encoding, follow = true } = query;
        encodeJobRequest(EXEC_KIND.ATTACH, { id, from, tail }); // throws before a stream is opened
        const { bytes, endedAt, keptFrom } = await findJob(proxy, { channel, signal }, id);
        const open = () => openExec(proxy, { channel, signal, isReopened: true });
        await sendLines(response, async () => {
          const until = follow || endedAt !== null ? Number.POSITIVE_INFINITY : bytes;
          if (Math.max(from ?? bytes - (tail ?? bytes), tail === undefined ? 0 : keptFrom) >= until) return;
          for await (const line of linesOf(readJob(open, id, { from, tail }), encoding, until))
            await write(response, lineOf(line));
        });
        await isSent(response);
      }),
  }),
  jsonRoute('DELETE /v1/jobs/{id}', 'stopJob', {
    summary: 'Ends a job; answers when it has ended',
    params: jobParams,
    query: z.strictObject({
      channel: onlyChannel(),
      killAfter: secondsText(MAX_S).optional().describe('Seconds from TERM to KILL; default 5'),
    }),
    answer: execResultSchema,
    errors: [403, 404, 503],
    handle: ({ proxy }, { params: { id }, query: { channel, killAfter }, signal }) =>
      withPlace(proxy, () => stopJob(() => openExec(proxy, { channel, signal }), id, toMs(killAfter))),
  }),
];

// Requests

interface Caller extends OpenOptions {
  readonly channel: string | undefined;
  readonly signal: AbortSignal;
}

/** Opens a stream to the service, which is reset if the client disconnects. Rejects as {@link openError} says. */
export async function openExec(proxy: Proxy, { channel, ...options }: Caller): Promise<MuxStream> {
  try {
    const stream = await proxy.openStream(EXEC_SERVICE, channel, options);
    onAbort(options.signal, () => stream.destroy());
    return await acceptedStream(stream);
  } catch (error) {
    throw error instanceof VproxyError && error.code === 'bad-argument' ? error : openError(error);
  }
}

type Command = z.output<z.ZodObject<typeof command>> & { readonly wait?: boolean | undefined };

function requestOf({ argv, cwd, env, user, timeoutS, killAfterS, wait }: Command): ExecRequest {
  return {
    argv,
    ...(cwd !== undefined && { cwd }),
    ...(env !== undefined && { env }),
    ...(user !== undefined && { user }),
    ...(timeoutS !== undefined && { timeoutMs: toMs(timeoutS) }),
    ...(killAfterS !== undefined && { killAfterMs: toMs(killAfterS) }),
    ...(wait !== undefined && { wait }),
  };
}

/** A short time must not become none, which means for ever. */
const toMs = <S extends number | undefined>(seconds: S): S => (seconds && Math.ceil(seconds * 1000)) as S;

function decodeInput(input: string, encoding: Encoding): Buffer {
  const bytes = Buffer.from(input, encoding);
  return inField('input', () => {
    if (bytes.length > MAX_INPUT_BYTES) throw badArgument(`input: ${bytes.length} bytes (max ${MAX_INPUT_BYTES})`);
    // Node's decoder takes anything.
    if (bytes.toString(encoding) !== input)
      throw badArgument(`input: not ${encoding}${encoding === 'base64' ? ' in one line, padded' : ''}`);
    return bytes;
  });
}

/** Rejects with `not-found`. */
export async function findJob(proxy: Proxy, caller: Caller, id: string): Promise<JobStatus> {
  const jobs = await listJobs(await openExec(proxy, caller));
  const found = jobs.find((job) => job.id === id);
  if (found === undefined) throw new VproxyError('not-found', `no job "${escapeText(id, 64)}"`);
  return found;
}

// Answers

/** Sends lines; a failure is the last one. */
async function sendLines(response: ServerResponse, work: () => Promise<void>): Promise<void> {
  response.setHeader('Content-Type', LINES_TYPE).flushHeaders();
  try {
    await work();
  } catch (error) {
    const { code, message } = toVproxyError(error);
    response.write(lineOf({ error: { code, message } }));
  }
  response.end();
}

/** How much of an output is encoded at once, in bytes: it takes a fraction of a millisecond. */
const PIECE_BYTES = 65_536;

/** Sends an answer in pieces, at the client's pace: its outputs may be long. */
async function sendWhole(
  response: ServerResponse,
  { stdout, stderr, ...end }: CommandOutput & { readonly channel: string },
  encoding: Encoding,
): Promise<void> {
  response.setHeader('Content-Type', 'application/json');
  await write(response, JSON.stringify(end).slice(0, -1));
  for (const [name, bytes] of Object.entries({ stdout, stderr })) {
    const decoder = new StringDecoder(encoding);
    await write(response, `,"${name}":"`);
    for (let at = 0; at < bytes.length && !response.destroyed; at += PIECE_BYTES) {
      const turn = turns.nextTurn();
      if (turn !== null) await turn;
      await write(response, inside(decoder.write(bytes.subarray(at, at + PIECE_BYTES))));
    }
    await write(response, `${inside(decoder.end())}"`);
  }
  response.end('}\n');
}

const turns = new LoopTurns();

/** A text as inside of a string of JSON. */
const inside = (text: string): string => JSON.stringify(text).slice(1, -1);

const lineOf = (line: CommandLine | JobLine): string => `${JSON.stringify(line)}\n`;

/** Sends the outputs at the client's pace, and then the end. */
async function sendOutputs(call: ExecCall, encoding: Encoding, response: ServerResponse): Promise<void> {
  const outputs = [call.stdout, call.stderr];
  const send = (output: Readable, name: 'stdout' | 'stderr') => {
    // A decoder of base64 would hold bytes back.
    if (encoding === 'utf8') output.setEncoding(encoding);
    output.on('data', (piece: Buffer | string) => {
      if (!response.write(lineOf({ [name]: piece.toString(encoding) }))) for (const each of outputs) each.pause();
    });
  };
  send(call.stdout, 'stdout');
  send(call.stderr, 'stderr');
  response.on('drain', () => {
    for (const output of outputs) output.resume();
  });
  const end = await call.result;
  await streamOver(call, STREAM_END_MS);
  response.write(lineOf({ end }));
}

/** The lines about a job, to its end or to the byte `until`. */
async function* linesOf(
  pieces: AsyncIterable<JobPiece>,
  encoding: Encoding,
  until: number,
): AsyncGenerator<JobLine, void> {
  let rest = Buffer.alloc(0);
  let next = 0;
  for await (const piece of pieces) {
    if (piece.kind !== 'output' && rest.length > 0) {
      yield { at: next - rest.length, next, output: rest.toString(encoding) };
      rest = Buffer.alloc(0);
    }
    if (piece.kind === 'end') {
      yield { end: piece.result };
      return;
    }
    if (piece.kind === 'gap') {
      const { at, droppedBytes } = piece;
      next = at + droppedBytes;
      yield { at, next, droppedBytes };
    } else {
      const bytes = Buffer.concat([rest, piece.bytes]);
      next = piece.at + piece.bytes.length;
      const begun = encoding === 'utf8' && next < until ? begunBytes(bytes) : 0;
      rest = bytes.subarray(bytes.length - begun);
      const output = bytes.toString(encoding, 0, bytes.length - begun);
      if (output !== '') yield { at: next - bytes.length, next: next - begun, output };
    }
    if (next >= until) return;
  }
}

/** How many bytes at the end are the beginning of a character in UTF-8. */
function begunBytes(bytes: Buffer): number {
  for (let count = 1; count <= Math.min(3, bytes.length); count += 1) {
    const byte = bytes[bytes.length - count] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return count < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? count : 0;
  }
  return 0;
}
