/** Connections for one byte: connect, send a byte, get it back, end, wait for the EOF of the other end. */
import net from 'node:net';
import { READ_BUFFER } from './chunk.js';
import { type Address, socketOptions, tunnelRequest } from './connection.js';

/** Makes `count` connections, `parallel` at a time; connections per second. */
export async function measureConnections(address: Address, count: number, parallel: number): Promise<number> {
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < count) {
      begun += 1;
      await exchangeOneByte(address);
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: parallel }, worker));
  return count / ((performance.now() - startedAt) / 1000);
}

/** Makes one connection, until both directions have ended. Rejects when its byte does not come back. */
export function exchangeOneByte(address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    let isAnswered = false;
    let request = tunnelRequest(address);
    const ask = (): void => void stream.write('echo\nx');
    const callback = (): boolean => {
      isAnswered = request === null;
      if (isAnswered) stream.end();
      else ask();
      request = null;
      return true;
    };
    const options = { ...socketOptions(address), noDelay: true, onread: { buffer: READ_BUFFER, callback } };
    const stream = net.connect(options as net.NetConnectOpts);
    stream.once('connect', () => {
      if (request === null) ask();
      else stream.write(request);
    });
    stream.once('error', reject);
    stream.once('close', () => (isAnswered ? resolve() : reject(new Error('the connection closed without an answer'))));
  });
}
