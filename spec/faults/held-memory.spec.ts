/** A stream whose local program does not read holds its own bytes, and not the buffers of the channel that they came in. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { collectGarbage } from '../helpers/measures.js';
import { connectedProxies, localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const DEAF = 60;
const PIECE_BYTES = 16_384;
const BULK_BYTES = 120_000;
/** Enough to fill the buffer that a forward has behind a unix socket, 1 MiB, and then the credit of the stream. */
const PIECES = 80;
/** What waits for each deaf program: the first credit of its stream. */
const WAITING_BYTES = 65_536;
/** What views of the channel's read buffers keep alive, all streams together (`lib/util/byte-queue.ts`). */
const VIEWED_BYTES = 32 * 131_072;
/** All that may be held, with what a process has of its own. */
const BOUND_BYTES = 1.3 * DEAF * WAITING_BYTES + VIEWED_BYTES + 2 ** 20;

function bufferBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

test('what waits for programs that do not read costs its bytes, and few buffers of the channel', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'deaf.sock');
  // They hold nothing either: what they would read before they pause depends on Node.
  await localServer(t, () => undefined, { path }, { pauseOnConnect: true });
  const drain = await localServer(t, (socket) => void socket.resume().end());
  const incoming = [`deaf:${path}`, `drain:${drain.port}`];
  const { a } = await connectedProxies(t, join(folder, 'channel.sock'), {}, { incoming });
  const deaf = await Promise.all(Array.from({ length: DEAF }, () => a.proxy.connect('deaf')));
  const bulk = await a.proxy.connect('drain');
  for (const stream of [...deaf, bulk]) stream.on('error', () => undefined);
  const before = bufferBytes();
  for (let piece = 0; piece < PIECES; piece += 1) {
    for (const stream of deaf) {
      // Between the pieces for the programs that do not read comes what a hostile peer would send to make each of them
      // hold a whole buffer.
      if (stream.writableLength === 0) stream.write(Buffer.alloc(PIECE_BYTES));
      await new Promise((resolve) => bulk.write(Buffer.alloc(BULK_BYTES), resolve));
    }
  }
  t.true(deaf.every((stream) => stream.writableLength > 0));
  bulk.resume().end();
  await once(bulk, 'close');
  // The sender, in the same process, holds a piece of each stream too. Free memory is released when the system has
  // time.
  const heldBytes = () => bufferBytes() - before - DEAF * PIECE_BYTES;
  await eventually(() => heldBytes() < BOUND_BYTES, { what: `${BOUND_BYTES} of ${heldBytes()}` });
  t.log(`${heldBytes()} of ${BOUND_BYTES} bytes`);
});
