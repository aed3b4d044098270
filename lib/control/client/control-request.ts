/** One request to a control socket. Loads nothing of the proxy. */
import type http from 'node:http';
import net from 'node:net';
import { VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';
import type { Contracts } from '../routes/table.js';
import { answeredError, formatTarget, requestAnswer, requestError, type Values } from './plain-http.js';

/** A route by its method and path: `DELETE /v1/channels/{label}`. */
export type RouteName = keyof Contracts;

/** The input of a route. `signal` cancels the request. */
export type Given<Name extends RouteName> = Contracts[Name]['given'] & { readonly signal?: AbortSignal | undefined };

/** The method of a route, and the target of a request with its input. */
function requestOf(route: RouteName, { params, query }: Parts): { readonly method: string; readonly target: string } {
  const [method = '', template = ''] = route.split(' ');
  return { method, target: formatTarget(template, params, query) };
}

/** The input of any route. */
interface Parts {
  readonly params?: Values;
  readonly query?: Values;
  /** Sent as JSON. */
  readonly body?: object;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Resolves with the text of the answer. Rejects with `control-unavailable`, `denied`, or the code of an error answer.
 */
export async function requestText<Name extends RouteName>(
  socketPath: string,
  route: Name,
  given: Given<Name>,
): Promise<string> {
  const { body, signal }: Parts = given;
  const { method, target } = requestOf(route, given);
  try {
    return await requestAnswer(socketPath, target, { method, body, signal });
  } catch (error) {
    throw requestError(socketPath, error);
  }
}

/**
 * Resolves with the value of the answer, or undefined if it is empty. Does not check it against its schema: the process
 * belongs to the same user and runs the same program. Rejects as {@link requestText} does.
 */
export async function requestValue<Name extends RouteName>(
  socketPath: string,
  route: Name,
  given: Given<Name>,
): Promise<Contracts[Name]['answer']> {
  const text = await requestText(socketPath, route, given);
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as Contracts[Name]['answer'];
  } catch (error) {
    throw new VproxyError(
      'control-unavailable',
      `${escapeText(socketPath)}: not a vproxy: its answer is not valid JSON`,
      {
        cause: error,
      },
    );
  }
}

/** Resolves with the answer while it is being sent. Loads node:http, which reads its pieces. Rejects as {@link requestText} does. */
export async function openAnswer<Name extends RouteName>(
  socketPath: string,
  route: Name,
  given: Given<Name>,
): Promise<http.IncomingMessage> {
  const { request } = await import('node:http');
  const { signal }: Parts = given;
  const { method, target } = requestOf(route, given);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request({
      method,
      path: target,
      headers: { host: 'vproxy' },
      createConnection: () => net.connect({ path: socketPath, allowHalfOpen: true }),
      ...(signal === undefined ? {} : { signal }),
    })
      .once('response', resolve)
      .on('error', (error) => reject(requestError(socketPath, error)))
      .end();
  });
  const { statusCode = 0 } = response;
  if (statusCode >= 400) throw answeredError(statusCode, await bodyOf(socketPath, response));
  return response;
}

/** Reads a response's body. Rejects with `control-unavailable` if it is cut off. */
async function bodyOf(socketPath: string, response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  try {
    for await (const piece of response) text += String(piece);
  } catch (error) {
    throw requestError(socketPath, error);
  }
  return text;
}
