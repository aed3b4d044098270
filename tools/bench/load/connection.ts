/** One connection of the load generator to the far end: received bytes are only counted. */
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { READ_BUFFER } from './chunk.js';

/** An address: a port of 127.0.0.1, the path of a unix socket, or a port of 127.0.0.1 through a proxy on another one. */
export type Address = number | string | { readonly proxy: number; readonly port: number };

/** An open connection. Its current user replaces both functions. */
export interface Connection {
  readonly stream: Duplex;
  /** Called with the number of received bytes. */
  onBytes: (count: number) => void;
  /** Called when it is reset, ended by the other side, or destroyed here. */
  onGone: (error: Error) => void;
}

/** Makes a connection. */
export type Connect = () => Promise<Connection>;

/** Returns the options of `net.connect` for an address. */
export function socketOptions(
  address: Address,
): { readonly path: string } | { readonly host: string; readonly port: number } {
  if (typeof address === 'string') return { path: address };
  return { host: '127.0.0.1', port: typeof address === 'number' ? address : address.proxy };
}

/** Returns the request to a proxy, which answers in one piece; null without a proxy. */
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

/** Resolves as `work`, or rejects when one of its connections closes first. */
export function whileOpen<T>(connections: readonly Connection[], work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    for (const connection of connections) connection.onGone = reject;
    work.then(resolve, reject);
  });
}

/** Closes all connections of `open`, also when some failed. */
export function closeAll(connections: readonly Connection[]): void {
  for (const connection of connections) {
    connection.onGone = () => undefined;
    connection.stream.destroy();
  }
}
