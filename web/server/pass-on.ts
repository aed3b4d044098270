/** Passes requests of the page on to control sockets: those that it needs, and no others. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import net from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { requestError } from '../../lib/control/client/plain-http.js';
import { answerError, BYTES_TYPE } from './answers.js';

/** What a page may see even if it may change nothing: no files, and nothing that commands wrote. */
const READS = /^GET \/v1\/(?:events|info)$/;

/** Not the process itself: no reload, upgrade or stop, and no configuration, which may hold secrets. */
const ACTS = new RegExp(
  `^(?:${[
    'POST /v1/forwards',
    'DELETE /v1/forwards/[^/]+',
    'DELETE /v1/streams/[^/]+/[^/]+',
    'POST /v1/egress/(?:allow|answer|block|reset|test)',
    '(?:GET|POST) /v1/jobs',
    'GET /v1/jobs/[^/]+/output',
    'DELETE /v1/jobs/[^/]+',
    '(?:GET|PUT|DELETE) /v1/files',
    'GET /v1/folders',
    'GET /v1/terminal',
  ].join('|')})$`,
);

export type Permission = 'allowed' | 'read-only' | 'unknown';

export function permissionOf(method: string, path: string, isReadOnly: boolean): Permission {
  const what = `${method} ${path}`;
  if (READS.test(what)) return 'allowed';
  if (!ACTS.test(what)) return 'unknown';
  return isReadOnly ? 'read-only' : 'allowed';
}

/** Headers of requests and of answers that mean something at the other side. */
const ASKED = ['content-type', 'content-length', 'transfer-encoding', 'range'] as const;
const ANSWERED = ['content-length', 'content-range', 'accept-ranges'] as const;

/** Passes a request on, and its answer back, each as it comes. `target`: the path and the query at the control socket. */
export function passRequest(
  request: IncomingMessage,
  response: ServerResponse,
  socketPath: string,
  target: string,
): void {
  const headers = pick(request.headers, ASKED);
  const passed = http.request({
    socketPath,
    method: request.method,
    path: target,
    headers: { ...headers, host: 'vproxy' },
  });
  passed.on('response', (answer) => {
    const { statusCode: status = 0 } = answer;
    const type = answer.headers['content-type'] ?? '';
    const isFile = !type.startsWith('application/json') && !type.startsWith('application/x-ndjson');
    // What is not vproxy may answer 099, which cannot be passed on.
    response.writeHead(status < 200 ? 502 : status, {
      ...pick(answer.headers, ANSWERED),
      'content-type': isFile ? BYTES_TYPE : type,
      ...(isFile && { 'content-disposition': 'attachment' }),
    });
    pipeline(answer, response, () => undefined);
  });
  passed.on('error', (error) => {
    if (response.headersSent) response.destroy();
    else answerError(response, 502, requestError(socketPath, error));
  });
  response.once('close', () => void passed.destroy());
  pipeline(request, passed, () => undefined);
}

/** Passes a WebSocket on, with its handshake, byte by byte. */
export function passUpgrade(
  request: IncomingMessage,
  client: Duplex,
  head: Buffer,
  socketPath: string,
  target: string,
): void {
  const names = ['host', 'origin', 'connection', 'upgrade'];
  const headers = Object.entries(request.headers).filter(
    ([name]) => names.includes(name) || name.startsWith('sec-websocket-'),
  );
  const socket = net.connect({ path: socketPath });
  socket.write(
    [`GET ${target} HTTP/1.1`, ...headers.map(([name, value]) => `${name}: ${String(value)}`), '\r\n'].join('\r\n'),
  );
  socket.write(head);
  pipeline(client, socket, client, () => undefined);
}

function pick(headers: IncomingMessage['headers'], names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name): [string, string][] => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
}
