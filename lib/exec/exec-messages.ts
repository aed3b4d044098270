/** What is said in a stream of the service `exec`, as records (docs/exec.md). */

import { isObject } from '../codec/json.js';
import { VproxyError } from '../errors.js';
import { MAX_SIGNS } from '../util/bytes/json-scanner.js';
import { decodeJsonRecord, encodeRecord } from '../util/bytes/records.js';
import { MAX_TIMER_MS } from '../util/clock.js';

/** The name of the service. */
export const EXEC_SERVICE = 'exec';

/** The kinds of records. */
export const EXEC_KIND = {
  /** Caller: what to run, an {@link ExecRequest} as JSON. The first record. */
  START: 1,
  /** Caller: bytes for standard input, within the credit. */
  STDIN: 2,
  /** Caller: the terminal has another size; columns and rows, u16 each. */
  RESIZE: 3,
  /** Caller: a signal for the process group of the command, by its name, `SIGINT`. */
  SIGNAL: 4,
  /** Both: no more bytes of standard input, output or error, or nobody who reads them: a u8, 0, 1 or 2. */
  EOF: 5,
  /** Runner: the command runs, `{"pid": N}`. */
  STARTED: 16,
  /** Runner: bytes of standard output; of everything with a terminal. */
  STDOUT: 17,
  /** Runner: bytes of standard error. */
  STDERR: 18,
  /** Runner: the number of bytes of standard input that may be sent in addition, u32. */
  CREDIT: 19,
  /** Runner: how it ended, an {@link ExecResult} as JSON. The last record. */
  EXIT: 20,
} as const;

/** Bytes of standard input that may be sent before any CREDIT. */
export const STDIN_CREDIT_BYTES = 262_144;

/** The longest START or EXIT, in bytes. */
export const MAX_REQUEST_BYTES = 1_048_576;

/** The longest payload of the records of a caller, in bytes, but for STDIN, which its credit bounds. */
export const CALLER_RECORD_BYTES: ReadonlyMap<number, number> = new Map([
  [EXEC_KIND.START, MAX_REQUEST_BYTES],
  [EXEC_KIND.RESIZE, 4],
  [EXEC_KIND.SIGNAL, 15],
  [EXEC_KIND.EOF, 1],
]);

/** The size of a terminal, in characters: 1 to 65,535. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** The terminal that a command is to have. */
export interface TerminalRequest extends TerminalSize {
  /** `TERM`. */
  readonly term: string;
}

/** A command that is to be run. */
export interface ExecRequest {
  /** The command and its arguments; empty: the login shell of the user. */
  readonly argv: readonly string[];
  /** The folder to run it in. Default: the user's home. */
  readonly cwd?: string;
  /** Added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The name of the user to run it as. Default: who runs the proxy. */
  readonly user?: string;
  /** Default: none; its input and outputs are pipes. */
  readonly terminal?: TerminalRequest;
  /** False: it is given no standard input, and no STDIN comes. Default true. */
  readonly hasInput?: boolean;
  /** It is ended (TERM, later KILL) when it has run for this time, in milliseconds; up to 2,147,483,647 (24 days). Default, and 0: never. */
  readonly timeoutMs?: number;
  /** From TERM to KILL, in milliseconds; up to 2,147,483,647, of which 30,000 count once the caller has gone. Default 5,000. */
  readonly killAfterMs?: number;
}

/** How a command ended: by itself, by a signal, or before it began. */
export interface ExecResult {
  /** Its exit status; null where it did not exit by itself. */
  readonly status: number | null;
  /** The signal that ended it, `SIGKILL`; else null. */
  readonly signal: string | null;
  /** Whether it was ended for its time-out. */
  readonly timedOut: boolean;
  /** From the start to the end, in milliseconds. */
  readonly durationMs: number;
  /** Why it was not run: `command-not-found`, `command-denied`, `command-failed`; else null. */
  readonly error: {
    /** As in the table of errors. */
    readonly code: string;
    /** In a line. */
    readonly message: string;
  } | null;
}

/** Arguments and variables together: what the reader of a START parses, but for a few values of other fields. */
export const MAX_ARGUMENTS_AND_VARIABLES = MAX_SIGNS - 16;

/** The record of a request. Throws `bad-argument` for one that is too long, has too many arguments, or waits too long. */
export function encodeStart(request: ExecRequest): Buffer {
  const delays: readonly unknown[] = [request.timeoutMs ?? 0, request.killAfterMs ?? 0];
  if (!delays.every(isDelay)) {
    throw new VproxyError('bad-argument', `a time-out is not within 0 to ${MAX_TIMER_MS} ms`);
  }
  const count = request.argv.length + Object.keys(request.env ?? {}).length;
  if (count > MAX_ARGUMENTS_AND_VARIABLES) {
    const most = `expected at most ${MAX_ARGUMENTS_AND_VARIABLES}`;
    throw new VproxyError('bad-argument', `the command has ${count} arguments and variables, ${most}`);
  }
  const text = JSON.stringify(request);
  if (Buffer.byteLength(text) > MAX_REQUEST_BYTES) {
    throw new VproxyError('bad-argument', `the command is longer than ${MAX_REQUEST_BYTES} bytes`);
  }
  return encodeRecord(EXEC_KIND.START, text);
}

export const encodeExit = (result: ExecResult): Buffer => encodeRecord(EXEC_KIND.EXIT, JSON.stringify(result));

export function encodeResize({ columns, rows }: TerminalSize): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt16BE(columns, 0);
  payload.writeUInt16BE(rows, 2);
  return encodeRecord(EXEC_KIND.RESIZE, payload);
}

export function encodeCredit(bytes: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(bytes, 0);
  return encodeRecord(EXEC_KIND.CREDIT, payload);
}

/** The record of an end of standard input (0), output (1) or error (2). */
export const encodeEof = (fd: 0 | 1 | 2): Buffer => encodeRecord(EXEC_KIND.EOF, Buffer.from([fd]));

/** What a START asks for; fields that are not known are dropped. Throws `protocol-error`. */
export function decodeStart(payload: Buffer): ExecRequest {
  const object = decode(payload, 'START');
  const { argv, cwd, env, user, terminal, hasInput, timeoutMs, killAfterMs } = object;
  if (!Array.isArray(argv) || !argv.every(isText)) throw wrong('START', 'argv');
  if (cwd !== undefined && !isText(cwd)) throw wrong('START', 'cwd');
  if (user !== undefined && !isText(user)) throw wrong('START', 'user');
  if (hasInput !== undefined && typeof hasInput !== 'boolean') throw wrong('START', 'hasInput');
  if (timeoutMs !== undefined && !isDelay(timeoutMs)) throw wrong('START', 'timeoutMs');
  if (killAfterMs !== undefined && !isDelay(killAfterMs)) throw wrong('START', 'killAfterMs');
  return {
    argv: argv,
    ...(cwd !== undefined && { cwd }),
    ...(env !== undefined && { env: decodeEnvironment(env) }),
    ...(user !== undefined && { user }),
    ...(terminal !== undefined && { terminal: decodeTerminal(terminal) }),
    ...(hasInput !== undefined && { hasInput }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(killAfterMs !== undefined && { killAfterMs }),
  };
}

/** What an EXIT says. Throws `protocol-error`. */
export function decodeExit(payload: Buffer): ExecResult {
  const { status, signal, timedOut, durationMs, error } = decode(payload, 'EXIT');
  if (status !== null && !isCount(status, 255)) throw wrong('EXIT', 'status');
  if (signal !== null && !isText(signal)) throw wrong('EXIT', 'signal');
  if (typeof timedOut !== 'boolean') throw wrong('EXIT', 'timedOut');
  if (!isDuration(durationMs)) throw wrong('EXIT', 'durationMs');
  if (error !== null && !(isObject(error) && isText(error['code']) && isText(error['message']))) {
    throw wrong('EXIT', 'error');
  }
  const failure = error === null ? null : { code: error['code'] as string, message: error['message'] as string };
  return { status, signal, timedOut, durationMs, error: failure };
}

/** What a STARTED says: the process id of the command. Throws `protocol-error`. */
export function decodeStarted(payload: Buffer): number {
  const { pid } = decode(payload, 'STARTED');
  if (!isCount(pid, 2 ** 31)) throw wrong('STARTED', 'pid');
  return pid;
}

/** The size in a RESIZE. Throws `protocol-error`. */
export function decodeResize(payload: Buffer): TerminalSize {
  if (payload.length !== 4) throw wrong('RESIZE', 'length');
  return requireSize('RESIZE', payload.readUInt16BE(0), payload.readUInt16BE(2));
}

/** The bytes of a CREDIT. Throws `protocol-error`. */
export function decodeCredit(payload: Buffer): number {
  if (payload.length !== 4) throw wrong('CREDIT', 'length');
  return payload.readUInt32BE(0);
}

/** What has ended. Throws `protocol-error`. */
export function decodeEof(payload: Buffer): 0 | 1 | 2 {
  const fd = payload[0];
  if (payload.length !== 1 || (fd !== 0 && fd !== 1 && fd !== 2)) throw wrong('EOF', 'payload');
  return fd;
}

/** The name of a SIGNAL, of its form: whether there is such a signal is the reader's to find out. Throws `protocol-error`. */
export function decodeSignal(payload: Buffer): string {
  const name = payload.toString('latin1');
  if (!/^SIG[A-Z0-9+]{1,12}$/.test(name)) throw wrong('SIGNAL', 'name');
  return name;
}

const decode = (payload: Buffer, what: string): Record<string, unknown> => decodeJsonRecord(payload, `exec: ${what}`);

function decodeEnvironment(env: unknown): Record<string, string> {
  if (!isObject(env)) throw wrong('START', 'env');
  for (const [name, value] of Object.entries(env)) {
    if (!/^[^=\0]+$/.test(name) || !isText(value)) throw wrong('START', 'env');
  }
  return env as Record<string, string>;
}

function decodeTerminal(terminal: unknown): TerminalRequest {
  if (!isObject(terminal) || !isText(terminal['term'])) throw wrong('START', 'terminal');
  return { ...requireSize('START', terminal['columns'], terminal['rows']), term: terminal['term'] };
}

function requireSize(what: string, columns: unknown, rows: unknown): TerminalSize {
  if (!isCount(columns, 65_535) || !isCount(rows, 65_535) || columns === 0 || rows === 0) {
    throw wrong(what, 'size of the terminal');
  }
  return { columns, rows };
}

/** A text that the system takes. */
const isText = (value: unknown): value is string => typeof value === 'string' && !value.includes('\0');

const isCount = (value: unknown, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;

const isDuration = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0;

const isDelay = (value: unknown): value is number => isDuration(value) && value <= MAX_TIMER_MS;

const wrong = (what: string, field: string): VproxyError =>
  new VproxyError('protocol-error', `exec: ${what}: ${field} is not valid`);
