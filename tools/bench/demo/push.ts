/**
 * A program of the demonstration: `push.js PORT BYTES` sends bytes to a port of 127.0.0.1, ends its side, and reads the
 * digest that a sink answers with. It prints its progress, then `pushed` and a JSON object. It imports nothing of the
 * project: in a guest it is run from its source alone.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';

const CHUNK_BYTES = 1_000_000;

const [port, byteCount] = process.argv.slice(-2).map(Number) as [number, number];
// Under emulation, random bytes cost more than everything else: every chunk is this one with its own offset in it.
const template = randomBytes(CHUNK_BYTES);
const hash = createHash('sha256');
const began = performance.now();
const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
const answer: Buffer[] = [];
socket.on('data', (chunk) => answer.push(chunk));
const ended = once(socket, 'end');
for (let sent = 0; sent < byteCount; sent += CHUNK_BYTES) {
  const chunk = Buffer.from(template.subarray(0, byteCount - sent));
  chunk.writeDoubleBE(sent);
  hash.update(chunk);
  if (!socket.write(chunk)) await once(socket, 'drain');
  if (sent % (10 * CHUNK_BYTES) === 0) console.error(`at ${sent}`);
}
socket.end();
await ended;
const ms = Math.round(performance.now() - began);
const received = Buffer.concat(answer).toString().trim();
console.error(`pushed ${JSON.stringify({ ms, sent: hash.digest('hex'), received })}`);
