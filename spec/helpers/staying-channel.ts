/** A channel that stays open at one end while the process at its other end is killed, like a VM's port. */
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { localServer } from './local-server.js';

/** Two unix sockets; bytes written to one come out of the other, for the process connected there then. */
export async function stayingChannel(
  t: ExecutionContext,
  folder: string,
): Promise<{ readonly left: string; readonly right: string }> {
  const connected: (net.Socket | undefined)[] = [undefined, undefined];
  const paths = { left: join(folder, 'left'), right: join(folder, 'right') };
  for (const [end, path] of [paths.left, paths.right].entries()) {
    const other = 1 - end;
    const carry = (socket: net.Socket): void => {
      connected[end] = socket;
      socket.once('close', () => {
        connected[other]?.unpipe(socket);
        connected[end] = undefined;
      });
      const peer = connected[other];
      if (peer === undefined) return;
      peer.pipe(socket, { end: false });
      socket.pipe(peer, { end: false });
    };
    await localServer(t, carry, { path }, { allowHalfOpen: false });
  }
  return paths;
}
