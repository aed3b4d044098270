/** The records in a stream of the service `exec` (docs/exec.md). */
import { isObject } from '../../codec/json.js';
import { VproxyError } from '../../errors.js';
import { MAX_SIGNS } from '../../util/bytes/json-scanner.js';
import { decodeJsonRecord, encodeRecord } from '../../util/bytes/records.js';
import { MAX_TIMER_MS } from '../../util/clock.js';

/** The name of the service. */
export const EXEC_SERVICE = 'exec';

/** The kinds of records. */
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
  /** Caller, first record: reads the output of a job, `{"id": "…", "from": 0}` or `{"id": "…", "tail": 100}`. */
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
  /** False: the command has no standard input, and no STDIN follows. Default true. */
  readonly hasInput?: boolean;
  /** Ends the command (TERM, later KILL) after this many milliseconds, up to 2,147,483,647 (24 days). Default, and 0: never. */
  readonly timeoutMs?: number;
  /** Milliseconds from TERM to KILL, up to 2,147,483,647; at most 30,000 once the caller has disconnected. Default 5,000. */
  readonly killAfterMs?: number;
  /** Makes it a job, which outlives the stream; it has no input and no terminal. */
  readonly detach?: Detachment;
}

/** How to run a command as a job. */
export interface Detachment {
  /** A name to recognize it by, at most 64 bytes. Default: none. */
  readonly tag?: string | null | undefined;
  /** How much of its output is kept, in bytes, up to 16 MiB. Default 1 MiB. */
  readonly keepBytes?: number | undefined;
}

/** How a command ended: by itself, by a signal, or before it began. */
export interface ExecResult {
  /** Its exit status; null if it did not exit by itself. */
  readonly status: number | null;
  /** The signal that ended it, `SIGKILL`, or `SIG35` for one without a name; else null. */
  readonly signal: string | null;
  /** Whether it timed out. */
  readonly timedOut: boolean;
  /** From the start to the end, in milliseconds. */
  readonly durationMs: number;
  /** Why it was not run; else null. */
  readonly error: {
    /** `command-not-found`, `command-denied` or `command-failed`. */
    readonly code: string;
    /** One line. */
    readonly message: string;
  } | null;
}

/** The most arguments and variables together: the limit of the reader of a START, less a few values of other fields. */
export const MAX_ARGUMENTS_AND_VARIABLES = MAX_SIGNS - 16;

/** Encodes a request. Throws `bad-argument` if it is too long, has too many arguments, or a timeout is out of range. */
export function encodeStart(request: ExecRequest): Buffer {
  const delays: readonly unknown[] = [request.timeoutMs ?? 0, request.killAfterMs ?? 0];
  if (!delays.every(isDelay)) {
    throw new VproxyError('bad-argument', `timeout out of range (0 to ${MAX_TIMER_MS} ms)`);
  }
  const count = request.argv.length + Object.keys(request.env ?? {}).length;
  if (count > MAX_ARGUMENTS_AND_VARIABLES) {
    const most = `(max ${MAX_ARGUMENTS_AND_VARIABLES})`;
    throw new VproxyError('bad-argument', `too many arguments and variables: ${count} ${most}`);
  }
  const text = JSON.stringify(request);
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_REQUEST_BYTES) {
    throw new VproxyError('bad-argument', `command too long: ${bytes} bytes (max ${MAX_REQUEST_BYTES})`);
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

/** Encodes EOF for standard input (0), output (1) or error (2). */
export const encodeEof = (fd: 0 | 1 | 2): Buffer => encodeRecord(EXEC_KIND.EOF, Buffer.from([fd]));

/** Decodes a START; drops unknown fields. Throws `protocol-error`. */
export function decodeStart(payload: Buffer): ExecRequest {
  const object = decode(payload, 'START');
  const { argv, cwd, env, user, terminal, hasInput, timeoutMs, killAfterMs, detach } = object;
  if (!Array.isArray(argv) || !argv.every(isText)) throw wrong('START', 'argv');
  if (cwd !== undefined && !isText(cwd)) throw wrong('START', 'cwd');
  if (user !== undefined && !isText(user)) throw wrong('START', 'user');
  if (hasInput !== undefined && typeof hasInput !== 'boolean') throw wrong('START', 'hasInput');
  if (timeoutMs !== undefined && !isDelay(timeoutMs)) throw wrong('START', 'timeoutMs');
  if (killAfterMs !== undefined && !isDelay(killAfterMs)) throw wrong('START', 'killAfterMs');
  const isJob = detach !== undefined && detach !== null;
  if (isJob && (terminal !== undefined || hasInput === true)) throw wrong('START', 'terminal or input of a job');
  return {
    argv: argv,
    ...(cwd !== undefined && { cwd }),
    ...(env !== undefined && { env: decodeEnvironment(env) }),
    ...(user !== undefined && { user }),
    ...(terminal !== undefined && { terminal: decodeTerminal(terminal) }),
    ...(isJob ? { hasInput: false } : hasInput !== undefined && { hasInput }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(killAfterMs !== undefined && { killAfterMs }),
    ...(isJob && { detach: decodeDetachment(detach) }),
  };
}

/** Decodes an EXIT. Throws `protocol-error`. */
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

/** The process id in a STARTED. Throws `protocol-error`. */
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

function decodeDetachment(detach: unknown): Required<Detachment> {
  if (!isObject(detach)) throw wrong('START', 'detach');
  const tag = detach['tag'] ?? null;
  const keepBytes = detach['keepBytes'] ?? DEFAULT_KEEP_BYTES;
  if (tag !== null && !(isText(tag) && Buffer.byteLength(tag) <= MAX_TAG_BYTES)) throw wrong('START', 'tag');
  if (!isCount(keepBytes, MAX_KEEP_BYTES)) throw wrong('START', 'keepBytes');
  return { tag, keepBytes };
}

function requireSize(what: string, columns: unknown, rows: unknown): TerminalSize {
  if (!isCount(columns, 65_535) || !isCount(rows, 65_535) || columns === 0 || rows === 0) {
    throw wrong(what, 'size of the terminal');
  }
  return { columns, rows };
}

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
