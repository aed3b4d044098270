/** A channel that stays open at one end while the process at its other end is killed, as a VM's port does. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** Two unix sockets; what is written to one comes out of the other, for the process that is connected there then. */
export interface StayingChannel {
  readonly left: string;
  readonly right: string;
}

/** Makes the channel; it is removed when the test ends. */
export async function stayingChannel(t: ExecutionContext, folder: string): Promise<StayingChannel> {
  const connected: (net.Socket | undefined)[] = [undefined, undefined];
  const paths = { left: join(folder, 'left'), right: join(folder, 'right') };
  for (const [end, path] of [paths.left, paths.right].entries()) {
    const other = 1 - end;
    const server = net.createServer((socket) => {
      connected[end] = socket;
      socket.on('error', () => undefined);
      socket.once('close', () => {
        connected[other]?.unpipe(socket);
        connected[end] = undefined;
      });
      const peer = connected[other];
      if (peer === undefined) return;
      peer.pipe(socket, { end: false });
      socket.pipe(peer, { end: false });
    });
    server.listen(path);
    await once(server, 'listening');
    t.teardown(() => {
      connected[end]?.destroy();
      server.close();
    });
  }
  return paths;
}
