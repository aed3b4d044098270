/** The records in a stream of the service `exec` (docs/exec.md). */
import { isObject } from '../../codec/json.js';
import { badArgument, naming, VproxyError } from '../../errors.js';
import type { ExecResult } from '../../status/types.js';
import { MAX_SIGNS } from '../../util/bytes/json-scanner.js';
import { decodeJsonRecord, decodeJsonRequest, encodeRecord, isUnicode } from '../../util/bytes/records.js';
import { MAX_TIMER_MS } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';

export const EXEC_SERVICE = 'exec';

export const EXEC_KIND = {
  /** Caller, first record: what to run, an {@link ExecRequest} as JSON. */
  START: 1,
  /** Caller: bytes for standard input, within the credit. */
  STDIN: 2,
  /** Caller: the new size of the terminal; columns and rows, u16 each. */
  RESIZE: 3,
  /** Caller: a signal for the process group of the command, by its name, `SIGINT`. */
  SIGNAL: 4,
  /** Both: standard input, output or error has ended, or is no longer read: a u8, 0, 1 or 2. */
  EOF: 5,
  /** Caller, first record: lists all jobs; empty. */
  LIST: 6,
  /** Caller, first record: reads the output of a job, `{"id": "…", "from": 0}` or `{"id": "…", "tail": 100}`, and may write to it. */
  ATTACH: 7,
  /** Caller, first record: ends a job, `{"id": "…"}`. */
  STOP: 8,
  /** Runner: the command runs, `{"pid": N}`; for a job the last record, with its id as `job`. */
  STARTED: 16,
  /** Runner: bytes of standard output; with a terminal, of both outputs. */
  STDOUT: 17,
  /** Runner: bytes of standard error. */
  STDERR: 18,
  /** Runner: how many further bytes of standard input may be sent, u32. */
  CREDIT: 19,
  /** Runner, last record: how the command ended, an {@link ExecResult} as JSON. */
  EXIT: 20,
  /** Runner, last record: all jobs, `{"jobs": […]}`. */
  JOBS: 21,
  /** Runner: the number of the byte of a job that follows, `{"from": 0}`: first, and wherever bytes were dropped. */
  FROM: 22,
} as const;

/** Initial credit: bytes of standard input that may be sent before any CREDIT. */
export const STDIN_CREDIT_BYTES = 262_144;

/** Default time from TERM to KILL. */
export const DEFAULT_KILL_AFTER_MS = 5000;

/** The longest START or EXIT, in bytes. */
export const MAX_REQUEST_BYTES = 1_048_576;

/** How much of a job's output is kept, in bytes: by default, at most, and at most of all jobs of a channel. */
export const DEFAULT_KEEP_BYTES = 1_048_576;
export const MAX_KEEP_BYTES = 16_777_216;
export const MAX_KEPT_BYTES = 67_108_864;

/** The most jobs of a channel, whether they run or have ended. */
export const MAX_JOBS = 64;

/** The longest tag of a job, in bytes. */
export const MAX_TAG_BYTES = 64;

/** The most columns or rows of a terminal. */
export const MAX_SIDE = 65_535;

/** The longest ATTACH and STOP, in bytes. */
export const MAX_JOB_REQUEST_BYTES = 4096;

/** The longest payload of each record of a caller, in bytes, except STDIN, which credit bounds. */
export const CALLER_RECORD_BYTES: ReadonlyMap<number, number> = new Map([
  [EXEC_KIND.START, MAX_REQUEST_BYTES],
  [EXEC_KIND.RESIZE, 4],
  [EXEC_KIND.SIGNAL, 15],
  [EXEC_KIND.EOF, 1],
  [EXEC_KIND.LIST, 0],
  [EXEC_KIND.ATTACH, MAX_JOB_REQUEST_BYTES],
  [EXEC_KIND.STOP, MAX_JOB_REQUEST_BYTES],
]);

/** The size of a terminal, in characters: 1 to 65,535. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** The terminal to run a command in. */
export interface TerminalRequest extends TerminalSize {
  /** `TERM`. */
  readonly term: string;
}

/** A command to run. */
export interface ExecRequest {
  /** The command and its arguments; empty: the login shell of the user. */
  readonly argv: readonly string[];
  /** The folder to run it in. Default: the user's home. */
  readonly cwd?: string;
  /** Variables added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The name of the user to run it as. Default: the user that runs the proxy. */
  readonly user?: string;
  /** Default: no terminal; its input and outputs are pipes. */
  readonly terminal?: TerminalRequest;
  /** False: the command has no standard input, and no STDIN follows. Default true; for a job, whether it has a terminal. */
  readonly hasInput?: boolean;
  /** Ends the command (TERM, later KILL) after this many milliseconds, up to 2,147,483,647 (24 days). Default, and 0: never. */
  readonly timeoutMs?: number;
  /** Milliseconds from TERM to KILL, up to 2,147,483,647; at most 30,000 once the caller has disconnected. Default 5,000. */
  readonly killAfterMs?: number;
  /**
   * If too many commands run, waits for one of them to end, as long as `timeoutMs`, which then counts from the request on; its
   * input is sent once it has started. Default: it is refused.
   */
  readonly wait?: boolean;
  /** Makes it a job, which outlives the stream. Without a terminal, it has no input unless `hasInput` is true. */
  readonly detach?: Detachment;
}

/** How to run a command as a job. */
export interface Detachment {
  /** A name to recognize it by, at most 64 bytes. Default: none. */
  readonly tag?: string | null | undefined;
  /** How much of its output is kept, in bytes, up to 16 MiB. Default 1 MiB. */
  readonly keepBytes?: number | undefined;
  /** Refuses it with `job-exists` if a job with its tag runs. Default false. */
  readonly unique?: boolean | undefined;
}

/** The most arguments and variables together: the limit of the reader of a START, less a few values of other fields. */
export const MAX_ARGUMENTS_AND_VARIABLES = MAX_SIGNS - 16;

/**
 * What is wrong with a field of a START, ATTACH or STOP; `#` stands for a limit. Both programs answer `bad-argument` with
 * `START: FIELD: FAULT` (R-EXEC-1).
 */
export const FAULTS = {
  list: 'not a list',
  object: 'not an object',
  text: 'not a string',
  nul: 'contains NUL',
  name: 'a name is empty, or contains "=" or NUL',
  boolean: 'neither true nor false',
  range: 'not a number from 0 to #',
  size: 'not a whole number from 1 to #',
  whole: 'not a whole number from 0 to #',
  tag: 'longer than # bytes',
  input: 'not allowed without input',
  place: 'not allowed with from',
} as const;

/** The error `bad-argument` for a field. */
export const fault = (field: string, kind: keyof typeof FAULTS, limit?: number): VproxyError =>
  badArgument(`${field}: ${FAULTS[kind].replace('#', String(limit))}`);

/** Encodes a request. Throws `bad-argument` if the runner would refuse it. */
export function encodeStart(request: ExecRequest): Buffer {
  const delays: readonly unknown[] = [request.timeoutMs ?? 0, request.killAfterMs ?? 0];
  if (!delays.every(isDelay)) throw badArgument(`timeout out of range (0 to ${MAX_TIMER_MS} ms)`);
  requestOf(request as unknown as Record<string, unknown>);
  if (request.detach !== undefined && request.terminal === undefined && request.argv.length === 0)
    throw badArgument('argv: empty; a job without a terminal needs a command');
  const count = request.argv.length + Object.keys(request.env ?? {}).length;
  if (count > MAX_ARGUMENTS_AND_VARIABLES) {
    throw badArgument(`too many arguments and variables: ${count} (max ${MAX_ARGUMENTS_AND_VARIABLES})`);
  }
  const text = JSON.stringify(request);
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_REQUEST_BYTES) throw badArgument(`command too long: ${bytes} bytes (max ${MAX_REQUEST_BYTES})`);
  if (!isUnicode(text)) throw badArgument('command has half a surrogate pair');
  return encodeRecord(EXEC_KIND.START, text);
}

export const encodeExit = (result: ExecResult): Buffer => encodeRecord(EXEC_KIND.EXIT, JSON.stringify(result));

/** Throws `bad-argument` for sizes other than 1 to 65,535. */
export function encodeResize({ columns, rows }: TerminalSize): Buffer {
  requireSize('columns', columns);
  requireSize('rows', rows);
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

/** Encodes EOF for standard input (0), output (1) or error (2). */
export const encodeEof = (fd: 0 | 1 | 2): Buffer => encodeRecord(EXEC_KIND.EOF, Buffer.from([fd]));

/** Decodes a START; drops unknown fields. Throws `bad-argument`. */
export function decodeStart(payload: Buffer): ExecRequest {
  const object = decodeRequest(payload, 'START');
  return naming('START', () => requestOf(object));
}

/** Validates the fields of a request; null means absent. Throws `bad-argument`. */
function requestOf(object: Record<string, unknown>): ExecRequest {
  const { argv } = object;
  if (!Array.isArray(argv)) throw fault('argv', 'list');
  const words = argv.map((word, index) => requireText(`argv[${index}]`, word));
  const cwd = optional(object, 'cwd', requireText);
  const user = optional(object, 'user', requireText);
  const variables = optional(object, 'env', requireEnvironment);
  const terminal = optional(object, 'terminal', requireTerminal);
  const hasInput = optional(object, 'hasInput', requireBoolean);
  const timeoutMs = optional(object, 'timeoutMs', requireDelay);
  const killAfterMs = optional(object, 'killAfterMs', requireDelay);
  const wait = optional(object, 'wait', requireBoolean);
  const detach = optional(object, 'detach', requireDetachment);
  return {
    argv: words,
    ...(cwd !== undefined && { cwd }),
    ...(variables !== undefined && { env: variables }),
    ...(user !== undefined && { user }),
    ...(terminal !== undefined && { terminal }),
    ...(detach === undefined
      ? hasInput !== undefined && { hasInput }
      : { hasInput: hasInput ?? terminal !== undefined }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(killAfterMs !== undefined && { killAfterMs }),
    ...(wait !== undefined && { wait }),
    ...(detach !== undefined && { detach }),
  };
}

/** Decodes an EXIT. Throws `protocol-error`. */
export function decodeExit(payload: Buffer): ExecResult {
  const { status, signal, timedOut, durationMs, error, usage: used } = decode(payload, 'EXIT');
  const usage = decodeUsage(used);
  if (status !== null && !isCount(status, 255)) throw wrong('EXIT', 'status');
  if (signal !== null && !isText(signal)) throw wrong('EXIT', 'signal');
  if (typeof timedOut !== 'boolean') throw wrong('EXIT', 'timedOut');
  if (!isDuration(durationMs)) throw wrong('EXIT', 'durationMs');
  if (usage === undefined) throw wrong('EXIT', 'usage');
  if (error !== null && !(isObject(error) && isText(error['code']) && isText(error['message']))) {
    throw wrong('EXIT', 'error');
  }
  const failure = error === null ? null : { code: error['code'] as string, message: error['message'] as string };
  return { status, signal, timedOut, durationMs, usage, error: failure };
}

/** What a command used; null if the runner does not tell, undefined if it is invalid. */
export function decodeUsage(value: unknown = null): ExecResult['usage'] | undefined {
  if (!isObject(value)) return value === null ? null : undefined;
  const { cpuMs, peakBytes } = value;
  const isValid = isDuration(cpuMs) && (peakBytes === null || isCount(peakBytes, Number.MAX_SAFE_INTEGER));
  return isValid ? { cpuMs, peakBytes } : undefined;
}

/** The result of a command that was not run. */
export const notRun = ({ code, message }: Pick<VproxyError, 'code' | 'message'>): ExecResult => ({
  ...{ status: null, signal: null, timedOut: false, durationMs: 0, usage: null },
  error: { code, message },
});

/** The process id in a STARTED. Throws `protocol-error`. */
export function decodeStarted(payload: Buffer): number {
  const { pid } = decode(payload, 'STARTED');
  if (!isCount(pid, 2 ** 31)) throw wrong('STARTED', 'pid');
  return pid;
}

/** The size in a RESIZE; null for a size of 0, which is ignored. Throws `protocol-error`. */
export function decodeResize(payload: Buffer): TerminalSize | null {
  if (payload.length !== 4) throw wrong('RESIZE', 'length');
  const size = { columns: payload.readUInt16BE(0), rows: payload.readUInt16BE(2) };
  return size.columns > 0 && size.rows > 0 ? size : null;
}

/** The number of bytes in a CREDIT. Throws `protocol-error`. */
export function decodeCredit(payload: Buffer): number {
  if (payload.length !== 4) throw wrong('CREDIT', 'length');
  return payload.readUInt32BE(0);
}

/** The descriptor in an EOF. Throws `protocol-error`. */
export function decodeEof(payload: Buffer): 0 | 1 | 2 {
  const fd = payload[0];
  if (payload.length !== 1 || (fd !== 0 && fd !== 1 && fd !== 2)) throw wrong('EOF', 'payload');
  return fd;
}

/** The name in a SIGNAL, of valid form; the signal may still be unknown. Throws `protocol-error`. */
export function decodeSignal(payload: Buffer): string {
  const name = payload.toString('latin1');
  if (!/^SIG[A-Z0-9+]{1,12}$/.test(name)) throw wrong('SIGNAL', 'name');
  return name;
}

/** Decodes a payload that is a JSON object. Throws `protocol-error`. */
export const decode = (payload: Buffer, what: string): Record<string, unknown> =>
  decodeJsonRecord(payload, `exec: ${what}`);

/** Decodes the payload of a request that is a JSON object. Throws `bad-argument`. */
export const decodeRequest = (payload: Buffer, what: string): Record<string, unknown> =>
  decodeJsonRequest(payload, what, 'bad-argument');

type Require<T> = (field: string, value: unknown) => T;

/** A field, or undefined if it is absent or null. */
export function optional<T>(object: Record<string, unknown>, field: string, require: Require<T>): T | undefined {
  const value = object[field] ?? undefined;
  return value === undefined ? undefined : require(field, value);
}

export const requireText: Require<string> = (field, value) => {
  if (typeof value !== 'string') throw fault(field, 'text');
  if (value.includes('\0')) throw fault(field, 'nul');
  return value;
};

export const requireBoolean: Require<boolean> = (field, value) => {
  if (typeof value !== 'boolean') throw fault(field, 'boolean');
  return value;
};

export const requireDelay: Require<number> = (field, value) => {
  if (!isDelay(value)) throw fault(field, 'range', MAX_TIMER_MS);
  return value;
};

/** Requires a whole number from 0 to `most`. */
export const requireWhole =
  (most: number): Require<number> =>
  (field, value) => {
    if (!isCount(value, most)) throw fault(field, 'whole', most);
    return value;
  };

const requireObject: Require<Record<string, unknown>> = (field, value) => {
  // A Map would be sent as an empty object.
  if (!isObject(value) || Symbol.iterator in value) throw fault(field, 'object');
  return value;
};

const requireEnvironment: Require<Record<string, string>> = (field, value) => {
  const env = Object.entries(requireObject(field, value));
  for (const [name, text] of env) {
    if (!/^[^=\0]+$/.test(name)) throw fault(field, 'name');
    requireText(`${field}[${escapeText(name, 64)}]`, text);
  }
  return Object.fromEntries(env) as Record<string, string>;
};

const requireTerminal: Require<TerminalRequest> = (field, value) => {
  const { columns, rows, term } = requireObject(field, value);
  const size = { columns: requireSize(`${field}.columns`, columns), rows: requireSize(`${field}.rows`, rows) };
  return { ...size, term: requireText(`${field}.term`, term) };
};

const requireDetachment: Require<Required<Detachment>> = (field, value) => {
  const detach = requireObject(field, value);
  const tag = requireText(`${field}.tag`, detach['tag'] ?? '');
  if (Buffer.byteLength(tag) > MAX_TAG_BYTES) throw fault(`${field}.tag`, 'tag', MAX_TAG_BYTES);
  const keepBytes = requireWhole(MAX_KEEP_BYTES)(`${field}.keepBytes`, detach['keepBytes'] ?? DEFAULT_KEEP_BYTES);
  const unique = requireBoolean(`${field}.unique`, detach['unique'] ?? false);
  return { tag: (detach['tag'] as string | undefined) ?? null, keepBytes, unique };
};

export const requireSize: Require<number> = (field, value) => {
  if (!isCount(value, MAX_SIDE) || value === 0) throw fault(field, 'size', MAX_SIDE);
  return value;
};

/** A string that the system accepts. */
export const isText = (value: unknown): value is string => typeof value === 'string' && !value.includes('\0');

/** A whole number from 0 to `most`. */
export const isCount = (value: unknown, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;

const isDuration = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0;

const isDelay = (value: unknown): value is number => isDuration(value) && value <= MAX_TIMER_MS;

/** The error for a field that is not valid. */
export const wrong = (what: string, field: string): VproxyError =>
  new VproxyError('protocol-error', `exec: ${what}: ${field} is not valid`);
