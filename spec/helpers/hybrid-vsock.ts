/** The host's side of hybrid vsock as in Firecracker, and badly behaved ones. */
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { localServer } from './local-server.js';

export interface HybridRequest {
  readonly line: string;
  /** The bytes after the line that arrived before the answer. */
  readonly early: string;
}

/**
 * A fake that parses like Firecracker: it reads once from a socket that has become ready; an incomplete line is an error, upon
 * which it closes the connection without an answer. `serve` gets the socket of each open port, after the answer.
 */
export async function firecracker(
  t: ExecutionContext,
  path: string,
  ports: Readonly<Record<number, (socket: net.Socket, early: Buffer) => void>>,
): Promise<HybridRequest[]> {
  const requests: HybridRequest[] = [];
  await localServer(
    t,
    (socket) => {
      socket.once('data', (chunk: Buffer) => {
        socket.pause();
        const end = chunk.indexOf('\n');
        const [, verb = '', port = ''] = /^(\S+)\s+(\d+)$/.exec(chunk.toString('latin1', 0, end)) ?? [];
        const serve = ports[Number(port)];
        requests.push({ line: chunk.toString('latin1', 0, end + 1), early: chunk.toString('latin1', end + 1) });
        if (end === -1 || end >= 32 || verb.toLowerCase() !== 'connect' || serve === undefined) {
          socket.destroy();
          return;
        }
        socket.write('OK 1073741824\n');
        serve(socket, chunk.subarray(end + 1));
        socket.resume();
      });
    },
    { path },
  );
  return requests;
}

/** One that handles each connection as told, once the line has arrived. */
export async function answering(t: ExecutionContext, path: string, answer: (socket: net.Socket) => void) {
  await localServer(t, (socket) => void socket.once('data', () => answer(socket)), { path });
}

/** Sends pieces one after another, such that each is read alone. */
export function inPieces(socket: net.Socket, pieces: readonly string[]): void {
  const [first, ...rest] = pieces;
  if (first === undefined) return;
  socket.write(first, () => setImmediate(() => inPieces(socket, rest)));
}
