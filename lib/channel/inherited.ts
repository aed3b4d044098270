/** Descriptors that this process was started with. Each is a channel once: what has ended cannot be opened again. */
import { closeSync, fstatSync, openSync, type Stats } from 'node:fs';
import type net from 'node:net';
import { systemCode, VproxyError } from '../errors.js';
import { EndedLink } from '../link/ended-link.js';
import type { Link } from '../link/link.js';

/** Which descriptors were a channel already. */
export class TakenDescriptors {
  readonly #taken = new Set<number>();

  /** Takes descriptors for a channel. Throws `channel-lost` where one was taken before. */
  take(fds: readonly number[], description: string): void {
    if (fds.some((fd) => this.#taken.has(fd))) {
      throw new VproxyError('channel-lost', `${description} was closed, and cannot be opened again`);
    }
    for (const fd of fds) this.#taken.add(fd);
  }
}

/** What is behind a descriptor. Throws `channel-unusable` where it is not open. */
export function inspectDescriptor(fd: number, description: string): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    const what = systemCode(error) === 'EBADF' ? 'this process was not given it' : String(error);
    throw new VproxyError('channel-unusable', `${description}: ${what}`, { cause: error });
  }
}

/**
 * Closes one of the descriptors 0 to 2 with its socket, which Node leaves open: the other side shall see the end. In its
 * place stands /dev/null, so that nothing else gets that number.
 */
export function closeWith(socket: net.Socket, fd: number): void {
  if (fd > 2) return;
  socket.once('close', () => {
    closeSync(fd);
    openSync('/dev/null', 'r+');
  });
}

/** A link whose end is that of the channel for good: `channel-ended` or, after a failure, `channel-lost`. */
export function endsForGood(link: Link): Link {
  return new EndedLink(link, (reason) => {
    if (reason.code === 'shutdown') return Promise.resolve(reason);
    const code = reason.code === 'channel-closed' ? 'channel-ended' : 'channel-lost';
    return Promise.resolve(new VproxyError(code, reason.message, { cause: reason }));
  });
}
