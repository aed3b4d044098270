/** What the forwards of the tests lead to in the guest: an echo, a source and a sink of the pattern. */
import { appendFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import type { Readable } from 'node:stream';

import { GUEST_PORTS } from '../guest-ports.js';
import { PatternChecker, PatternSource } from '../pattern.js';

serve(GUEST_PORTS.echo, (socket) => socket.pipe(socket));
serve(GUEST_PORTS.source, (socket) => void sendPattern(socket));
serve(GUEST_PORTS.sink, (socket) => void checkPattern(socket));
console.log('ready');

function serve(port: number, handle: (socket: Socket) => void): void {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    handle(socket);
  });
  server.listen(port, '127.0.0.1');
}

/** Reads one line with a number, sends as many bytes, and ends. */
async function sendPattern(socket: Socket): Promise<void> {
  const wanted = await new Promise<number>((resolve) => socket.once('data', (line) => resolve(Number(line))));
  const source = new PatternSource();
  for (let sent = 0; sent < wanted && !socket.destroyed; ) {
    // A copy, because the socket may keep it while the source goes on.
    const bytes = Buffer.from(source.bytesAt(sent).subarray(0, wanted - sent));
    sent += bytes.length;
    if (!socket.write(bytes)) await new Promise((resolve) => socket.once('drain', resolve).once('close', resolve));
  }
  socket.end();
}

/** Reads to the end, then reports on one line. What is wrong goes to the console, which outlives the guest. */
async function checkPattern(socket: Socket): Promise<void> {
  const checker = new PatternChecker();
  try {
    for await (const chunk of socket as Readable as AsyncIterable<Buffer>) {
      checker.push(chunk);
      if (checker.wrongAt !== null) break;
    }
    socket.end(`${JSON.stringify({ bytes: checker.bytes, wrongAt: checker.wrongAt })}\n`);
  } catch {
    // Reset: what came so far was checked, and that is all there is to it.
  }
  if (checker.wrongAt !== null) appendFileSync('/dev/console', `WRONG BYTE at ${checker.wrongAt}\n`);
}
