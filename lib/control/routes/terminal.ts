/** The route of a terminal of the peer over a WebSocket: for pages, and for programs that serve them. */
import { Readable, type Writable } from 'node:stream';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import { runCommand } from '../../services/exec/exec-call.js';
import {
  EXEC_KIND,
  type ExecRequest,
  encodeStart,
  MAX_SIDE,
  type TerminalSize,
} from '../../services/exec/exec-messages.js';
import { readJob } from '../../services/exec/jobs/job-calls.js';
import { encodeJobRequest } from '../../services/exec/jobs/job-messages.js';
import { JobWriter } from '../../services/exec/jobs/job-writer.js';
import type { ExecResult } from '../../status/types.js';
import * as z from '../../status/zod.js';
import { deferred } from '../../util/concurrency.js';
import { orElse } from '../../util/or-else.js';
import type { ControlContext } from '../context/context.js';
import { parseInput } from '../server/read-input.js';
import { findJob, openExec } from './commands.js';
import { webSockets } from './connect.js';
import { RequestError } from './request-error.js';
import { upgradeRoute, WEB_SOCKET } from './route.js';
import { numberText, onlyChannel, side, yesOrNoText } from './values.js';

/** With this subprotocol, a text from the client is not input, but the size of its terminal, as JSON. */
export const TERMINAL_PROTOCOL = 'vproxy.terminal';

const sizeSchema = z.strictObject({ columns: side(), rows: side() });

/** A longer text is no size. */
const MAX_SIZE_LENGTH = 200;

/** How much of the last output of a job a terminal begins with, in bytes. */
const TAIL_BYTES = 16_384;

/** How long what a client sent before it left may take to reach its job, in milliseconds. */
const LEAVE_MS = 5000;

const terminalQuery = z.strictObject({
  channel: onlyChannel(),
  argv: z.string().default('[]').describe('The command as a list in JSON; empty: the login shell of the user'),
  user: z.string().optional().describe('The user to run it as; default: the user that runs the proxy'),
  cwd: z.string().optional().describe("The folder to run it in; default: the user's home"),
  term: z.string().default('xterm-256color').describe('The value of TERM'),
  columns: numberText(MAX_SIDE).default(80),
  rows: numberText(MAX_SIDE).default(24),
  job: z
    .string()
    .optional()
    .describe('A job with a terminal, to write to in place of a new command; it outlives the WebSocket'),
  steal: yesOrNoText()
    .optional()
    .describe('Whether to take the input of the job over from another caller; default false'),
  from: numberText(Number.MAX_SAFE_INTEGER)
    .optional()
    .describe(`The number of the first byte of the job's output; default: ${TAIL_BYTES} bytes before its end`),
});

/** A terminal of the peer. */
interface Terminal {
  readonly input: Writable;
  readonly output: Readable;
  resize(size: TerminalSize): void;
  /** The client has disconnected, or is wrong. */
  leave(): void;
  /** How its command ended. */
  readonly ended: Promise<ExecResult>;
}

export const terminalRoutes = [
  upgradeRoute('GET /v1/terminal', 'openTerminal', {
    summary: 'A command in a terminal, over a WebSocket: messages of the client are its input, others its output',
    query: terminalQuery,
    protocols: [WEB_SOCKET],
    errors: [403, 404, 426, 503],
    async upgrade(context, { query, request, signal }, socket) {
      const { acceptWebSocket, carry, closeWith, failWith, requireSameOrigin } = await webSockets();
      requireSameOrigin(request);
      const begin = await (query.job === undefined ? prepareCommand : prepareJob)(context, query, signal);
      const webSocket = await acceptWebSocket(request, socket, TERMINAL_PROTOCOL, context);
      const isSized = webSocket.socket.protocol === TERMINAL_PROTOCOL;
      const terminal = begin(isSized);
      // Not when the connection closes: messages that came before wait for their turns.
      webSocket.socket.once('close', () => terminal.leave());
      const resize = (text: string): void => {
        try {
          terminal.resize(parseInput(sizeSchema, JSON.parse(text.slice(0, MAX_SIZE_LENGTH))) as TerminalSize);
        } catch (error) {
          failWith(webSocket, badArgument(`the size of the terminal: ${toVproxyError(error).message}`));
          terminal.leave();
        }
      };
      carry(webSocket, terminal.input, terminal.output, isSized ? resize : undefined);
      await terminal.ended.then(
        ({ error, signal, status }) =>
          error === null
            ? closeWith(webSocket, signal ?? `exit ${status}`)
            : failWith(webSocket, new VproxyError(error.code, error.message)),
        (error: unknown) => failWith(webSocket, error),
      );
    },
  }),
];

type Query = z.output<typeof terminalQuery>;

/** A new command, which ends with the WebSocket. */
async function prepareCommand(
  { proxy }: ControlContext,
  { channel, argv, user, cwd, columns, rows, term }: Query,
  signal: AbortSignal,
): Promise<(isTold: boolean) => Terminal> {
  const wanted: ExecRequest = {
    ...{ argv: argvOf(argv), terminal: { columns, rows, term } },
    ...(user !== undefined && { user }),
    ...(cwd !== undefined && { cwd }),
  };
  encodeStart(wanted); // throws before a stream is opened
  const stream = await openExec(proxy, { channel, signal });
  return () => {
    const call = runCommand(stream, wanted);
    const { result: ended, stdin: input, stdout: output } = call;
    return { input, output, ended, resize: (size) => call.resize(size), leave: () => call.cancel() };
  };
}

/** A job, which does not. An upgrade cuts it: its client comes back, from the next byte on. */
async function prepareJob(
  { clock, proxy }: ControlContext,
  { channel, job: id = '', steal, from, columns, rows }: Query,
  signal: AbortSignal,
): Promise<(isTold: boolean) => Terminal> {
  const place = from === undefined ? { tail: TAIL_BYTES } : { from };
  encodeJobRequest(EXEC_KIND.ATTACH, { id, ...place }); // throws before a stream is opened
  const { bytes } = await findJob(proxy, { channel, signal }, id);
  const gone = new AbortController();
  const open = () => openExec(proxy, { channel, isReopened: true, signal: gone.signal });
  return (isTold) => {
    const writer = new JobWriter({ steal, size: { columns, rows } }, (self) =>
      readJob(open, id, place, undefined, self),
    );
    const ended = deferred<ExecResult>();
    async function* read(): AsyncGenerator<Buffer | string, void> {
      let next = -1;
      try {
        for await (const piece of writer.output) {
          if (piece.kind === 'end') ended.resolve(piece.result);
          if (piece.kind !== 'output') continue;
          // At first, and where bytes were dropped.
          if (piece.at !== next && isTold) yield JSON.stringify({ at: piece.at, ...(next === -1 && { end: bytes }) });
          next = piece.at + piece.bytes.length;
          yield piece.bytes;
        }
        // No effect after the end.
        ended.reject(new VproxyError('cancelled', 'the client has left the job'));
      } finally {
        // What the job will not read must not hold up the client's answer to the close.
        writer.stdin.close();
      }
    }
    const output = Readable.from(read()).on('error', (error) => ended.reject(error));
    return {
      input: writer.stdin,
      output,
      ended: ended.promise,
      resize: (size) => writer.resize(size),
      leave: () => {
        writer.leave();
        clock.schedule(LEAVE_MS, () => gone.abort());
      },
    };
  };
}

function argvOf(text: string): string[] {
  const argv = orElse(null, () => JSON.parse(text) as unknown);
  if (Array.isArray(argv) && argv.every((word) => typeof word === 'string')) return argv;
  throw new RequestError('bad-argument', 'argv: must be a list of strings in JSON', { field: 'argv' });
}
