/**
 * Every failure that vproxy names: one error class and one table of codes. The table says what a failure ends, whether
 * the code may be sent to the peer, whether a retry can help, and the exit status of a command that fails with it.
 */

/** What a failure ends: one stream, the session, the channel, or the whole process. */
export type ErrorScope = 'stream' | 'session' | 'channel' | 'process';

/** One row of the table of codes. */
export interface ErrorRow {
  /** What the failure ends. */
  readonly scope: ErrorScope;
  /** Whether the code may be sent in a frame (docs/protocol.md, R-CODE-1). */
  readonly wire: boolean;
  /** Whether the same attempt may succeed later without intervention. */
  readonly retry: boolean;
  /** The exit status of a command that fails with this code; from sysexits(3) where one fits. */
  readonly exit: number;
  /** The HTTP status of a control request that fails with this code. */
  readonly http: number;
  /** The meaning, one sentence for `docs/errors.md`. */
  readonly meaning: string;
}

/** A code that may be sent in a frame; the same attempt may succeed later. */
const onWire = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: true, retry: true, exit, meaning }, http);

/** A local code; the same attempt may succeed later. */
const passing = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: true, exit, meaning }, http);

/** A local code; a retry fails until someone changes something. */
const lasting = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: false, exit, meaning }, http);

/** The default HTTP status is 503 unless the process ends: the request may work later. */
const row = (fields: Omit<ErrorRow, 'http'>, http = fields.scope === 'process' ? 500 : 503): ErrorRow => ({
  ...fields,
  http,
});

/** The table of codes. A spec compares `docs/errors.md` with it. */
export const ERROR_CODES = {
  'unknown-service': onWire('stream', 69, 'The peer offers no service of that name.'),
  'connect-refused': onWire('stream', 69, 'The target of an incoming forward refused the connection.'),
  'connect-timeout': onWire('stream', 69, 'The target of an incoming forward did not answer in time.', 504),
  'connect-failed': onWire('stream', 69, 'The target of an incoming forward could not be reached.'),
  denied: row({ scope: 'stream', wire: true, retry: false, exit: 77, meaning: 'The peer does not allow it.' }, 403),
  'too-many-streams': onWire(
    'stream',
    69,
    'A limit is reached: of streams that are open or being closed, or of commands, jobs or copies.',
  ),
  'open-timeout': onWire('stream', 69, 'The peer did not answer the opening of a stream in time.', 504),
  'local-error': onWire('stream', 74, 'The local socket of a stream failed, or a command could not write its output.'),
  stalled: onWire('stream', 74, 'A stream made no progress for too long.'),
  cancelled: onWire('stream', 1, 'The program at one end cancelled the stream.'),
  'peer-restarted': onWire('session', 69, 'The process at the other end of the channel restarted.'),
  desync: onWire('session', 76, 'Bytes of the channel were lost, repeated or changed.'),
  shutdown: onWire('session', 69, 'One side is shutting down.'),
  'version-mismatch': onWire('session', 76, 'The two sides have no protocol version in common.'),
  'auth-failed': onWire('session', 77, 'One side requires a key or a protection that the other does not have.'),
  'protocol-error': onWire('session', 76, 'The peer broke a rule of the protocol.'),
  'flow-control': onWire('session', 76, 'The peer sent more than it had credit for.'),
  flood: onWire('session', 76, 'The peer exceeded a limit on queued data, or on opening and closing streams.'),
  internal: onWire('session', 70, 'A bug in vproxy.', 500),

  'no-session': passing('stream', 69, 'There is no session with the peer, or the session ended.'),
  'channel-closed': passing('channel', 69, 'The other end closed the channel.'),
  'resume-expired': onWire('session', 69, 'A session lost its link, and no new link came in time.'),
  'resume-refused': onWire('session', 69, 'A session lost its link, and the peer did not keep the session.'),
  'channel-silent': passing('channel', 69, 'A channel whose peer cannot be paused was silent for longer than allowed.'),
  'channel-displaced': onWire('channel', 69, 'A newer connection to a listening channel replaced this one.'),
  'channel-missing': passing('channel', 69, 'The path or the port of the channel does not exist (yet).'),
  'channel-busy': onWire('channel', 69, 'Another process has the channel.'),
  'channel-refused': passing('channel', 69, 'No process listens at the address of the channel.'),
  'channel-failed': passing('channel', 74, 'The operating system reported another error on the channel.'),
  'channel-unusable': lasting(
    'channel',
    74,
    'The address can never be a channel: it is not a device, or it is a console.',
  ),
  'channel-denied': lasting('channel', 77, 'This process lacks the permission to open the channel.', 403),
  'channel-ended': lasting('channel', 0, 'The other end closed an inherited channel.'),
  'channel-lost': lasting('channel', 74, 'An inherited channel failed and cannot be reopened.'),
  'address-in-use': lasting('process', 69, 'An address to listen on is already in use.', 409),
  'address-unavailable': lasting('process', 69, 'An address to listen on is not available on this machine.', 409),
  'address-denied': lasting('process', 77, 'This process lacks the permission to listen on the address.', 403),
  'bad-argument': lasting('process', 64, 'An argument of the command line or of a function is not valid.', 400),
  'bad-file': lasting('process', 65, 'A file given to vproxy is malformed.', 422),
  'cannot-create': lasting('process', 73, 'A file cannot be created, or another kind of file is in its place.', 409),
  'not-found': lasting('process', 69, 'No channel, forward or stream has that name.', 404),
  'not-booted': passing('process', 69, "The peer's machine did not finish booting in time."),
  'control-unavailable': passing('process', 69, 'No process answers on a control socket, or the process exited.'),
  'upgrade-failed': passing('process', 1, 'A process could not hand over to its successor, and continues to run.', 409),
  'storage-unavailable': passing('stream', 125, 'A storage call found no proxy, or lost its emulator.'),
  'storage-timeout': passing('stream', 125, 'A storage call was not answered within its deadline.'),
  'storage-bad-reply': lasting('stream', 126, 'An emulator sent an invalid reply to a storage call.'),
  'storage-bad-request': lasting('stream', 126, 'A wrapper sent an invalid storage request to the broker.'),
  'command-not-found': lasting('stream', 127, 'The command was not found on the machine that was to run it.', 422),
  'command-denied': lasting('stream', 126, 'The other side does not allow this command.', 403),
  'command-failed': lasting(
    'stream',
    126,
    'A command could not be run: it is not a program, or the system refused.',
    422,
  ),
  'exec-unavailable': passing(
    'stream',
    125,
    'A command could not be run, or its outcome is unknown: no proxy, no peer, or one of them went away.',
  ),
  'job-exists': lasting('stream', 69, 'A job with that tag runs already.', 409),
  'input-taken': lasting('stream', 69, 'Another caller has the input of the job.', 409),
  'copy-failed': lasting('stream', 74, 'A copy could not read or write a file or a folder, or it changed meanwhile.'),
  'copy-refused': lasting(
    'stream',
    73,
    'A copy contains what no copy may, such as a device or a path out of it, or something else is in its place.',
  ),
  'freeze-failed': lasting(
    'stream',
    74,
    'File systems could not be frozen or thawed; none is frozen unless the message names it.',
  ),
} as const satisfies Record<string, ErrorRow>;

/** A code of the table. */
export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}

/** The code under which an error is counted: peers could invent any number of them. */
export const countedCode = (code: string): string => (isErrorCode(code) ? code : 'other');

/** The only error that the library throws, rejects and emits on purpose. */
export class VproxyError extends Error {
  /** `VproxyError`. */
  override readonly name = 'VproxyError';

  /** A code of {@link ERROR_CODES}, or a newer one that the peer sent. */
  readonly code: ErrorCode | (string & {});

  constructor(code: ErrorCode | (string & {}), message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** The row of this code; a code unknown to this version ends its stream and may be retried. */
  get row(): ErrorRow {
    return isErrorCode(this.code) ? ERROR_CODES[this.code] : UNKNOWN_CODE;
  }
}

const UNKNOWN_CODE = onWire('stream', 69, 'A code that this version does not know.');

/** The error for invalid input from a user, a file or a program. */
export const badArgument = (message: string, options?: ErrorOptions): VproxyError =>
  new VproxyError('bad-argument', message, options);

/** The error `protocol-error`, for anything that a peer must not send. */
export const protocolError = (message: string, options?: ErrorOptions): VproxyError =>
  new VproxyError('protocol-error', message, options);

/** The system's error code (`ECONNREFUSED`, …) of a Node error, or an empty text. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Returns a VproxyError unchanged, and wraps anything else as `code`. */
export function toVproxyError(error: unknown, code: ErrorCode = 'internal'): VproxyError {
  if (error instanceof VproxyError) return error;
  return new VproxyError(code, error instanceof Error ? error.message : String(error), { cause: error });
}

/** Runs `work` and prefixes what it throws with `thing`: `--tcp: …`. Throws `bad-argument`. */
export function naming<T>(thing: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw badArgument(`${thing}: ${toVproxyError(error).message}`, { cause: error });
  }
}

/** Returns `next` if the table of states allows it after `state`. Otherwise throws `internal`, which names `what`: a defect of this program. */
export function successorOf<S extends string>(
  what: { toString(): string },
  table: Readonly<Record<S, readonly S[]>>,
  state: S,
  next: S,
): S {
  if (table[state].includes(next)) return next;
  throw new VproxyError('internal', `${what.toString()} goes from ${state} to ${next}`);
}
