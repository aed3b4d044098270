/** Connecting a socket and making a link of it. */
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { channelError, openingCancelled } from './channel-error.js';
import { SocketLink } from './socket-link.js';

/** How long a connection may take: a machine that does not answer is asked anew sooner than the system would do it. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects to a TCP address or a unix socket. Rejects with a `channel-…` code (`channel-failed` when nobody answers
 * within 10 s), or with `shutdown` when `signal` is aborted.
 */
export async function dialSocket(
  description: string,
  address: net.NetConnectOpts,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<SocketLink> {
  if (signal.aborted) throw openingCancelled(description);
  const connected = deferred();
  const link = new SocketLink(description, (onread) =>
    net
      .connect({ ...address, allowHalfOpen: true, onread })
      .once('connect', () => connected.resolve())
      .once('error', (error) => connected.reject(error)),
  );
  const cancel = () => connected.reject(openingCancelled(description));
  const cancelTimeout = clock.schedule(CONNECT_TIMEOUT_MS, () =>
    connected.reject(new VproxyError('channel-failed', `${description}: no answer for ${CONNECT_TIMEOUT_MS / 1000} s`)),
  );
  signal.addEventListener('abort', cancel);
  try {
    await connected.promise;
    return link;
  } catch (error) {
    link.destroy();
    throw channelError(description, error);
  } finally {
    cancelTimeout();
    signal.removeEventListener('abort', cancel);
  }
}
