/** Errors of control requests. */
import { type ErrorCode, toVproxyError, VproxyError } from '../../errors.js';
import type { ErrorBody } from '../../status/types.js';

/** The parts of an error answer besides code and message. */
interface RequestErrorOptions extends ErrorOptions {
  /** The path of the invalid field, in the body or the query: `outgoing[0]`. */
  readonly field?: string;
  /** The HTTP status; default: that of the code. */
  readonly status?: number;
  /** Headers of the answer, such as `Allow`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An error whose answer has more than a code and a message. */
export class RequestError extends VproxyError {
  readonly field: string | null;
  readonly status: number | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode | (string & {}), message: string, options: RequestErrorOptions = {}) {
    super(code, message, options);
    this.field = options.field ?? null;
    this.status = options.status ?? null;
    this.headers = options.headers ?? {};
  }
}

/** Runs `work`; a `bad-argument` that it throws will name `field`. */
export function inField<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof VproxyError) || error.code !== 'bad-argument') throw error;
    throw new RequestError('bad-argument', error.message, { field, cause: error });
  }
}

export function answerError(thrown: unknown) {
  const error = toVproxyError(thrown);
  const { code, message } = error;
  const request = error instanceof RequestError ? error : null;
  const field = request?.field ?? null;
  return {
    status: request?.status ?? error.row.http,
    headers: request?.headers ?? {},
    body: { error: { code, message, ...(field !== null && { field }) } } satisfies ErrorBody,
  };
}
