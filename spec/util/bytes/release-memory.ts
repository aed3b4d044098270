/** Memory that is freed at once. */
import test from 'ava';
import { releaseMemory } from '../../../lib/util/bytes/release-memory.js';

test('the memory of a buffer is freed at once, and every view of it is empty', (t) => {
  const bytes = Buffer.allocUnsafeSlow(200_000);
  const view = bytes.subarray(10, 20);
  const before = process.memoryUsage().arrayBuffers;
  releaseMemory(bytes);
  t.deepEqual([bytes.length, view.length, bytes.buffer.byteLength], [0, 0, 0]);
  t.true(before - process.memoryUsage().arrayBuffers >= 200_000);
});

test('small buffers, and parts of a larger piece, stay', (t) => {
  const [one, two] = [Buffer.from('one'), Buffer.from('two')];
  releaseMemory(one);
  t.deepEqual([one, two].map(String), ['one', 'two']);
  const piece = Buffer.allocUnsafeSlow(200_000);
  releaseMemory(piece.subarray(0, 100_000));
  t.is(piece.length, 200_000);
});

test('repeated releases retain nothing', (t) => {
  const before = process.memoryUsage().arrayBuffers;
  for (let count = 0; count < 1000; count += 1) releaseMemory(Buffer.allocUnsafeSlow(1_000_000));
  t.true(process.memoryUsage().arrayBuffers - before < 10_000_000);
});
