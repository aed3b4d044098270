/** Answers of the server, with the headers that keep what others say from becoming a part of the page. */
import type { ServerResponse } from 'node:http';
import type { VproxyError } from '../../lib/errors.js';

/**
 * Nothing from anywhere else, no code but the files of the page, in nobody's frame. Styles may be inline, as those of a terminal
 * are.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** Of what a browser must not take for a page of this origin: with `content-disposition: attachment`. */
export const BYTES_TYPE = 'application/octet-stream';

export function setHeaders(response: ServerResponse): void {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
}

export function answerJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

/** As the control socket answers. */
export function answerError(response: ServerResponse, status: number, { code, message }: VproxyError): void {
  answerJson(response, { error: { code, message, field: null } }, status);
}

export function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}
