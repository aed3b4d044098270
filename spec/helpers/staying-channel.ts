/** A channel that stays open at one end while the process at its other end is killed, as a VM's port does. */
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { localServer } from './local-server.js';

/** Two unix sockets; what is written to one comes out of the other, for the process that is connected there then. */
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
