/** A control server with a stream beside it, and connections to it on which anything can be said. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { startControl, type TestControl } from './control.js';
import { within } from './eventually.js';
import { ManualClock } from './manual-clock.js';
import { connectedProxies, echo, localServer, localSocket } from './proxies.js';
import { temporaryFolder } from './temp-folder.js';

export interface HostileSetup extends TestControl {
  readonly clock: ManualClock;
  /** A stream that was open before: true when it still echoes, and a request is answered. */
  readonly isUnharmed: () => Promise<boolean>;
}

/** Starts both; a stream is open, and the routes are loaded. */
export async function besideStream(t: ExecutionContext): Promise<HostileSetup> {
  const target = await localServer(t, echo);
  const { a } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'c'),
    { outgoing: ['echo:127.0.0.1:0'] },
    { incoming: [`echo:127.0.0.1:${target.port}`] },
  );
  const neighbour = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
  const clock = new ManualClock();
  const control = await startControl(t, a.proxy, { clock });
  // With the routes loaded, so that what follows is about requests only.
  await control.ask('GET', '/v1/forwards');
  const isUnharmed = async () => {
    const answer = once(neighbour, 'data') as Promise<[Buffer]>;
    neighbour.write('x');
    const [[echoed], { status }] = await within(
      5000,
      'echo and status',
      Promise.all([answer, control.ask('GET', '/v1/status')]),
    );
    return echoed.toString() === 'x' && status === 200;
  };
  t.true(await isUnharmed());
  return { ...control, clock, isUnharmed };
}

/** A connection on which anything can be said; its end, however it comes, is no error. */
export async function openConnection(t: ExecutionContext, path: string): Promise<net.Socket> {
  const socket = localSocket(t, { path });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** All that comes until the connection is closed, in order or not. */
export async function readUntilClosed(socket: net.Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.once('end', () => socket.destroy());
  const closed = new Promise((resolve) => socket.once('close', resolve));
  if (!socket.destroyed) await within(20_000, 'the close of a connection', closed);
  return text;
}

/** The header of a request with a body. */
export const post = (path: string, headers: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n\r\n`;
