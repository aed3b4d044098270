/** Listening on a socket that somebody else has bound, such as systemd. */
import { once } from 'node:events';
import type net from 'node:net';
import { VproxyError } from '../errors.js';
import { describeError } from './describe-error.js';

/** A listening stream socket that this process was started with. */
export interface InheritedSocket {
  /** Its descriptor. */
  readonly fd: number;
}

/**
 * Makes `server` accept the connections of an inherited socket; resolved when it does. The descriptor is the server's from
 * then on; the socket's file stays when it closes. Rejects with `address-unavailable` for what is no such socket.
 */
export async function listenInherited(server: net.Server, { fd }: InheritedSocket): Promise<void> {
  try {
    const listening = once(server, 'listening');
    // What fails before is thrown, and then nobody waits for that.
    listening.catch(() => undefined);
    server.listen({ fd });
    await listening;
  } catch (error) {
    const message = `cannot listen on the inherited descriptor ${fd}: ${describeError(error)}`;
    throw new VproxyError('address-unavailable', message, { cause: error });
  }
}
