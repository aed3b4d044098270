/** Connections of a control socket that carry a stream. */
import http from 'node:http';
import net, { type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { within } from './eventually.js';

/** An answer to a request for an upgrade: the socket where it was granted, the status and body where it was not. */
export type UpgradeAnswer =
  | { readonly socket: Socket; readonly head: Buffer }
  | { readonly status: number; readonly text: string };

/** Asks for a stream to a service; the socket is destroyed when the test ends. */
export function askForStream(t: ExecutionContext, socketPath: string, query: string): Promise<UpgradeAnswer> {
  const answered = new Promise<UpgradeAnswer>((resolve, reject) => {
    const headers = { Connection: 'Upgrade', Upgrade: 'vproxy-stream' };
    // Of its own, as those of node:http end when their peer does.
    const createConnection = () => net.connect({ path: socketPath, allowHalfOpen: true });
    const request = http.request({ createConnection, path: `/v1/connect?${query}`, headers });
    request.once('error', reject);
    request.once('upgrade', (_response, socket, head) => {
      t.teardown(() => socket.destroy());
      socket.on('error', () => undefined);
      resolve({ socket, head });
    });
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    request.end();
  });
  return within(20_000, 'the answer to an upgrade', answered);
}

/** The socket of a stream; rejects where it was refused. */
export async function openStream(t: ExecutionContext, socketPath: string, query: string): Promise<Socket> {
  const answer = await askForStream(t, socketPath, query);
  if ('status' in answer) throw new Error(`${answer.status} ${answer.text}`);
  if (answer.head.length > 0) answer.socket.unshift(answer.head);
  return answer.socket;
}
