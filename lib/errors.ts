/**
 * Every failure that vproxy names: one error class and one table of codes. The table says what a failure ends, whether
 * the code may travel to the peer, whether trying again can help, and the exit status of a command that ends with it.
 */

/** What a failure ends: one stream, the session, the channel, or the whole process. */
export type ErrorScope = 'stream' | 'session' | 'channel' | 'process';

/** One row of the table of codes. */
export interface ErrorRow {
  /** What ends with it. */
  readonly scope: ErrorScope;
  /** Whether the code may be sent in a frame (docs/protocol.md, R-CODE-1). */
  readonly wire: boolean;
  /** Whether the same attempt may succeed later without anybody's help. */
  readonly retry: boolean;
  /** The exit status of a command that ends with this code; sysexits(3) where one fits. */
  readonly exit: number;
  /** The HTTP status of a control request that ends with this code. */
  readonly http: number;
  /** What it means, in one sentence for `docs/errors.md`. */
  readonly meaning: string;
}

/** A code that may be sent in a frame; the same attempt may succeed later. */
const onWire = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: true, retry: true, exit, meaning }, http);

/** A code of this side; the same attempt may succeed later. */
const passing = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: true, exit, meaning }, http);

/** A code of this side, which only somebody's help changes. */
const lasting = (scope: ErrorScope, exit: number, meaning: string, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: false, exit, meaning }, http);

/** By default what ends no process is 503: it may work another time. */
const row = (fields: Omit<ErrorRow, 'http'>, http = fields.scope === 'process' ? 500 : 503): ErrorRow => ({
  ...fields,
  http,
});

/** The table of codes. `docs/errors.md` is compared with it. */
export const ERROR_CODES = {
  'unknown-service': onWire('stream', 69, 'The peer offers no service of that name.'),
  'connect-refused': onWire('stream', 69, 'The target of an incoming forward refused the connection.'),
  'connect-timeout': onWire('stream', 69, 'The target of an incoming forward did not answer in time.', 504),
  'connect-failed': onWire('stream', 69, 'The target of an incoming forward could not be reached.'),
  denied: row({ scope: 'stream', wire: true, retry: false, exit: 77, meaning: 'The peer does not allow it.' }, 403),
  'too-many-streams': onWire('stream', 69, 'As many streams are open, or being closed, as this side allows.'),
  'open-timeout': onWire('stream', 69, 'The peer did not answer the opening of a stream in time.', 504),
  'local-error': onWire('stream', 74, 'The local socket of a stream failed.'),
  stalled: onWire('stream', 74, 'A stream made no progress for too long.'),
  cancelled: onWire('stream', 1, 'The program at one end gave the stream up.'),
  'peer-restarted': onWire('session', 69, 'The process at the other end of the channel was started again.'),
  desync: onWire('session', 76, 'Bytes of the channel were lost, repeated or changed.'),
  shutdown: onWire('session', 69, 'One side ends in an orderly way.'),
  'version-mismatch': onWire('session', 76, 'The two sides speak no common version of the protocol.'),
  'auth-failed': onWire('session', 77, 'One side demands a proof or a protection that the other cannot give.'),
  'protocol-error': onWire('session', 76, 'The peer broke a rule of the protocol.'),
  'flow-control': onWire('session', 76, 'The peer sent more than it had credit for.'),
  flood: onWire('session', 76, 'The peer made this side queue, or open and close, more than the bound.'),
  internal: onWire('session', 70, 'A defect of vproxy.', 500),

  'no-session': passing('stream', 69, 'There is no session with the peer, or it ended.'),
  'channel-closed': passing('channel', 69, 'The channel was closed by its other end.'),
  'resume-expired': onWire('session', 69, 'A session lost its channel, and no other one came in time.'),
  'resume-refused': onWire('session', 69, 'A session lost its channel, and the peer has not kept it.'),
  'channel-silent': passing('channel', 69, 'Nothing came on a channel that cannot be paused for longer than allowed.'),
  'channel-displaced': onWire('channel', 69, 'A newer connection to a listening channel took the place of this one.'),
  'channel-missing': passing('channel', 69, 'The path or the port of the channel does not exist (yet).'),
  'channel-busy': passing('channel', 69, 'Another process has the channel open.'),
  'channel-refused': passing('channel', 69, 'Nobody listens at the address of the channel.'),
  'channel-failed': passing('channel', 74, 'The operating system reported another error on the channel.'),
  'channel-unusable': lasting('channel', 74, 'The address can never be a channel: not a device, or a console.'),
  'channel-denied': lasting('channel', 77, 'The permissions of the channel do not let this process open it.', 403),
  'channel-ended': lasting('channel', 0, 'A channel that the process was started with was closed by its other end.'),
  'channel-lost': lasting(
    'channel',
    74,
    'A channel that the process was started with failed, and cannot be opened again.',
  ),
  'address-in-use': lasting('process', 69, 'An address to listen on is taken.', 409),
  'address-unavailable': lasting('process', 69, 'An address to listen on is not available on this machine.', 409),
  'address-denied': lasting('process', 77, 'The permissions do not let this process listen on the address.', 403),
  'bad-argument': lasting('process', 64, 'An argument of the command line or of a function is not valid.', 400),
  'bad-file': lasting('process', 65, 'A file given to vproxy does not have the form that it should have.', 422),
  'cannot-create': lasting('process', 73, 'A file cannot be made, or another kind of file is in its place.', 409),
  'not-found': lasting('process', 69, 'There is no channel, forward or stream of that name.', 404),
  'not-booted': passing('process', 69, "A peer's machine was not booted in time."),
  'control-unavailable': passing('process', 69, 'No process answers on a control socket, or it ended.'),
  'upgrade-failed': passing('process', 1, 'A process could not hand over to its successor, and goes on.', 409),
  'storage-unavailable': passing('stream', 125, 'A storage call found no proxy, or lost its emulator.'),
  'storage-timeout': passing('stream', 125, 'A storage call was not answered within its deadline.'),
  'storage-bad-reply': lasting('stream', 126, 'What an emulator answered to a storage call is no valid reply.'),
  'storage-bad-request': lasting('stream', 126, 'What a wrapper sent to the broker is no valid storage request.'),
  'command-not-found': lasting('stream', 127, 'There is no command of that name where it was to be run.'),
  'command-denied': lasting('stream', 126, 'The other side does not let this command be run.'),
  'command-failed': lasting('stream', 126, 'A command could not be run: it is no program, or the system refused.'),
  'exec-unavailable': passing(
    'stream',
    125,
    'A command could not be run, or how it ended is not known: no proxy, no peer, or one of them went away.',
  ),
  'copy-failed': lasting('stream', 74, 'A copy could not read or write a file or a folder, or it changed meanwhile.'),
  'copy-refused': lasting(
    'stream',
    73,
    'A copy has what no copy may have, such as a device or a way out of it, or something else is in its place.',
  ),
} as const satisfies Record<string, ErrorRow>;

/** A code of the table. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Whether a text is a code of the table. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}

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

  /** The row of this code; a code that this version does not know ends its stream and may be tried again. */
  get row(): ErrorRow {
    return isErrorCode(this.code) ? ERROR_CODES[this.code] : UNKNOWN_CODE;
  }
}

const UNKNOWN_CODE = onWire('stream', 69, 'A code that this version does not know.');

/** That something is not valid which a user, a file or a program said. */
export const badArgument = (message: string, options?: ErrorOptions): VproxyError =>
  new VproxyError('bad-argument', message, options);

/** The system's error code (`ECONNREFUSED`, …) of an error of Node, or an empty text. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** An error as it is: a VproxyError unchanged, anything else wrapped as `internal`. */
export function toVproxyError(error: unknown, code: ErrorCode = 'internal'): VproxyError {
  if (error instanceof VproxyError) return error;
  return new VproxyError(code, error instanceof Error ? error.message : String(error), { cause: error });
}

/** Does what may throw, and then says of what it is: `--tcp: …`. Throws `bad-argument`. */
export function naming<T>(thing: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw badArgument(`${thing}: ${toVproxyError(error).message}`, { cause: error });
  }
}
