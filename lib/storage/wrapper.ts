/**
 * The wrapper's end of a storage call. The wrapper must start as fast as bare Node: keep this file and its imports
 * small.
 */
import { createConnection, type Socket } from 'node:net';
import { systemCode, VproxyError } from '../errors.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import { decodeAnswer, encodeRequest, MAX_REPLY_BYTES, type StorageReply } from './wire.js';

export interface StorageCallOptions {
  /** The command line; `argv[0]` is the path by which the utility was called. */
  readonly argv: readonly string[];
  /** Candidates for the broker's socket; the first that accepts is used. */
  readonly socketPaths: readonly string[];
  /** Timeout for the whole call, in milliseconds; 0: none. */
  readonly timeoutMs: number;
}

// Node fires longer timers at once.
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Makes one storage call; the request is sent at most once. Rejects with `storage-unavailable` (no broker, or it or the
 * emulator failed), `storage-timeout`, `storage-bad-reply`, `storage-bad-request`, or another code from the broker.
 */
export async function callStorage(options: StorageCallOptions): Promise<StorageReply> {
  const { argv, socketPaths, timeoutMs } = options;
  const request = encodeRequest({ argv });
  let socket: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  if (timeoutMs > 0) {
    const expire = () => socket?.destroy(new VproxyError('storage-timeout', `no answer within ${timeoutMs / 1000} s`));
    timer = setTimeout(expire, Math.min(timeoutMs, MAX_TIMER_MS));
  }
  let failure: unknown;
  try {
    for (const path of socketPaths) {
      try {
        socket = createConnection(path);
        return await exchange(socket, request);
      } catch (error) {
        failure = error;
        // Try the next path only if nothing was sent: the connection failed.
        if (!isUnconnected(error)) break;
      } finally {
        socket?.destroy();
      }
    }
  } finally {
    clearTimeout(timer);
  }
  throw asCallError(failure, socketPaths);
}

/** Sends the request and reads the answer. */
function exchange(socket: Socket, request: Buffer): Promise<StorageReply> {
  const scanner = new JsonScanner(MAX_REPLY_BYTES, 'storage-bad-reply', 'the reply');
  return new Promise((resolve, reject) => {
    const attempt = (step: () => Buffer | undefined): void => {
      try {
        const message = step();
        if (message !== undefined) resolve(decodeAnswer(message));
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    socket.on('error', reject);
    socket.on('data', (chunk) =>
      attempt(() => {
        scanner.push(chunk);
        return scanner.next();
      }),
    );
    socket.on('end', () => {
      attempt(() => scanner.end());
      reject(new VproxyError('storage-unavailable', 'vproxy hung up without an answer'));
    });
    socket.write(request);
  });
}

function isUnconnected(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect';
}

function asCallError(error: unknown, paths: readonly string[]): VproxyError {
  if (error instanceof VproxyError) return error;
  const reason = systemCode(error);
  const message = isUnconnected(error)
    ? `no vproxy answers on ${paths.join(' or ')} (${reason})`
    : `connection to vproxy lost before its answer (${reason})`;
  return new VproxyError('storage-unavailable', message, { cause: error });
}
