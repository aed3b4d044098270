/**
 * The near end of a measurement, as a process of its own: `client.js ADDRESS MODE STREAMS AMOUNT`. The address is a port
 * of 127.0.0.1, the path of a unix socket, or `mux:CHANNEL` for streams of this process's own session on a channel.
 * MODE is `up` or `down` (AMOUNT bytes on each stream) or `echo` (AMOUNT messages). Prints JSON.
 */
import net from 'node:net';
import { Proxy } from '../../lib/index.js';
import { type Connect, type Connection, measureEcho, measureRate } from './measure.js';

const READ_BUFFER = Buffer.alloc(131_072);

function connectSocket(address: { path: string } | { host: string; port: number }): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const onread = { buffer: READ_BUFFER, callback: (count: number) => (connection.onBytes(count), true) };
    const options = { ...address, noDelay: true, allowHalfOpen: true, onread };
    const stream = net.connect(options as net.NetConnectOpts);
    const connection: Connection = { stream, onBytes: () => undefined };
    stream.once('connect', () => resolve(connection));
    stream.once('error', reject);
  });
}

async function connectMux(proxy: Proxy): Promise<Connection> {
  const stream = await proxy.connect('load');
  const connection: Connection = { stream, onBytes: () => undefined };
  stream.on('data', (chunk: Buffer) => connection.onBytes(chunk.length));
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
  connect = () =>
    connectSocket(address.startsWith('/') ? { path: address } : { host: '127.0.0.1', port: Number(address) });
}
if (mode === 'echo') {
  const times = await measureEcho(Number(amount), connect);
  const at = (share: number): number => Math.round(times[Math.floor(times.length * share)] ?? 0);
  console.log(JSON.stringify({ p50: at(0.5), p99: at(0.99) }));
} else {
  const rate = await measureRate(mode === 'up' ? 'up' : 'down', Number(streams), Number(amount), connect);
  console.log(JSON.stringify({ rate: Math.round(rate * 10) / 10 }));
}
await stop();
