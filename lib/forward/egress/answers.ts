/** How a request is refused: why, for the log of this side, and in the words of HTTP and of SOCKS for the person in the guest. */
import type { Verdict } from './admission.js';
import type { EgressRefusal, RefusalReason } from './refusal.js';

/** What a head may have, in bytes, and how long it may take, in milliseconds. */
export const HEAD_BYTES = 16_384;
export const HEAD_MS = 10_000;

/** Why a request is refused: by what it says, or because its destination is not reached. */
export type AnswerReason =
  | RefusalReason
  | 'bad-answer'
  | 'bad-request'
  | 'bad-version'
  | 'head-timeout'
  | 'head-too-large'
  | 'not-supported';

interface AnswerRow {
  /** The status of HTTP (RFC 9110 section 15). */
  readonly status: number;
  /** The reason phrase: of a failed CONNECT many programs show nothing else. */
  readonly phrase: string;
  /** The reply of SOCKS 5 (RFC 1928 section 6). */
  readonly socks: number;
}

const row = (status: number, phrase: string, socks: number): AnswerRow => ({ status, phrase, socks });

/** The table of docs/egress.md, "What a refusal looks like". */
export const ANSWERS: Readonly<Record<AnswerReason, AnswerRow>> = {
  denied: row(403, 'Not Allowed By vproxy', 2),
  'bad-destination': row(400, 'Bad Destination', 2),
  'not-found': row(502, 'Name Not Found', 4),
  unreachable: row(502, 'Unreachable', 3),
  refused: row(502, 'Connection Refused', 5),
  upstream: row(502, 'Upstream Proxy Failed', 1),
  timeout: row(504, 'Timed Out', 4),
  'bad-answer': row(502, 'Bad Answer', 1),
  'bad-request': row(400, 'Bad Request', 1),
  'bad-version': row(505, 'HTTP Version Not Supported', 1),
  'head-timeout': row(408, 'Request Timeout', 1),
  'head-too-large': row(431, 'Request Header Fields Too Large', 1),
  'not-supported': row(501, 'Not Implemented', 7),
};

interface RefusalOptions extends ErrorOptions {
  /** What was asked for, as `HOST:PORT`. Default null: it is not known. */
  readonly destination?: string | null;
  /** Default null. */
  readonly verdict?: Verdict | null;
  /** The reply of SOCKS 5. Default: that of the reason. */
  readonly socks?: number;
}

/** A request is refused; the message is one line for the person in the guest. */
export class Refusal extends Error {
  readonly reason: AnswerReason;
  readonly destination: string | null;
  readonly verdict: Verdict | null;
  readonly socks: number;

  constructor(
    reason: AnswerReason,
    message: string,
    { cause, destination = null, verdict = null, socks = ANSWERS[reason].socks }: RefusalOptions = {},
  ) {
    super(message, { cause });
    this.reason = reason;
    this.destination = destination;
    this.verdict = verdict;
    this.socks = socks;
  }

  /** What became of a destination. */
  static of({ cause, message, reason, verdict }: EgressRefusal, destination: string | null): Refusal {
    return new Refusal(reason, message, { destination, verdict, cause });
  }
}

/** Nothing complete has come in time. */
export const headTimeout = (): Refusal =>
  new Refusal('head-timeout', `no request was complete within ${HEAD_MS / 1000} s`);

interface HttpAnswerOptions {
  /** The method of the request, as far as it is known: the answer to a HEAD has no body. */
  readonly method?: string;
  /** Whether the connection ends with it. */
  readonly isLast: boolean;
}

/** The answer to a request that is refused: a body of one line. */
export function httpAnswer({ reason, message }: Refusal, { method, isLast }: HttpAnswerOptions): Buffer {
  const { status, phrase } = ANSWERS[reason];
  const body = `vproxy: ${printable(message)}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${phrase}`,
    'Content-Type: text/plain',
    `Content-Length: ${body.length}`,
    'Cache-Control: no-store',
    ...(isLast ? ['Connection: close'] : []),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${method === 'HEAD' ? '' : body}`, 'latin1');
}

/** The longest line, in characters. */
const MAX_LINE_LENGTH = 512;

/** A text as one line of printable ASCII, whatever it repeats of a request. */
export const printable = (text: string): string => text.slice(0, MAX_LINE_LENGTH).replace(/[^\x20-\x7e]/g, '?');
