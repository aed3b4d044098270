/**
 * vproxy inside a program, over any Duplex: here over the standard input and output of a child process, without a socket or
 * an address. The same file is both sides.
 *
 *     node dist/examples/embedded-session.js
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { connectPeer } from 'vproxy';

if (process.argv[2] === 'child') {
  const line = Duplex.from({ readable: process.stdin, writable: process.stdout });
  const parent = connectPeer(line, {
    name: 'child',
    services: {
      // A service is a function: it is given each stream that the peer opens.
      time: (stream) => stream.end(new Date().toISOString()),
      sha256: (stream) => void stream.pipe(createHash('sha256')).setEncoding('hex').pipe(stream),
    },
  });
  await parent.closed;
} else {
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, 'child'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const line = Duplex.from({ readable: child.stdout, writable: child.stdin });
  const peer = connectPeer(line);
  peer.once('services', (names) => console.log(`the child offers: ${names.join(', ')}`));
  peer.once('session', ({ peer: { agent, name } }) => console.log(`a session with ${name} (${agent})`));

  const clock = await peer.connect('time');
  clock.end();
  console.log(`the time over there: ${await text(clock)}`);

  // Many streams share the line; one that is slow stops no other.
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

  const refused = await peer.connect('nothing');
  refused.once('error', (error) => console.log(`refused: ${error.message}`));
  await new Promise((resolve) => refused.once('close', resolve));

  await peer.close();
}
