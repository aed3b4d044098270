/** Failures as answers: the HTTP status of a code, and the body that says what was wrong. */
import { type ErrorCode, isErrorCode, toVproxyError, type VproxyError } from '../errors.js';
import { RequestError } from './request-error.js';

/** The body of every answer that is an error. */
export interface ErrorBody {
  readonly error: {
    /** A code of docs/errors.md, or a newer one that the peer sent. */
    readonly code: string;
    /** One line for people. */
    readonly message: string;
    /** The path of the field that is wrong, in the body or the query. */
    readonly field?: string;
  };
}

/** An error, ready to be sent. */
export interface ErrorAnswer {
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
  'address-denied': 403,
  'channel-denied': 403,
  denied: 403,
  'bad-file': 422,
  'connect-timeout': 504,
  'open-timeout': 504,
  internal: 500,
};

/** The HTTP status of a code: what ends a stream, a session or a channel may work another time. */
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
