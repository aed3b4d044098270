/**
 * The far end of the load, as a separate process: `target.js [PORT]`, a TCP server that prints its port. The first line on a
 * connection selects its function: `up BYTES` takes that many bytes and answers `ok`; `down BYTES` sends that many; `echo` sends
 * back as many as it gets; `hold` answers `ok`.
 */
import net from 'node:net';
import { readBuffered } from '../../../lib/system/sockets/node-sockets.js';
import { chunkOf, READ_BUFFER } from './chunk.js';
import { writeBytes } from './rate.js';

function serve(accepted: net.Socket): void {
  let take = (count: number): void => {
    const end = READ_BUFFER.indexOf('\n');
    const [mode = '', amount = '0'] = READ_BUFFER.toString('latin1', 0, end).split(' ');
    take = takerFor(socket, mode, Number(amount));
    if (count > end + 1) take(count - end - 1);
  };
  // One buffer for all connections: each read is counted in the same turn.
  const socket = readBuffered(accepted, {
    buffer: () => READ_BUFFER,
    callback: (count) => {
      take(count);
      return true;
    },
  });
  socket.on('error', () => socket.destroy());
  socket.on('end', () => socket.end());
}

function takerFor(socket: net.Socket, mode: string, bytes: number): (count: number) => void {
  const ignore = (): void => undefined;
  switch (mode) {
    case 'up': {
      let left = bytes;
      return (count) => {
        left -= count;
        if (left <= 0) socket.write('ok\n');
      };
    }
    case 'down':
      writeBytes(socket, bytes);
      return ignore;
    case 'echo':
      // The same number of bytes, not the same bytes: this avoids copying.
      return (count) => socket.write(chunkOf(count));
    default:
      socket.write('ok\n');
      return ignore;
  }
}

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, serve);
// Any number of connections at once: the system's own limit bounds it.
server.listen({ port: Number(process.argv[2] ?? 0), host: '127.0.0.1', backlog: 4096 }, () => {
  const address = server.address();
  console.log(typeof address === 'object' ? address?.port : address);
});
