/**
 * The subset of HTTP needed for requests to a control socket, on a bare socket: loading node:http would take longer than the
 * rest of most commands. Also the errors of all requests to a control socket.
 */
import { statSync } from 'node:fs';
import net from 'node:net';
import { systemCode, VproxyError } from '../../errors.js';
import type { ControlStatus } from '../../status/types.js';
import { describeError, escapeText } from '../../util/escape.js';

/** Path parameters or a query; undefined values are omitted. */
export type Values = Readonly<Record<string, string | number | boolean | undefined>>;

/** Formats the target of a request: a path with parameters for each `{name}`, and a query. */
export function formatTarget(template: string, params: Values = {}, query: Values = {}): string {
  const path = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])));
  const pairs = Object.entries(query).flatMap<[string, string]>(([key, value]) =>
    value === undefined ? [] : [[key, String(value)]],
  );
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs).toString()}`;
}

export interface AnswerHead {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  /** Bytes received after the head. */
  readonly rest: Buffer;
}

const MAX_HEAD_BYTES = 16_384;

/** A request without its headers. */
interface RequestLine {
  /** Default GET. */
  readonly method?: string | undefined;
  readonly target: string;
  readonly version: '1.0' | '1.1';
}

/** Connects and sends a request; `headers` are lines without line ends. `readHead` reports the socket's errors. */
export function sendRequest(
  socketPath: string,
  { method = 'GET', target, version }: RequestLine,
  headers: readonly string[],
  body = '',
): net.Socket {
  const socket = net.connect({ path: socketPath, allowHalfOpen: true });
  socket.on('error', () => undefined);
  socket.write([`${method} ${target} HTTP/${version}`, 'Host: vproxy', ...headers, '', body].join('\r\n'));
  return socket;
}

/** Reads the head of the answer, then pauses the socket. Rejects with the socket's error. */
export function readHead(socket: net.Socket): Promise<AnswerHead> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const settle = (): void => {
      socket.off('data', onData).off('end', onEnd).off('error', fail).pause();
    };
    const fail = (error: Error): void => {
      settle();
      reject(error);
    };
    const onEnd = (): void => {
      const cause = Object.assign(new Error('end of file'), { code: 'ECONNRESET' });
      fail(new VproxyError('control-unavailable', 'the process closed the connection without an answer', { cause }));
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const end = bytes.indexOf('\r\n\r\n');
      if (end === -1 && bytes.length <= MAX_HEAD_BYTES) return;
      const head = end === -1 ? null : parseHead(bytes.toString('latin1', 0, end));
      if (head === null) {
        fail(new VproxyError('control-unavailable', 'not a vproxy: it does not speak HTTP'));
        return;
      }
      settle();
      resolve({ ...head, rest: bytes.subarray(end + 4) });
    };
    socket.on('data', onData).once('end', onEnd).once('error', fail);
  });
}

/** The longest answer, in bytes: the status of 10,000 channels takes 40 MB. */
const MAX_ANSWER_BYTES = 134_217_728;

/** Reads the text behind the head, up to EOF. Rejects with the socket's error, and if the text is cut off, or too long. */
export async function readRest(socket: net.Socket, { headers, rest }: AnswerHead): Promise<string> {
  const chunks = [rest];
  for await (const chunk of socket) {
    chunks.push(chunk as Buffer);
    if (socket.bytesRead > MAX_ANSWER_BYTES)
      throw new VproxyError('control-unavailable', 'not a vproxy: its answer does not end');
  }
  const bytes = Buffer.concat(chunks);
  if (bytes.length < Number(headers.get('content-length') ?? 0))
    throw new VproxyError('control-unavailable', 'the process closed the connection in the middle of its answer');
  return bytes.toString();
}

/** What a request may have besides its target. */
interface RequestDetails {
  readonly method?: string | undefined;
  /** Sent as JSON. */
  readonly body?: object | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a request that is given up rejects with. */
const reasonOf = (signal: AbortSignal | undefined): VproxyError =>
  (signal?.reason as Error | undefined)?.name === 'TimeoutError'
    ? new VproxyError('control-unavailable', 'no answer from the process')
    : new VproxyError('cancelled', 'the caller has cancelled the request');

/**
 * Sends a request on its own connection; resolves with the text of the answer. Rejects with the code of the answer, with the
 * socket's error, and as soon as `signal` is aborted: with `cancelled`, or `control-unavailable` after a timeout.
 */
export async function requestAnswer(
  socketPath: string,
  target: string,
  { method, body, signal }: RequestDetails = {},
): Promise<string> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers =
    body === undefined ? [] : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(text)}`];
  // In HTTP/1.0 the answer ends with the connection.
  const socket = sendRequest(socketPath, { method, target, version: '1.0' }, headers, text);
  const giveUp = (): void => void socket.destroy(reasonOf(signal));
  if (signal?.aborted === true) giveUp();
  signal?.addEventListener('abort', giveUp);
  try {
    const head = await readHead(socket);
    const answer = await readRest(socket, head);
    if (head.status >= 300) throw answeredError(head.status, answer);
    return answer;
  } finally {
    signal?.removeEventListener('abort', giveUp);
    // A server that is not vproxy may have left its direction open.
    socket.destroy();
  }
}

/** Requests the value at `target`; see {@link requestAnswer}. */
export async function getValue<T>(socketPath: string, target: string, signal?: AbortSignal): Promise<T> {
  return JSON.parse(await requestAnswer(socketPath, target, { signal })) as T;
}

/** The default timeout of `askStatus`. */
const ANSWER_MS = 2000;

/** Requests the status of the vproxy on a control socket; null if none answers within `answerMs`. */
export async function askStatus(path: string, answerMs = ANSWER_MS): Promise<ControlStatus | null> {
  try {
    const status = await getValue<Partial<ControlStatus>>(path, '/v1/status', AbortSignal.timeout(answerMs));
    return typeof status.process?.pid === 'number' ? (status as ControlStatus) : null;
  } catch {
    return null;
  }
}

function parseHead(text: string): Omit<AnswerHead, 'rest'> | null {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(first)?.[1];
  if (status === undefined) return null;
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  return { status: Number(status), headers: new Map(headers) };
}

/** The error in the body of an answer; `control-unavailable` for a body that is not vproxy's. */
export function answeredError(status: number, text: string): VproxyError {
  try {
    const { error } = JSON.parse(text) as { error: { code: unknown; message: unknown } };
    if (typeof error.code === 'string' && typeof error.message === 'string') {
      return new VproxyError(error.code, error.message);
    }
  } catch {
    // Reported below.
  }
  return new VproxyError('control-unavailable', `not an answer of vproxy: status ${status} ${escapeText(text, 80)}`);
}

/** Converts an error of the system or of the HTTP parser. */
export function requestError(socketPath: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const code = systemCode(error);
  const where = shown(socketPath);
  const fail = (message: string, as: 'control-unavailable' | 'denied' = 'control-unavailable'): VproxyError =>
    new VproxyError(as, message, { cause: error });
  if (code === 'EACCES' || code === 'EPERM') return fail(`control socket ${where}: permission denied`, 'denied');
  if (code === 'ENOENT') return fail(`no process answers on ${where}: the socket does not exist`);
  if (code === 'ECONNREFUSED')
    return fail(`no process answers on ${where}: ${isSocket(socketPath) ? 'its process has exited' : 'not a socket'}`);
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return fail(`the process on ${where} closed the connection without an answer`);
  if (code.startsWith('HPE_')) return fail(`${where}: not a vproxy: it does not speak HTTP`);
  return fail(`cannot connect to ${where}: ${describeError(error)}`);
}

/** Whether the process closed the connection without an answer. */
export const isCutOff = ({ cause }: Error): boolean => ['ECONNRESET', 'EPIPE'].includes(systemCode(cause));

const shown = (path: string): string => escapeText(path);

const isSocket = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isSocket() !== false;
