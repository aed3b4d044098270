/**
 * As much of HTTP as a stream through a control socket needs, on a bare socket: to load node:http takes longer than the
 * rest of such a command. And what any request to a control socket fails with.
 */
import net from 'node:net';
import { systemCode, VproxyError } from '../../errors.js';
import type { ControlStatus } from '../../status/types.js';
import { describeError, escapeText } from '../../util/escape.js';

/** Parameters or a query; values that are undefined are left out. */
export type Values = Readonly<Record<string, string | number | boolean | undefined>>;

/** The path of a route with its parameters, which it has as `{name}`, and its query. */
export function formatTarget(template: string, params: Values = {}, query: Values = {}): string {
  const path = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])));
  const pairs = Object.entries(query).flatMap<[string, string]>(([key, value]) =>
    value === undefined ? [] : [[key, String(value)]],
  );
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs).toString()}`;
}

/** What an answer begins with. */
export interface AnswerHead {
  readonly status: number;
  /** By their names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** What was received behind the head. */
  readonly rest: Buffer;
}

/** A longer head is refused. */
const MAX_HEAD_BYTES = 16_384;

/** A connection, with a GET request sent on it; `headers` are lines without their ends. Its errors come with `readHead`. */
export function sendGet(
  socketPath: string,
  url: string,
  version: '1.0' | '1.1',
  headers: readonly string[],
): net.Socket {
  const socket = net.connect({ path: socketPath, allowHalfOpen: true });
  socket.on('error', () => undefined);
  socket.write([`GET ${url} HTTP/${version}`, 'Host: vproxy', ...headers, '', ''].join('\r\n'));
  return socket;
}

/** The head of the answer; the socket is paused behind it. Rejects with what the socket fails with. */
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
    const onEnd = (): void => fail(new VproxyError('control-unavailable', 'the process ended before it had answered'));
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const end = bytes.indexOf('\r\n\r\n');
      if (end === -1 && bytes.length <= MAX_HEAD_BYTES) return;
      const head = end === -1 ? null : parseHead(bytes.toString('latin1', 0, end));
      if (head === null) {
        fail(new VproxyError('control-unavailable', 'what answers is no vproxy: it does not speak HTTP'));
        return;
      }
      settle();
      resolve({ ...head, rest: bytes.subarray(end + 4) });
    };
    socket.on('data', onData).once('end', onEnd).once('error', fail);
  });
}

/** All that follows, up to the end. Rejects with what the socket fails with. */
export async function readRest(socket: net.Socket, rest: Buffer): Promise<string> {
  const chunks = [rest];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/**
 * The value at `url`, which is asked for on a connection of its own. Rejects with the code of the answer, with what the
 * socket fails with, and as soon as `signal` is aborted.
 */
export async function getValue<T>(socketPath: string, url: string, signal?: AbortSignal): Promise<T> {
  // In HTTP/1.0 the answer ends with the connection.
  const socket = sendGet(socketPath, url, '1.0', []);
  const giveUp = (): void => void socket.destroy(new VproxyError('control-unavailable', 'the process does not answer'));
  signal?.addEventListener('abort', giveUp);
  try {
    const { status, rest } = await readHead(socket);
    const text = await readRest(socket, rest);
    if (status !== 200) throw answeredError(status, text);
    return JSON.parse(text) as T;
  } finally {
    signal?.removeEventListener('abort', giveUp);
    // Its own direction is open still where what answers is no vproxy.
    socket.destroy();
  }
}

/** A process that has not answered by then is taken for none, in milliseconds. */
const ANSWER_MS = 2000;

/** What the vproxy on a control socket says of itself; null where none answers within `answerMs`. */
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

/** The error in the body of an answer; one that is not of the form of vproxy's is `control-unavailable`. */
export function answeredError(status: number, text: string): VproxyError {
  try {
    const { error } = JSON.parse(text) as { error: { code: unknown; message: unknown } };
    if (typeof error.code === 'string' && typeof error.message === 'string') {
      return new VproxyError(error.code, error.message);
    }
  } catch {
    // Told below.
  }
  return new VproxyError('control-unavailable', `the answer is no vproxy's: status ${status} ${escapeText(text, 80)}`);
}

/** The error for what the system or the HTTP parser said. */
export function requestError(socketPath: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const code = systemCode(error);
  const where = shown(socketPath);
  const fail = (message: string, as: 'control-unavailable' | 'denied' = 'control-unavailable'): VproxyError =>
    new VproxyError(as, message, { cause: error });
  if (code === 'EACCES' || code === 'EPERM') return fail(`no permission to use the control socket ${where}`, 'denied');
  if (code === 'ENOENT') return fail(`no process answers on ${where}: there is no such socket`);
  if (code === 'ECONNREFUSED') return fail(`no process answers on ${where}: the one that made it has ended`);
  if (code === 'ECONNRESET' || code === 'EPIPE') return fail(`the process on ${where} ended before it had answered`);
  if (code.startsWith('HPE_')) return fail(`what answers on ${where} is no vproxy: it does not speak HTTP`);
  return fail(`cannot reach a process on ${where}: ${describeError(error)}`);
}

const shown = (path: string): string => escapeText(path);
