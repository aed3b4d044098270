/**
 * A program that opens connections to a TCP port of this machine in a loop, and sends nothing: `node flooder.js PORT`.
 */
import net from 'node:net';

/** The number of connections that are held at once; then the oldest is closed for the next one. */
const HELD = 64;

const port = Number(process.argv[2]);
const open = new Set<net.Socket>();

function connect(): void {
  const socket = net.connect({ port, host: '127.0.0.1' });
  open.add(socket);
  socket.on('error', () => undefined).resume();
  socket.once('connect', () => {
    if (open.size >= HELD) [...open][0]?.destroy();
    setImmediate(connect);
  });
  socket.once('close', () => open.delete(socket));
}

connect();
