/** Answers requests according to the table of routes. */
import { writeSync } from 'node:fs';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { VproxyError } from '../../errors.js';
import { descriptorShortage } from '../../system/descriptors.js';
import { descriptorOf } from '../../system/sockets/node-sockets.js';
import { LoopTurns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import type { ControlContext } from '../context/context.js';
import { answerError, RequestError } from '../routes/request-error.js';
import type { Route, RouteInput } from '../routes/route.js';
import { rawAnswer } from './http-service.js';
import { bytesOf, decodeText, parseInput, parseQueryText, readBody } from './read-input.js';

/** How much of a rejected request's body is still read; of one of any length, all. */
const MAX_DROPPED_BYTES = 1_048_576;

/** The input of any handler; only its route knows the types. */
type AnyInput = RouteInput<never, never, never>;

/** Answers requests; never throws and never rejects, whatever happens to their connections. */
export class RequestHandler {
  readonly #context: ControlContext;
  readonly #routes: readonly Route[];
  /** Spreads the work for requests that come in one turn. */
  readonly #turns = new LoopTurns();

  constructor(routes: readonly Route[], context: ControlContext) {
    this.#routes = routes;
    this.#context = context;
  }

  /** For `hold`, see {@link HttpHandlers}. */
  async handle(request: IncomingMessage, response: ServerResponse, hold: () => void): Promise<void> {
    if (response.destroyed) return;
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    let mostBytes = MAX_DROPPED_BYTES;
    const holdLong = (): void => {
      mostBytes = Number.POSITIVE_INFINITY;
      hold();
    };
    try {
      await this.#answer(request, response, gone.signal, holdLong);
    } catch (error) {
      sendError(request, response, error, mostBytes);
    }
  }

  /** Answers a request to upgrade its connection. */
  async upgrade(request: IncomingMessage, socket: Socket): Promise<void> {
    if (socket.destroyed) return;
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    try {
      const { route, params, query } = this.#match(request);
      const wanted = String(request.headers.upgrade);
      if (route.kind !== 'upgrade' || !route.protocols.includes(wanted.toLowerCase())) {
        throw new RequestError('bad-argument', `Upgrade: ${escapeText(wanted, 40)} is not supported here`);
      }
      const context = {
        signal: gone.signal,
        afterAnswer: (action: () => void) => action(),
        answerAtOnce: () => undefined,
        request,
        bytes: () => request,
      };
      const input = checkInput(route, { params, query, body: {} }, context);
      // An upgraded connection is an ordinary one: the last descriptors are reserved for requests.
      const shortage = descriptorShortage(socket);
      if (shortage !== null) throw new VproxyError('local-error', shortage);
      await route.upgrade(this.#context, input, socket);
    } catch (error) {
      refuseUpgrade(socket, error);
    }
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
    hold: () => void,
  ): Promise<void> {
    // Node reports the end of an empty body after this event.
    await Promise.resolve();
    const turn = this.#turns.nextTurn();
    if (turn !== null) await turn;
    const { route, params, query } = this.#match(request);
    const { takesBytes = false, maxBodyBytes } = route;
    if (route.tag === 'files') hold();
    const body = takesBytes ? {} : await readBody(request, response, maxBodyBytes);
    const next = this.#turns.nextTurn();
    if (next !== null) await next;
    const afterAnswer = (action: () => void) => {
      if (signal.aborted) action();
      else response.once('close', action);
    };
    const answerAtOnce = (value: unknown) => sendAtOnce(request.socket, value);
    const bytes = () => bytesOf(request, response);
    const input = checkInput(route, { params, query, body }, { signal, afterAnswer, answerAtOnce, request, bytes });
    if (route.kind === 'upgrade') {
      const { path, protocols } = route;
      const headers = { Connection: 'Upgrade', Upgrade: protocols.join(', ') };
      const message = `${path} needs Connection: Upgrade and Upgrade: ${protocols.join(' or ')}`;
      throw new RequestError('bad-argument', message, { status: 426, headers });
    }
    if (route.kind === 'text') {
      response.setHeader('Content-Type', route.contentType);
      await route.send(this.#context, input, response);
      return;
    }
    const value = await route.handle(this.#context, input);
    if (route.answer === null)
      response.writeHead(route.status, route.status === 204 ? {} : { 'Content-Length': 0 }).end();
    else sendJson(response, route.status, value);
  }

  #match({ method = '', url = '' }: IncomingMessage) {
    const [path = '', ...rest] = url.split('?');
    return { ...matchRoute(this.#routes, method, path), query: parseQueryText(rest.join('?')) };
  }
}

function checkInput(
  route: Route,
  { params, query, body }: { readonly params: unknown; readonly query: unknown; readonly body: unknown },
  context: Omit<AnyInput, 'params' | 'query' | 'body'>,
): AnyInput {
  const input: RouteInput<unknown, unknown, unknown> = {
    params: parseInput(route.params, params),
    query: parseInput(route.query, query),
    body: parseInput(route.body, body),
    ...context,
  };
  return input as AnyInput;
}

function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (!response.headersSent) response.end(writeJsonHead(response, status, value, headers));
}

/** Writes the head of an answer; returns its body. */
function writeJsonHead(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>>,
): string {
  const text = `${JSON.stringify(value)}\n`;
  const type = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
  response.writeHead(status, { ...type, ...headers });
  return text;
}

/** Writes a whole answer synchronously. It is short and the first output, so the system accepts it at once. */
function sendAtOnce(socket: Socket, value: unknown): void {
  const fd = descriptorOf(socket);
  if (fd === null) return;
  try {
    writeSync(fd, rawAnswer('200 OK', value));
  } catch {
    // The client has disconnected.
  }
}

function sendError(request: IncomingMessage, response: ServerResponse, error: unknown, mostBytes: number): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const { status, headers, body } = answerError(error);
  if (request.complete) {
    sendJson(response, status, body, headers);
    return;
  }
  // A client may read the answer only after writing its whole body; drop the rest of it instead of parsing it as another
  // request.
  response.write(writeJsonHead(response, status, body, { ...headers, Connection: 'close' }));
  dropBody(request, mostBytes, () => response.end());
}

/** Reads the rest of a body, up to a bound. */
function dropBody(request: IncomingMessage, mostBytes: number, onDone: () => void): void {
  // It was not asked for it, and has not begun to send it without.
  if (request.headers.expect !== undefined && request.readableLength === 0) {
    onDone();
    return;
  }
  let droppedBytes = 0;
  request.on('data', (chunk: Buffer) => {
    droppedBytes += chunk.length;
    if (droppedBytes > mostBytes) onDone();
  });
  request.once('end', onDone).resume();
}

/** Answers on a socket that has left HTTP. */
function refuseUpgrade(socket: Socket, error: unknown): void {
  if (socket.destroyed) return;
  const { status, body } = answerError(
    error instanceof VproxyError ? error : new VproxyError('internal', String(error)),
  );
  socket.end(rawAnswer(`${status} ${STATUS_CODES[status] ?? ''}`, body), () => socket.destroy());
}

/** Finds the route and path parameters. Throws `not-found` for an unknown path, `bad-argument` (405) for a wrong method. */
function matchRoute(routes: readonly Route[], method: string, path: string) {
  const allowed: string[] = [];
  for (const route of routes) {
    const params = matchPath(route.path, path);
    if (params === null) continue;
    if (route.method === method) return { route, params };
    allowed.push(route.method);
  }
  const shown = escapeText(path, 80);
  if (allowed.length === 0) throw new RequestError('not-found', `unknown path ${shown}`);
  throw new RequestError('bad-argument', `${shown}: method ${escapeText(method, 16)} is not allowed`, {
    status: 405,
    headers: { Allow: allowed.join(', ') },
  });
}

function matchPath(template: string, path: string): Record<string, string> | null {
  const wanted = template.split('/');
  const found = path.split('/');
  if (wanted.length !== found.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const text = found[index] ?? '';
    if (!part.startsWith('{')) {
      if (part !== text) return null;
    } else if (text === '') return null;
    else params[part.slice(1, -1)] = decodeText('path', text);
  }
  return params;
}
