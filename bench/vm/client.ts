/**
 * The near end of a measurement in a guest, as a process of its own: `client.js ADDRESS MODE STREAMS AMOUNT`. The address
 * is a port of 127.0.0.1, the path of a unix socket, or `mux:CHANNEL` for streams of this process's own session on a
 * channel. MODE is `up` or `down` (AMOUNT bytes on each stream) or `echo` (AMOUNT messages of a byte). Prints JSON.
 */
import { Proxy } from '../../lib/index.js';
import { type Connect, type Connection, closeAll, connectSocket } from '../load/connection.js';
import { measureEcho } from '../load/echo.js';
import { measureRate } from '../load/rate.js';

async function connectMux(proxy: Proxy): Promise<Connection> {
  const stream = await proxy.connect('load');
  const connection: Connection = { stream, onBytes: () => undefined, onGone: () => undefined };
  stream.on('data', (chunk: Buffer) => connection.onBytes(chunk.length));
  stream.on('error', (error: Error) => connection.onGone(error));
  return connection;
}

const [address = '0', mode = 'up', streams = '1', amount = '0'] = process.argv.slice(2);
let connect: Connect;
let stop: () => Promise<void> = () => Promise.resolve();
if (address.startsWith('mux:')) {
  const proxy = new Proxy({ channel: address.slice('mux:'.length), forwards: [], agent: 'vproxy bench' });
  await proxy.start();
  connect = () => connectMux(proxy);
  stop = () => proxy.stop();
} else {
  connect = () => connectSocket(address.startsWith('/') ? address : Number(address));
}
if (mode === 'echo') {
  const { p50, p99 } = await measureEcho(1, { messages: Number(amount) }, connect);
  console.log(JSON.stringify({ p50: Math.round(p50), p99: Math.round(p99) }));
} else {
  const connections = await Promise.all(Array.from({ length: Number(streams) }, connect));
  const rate = await measureRate(mode === 'up' ? 'up' : 'down', connections, Number(amount));
  closeAll(connections);
  console.log(JSON.stringify({ rate: Math.round(rate * 10) / 10 }));
}
await stop();
