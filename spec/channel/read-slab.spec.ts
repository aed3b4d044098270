import test from 'ava';
import { PAGE_BYTES, ReadSlab } from '../../lib/channel/read-slab.js';

const LARGEST = 8 * PAGE_BYTES;

/** A slab that much has come into. */
function grown(): ReadSlab {
  const slab = new ReadSlab(LARGEST);
  slab.took(slab.room.length, false);
  return slab;
}

test('it holds a page until a read fills it, and its whole size from then on', (t) => {
  const slab = new ReadSlab(LARGEST);
  t.is(slab.room.length, PAGE_BYTES);
  slab.took(PAGE_BYTES - 1, false);
  t.is(slab.room.length, PAGE_BYTES);
  slab.took(PAGE_BYTES, false);
  t.is(slab.room.length, LARGEST);
  t.is(slab.pages(0).length, 8);
  t.is(slab.pages(2 * PAGE_BYTES).length, 6);
});

test('it comes back to a page after eight short reads in a row', (t) => {
  const slab = grown();
  for (let count = 0; count < 7; count += 1) slab.took(100, false);
  slab.took(PAGE_BYTES, false);
  for (let count = 0; count < 7; count += 1) slab.took(100, false);
  t.is(slab.room.length, LARGEST);
  slab.took(100, false);
  t.is(slab.room.length, PAGE_BYTES);
});

test('what is kept is not read into any more, in pages', (t) => {
  const slab = grown();
  const kept = slab.room.subarray(0, 5000).fill('k');
  slab.took(5000, true);
  t.is(slab.room.length, LARGEST - 2 * PAGE_BYTES);
  slab.room.fill('x');
  for (const page of slab.pages(0)) page.fill('x');
  t.true(kept.equals(Buffer.alloc(5000, 'k')));
});

test('reads do not become small where much is kept: past a half, it is another piece of memory', (t) => {
  const slab = grown();
  const first = slab.room;
  slab.took(5 * PAGE_BYTES, true);
  t.is(slab.room.length, LARGEST);
  t.not(slab.room.buffer, first.buffer);
});

test('memory that was let go is used by the next slab that grows, unless a part of it was kept', (t) => {
  const slab = grown();
  const whole = slab.room.buffer;
  for (let count = 0; count < 8; count += 1) slab.took(100, false);
  const next = grown();
  t.is(next.room.buffer, whole);

  next.took(100, true);
  for (let count = 0; count < 8; count += 1) next.took(100, false);
  t.is(next.room.length, PAGE_BYTES);
  t.not(grown().room.buffer, whole);
});
