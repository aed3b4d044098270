/** A stream whose local program does not read holds its own bytes, not the channel buffers that they came in. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { collectGarbage } from '../helpers/measures.js';
import { connectedProxies, localServer, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const DEAF = 60;
const PIECE_BYTES = 16_384;
const BULK_BYTES = 120_000;
/** Enough to fill a forward's buffer behind a unix socket, 1 MiB, and then the credit of the stream. */
const PIECES = 80;
/** Bytes that a stream may send before its program has taken anything. */
const FIRST_CREDIT_BYTES = 65_536;
/** Memory kept alive by views of the channel's read buffers, all streams together (`lib/util/bytes/byte-queue.ts`). */
const VIEWED_BYTES = 32 * 131_072;
/** Base memory of a process. */
const OWN_BYTES = 2 ** 20;
/** Free memory is released when the system has time: after this many measurements without a decrease it has been. */
const SETTLED = 10;

const bufferBytes = (): number => (collectGarbage(), process.memoryUsage().arrayBuffers);

test('data that waits for programs that do not read costs its bytes, and few buffers of the channel', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'deaf.sock');
  // They hold nothing either: how much they would read before they pause depends on Node.
  const programs: net.Socket[] = [];
  await localServer(t, (socket) => void programs.push(socket), { path }, { pauseOnConnect: true });
  const drain = await localServer(t, (socket) => void socket.resume().end());
  const incoming = [`deaf:${path}`, `drain:${drain.port}`];
  const { a, b } = await connectedProxies(t, join(folder, 'channel.sock'), {}, { incoming });
  const deaf = await Promise.all(Array.from({ length: DEAF }, () => a.proxy.connect('deaf')));
  const bulk = await a.proxy.connect('drain');
  for (const stream of [...deaf, bulk]) stream.on('error', () => undefined);
  const before = bufferBytes();
  for (let piece = 0; piece < PIECES; piece += 1) {
    for (const stream of deaf) {
      // Between the pieces for the programs that do not read come those that a hostile peer would send to make each of
      // them hold a whole buffer.
      if (stream.writableLength === 0) stream.write(Buffer.alloc(PIECE_BYTES));
      await new Promise((resolve) => bulk.write(Buffer.alloc(BULK_BYTES), resolve));
    }
  }
  t.true(deaf.every((stream) => stream.writableLength > 0));
  bulk.resume().end();
  await once(bulk, 'close');
  // The sender, in the same process, holds a piece of each stream too.
  let heldBytes = Number.POSITIVE_INFINITY;
  let unchanged = 0;
  await eventually(() => {
    const foundBytes = bufferBytes() - before - DEAF * PIECE_BYTES;
    unchanged = foundBytes < heldBytes ? 0 : unchanged + 1;
    heldBytes = Math.min(heldBytes, foundBytes);
    return unchanged === SETTLED;
  });
  // What waits there was received and not taken by the system: all that the programs get from now on. Its amount depends on
  // the credit, which grows while the system takes everything.
  const streams = b.proxy.listStreams().filter(({ service }) => service === 'deaf');
  const receivedBytes = streams.reduce((sum, stream) => sum + stream.receivedBytes, 0);
  await b.proxy.stop();
  const taken = await Promise.all(programs.map((program) => readToEnd(program.resume())));
  const waitingBytes = receivedBytes - taken.reduce((sum, { length }) => sum + length, 0);
  t.true(waitingBytes >= (DEAF * FIRST_CREDIT_BYTES) / 2);
  t.true(heldBytes < 1.3 * waitingBytes + VIEWED_BYTES + OWN_BYTES, `${heldBytes} for ${waitingBytes}`);
  t.log(`${heldBytes} for ${waitingBytes} bytes`);
});
