import test from 'ava';
import { PAGE_BYTES, ReadSlab } from '../../lib/link/read-slab.js';

const LARGEST = 8 * PAGE_BYTES;

/** Full reads of a new slab that it stays small for, and one more. */
const FIRST_READS = 40;

/** A slab that has grown because much has come. */
function grown(): ReadSlab {
  const slab = new ReadSlab(LARGEST);
  for (let count = 0; count < FIRST_READS; count += 1) slab.took(slab.room.length, false);
  return slab;
}

test('it holds a page while the zeros of an opening come, and its whole size when more does', (t) => {
  const slab = new ReadSlab(LARGEST);
  for (let count = 1; count < FIRST_READS; count += 1) {
    slab.took(PAGE_BYTES, false);
    slab.took(PAGE_BYTES - 1, false);
    t.is(slab.room.length, PAGE_BYTES);
  }
  slab.took(PAGE_BYTES, false);
  t.is(slab.room.length, LARGEST);
  t.is(slab.pages(0).length, 8);
  t.is(slab.pages(2 * PAGE_BYTES).length, 6);
});

test('it comes back to a page after four short reads in a row', (t) => {
  const slab = grown();
  for (let count = 0; count < 3; count += 1) slab.took(100, false);
  slab.took(PAGE_BYTES, false);
  for (let count = 0; count < 3; count += 1) slab.took(100, false);
  t.is(slab.room.length, LARGEST);
  slab.took(100, false);
  t.is(slab.room.length, PAGE_BYTES);
  slab.took(PAGE_BYTES, false);
  t.is(slab.room.length, LARGEST, 'the next read that is full makes it large again');
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
  t.false(slab.room.buffer === first.buffer);
});

test('memory that was let go is used by the next slab that grows, unless a part of it was kept', (t) => {
  const slab = grown();
  const whole = slab.room.buffer;
  for (let count = 0; count < 4; count += 1) slab.took(100, false);
  const next = grown();
  t.true(next.room.buffer === whole);

  next.took(100, true);
  for (let count = 0; count < 4; count += 1) next.took(100, false);
  t.is(next.room.length, PAGE_BYTES);
  t.false(grown().room.buffer === whole);
});
