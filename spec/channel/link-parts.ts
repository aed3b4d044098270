/** Parts of links: the memory that they read into, the writes that they gather, and a program's Duplex. */

import { type Duplex, PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import type { ByteSink } from '../../lib/codec/frame-writer.js';
import { VproxyError } from '../../lib/errors.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import { GatheredWrites } from '../../lib/link/gathered-writes.js';
import type { LinkHandler } from '../../lib/link/link.js';
import { LinkRunner } from '../../lib/link/link-runner.js';
import { PAGE_BYTES, ReadSlab } from '../../lib/link/read-slab.js';
import { sessionSettings } from '../../lib/session/settings.js';
import { duplexPair, record } from '../helpers/channel-pair.js';
import { seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';

const LARGEST = 8 * PAGE_BYTES;

/** The full reads for which a new slab stays small, and one more. */
const FIRST_READS = 40;

/** A slab that has grown from much data. */
function grown(): ReadSlab {
  const slab = new ReadSlab(LARGEST);
  for (let count = 0; count < FIRST_READS; count += 1) slab.took(slab.room.length, false);
  return slab;
}

/** Short reads in a row. */
function readShort(slab: ReadSlab, times: number): void {
  for (let count = 0; count < times; count += 1) slab.took(100, false);
}

test('a slab holds a page during the zeros of an opening, and its whole size when more data arrives', (t) => {
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

test('a slab shrinks to a page after four short reads in a row', (t) => {
  const slab = grown();
  readShort(slab, 3);
  slab.took(PAGE_BYTES, false);
  readShort(slab, 3);
  t.is(slab.room.length, LARGEST);
  readShort(slab, 1);
  t.is(slab.room.length, PAGE_BYTES);
  slab.took(PAGE_BYTES, false);
  t.is(slab.room.length, LARGEST, 'the next read that is full makes it large again');
});

test('kept pages are not read into again; past a half, reads continue in another piece of memory', (t) => {
  const slab = grown();
  const { buffer } = slab.room;
  const kept = slab.room.subarray(0, 5000).fill('k');
  slab.took(5000, true);
  t.is(slab.room.length, LARGEST - 2 * PAGE_BYTES);
  slab.room.fill('x');
  for (const page of slab.pages(0)) page.fill('x');
  t.true(kept.equals(Buffer.alloc(5000, 'k')));
  slab.took(3 * PAGE_BYTES, true);
  t.is(slab.room.length, LARGEST);
  t.false(slab.room.buffer === buffer);
});

test('released memory is reused by the next slab that grows, unless a part of it was kept', (t) => {
  const slab = grown();
  const whole = slab.room.buffer;
  readShort(slab, 4);
  const next = grown();
  t.true(next.room.buffer === whole);

  next.took(100, true);
  readShort(next, 4);
  t.is(next.room.length, PAGE_BYTES);
  t.false(grown().room.buffer === whole);
});

// Small writes of one turn are sent together, in order, without loss or delay.

/** A link that accepts everything, at once or later, and keeps a copy of each system call's bytes. */
class RecordingLink implements ByteSink {
  readonly calls: Buffer[] = [];
  isFull = false;
  unwrittenBytes = 0;
  /** Buffers that a full link has not returned, with their content. */
  readonly #kept: { readonly bytes: Buffer; readonly copy: Buffer }[] = [];

  write(bytes: Buffer): boolean {
    this.calls.push(Buffer.from(bytes));
    if (this.isFull) this.#keep(bytes);
    return !this.isFull;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    this.calls.push(Buffer.concat(parts));
    if (this.isFull) for (const bytes of parts) this.#keep(bytes);
    return !this.isFull;
  }

  /** Checks that the buffers are unchanged, and completes their writes. */
  drain(): boolean {
    this.isFull = false;
    this.unwrittenBytes = 0;
    return this.#kept.splice(0).every(({ bytes, copy }) => bytes.equals(copy));
  }

  get texts(): string[] {
    return this.calls.map(String);
  }

  #keep(bytes: Buffer): void {
    this.unwrittenBytes += bytes.length;
    this.#kept.push({ bytes, copy: Buffer.from(bytes) });
  }
}

function setUp() {
  const link = new RecordingLink();
  const seen = { drains: 0 };
  const writes = new GatheredWrites(link, () => (seen.drains += 1));
  return { link, writes, seen };
}

test('small pieces are written once at the end of the turn, in order, even if their buffers change', async (t) => {
  const { link, writes } = setUp();
  const buffer = Buffer.from('one ');
  t.true(writes.write(buffer));
  buffer.fill('-');
  t.true(writes.write(Buffer.from('two ')));
  t.deepEqual(link.texts, []);
  await nextTurn();
  t.deepEqual(link.texts, ['one two ']);
  writes.write(Buffer.from('three'));
  await nextTurn();
  t.deepEqual(link.texts.slice(1), ['three']);
  await nextTurn();
  t.is(link.calls.length, 2);
});

test('a larger piece takes pending ones along in one system call, without waiting itself', async (t) => {
  const { link, writes } = setUp();
  const large = Buffer.alloc(10_000, 'x');
  t.true(writes.write(large));
  t.is(link.calls.length, 1);
  writes.write(Buffer.from('small'));
  t.true(writes.write(large));
  t.deepEqual(link.texts.slice(1), [`small${String(large)}`]);
  link.isFull = true;
  writes.write(Buffer.from('small'));
  t.false(writes.writeParts([Buffer.from('header'), large]), 'the link keeps it');
  t.deepEqual(link.texts.slice(2), [`smallheader${String(large)}`]);
  await nextTurn();
  t.is(link.calls.length, 3);
});

test('small pieces behind unwritten data wait for it, in the same memory', async (t) => {
  const { link, writes } = setUp();
  link.isFull = true;
  writes.write(Buffer.alloc(10_000, 'x'));
  for (let turn = 0; turn < 5; turn += 1) {
    writes.write(Buffer.from(`${turn}`));
    await nextTurn();
  }
  t.is(link.calls.length, 1);
  t.true(link.drain());
  writes.endTurn();
  t.deepEqual(link.texts.slice(1), ['01234']);
});

test('a drain is emitted where the link emits none, and only for data that counted as unwritten', async (t) => {
  const { link, writes, seen } = setUp();
  writes.write(Buffer.alloc(1000));
  t.is(writes.unwrittenBytes, 0);
  await nextTurn();
  t.is(seen.drains, 0);

  writes.write(Buffer.alloc(1000));
  writes.write(Buffer.alloc(1000));
  t.is(writes.unwrittenBytes, 2000);
  await nextTurn();
  t.is(writes.unwrittenBytes, 0);
  t.is(seen.drains, 1);

  // Taken along by a larger piece, it was sent all the same.
  writes.write(Buffer.alloc(2000));
  writes.write(Buffer.alloc(10_000));
  await nextTurn();
  t.is(seen.drains, 2);

  link.isFull = true;
  writes.write(Buffer.alloc(2000));
  await nextTurn();
  t.is(seen.drains, 2, 'the link is to tell');
  t.is(writes.unwrittenBytes, 2000);
});

test('all writes are sent in order, in no more calls than pieces', async (t) => {
  const pieces = fc.array(
    fc.record({
      bytes: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.constant(16_384)),
      isPair: fc.boolean(),
      becomes: fc.constantFrom('as it was', 'as it was', 'full', 'drained', 'another turn'),
    }),
    { maxLength: 60 },
  );
  await fc.assert(
    fc.asyncProperty(pieces, async (script) => {
      const { link, writes } = setUp();
      const expected: Buffer[] = [];
      const drain = (): void => {
        t.true(link.drain(), 'a buffer was used again that the link had kept');
        writes.endTurn();
      };
      for (const [index, { bytes, isPair, becomes }] of script.entries()) {
        if (becomes === 'full') link.isFull = true;
        else if (becomes === 'drained') drain();
        else if (becomes === 'another turn') await nextTurn();
        const piece = Buffer.alloc(bytes, index + 1);
        const header = Buffer.alloc(16, 0xff);
        expected.push(...(isPair ? [Buffer.from(header)] : []), Buffer.from(piece));
        const isFree = isPair ? writes.writeParts([header, piece]) : writes.write(piece);
        if (isFree) piece.fill(0xee);
      }
      drain();
      await nextTurn();
      t.true(Buffer.concat(link.calls).equals(Buffer.concat(expected)));
      t.true(link.calls.length <= expected.length);
    }),
    { numRuns: 200 },
  );
});

/** A started runner on a link that records its calls, and the link's handler. */
function runOn(unwrittenBytes = 0) {
  const calls: string[] = [];
  const started: LinkHandler[] = [];
  const link = {
    description: 'a link',
    unwrittenBytes,
    start: (handler: LinkHandler) => void started.push(handler),
    pause: () => undefined,
    resume: () => undefined,
    write: (bytes: Buffer) => calls.push(String(bytes).includes('vproxy') ? 'HELLO' : 'zeros') > 0,
    writeParts: () => calls.push('parts') > 0,
    close: () => void calls.push('close'),
    destroy: () => void calls.push('destroy'),
  };
  const runner = new LinkRunner(link, new ManualClock(), sessionSettings(seededIdentity('one')));
  runner.start();
  return { link, calls, runner, handler: started[0] as LinkHandler };
}

test('gathered writes are sent before the link closes, and after a full link has drained', async (t) => {
  const closing = runOn();
  const before = closing.calls.length;
  void closing.runner.stop(new VproxyError('shutdown', 'at once'));
  t.deepEqual(closing.calls.slice(before), ['HELLO', 'close']);
  const { link, calls, handler } = runOn(1);
  await nextTurn();
  t.false(calls.includes('HELLO'));
  link.unwrittenBytes = 0;
  handler.onDrain();
  t.is(calls.at(-1), 'HELLO');
});

// A Duplex.

test('a buffer may be reused as soon as it was written, even if the Duplex passes it on as it is', async (t) => {
  const [near, far] = duplexPair();
  const link = new DuplexLink('near', near);
  const buffer = Buffer.from('first');
  link.write(buffer);
  buffer.write('WRONG');
  link.writeParts([buffer.subarray(0, 0), buffer]);
  buffer.write('other');
  const recorder = record(new DuplexLink('far', far));
  await recorder.received(10);
  t.is(recorder.bytes.toString(), 'firstWRONG');
});

test('a Duplex that fails, or is destroyed by its owner, closes the link; later events are harmless', async (t) => {
  const [[failing], [destroyed]] = [duplexPair(), duplexPair()];
  const [failure, end] = [failing, destroyed].map((duplex) => record(new DuplexLink('near', duplex)).closed);
  failing.emit('error', new Error('the line is down'));
  failing.emit('error', new Error('still'));
  t.like(await failure, { code: 'channel-failed', message: 'near failed: the line is down' });
  t.true(failing.destroyed);
  destroyed.destroy();
  t.is((await end)?.code, 'channel-closed');
});

test('a Duplex that cannot carry bytes both ways is refused', (t) => {
  const useless: Readonly<Record<string, Duplex>> = {
    'carries objects': new PassThrough({ objectMode: true }),
    'gives texts': new PassThrough().setEncoding('utf8'),
    'is destroyed': new PassThrough().destroy(),
    'was ended': new PassThrough().end(),
  };
  for (const [what, duplex] of Object.entries(useless)) {
    t.throws(() => new DuplexLink('near', duplex), { code: 'bad-argument' }, what);
  }
});
