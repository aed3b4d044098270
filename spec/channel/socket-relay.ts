/** A program for `exec:`: joins its standard input and output with the unix socket named by its argument. */
import net from 'node:net';

const socket = net.connect({ path: process.argv[2] ?? '', allowHalfOpen: true });
process.stdin.pipe(socket);
socket.pipe(process.stdout, { end: false });
// Node closes its standard output only when it exits.
socket.once('end', () => process.stdout.write('', () => process.exit(0)));
for (const stream of [socket, process.stdin, process.stdout]) stream.on('error', () => process.exit(1));
