/** One request to a control socket, with its answer or its error. Loads nothing of the proxy. */
import http from 'node:http';
import net from 'node:net';
import { VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';
import { answeredError, requestError } from './plain-http.js';

/** What is asked for. */
export interface ControlRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Begins with a slash; encoded. */
  readonly path: string;
  /** Values that are undefined are left out. */
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** Sent as JSON. */
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** Gives the request up. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Sends a request on a connection of its own, with room for half-close. Whoever gets it listens for `error` (see
 * {@link requestError}) and takes the response.
 */
function sendRequest(socketPath: string, request: ControlRequest): http.ClientRequest {
  const { method, path, query = {}, body, headers, signal } = request;
  const text = body === undefined ? '' : JSON.stringify(body);
  const pairs = Object.entries(query).flatMap<[string, string]>(([key, value]) =>
    value === undefined ? [] : [[key, String(value)]],
  );
  const search = pairs.length === 0 ? '' : `?${new URLSearchParams(pairs).toString()}`;
  const sent = http.request({
    method,
    path: `${path}${search}`,
    headers: {
      host: 'vproxy',
      ...(text === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      ...headers,
    },
    createConnection: () => net.connect({ path: socketPath, allowHalfOpen: true }),
    ...(signal === undefined ? {} : { signal }),
  });
  sent.end(text);
  return sent;
}

/** The response, whatever its status. Rejects with `control-unavailable` or `denied`. */
export function responseTo(socketPath: string, request: ControlRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    sendRequest(socketPath, request)
      .once('response', resolve)
      .on('error', (error) => reject(requestError(socketPath, error)));
  });
}

/** The body of an answer as text. Rejects as {@link responseTo} does, and with the code of an answer that is an error. */
export async function requestText(socketPath: string, request: ControlRequest): Promise<string> {
  const response = await responseTo(socketPath, request);
  const text = await bodyOf(socketPath, response);
  if ((response.statusCode ?? 0) >= 400) throw answeredError(response.statusCode ?? 0, text);
  return text;
}

/** The value that an answer holds; undefined where it is empty. Rejects as {@link requestText} does. */
export async function requestValue(socketPath: string, request: ControlRequest): Promise<unknown> {
  const text = await requestText(socketPath, request);
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new VproxyError(
      'control-unavailable',
      `what answers on ${escapeText(socketPath)} is no vproxy: its answer is no JSON`,
      {
        cause: error,
      },
    );
  }
}

/** All of a response's body. Rejects with `control-unavailable` where it is cut off. */
export async function bodyOf(socketPath: string, response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  try {
    for await (const piece of response) text += String(piece);
  } catch (error) {
    throw requestError(socketPath, error);
  }
  return text;
}
