/** The far end of a measurement, as a process of its own: `target.js [PORT]`, a TCP server that prints its port. */
import net from 'node:net';
import { serveLoad } from './serve.js';

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, serveLoad);
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address();
  console.log(typeof address === 'object' ? address?.port : address);
});
