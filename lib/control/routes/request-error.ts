/** A failure of one control request. */
import { type ErrorCode, isErrorCode, toVproxyError, VproxyError } from '../../errors.js';
import type { ErrorBody } from '../../status/types.js';

/** What an answer says besides code and message. */
interface RequestErrorOptions extends ErrorOptions {
  /** The path of the field that is wrong, in the body or the query: `outgoing[0]`. */
  readonly field?: string;
  /** The HTTP status; default: that of the code. */
  readonly status?: number;
  /** Headers of the answer, such as `Allow`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An error whose answer says more than its code does. */
export class RequestError extends VproxyError {
  readonly field: string | null;
  readonly status: number | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, options: RequestErrorOptions = {}) {
    super(code, message, options);
    this.field = options.field ?? null;
    this.status = options.status ?? null;
    this.headers = options.headers ?? {};
  }
}

/** The result of `work`; a `bad-argument` that it throws names `field`. */
export function inField<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof VproxyError) || error.code !== 'bad-argument') throw error;
    throw new RequestError('bad-argument', error.message, { field, cause: error });
  }
}

/** An error, ready to be sent. */
interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

const STATUSES: Partial<Record<ErrorCode, number>> = {
  'bad-argument': 400,
  'not-found': 404,
  'address-in-use': 409,
  'address-unavailable': 409,
  'cannot-create': 409,
  'upgrade-failed': 409,
  'address-denied': 403,
  'channel-denied': 403,
  denied: 403,
  'bad-file': 422,
  'connect-timeout': 504,
  'open-timeout': 504,
  internal: 500,
};

/** The HTTP status of an error: one that ends a stream, a session or a channel is 503, as it may work another time. */
export function statusOf({ code, row }: VproxyError): number {
  const status = isErrorCode(code) ? STATUSES[code] : undefined;
  return status ?? (row.scope === 'process' ? 500 : 503);
}

/** The answer for anything that was thrown. */
export function answerError(thrown: unknown): ErrorAnswer {
  const error = toVproxyError(thrown);
  const { code, message } = error;
  const request = error instanceof RequestError ? error : null;
  const field = request?.field ?? null;
  return {
    status: request?.status ?? statusOf(error),
    headers: request?.headers ?? {},
    body: { error: { code, message, ...(field !== null && { field }) } },
  };
}
