/**
 * Every failure that vproxy names: one error class and one table of codes. The table says what a failure ends, whether
 * the code may be sent to the peer, whether a retry can help, and the exit status of a command that fails with it. What each
 * code means is in `error-meanings.ts`.
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
}

/** A code that may be sent in a frame; the same attempt may succeed later. */
const onWire = (scope: ErrorScope, exit: number, http?: number): ErrorRow =>
  row({ scope, wire: true, retry: true, exit }, http);

/** A local code; the same attempt may succeed later. */
const passing = (scope: ErrorScope, exit: number, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: true, exit }, http);

/** A local code; a retry fails until someone changes something. */
const lasting = (scope: ErrorScope, exit: number, http?: number): ErrorRow =>
  row({ scope, wire: false, retry: false, exit }, http);

/** The default HTTP status is 503 unless the process ends: the request may work later. */
const row = (fields: Omit<ErrorRow, 'http'>, http = fields.scope === 'process' ? 500 : 503): ErrorRow => ({
  ...fields,
  http,
});

/** The table of codes. A spec compares `docs/errors.md` with it. */
export const ERROR_CODES = {
  'unknown-service': onWire('stream', 69),
  'connect-refused': onWire('stream', 69),
  'connect-timeout': onWire('stream', 69, 504),
  'connect-failed': onWire('stream', 69),
  denied: row({ scope: 'stream', wire: true, retry: false, exit: 77 }, 403),
  'too-many-streams': onWire('stream', 69),
  'open-timeout': onWire('stream', 69, 504),
  'local-error': onWire('stream', 74),
  stalled: onWire('stream', 74),
  cancelled: onWire('stream', 1),
  'peer-restarted': onWire('session', 69),
  desync: onWire('session', 76),
  shutdown: onWire('session', 69),
  'version-mismatch': onWire('session', 76),
  'auth-failed': onWire('session', 77),
  'protocol-error': onWire('session', 76),
  'flow-control': onWire('session', 76),
  flood: onWire('session', 76),
  internal: onWire('session', 70, 500),

  'no-session': passing('stream', 69),
  'channel-closed': passing('channel', 69),
  'resume-expired': onWire('session', 69),
  'resume-refused': onWire('session', 69),
  'channel-silent': passing('channel', 69),
  'channel-displaced': onWire('channel', 69),
  'channel-missing': passing('channel', 69),
  'channel-busy': onWire('channel', 69),
  'channel-refused': passing('channel', 69),
  'channel-failed': passing('channel', 74),
  'channel-unusable': lasting('channel', 74),
  'channel-denied': lasting('channel', 77, 403),
  'channel-ended': lasting('channel', 0),
  'channel-lost': lasting('channel', 74),
  'address-in-use': lasting('process', 69, 409),
  'address-unavailable': lasting('process', 69, 409),
  'address-denied': lasting('process', 77, 403),
  'bad-argument': lasting('process', 64, 400),
  'bad-file': lasting('process', 65, 422),
  'cannot-create': lasting('process', 73, 409),
  'not-found': lasting('process', 69, 404),
  'not-booted': passing('process', 69),
  'control-unavailable': passing('process', 69),
  'upgrade-failed': passing('process', 1, 409),
  'storage-unavailable': passing('stream', 125),
  'storage-timeout': passing('stream', 125),
  'storage-bad-reply': lasting('stream', 126),
  'storage-bad-request': lasting('stream', 126),
  'command-not-found': lasting('stream', 127, 422),
  'command-denied': lasting('stream', 126, 403),
  'command-failed': lasting('stream', 126, 422),
  'exec-unavailable': passing('stream', 125),
  'job-exists': lasting('stream', 69, 409),
  'input-taken': lasting('stream', 69, 409),
  'copy-failed': lasting('stream', 74),
  'copy-refused': lasting('stream', 73),
  'freeze-failed': lasting('stream', 74),
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

const UNKNOWN_CODE = onWire('stream', 69);

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
