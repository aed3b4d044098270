/** How much is read of a socket in one turn of the event loop (docs/architecture.md, "Turns and memory"). */
import test, { type ExecutionContext } from 'ava';
import { PAGE_BYTES } from '../../lib/link/read-slab.js';
import { SocketLink } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { within } from '../helpers/time.js';
import { roomOf, unixPair } from '../helpers/unix-pair.js';

/** The number of reads in each turn in which a link over a socket reads what is in it already. */
async function readsPerTurn(t: ExecutionContext, hasInteractive: boolean): Promise<number[]> {
  const { near, far } = await unixPair(t);
  const bytes = roomOf(near);
  const turns: number[] = [];
  let reads = 0;
  let readBytes = 0;
  const link = new SocketLink('far', (onread) => readBuffered(far, onread), { slabBytes: 2 * PAGE_BYTES });
  t.teardown(() => link.destroy());
  const isRead = new Promise<void>((resolve) => {
    const endTurn = (): void => {
      turns.push(reads);
      reads = 0;
      if (readBytes < bytes) setImmediate(endTurn);
      else resolve();
    };
    link.start({
      hasInteractive: () => hasInteractive,
      onBytes: (piece) => {
        reads += 1;
        readBytes += piece.length;
        return false;
      },
      onDrain: () => undefined,
      onClosed: () => undefined,
    });
    setImmediate(endTurn);
  });
  await within(20_000, 'all that is in the socket', isRead);
  return turns;
}

test('beside an interactive stream a channel is read once in a turn, to the last byte', async (t) => {
  t.is(Math.max(...(await readsPerTurn(t, true))), 1);
});

test('without one it is read on while there is more', async (t) => {
  t.true(Math.max(...(await readsPerTurn(t, false))) > 4);
});
