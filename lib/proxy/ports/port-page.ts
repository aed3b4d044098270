/** The page that answers a request to `--http-ports` without a stream: why there is none, and the URLs of the ports. */
import type { VproxyError } from '../../errors.js';
import type { PortStatus } from '../../status/types.js';
import { escapeText } from '../../util/escape.js';
import { type PortRequest, urlOfPort } from './port-request.js';

/** Limit on the ports of a page. */
const MAX_PORTS = 200;

/**
 * `request`: null if it was refused, perhaps for a page of somebody else: the answer has no ports then. `reason`: null if it asked
 * what there is. `ports`: those to choose from.
 */
export function formatPage(
  request: PortRequest | null,
  reason: VproxyError | null,
  ports: readonly PortStatus[],
): Buffer {
  const title = reason === null ? 'Ports' : `${escapeText(reason.message)} (${escapeText(reason.code, 64)})`;
  const lines = request === null ? [] : listPorts(ports, request.ownPort);
  const isHtml = request?.wantsHtml === true;
  const body = Buffer.from(isHtml ? formatHtml(title, lines) : formatText(title, lines));
  const status = reason?.code === 'unknown-service' ? 404 : reason?.row.http;
  const head = [
    `HTTP/1.1 ${reason === null ? '200 OK' : `${status} ${reason.code}`}`,
    `Content-Type: text/${isHtml ? 'html' : 'plain'}; charset=utf-8`,
    `Content-Length: ${body.length}`,
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options: nosniff',
    'Cache-Control: no-store',
    'Connection: close',
    '\r\n',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head), ...(request?.isHead === true ? [] : [body])]);
}

interface Line {
  /** Null: only a text. */
  readonly url: string | null;
  readonly text: string;
}

function listPorts(ports: readonly PortStatus[], ownPort: string): Line[] {
  if (ports.length === 0) return [{ url: null, text: 'No peer announces a port.' }];
  // The names of programs were escaped when they came.
  const lines = ports.slice(0, MAX_PORTS).map(({ channel, port, program }) => {
    return { url: urlOfPort(channel, port, ownPort), text: program ?? '' };
  });
  const more = ports.length - lines.length;
  return more === 0 ? lines : [...lines, { url: null, text: `and ${more} more` }];
}

const formatText = (title: string, lines: readonly Line[]): string =>
  [title, ...lines.map(({ text, url }) => (url === null ? text : `${url} ${text}`.trimEnd())), ''].join('\n');

function formatHtml(title: string, lines: readonly Line[]): string {
  const items = lines.map(({ text, url }) => {
    const link = url === null ? '' : `<a href="${url}">${url}</a> `;
    return `<li>${link}${toHtml(text)}\n`;
  });
  const start = '<!doctype html>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">';
  return `${start}\n<title>vproxy</title>\n<h1>${toHtml(title)}</h1>\n<ul>\n${items.join('')}</ul>\n`;
}

const toHtml = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
