/**
 * Serves a connection of the far end, as its first line requests: `up BYTES` takes that many bytes and answers `ok`; `down BYTES`
 * sends that many; `echo` sends back what it gets.
 */
import type { Duplex } from 'node:stream';

const CHUNK = Buffer.alloc(131_072, 0x5a);

export function serveLoad(stream: Duplex): void {
  stream.on('error', () => stream.destroy());
  stream.once('data', (first: Buffer) => {
    const end = first.indexOf('\n');
    const [mode = '', amount = '0'] = first.subarray(0, end).toString().split(' ');
    const rest = first.subarray(end + 1);
    if (mode === 'up') takeBytes(stream, Number(amount), rest.length);
    else if (mode === 'down') sendBytes(stream, Number(amount));
    else echoBytes(stream, rest);
  });
  stream.on('end', () => stream.end());
}

function echoBytes(stream: Duplex, already: Buffer): void {
  if (already.length > 0) stream.write(already);
  stream.on('data', (chunk) => stream.write(chunk));
}

function takeBytes(stream: Duplex, total: number, already: number): void {
  let received = already;
  const count = (bytes: number): void => {
    received += bytes;
    if (received >= total) stream.write('ok\n');
  };
  stream.on('data', (chunk: Buffer) => count(chunk.length));
  count(0);
}

function sendBytes(stream: Duplex, total: number): void {
  stream.resume();
  let left = total;
  const send = (): void => {
    while (left > 0) {
      const bytes = Math.min(left, CHUNK.length);
      left -= bytes;
      if (!stream.write(CHUNK.subarray(0, bytes))) {
        stream.once('drain', send);
        return;
      }
    }
  };
  send();
}
