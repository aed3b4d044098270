/** One connection of the load generator to the far end: what comes is only counted. */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { READ_BUFFER } from './chunk.js';

/** Where to connect: a port of 127.0.0.1, the path of a unix socket, or a port of 127.0.0.1 by a CONNECT to the proxy at another one. */
export type Address = number | string | { readonly proxy: number; readonly port: number };

/** An open connection. Its user for the moment replaces both functions. */
export interface Connection {
  readonly stream: Duplex;
  /** Called with the number of bytes that came. */
  onBytes: (count: number) => void;
  /** It is gone: broken, ended by the other side, or destroyed here. */
  onGone: (error: Error) => void;
}

/** Makes a connection. */
export type Connect = () => Promise<Connection>;

/** What `net.connect` is told of an address. */
export function socketOptions(
  address: Address,
): { readonly path: string } | { readonly host: string; readonly port: number } {
  if (typeof address === 'string') return { path: address };
  return { host: '127.0.0.1', port: typeof address === 'number' ? address : address.proxy };
}

/** What is said first to be connected by a proxy, which answers in one piece; null where there is none. */
export function tunnelRequest(address: Address): string | null {
  if (typeof address !== 'object') return null;
  const destination = `127.0.0.1:${address.port}`;
  return `CONNECT ${destination} HTTP/1.1\r\nHost: ${destination}\r\n\r\n`;
}

/** Connects a socket: TCP_NODELAY, half-open allowed, read into the one buffer of the process. */
export function connectSocket(address: Address): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const onread = { buffer: READ_BUFFER, callback: (count: number) => (connection.onBytes(count), true) };
    const options = { ...socketOptions(address), noDelay: true, allowHalfOpen: true, onread };
    const stream = net.connect(options as net.NetConnectOpts);
    const request = tunnelRequest(address);
    const connection: Connection = { stream, onBytes: () => resolve(connection), onGone: reject };
    stream.once('connect', () => {
      if (request === null) resolve(connection);
      else stream.write(request);
    });
    stream.on('error', (error) => connection.onGone(error));
    stream.on('end', () => connection.onGone(new Error('the far end closed the connection')));
    stream.on('close', () => connection.onGone(new Error('the connection closed')));
  });
}

/** What `work` resolves with, or a rejection when one of its connections goes first. */
export function whileOpen<T>(connections: readonly Connection[], work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    for (const connection of connections) connection.onGone = reject;
    work.then(resolve, reject);
  });
}

/** Ends what `open` connected, also when some of it failed. */
export function closeAll(connections: readonly Connection[]): void {
  for (const connection of connections) {
    connection.onGone = () => undefined;
    connection.stream.destroy();
  }
}
