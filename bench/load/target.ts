/**
 * The far end of a measurement, as a process of its own: a TCP server that does what the first line of a connection
 * says. `up BYTES` takes so many bytes and answers `ok`; `down BYTES` sends so many; `echo` sends back what it gets.
 * Prints its port.
 */
import net from 'node:net';

const CHUNK = Buffer.alloc(131_072, 0x5a);

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.once('data', (first: Buffer) => {
    const end = first.indexOf('\n');
    const [mode = '', amount = '0'] = first.subarray(0, end).toString().split(' ');
    const rest = first.subarray(end + 1);
    if (mode === 'up') takeBytes(socket, Number(amount), rest.length);
    else if (mode === 'down') sendBytes(socket, Number(amount));
    else socket.on('data', (chunk) => socket.write(chunk));
  });
  socket.on('end', () => socket.end());
});

function takeBytes(socket: net.Socket, total: number, already: number): void {
  let received = already;
  const count = (bytes: number): void => {
    received += bytes;
    if (received >= total) socket.end('ok\n');
  };
  socket.on('data', (chunk: Buffer) => count(chunk.length));
  count(0);
}

function sendBytes(socket: net.Socket, total: number): void {
  let left = total;
  const send = (): void => {
    while (left > 0) {
      const bytes = Math.min(left, CHUNK.length);
      left -= bytes;
      if (!socket.write(CHUNK.subarray(0, bytes))) {
        socket.once('drain', send);
        return;
      }
    }
    socket.end();
  };
  send();
}

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address();
  console.log(typeof address === 'object' ? address?.port : address);
});
