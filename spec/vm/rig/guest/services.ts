/** The targets of the tests' forwards in the guest: an echo, a source and a sink of the pattern. */
import { appendFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';

import { GUEST_PORTS } from '../guest-ports.js';
import { PatternChecker, patternPieces } from '../pattern.js';

serve(GUEST_PORTS.echo, (socket) => socket.pipe(socket));
serve(GUEST_PORTS.source, sendPattern);
serve(GUEST_PORTS.sink, checkPattern);
console.log('ready');

function serve(port: number, handle: (socket: Socket) => void): void {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    handle(socket);
  });
  server.listen(port, '127.0.0.1');
}

/** Reads one line with a number, sends that many bytes, and ends. */
function sendPattern(socket: Socket): void {
  socket.once('data', (line: Buffer) => {
    pipeline(patternPieces(Number(line)), socket).catch(() => undefined);
  });
}

/** Reads to EOF, then reports on one line. Errors go to the console, which outlives the guest. */
function checkPattern(socket: Socket): void {
  const checker = new PatternChecker();
  socket.on('data', (chunk: Buffer) => {
    const wasRight = checker.wrongAt === null;
    checker.push(chunk);
    if (wasRight && checker.wrongAt !== null) appendFileSync('/dev/console', `WRONG BYTE at ${checker.wrongAt}\n`);
  });
  socket.once('end', () => socket.end(`${JSON.stringify({ bytes: checker.bytes, wrongAt: checker.wrongAt })}\n`));
}
