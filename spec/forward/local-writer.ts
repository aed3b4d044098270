/** What a LocalWriter copies, and what it keeps of the channel's read buffers (docs/architecture.md). */
import { once } from 'node:events';
import net from 'node:net';
import { Writable } from 'node:stream';
import test from 'ava';
import { LocalWriter } from '../../lib/forward/local-writer.js';
import { localServer } from '../helpers/proxies.js';

/** A writer whose target takes what it is given at once, or never; and the memory of each chunk that it got. */
function writerTo(takes: 'at once' | 'never') {
  const memory: unknown[] = [];
  const target = new Writable({
    write(chunk: Buffer, _, done) {
      memory.push(chunk.buffer);
      if (takes === 'at once') done();
    },
  });
  return { target, memory, writer: new LocalWriter(target, () => undefined) };
}

const SMALL = Buffer.alloc(60);

test('what the target takes at once is not copied, however small, and not kept', (t) => {
  const { writer, memory } = writerTo('at once');
  for (let count = 0; count < 100; count += 1) t.false(writer.write(SMALL));
  t.true(memory.length === 100 && memory.every((each) => each === SMALL.buffer));
});

test.serial(
  'of what waits, the process keeps 32 read buffers; the rest is copied, and closed targets return their places',
  async (t) => {
    for (let round = 0; round < 2; round += 1) {
      const writers = Array.from({ length: 40 }, () => writerTo('never'));
      t.is(writers.filter(({ writer }) => writer.write(SMALL)).length, 32);
      await Promise.all(writers.map(({ target }) => once(target.destroy(), 'close')));
    }
  },
);

test('a small piece behind one that waits, or for a socket that is not connected yet, is copied', async (t) => {
  const { target, writer } = writerTo('never');
  writer.write(SMALL);
  t.false(writer.write(SMALL));
  target.destroy();
  const { port } = await localServer(t, (socket) => socket.resume());
  const socket = net.connect(port, '127.0.0.1');
  t.false(new LocalWriter(socket, () => undefined).write(SMALL));
  await once(socket, 'connect');
  socket.destroy();
});

/** A writer whose target takes one piece at each call of `take`. */
function stepwiseWriter() {
  const got: Buffer[] = [];
  let done = (): void => undefined;
  const target = new Writable({
    write(chunk: Buffer, _, callback) {
      got.push(chunk);
      done = callback;
    },
  });
  return { target, got, take: () => done(), writer: new LocalWriter(target, () => undefined) };
}

test.serial(
  'the memory of large pieces that waited is reused once the target has taken them, and not before',
  async (t) => {
    const { target, got, take, writer } = stepwiseWriter();
    const large = (fill: number) => Buffer.alloc(131_072, fill);
    writer.write(SMALL);
    for (const fill of [1, 2, 3]) {
      // Waits for the previous piece, which must not change meanwhile.
      t.false(writer.write(large(fill)));
      if (fill > 1) t.true(got.at(-1)?.equals(large(fill - 1)));
      take();
    }
    const [, first, second, third] = got.map(({ buffer }) => buffer);
    t.not(second, first);
    t.is(third, first);
    await once(target.destroy(), 'close');
    const other = stepwiseWriter();
    other.writer.write(SMALL);
    other.writer.write(large(4));
    other.take();
    t.not(other.got[1]?.buffer, third);
  },
);
