import { Buffer } from 'node:buffer';
import test from 'ava';
import fc from 'fast-check';
import { ByteQueue, dropView, keepView, type QueuedBlock, recycleBlock } from '../../../lib/util/bytes/byte-queue.js';
import { heapBytes } from '../../helpers/measures.js';

/** Takes everything, and returns the place of each view. */
function drain(queue: ByteQueue): Buffer {
  const pieces: Buffer[] = [];
  for (let block = queue.shift(); block !== null; block = queue.shift()) {
    if (block.isView) dropView();
    pieces.push(Buffer.from(block.bytes));
  }
  return Buffer.concat(pieces);
}

/** The number of free places for views. */
function freeViews(): number {
  const piece = Buffer.alloc(65_536);
  let count = 0;
  while (keepView(piece)) count += 1;
  for (let index = 0; index < count; index += 1) dropView();
  return count;
}

test.serial('pushed bytes come out once, in order, in any pieces, and every view is returned', (t) => {
  const free = freeViews();
  const operation = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat(40), fc.nat(3000), fc.nat(40_000)) }),
    fc.record({ shift: fc.oneof(fc.nat(100), fc.nat(20_000), fc.constant(Number.POSITIVE_INFINITY)) }),
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      const queue = new ByteQueue();
      const pushed: Buffer[] = [];
      const shifted: Buffer[] = [];
      let next = 0;
      for (const { push, shift } of operations as { push?: number; shift?: number }[]) {
        if (push !== undefined) {
          const bytes = Buffer.from(Uint8Array.from({ length: push }, () => (next += 1) & 0xff));
          pushed.push(Buffer.from(bytes));
          // Lent buffers are overwritten.
          if (!queue.push(bytes)) bytes.fill(0xee);
        } else {
          const block = queue.shift(shift);
          if (block !== null) {
            t.true(block.bytes.length > 0 && block.bytes.length <= (shift ?? 0));
            if (block.isView) dropView();
            shifted.push(Buffer.from(block.bytes));
          }
        }
        const waiting = Buffer.concat(pushed).length - Buffer.concat(shifted).length;
        t.is(queue.byteCount, waiting);
      }
      shifted.push(drain(queue));
      return Buffer.concat(shifted).equals(Buffer.concat(pushed)) && queue.byteCount === 0;
    }),
  );
  t.is(freeViews(), free);
});

test.serial('a cleared queue returns its views', (t) => {
  const free = freeViews();
  const queue = new ByteQueue();
  t.true(queue.push(Buffer.alloc(20_000)));
  t.false(queue.push(Buffer.alloc(10)));
  t.is(freeViews(), free - 1);
  queue.clear();
  t.is(queue.byteCount, 0);
  t.is(queue.shift(), null);
  t.is(freeViews(), free);
});

test.serial('a queue that uses slabs copies what fills one, and reuses their memory; never that of a view', (t) => {
  const queue = new ByteQueue(true);
  const shift = () => queue.shift() as QueuedBlock;
  t.false(queue.push(Buffer.alloc(131_072, 1)));
  const slab = shift();
  t.true(slab.bytes.equals(Buffer.alloc(131_072, 1)));
  recycleBlock(slab);
  t.false(queue.push(Buffer.alloc(131_072, 2)));
  t.is(shift().bytes.buffer, slab.bytes.buffer);
  const readBuffer = Buffer.allocUnsafeSlow(slab.bytes.buffer.byteLength);
  t.true(queue.push(readBuffer.subarray(0, 20_000)));
  const view = shift();
  recycleBlock(view);
  dropView();
  t.false(queue.push(Buffer.alloc(131_072)));
  t.not(shift().bytes.buffer, view.bytes.buffer);
});

test.serial('the contents are listed in order, and stay queued', (t) => {
  const queue = new ByteQueue();
  const pieces = [3, 20_000, 2000, 1, 16_384, 7].map((length, index) => Buffer.alloc(length, index));
  const wanted = Buffer.concat(pieces);
  for (const piece of pieces) queue.push(piece);
  for (let time = 0; time < 2; time += 1) t.true(Buffer.concat(queue.list()).equals(wanted));
  t.is(queue.byteCount, wanted.length);
  queue.push(Buffer.from('more'));
  t.true(drain(queue).equals(Buffer.concat([wanted, Buffer.from('more')])));
  t.deepEqual(queue.list(), []);
});

for (const pieceBytes of [1, 300]) {
  test.serial(`100 queues of 64 KiB in pieces of ${pieceBytes} bytes take at most 1.3 times their bytes`, async (t) => {
    const piece = Buffer.alloc(pieceBytes, 1);
    const before = await heapBytes();
    const queues = Array.from({ length: 100 }, () => {
      const queue = new ByteQueue();
      while (queue.byteCount + pieceBytes <= 65_536) queue.push(piece);
      return queue;
    });
    const held = queues.reduce((sum, { byteCount }) => sum + byteCount, 0);
    const grown = (await heapBytes()) - before;
    t.true(grown <= 1.3 * held, `${grown} bytes for ${held}`);
    for (const queue of queues) queue.clear();
  });
}

test.serial('all queues of the process together keep 32 views, and copy further bytes', (t) => {
  const readBuffer = Buffer.alloc(131_072);
  const queues = Array.from({ length: 100 }, () => new ByteQueue());
  const kept = queues.filter((queue) => queue.push(readBuffer.subarray(0, 20_000)));
  t.is(kept.length, 32);
  for (const queue of queues) queue.clear();
});
