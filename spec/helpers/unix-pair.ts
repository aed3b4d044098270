/** Two ends of a unix socket, or of a TCP connection. */
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { systemCode } from '../../lib/errors.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';
import { temporaryFolder } from './files.js';
import { localServer, localSocket } from './proxies.js';

interface Ends {
  readonly near: net.Socket;
  readonly far: net.Socket;
}

/** `near` connects; `far` reads nothing before `resume()`, unless `pauseOnConnect` is false. */
export const unixPair = (t: ExecutionContext, pauseOnConnect = true): Promise<Ends> =>
  pairOf(t, { path: join(temporaryFolder(t), 'pair.sock') }, pauseOnConnect);

export const tcpPair = (t: ExecutionContext): Promise<Ends> => pairOf(t);

async function pairOf(t: ExecutionContext, address?: { readonly path: string }, pauseOnConnect = true): Promise<Ends> {
  const server = await localServer(t, () => undefined, address, { pauseOnConnect });
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const near = localSocket(t, address ?? { port: server.port });
  const [[far]] = await Promise.all([accepted, once(near, 'connect')]);
  return { near, far };
}

/** How many bytes the system takes of a socket whose other end does not read; nothing may wait in it. */
export const roomOf = (socket: net.Socket): number => roomOfDescriptor(descriptorOf(socket) ?? -1);

/** The same of the descriptor of a socket or a pipe. */
export function roomOfDescriptor(fd: number): number {
  const block = Buffer.alloc(16_384);
  for (let bytes = 0; ; ) {
    try {
      bytes += writeSync(fd, block);
    } catch (error) {
      if (systemCode(error) === 'EAGAIN') return bytes;
      throw error;
    }
  }
}
