/**
 * vproxy embedded in a program, over any Duplex: here a pipe to a child process, without an address. This file is both sides.
 *
 *     node dist/examples/embedded-session.js
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { connectPeer, VproxyError } from 'vproxy';

/** The pipe in the child: the first descriptor after standard input, output and error. */
const PIPE_FD = 3;

if (process.argv[2] === 'child') {
  const parent = connectPeer(new Socket({ fd: PIPE_FD }), {
    name: 'child',
    services: {
      // A service is a function, called with each stream that the peer opens.
      time: (stream) => stream.end(new Date().toISOString()),
      sha256: (stream) => void stream.pipe(createHash('sha256')).setEncoding('hex').pipe(stream),
    },
  });
  await parent.closed;
} else {
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, 'child'], {
    stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
  });
  const line = child.stdio[PIPE_FD];
  if (!(line instanceof Duplex)) throw new Error('the child has no pipe');
  const peer = connectPeer(line);
  peer.once('services', (names) => console.log(`the child offers: ${names.join(', ')}`));
  peer.once('session', ({ peer: { agent, name } }) => console.log(`a session with ${name} (${agent})`));

  const clock = await peer.connect('time');
  clock.end();
  console.log(`the time over there: ${await text(clock)}`);

  // Many streams share the pipe; a slow one does not block the others.
  const files = Array.from({ length: 5 }, () => randomBytes(300_000));
  const sums = await Promise.all(
    files.map(async (file) => {
      const stream = await peer.connect('sha256');
      stream.end(file);
      return text(stream);
    }),
  );
  const areRight = files.every((file, index) => createHash('sha256').update(file).digest('hex') === sums[index]);
  console.log(`${sums.length} sums at once: ${areRight ? 'all right' : 'WRONG'}`);

  // If the child does not offer the service, or refuses the stream, `connect` rejects.
  await peer.connect('nothing').catch((error: unknown) => {
    if (!(error instanceof VproxyError)) throw error;
    console.log(`refused: ${error.message}`);
  });

  await peer.close();
}
