/** What requests share that take long: a bound on their number, and answers at the client's pace. */
import type { ServerResponse } from 'node:http';
import { VproxyError } from '../../errors.js';
import type { Proxy } from '../../proxy/proxy.js';

/** The most at a time: the rest of the connections is for others. */
export const MAX_LONG_REQUESTS = 128;

const counts = new WeakMap<Proxy, number>();

/** Does the work of a request that may take long. Rejects with `too-many-streams` if there are too many. */
export async function withPlace<T>(proxy: Proxy, work: () => Promise<T>): Promise<T> {
  const count = counts.get(proxy) ?? 0;
  if (count >= MAX_LONG_REQUESTS)
    throw new VproxyError(
      'too-many-streams',
      `too many requests about commands, jobs and files (max ${MAX_LONG_REQUESTS})`,
    );
  counts.set(proxy, count + 1);
  return work().finally(() => counts.set(proxy, (counts.get(proxy) ?? 1) - 1));
}

/** Resolves when the client has room for more, or has disconnected. */
export function write(response: ServerResponse, piece: string | Buffer): Promise<void> {
  return new Promise((resolve) => {
    if (piece.length === 0 || response.write(piece) || response.destroyed) resolve();
    else {
      const done = (): void => {
        response.off('drain', done).off('close', done);
        resolve();
      };
      response.on('drain', done).on('close', done);
    }
  });
}

/** Resolves when the system has taken the whole answer, or the client has disconnected. */
export function isSent(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.writableFinished || response.destroyed) resolve();
    else response.once('close', resolve);
  });
}
