/**
 * A plain relay without a multiplexer, for comparison: `relay.js LISTEN CONNECT` joins each connection to a new one. An address
 * is a port of 127.0.0.1 or the path of a unix socket. Prints its listening address.
 */
import net from 'node:net';

const [listen = '0', connect = '0'] = process.argv.slice(2);
const parse = (text: string): { path: string } | { host: string; port: number } =>
  text.startsWith('/') ? { path: text } : { host: '127.0.0.1', port: Number(text) };

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
  const far = net.connect({ ...parse(connect), allowHalfOpen: true, noDelay: true });
  near.pipe(far).pipe(near);
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
});
// A backlog above the number of connections that measurements open at once.
server.listen({ ...parse(listen), backlog: 1024 }, () => {
  const address = server.address();
  console.log(typeof address === 'object' ? address?.port : address);
});
