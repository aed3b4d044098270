/**
 * A program of the demonstration: takes bytes on a TCP port of 127.0.0.1 and answers each end of input with their
 * SHA-256. It prints its port, and imports nothing of the project: in a guest it is run from its source alone.
 */
import { createHash } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';

const server = createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => socket.end(`${hash.digest('hex')}\n`));
  socket.on('error', (error) => console.error(`the sink lost a connection: ${error.message}`));
});
server.listen(0, '127.0.0.1', () => console.error(`sink on port ${(server.address() as AddressInfo).port}`));
process.once('SIGTERM', () => process.exit(0));
