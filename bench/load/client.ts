/**
 * The near end of a measurement, as a process of its own: `client.js HOST PORT MODE STREAMS BYTES` connects so many times
 * at once and moves BYTES on each (`up`, `down`), or sends BYTES one-byte messages one after another (`echo`). Prints JSON.
 */
import net from 'node:net';

const [host = '127.0.0.1', port = '0', mode = 'up', streams = '1', amount = '0'] = process.argv.slice(2);
const CHUNK = Buffer.alloc(131_072, 0x5a);
const READ_BUFFER = Buffer.alloc(131_072);

/** A connection whose bytes are counted, not kept. */
function connect(onBytes: (count: number) => void): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({
      host,
      port: Number(port),
      noDelay: true,
      allowHalfOpen: true,
      onread: { buffer: READ_BUFFER, callback: (count) => (onBytes(count), true) },
    });
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

async function up(bytes: number): Promise<void> {
  let answered!: () => void;
  const answer = new Promise<void>((resolve) => (answered = resolve));
  const socket = await connect(() => answered());
  socket.write(`up ${bytes}\n`);
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    if (!socket.write(CHUNK.subarray(0, Math.min(left, CHUNK.length)))) {
      await new Promise((resolve) => socket.once('drain', resolve));
    }
  }
  await answer;
  socket.destroy();
}

async function down(bytes: number): Promise<void> {
  let received = 0;
  let finished!: () => void;
  const whole = new Promise<void>((resolve) => (finished = resolve));
  const socket = await connect((count) => {
    received += count;
    if (received >= bytes) finished();
  });
  socket.write(`down ${bytes}\n`);
  await whole;
  socket.destroy();
}

async function echo(messages: number): Promise<number[]> {
  let answered: () => void = () => undefined;
  const socket = await connect(() => answered());
  socket.write('echo\n');
  const times: number[] = [];
  for (let count = 0; count < messages; count += 1) {
    const answer = new Promise<void>((resolve) => (answered = resolve));
    const startedAt = performance.now();
    socket.write('x');
    await answer;
    times.push(performance.now() - startedAt);
  }
  socket.destroy();
  return times.sort((a, b) => a - b);
}

const startedAt = performance.now();
if (mode === 'echo') {
  const times = await echo(Number(amount));
  const at = (share: number): number => Math.round((times[Math.floor(times.length * share)] ?? 0) * 1000);
  console.log(JSON.stringify({ p50Us: at(0.5), p99Us: at(0.99) }));
} else {
  const move = mode === 'up' ? up : down;
  await Promise.all(Array.from({ length: Number(streams) }, () => move(Number(amount))));
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(JSON.stringify({ mbPerS: (Number(streams) * Number(amount)) / seconds / 1e6 }));
}
