/**
 * The near end of a measurement in a guest, as a process of its own: `client.js ADDRESS MODE AMOUNT`. The address is a
 * port of 127.0.0.1, the path of a unix socket, or `mux:CHANNEL` for streams of this process's own session on a channel.
 * MODE is `up` or `down` (AMOUNT bytes on one stream), `echo` (AMOUNT messages of a byte) or `beside` (messages of a byte
 * for AMOUNT milliseconds, beside one bulk stream each way). Prints JSON.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Proxy } from '../../../lib/index.js';
import { type Connect, type Connection, closeAll, connectSocket } from '../load/connection.js';
import { measureEcho } from '../load/echo.js';
import { HeldConnections } from '../load/held.js';
import { measureRate } from '../load/rate.js';

/** The time until every buffer on the way is full, so that the write rate equals the receive rate. */
const RAMP_MS = 1000;

async function connectMux(proxy: Proxy): Promise<Connection> {
  const stream = await proxy.connect('load');
  const connection: Connection = { stream, onBytes: () => undefined, onGone: () => undefined };
  stream.on('data', (chunk: Buffer) => connection.onBytes(chunk.length));
  stream.on('error', (error: Error) => connection.onGone(error));
  return connection;
}

async function measureBeside(forMs: number): Promise<Record<string, number>> {
  const [up, down] = [new HeldConnections(), new HeldConnections()];
  await up.startBulk('up', 1, connect);
  await down.startBulk('down', 1, connect);
  await delay(RAMP_MS);
  const startedAtMs = performance.now();
  const before = [up.bulkBytes, down.bulkBytes] as const;
  const { p50, p99 } = await measureEcho(1, { messages: Infinity, forMs }, connect);
  const passedMs = performance.now() - startedAtMs;
  const rates = {
    up: (up.bulkBytes - before[0]) / passedMs / 1000,
    down: (down.bulkBytes - before[1]) / passedMs / 1000,
  };
  await Promise.all([up.release(), down.release()]);
  return { p50, p99, ...rates };
}

async function measureTransfer(direction: 'up' | 'down', bytes: number): Promise<Record<string, number>> {
  const connections = [await connect()];
  const rate = await measureRate(direction, connections, bytes);
  closeAll(connections);
  return { rate };
}

async function measure(mode: string, amount: number): Promise<Record<string, number>> {
  if (mode === 'up' || mode === 'down') return measureTransfer(mode, amount);
  if (mode === 'beside') return measureBeside(amount);
  const { p50, p99 } = await measureEcho(1, { messages: amount }, connect);
  return { p50, p99 };
}

const [address = '0', mode = '', amount = '0'] = process.argv.slice(2);
let connect: Connect = () => connectSocket(address.startsWith('/') ? address : Number(address));
let stop: () => Promise<void> = () => Promise.resolve();
if (address.startsWith('mux:')) {
  const proxy = new Proxy({ channels: [{ address: address.slice('mux:'.length) }], agent: 'vproxy bench' });
  await proxy.start();
  connect = () => connectMux(proxy);
  stop = () => proxy.stop();
}
console.log(JSON.stringify(await measure(mode, Number(amount))));
await stop();
