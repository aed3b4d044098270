/** Refused requests: the reason for this side's log, and the HTTP and SOCKS answers for the user in the guest. */
import type { Verdict } from './rules.js';

/** Limits on a head: its size in bytes, and its time in milliseconds. */
export const HEAD_BYTES = 16_384;
export const HEAD_MS = 10_000;

/** Why a request is refused: its destination is not reached, or the request itself is wrong. */
export type RefusalReason =
  /** Not a plain name or address, or not a port. */
  | 'bad-destination'
  /** The rules do not allow it. */
  | 'denied'
  /** The name has no address. */
  | 'not-found'
  /** No route to it, or no room for another connection. */
  | 'unreachable'
  /** Connection refused. */
  | 'refused'
  /** No answer in time. */
  | 'timeout'
  /** The upstream HTTP proxy refused it, or cannot be used. */
  | 'upstream'
  | 'bad-answer'
  /** The origin server of a reverse proxy cannot prove that it is that server. */
  | 'bad-certificate'
  /** The credential for the origin server cannot be read. */
  | 'bad-credential'
  | 'bad-request'
  | 'bad-version'
  | 'head-timeout'
  | 'head-too-large'
  | 'not-supported';

interface AnswerRow {
  /** The HTTP status (RFC 9110 section 15). */
  readonly status: number;
  /** The type of error in Proxy-Status (RFC 9209 section 2.3). */
  readonly error: string;
  /** The reason phrase: for a failed CONNECT many programs show nothing else. */
  readonly phrase: string;
  /** The SOCKS 5 reply (RFC 1928 section 6). */
  readonly socks: number;
}

const row = (status: number, error: string, phrase: string, socks: number): AnswerRow => ({
  status,
  error,
  phrase,
  socks,
});

/** The table of docs/egress-reference.md, "Errors that programs see". */
export const ANSWERS: Readonly<Record<RefusalReason, AnswerRow>> = {
  denied: row(403, 'http_request_denied', 'Not Allowed By vproxy', 2),
  'bad-destination': row(400, 'http_request_error', 'Bad Destination', 2),
  'not-found': row(502, 'dns_error', 'Name Not Found', 4),
  unreachable: row(502, 'destination_ip_unroutable', 'Unreachable', 3),
  refused: row(502, 'connection_refused', 'Connection Refused', 5),
  upstream: row(502, 'destination_unavailable', 'Upstream Proxy Failed', 1),
  timeout: row(504, 'connection_timeout', 'Timed Out', 4),
  'bad-answer': row(502, 'http_protocol_error', 'Bad Answer', 1),
  'bad-certificate': row(502, 'tls_certificate_error', 'Bad Certificate', 1),
  'bad-credential': row(500, 'proxy_configuration_error', 'No Credential', 1),
  'bad-request': row(400, 'http_request_error', 'Bad Request', 1),
  'bad-version': row(505, 'http_request_error', 'HTTP Version Not Supported', 1),
  'head-timeout': row(408, 'http_request_error', 'Request Timeout', 1),
  'head-too-large': row(431, 'http_request_error', 'Request Header Fields Too Large', 1),
  'not-supported': row(501, 'http_request_error', 'Not Implemented', 7),
};

export interface RefusalOptions extends ErrorOptions {
  /** The requested destination, as `HOST:PORT`. Default null: unknown. */
  readonly destination?: string | null;
  /** Default null. */
  readonly verdict?: Verdict | null;
  /** Why, and what an operator can do about it, for the user in the guest, but not for the log. Default null. */
  readonly hint?: string | null;
  /** The SOCKS 5 reply. Default: that of the reason. */
  readonly socks?: number;
}

/**
 * A refused request. The message is one line for the user in the guest, and reveals no more than that user may know. `cause`
 * (the system's error) and `verdict` (of the rules) are for this side's log.
 */
export class Refusal extends Error {
  readonly reason: RefusalReason;
  readonly destination: string | null;
  readonly verdict: Verdict | null;
  readonly hint: string | null;
  readonly socks: number;

  constructor(
    reason: RefusalReason,
    message: string,
    { cause, destination = null, verdict = null, hint = null, socks = ANSWERS[reason].socks }: RefusalOptions = {},
  ) {
    super(message, { cause });
    this.reason = reason;
    this.destination = destination;
    this.verdict = verdict;
    this.hint = hint;
    this.socks = socks;
  }
}

/** No complete request has come in time. */
export const headTimeout = (): Refusal => new Refusal('head-timeout', `no complete request within ${HEAD_MS / 1000} s`);

interface HttpAnswerOptions {
  /** The method of the request, if known: the answer to a HEAD has no body. */
  readonly method?: string;
  /** Whether the connection ends with it. */
  readonly isLast: boolean;
}

/** The answer to a refused request, with a body of one line. */
export function httpAnswer({ hint, reason, message }: Refusal, { method, isLast }: HttpAnswerOptions): Buffer {
  const { error, status, phrase } = ANSWERS[reason];
  const more = hint === null ? '' : `: ${printable(hint)}`;
  const body = `vproxy: ${printable(message)}${more}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${phrase}${more}`,
    'Content-Type: text/plain',
    `Content-Length: ${body.length}`,
    `Proxy-Status: vproxy; error=${error}`,
    'Cache-Control: no-store',
    ...(isLast ? ['Connection: close'] : []),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${method === 'HEAD' ? '' : body}`, 'latin1');
}

/** Limit on a line, in characters. */
const MAX_LINE_LENGTH = 512;

/** Makes a text one line of printable ASCII, whatever it repeats of a request. */
export const printable = (text: string): string => text.slice(0, MAX_LINE_LENGTH).replace(/[^\x20-\x7e]/g, '?');
