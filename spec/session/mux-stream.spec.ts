import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { Duplex, PassThrough, Readable, Transform } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { Budget } from '../../lib/util/bounds.js';
import { heapBytes } from '../helpers/measures.js';
import { carryOn, carryUntil, type PairOptions, SessionPair } from '../helpers/session-pair.js';

async function join(options: PairOptions = {}) {
  const pair = SessionPair.established(options);
  const accepted = new Promise<MuxStream>((resolve) => {
    pair.b.session.server = { serve: (stream) => resolve(MuxStream.accept(pair.b.session, stream)) };
  });
  const near = MuxStream.open(pair.a.session, 'x', '127.0.0.1:5');
  const far = await carryUntil(pair, accepted);
  await carryOn(pair);
  // The specs read errors through `finished`; one without a listener would end the process.
  for (const stream of [near, far]) stream.on('error', () => undefined);
  return { pair, near, far };
}

function pattern(bytes: number, seed = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => (index * 31 + seed + (index >> 8)) & 0xff));
}

function failure(t: ExecutionContext, pair: SessionPair, stream: MuxStream): Promise<VproxyError> {
  return carryUntil(pair, t.throwsAsync(finished(stream), { instanceOf: VproxyError }));
}

test('a stream has its service, id and origin, and reports when the peer has accepted; destroyed without an error it resets the other end', async (t) => {
  const { near, far, pair } = await join();
  t.deepEqual([far.service, far.from, far.id], ['x', '127.0.0.1:5', near.id]);
  near.destroy();
  t.is((await failure(t, pair, far)).code, 'cancelled');
  t.is(pair.a.session.streams.size + pair.b.session.streams.size, 0);

  const events: string[] = [];
  pair.b.session.server = {
    serve: (stream) => {
      events.push('accepted');
      MuxStream.accept(pair.b.session, stream).resume();
    },
  };
  const other = MuxStream.open(pair.a.session, 'x').on('connect', () => events.push('connect'));
  await carryUntil(pair, once(other, 'connect'));
  t.deepEqual(events, ['accepted', 'connect']);
  other.destroy();
});

for (const integrity of INTEGRITY_LEVELS) {
  test(`pipeline carries a source through both ends and a transform, whole and in order; integrity ${integrity}`, async (t) => {
    const { pair, near, far } = await join({ integrity, capacityBytes: 5000 });
    const source = pattern(140_000);
    const chunks = Array.from({ length: 20 }, (_, index) => source.subarray(index * 7000, (index + 1) * 7000));
    const inverted = (bytes: Buffer): Uint8Array => bytes.map((byte) => byte ^ 0xff);
    const invert = new Transform({ transform: (chunk: Buffer, _encoding, done) => done(null, inverted(chunk)) });
    const sent = pipeline(Readable.from(chunks), near);
    const echoed = pipeline(far, invert, far);
    const back = await carryUntil(pair, buffer(near), 3001);
    await carryUntil(pair, Promise.all([sent, echoed]));
    t.true(back.equals(inverted(source)));
    t.true(near.destroyed && far.destroyed);
    t.is(near.errored, null);
    t.is(pair.a.session.streams.size + pair.b.session.streams.size, 0);
  });

  test(`views of read bytes stay unchanged until they are consumed; integrity ${integrity}`, async (t) => {
    const { pair, near, far } = await join({ integrity, limits: { streamCredit: 2 ** 20 } });
    const data = pattern(900_000, 5);
    near.end(data);
    await carryOn(pair, 200_000);
    t.true(far.readableLength > 500_000);
    t.true((await carryUntil(pair, buffer(far), 200_000)).equals(data));
    far.end();
    near.resume();
    await carryOn(pair);
    t.is(pair.b.session.streams.size, 0);
  });

  test(`a buffer that its owner reuses after the write callback corrupts nothing; integrity ${integrity}`, async (t) => {
    for (const size of [10, 4096, 4097, 60_000]) {
      const { pair, near, far } = await join({ integrity, capacityBytes: 6000 });
      const reading = buffer(far);
      const sent: Buffer[] = [];
      const writing = (async () => {
        const shared = Buffer.alloc(size);
        for (let turn = 0; turn < 4; turn += 1) {
          pattern(size, turn).copy(shared);
          sent.push(Buffer.from(shared));
          await new Promise<void>((resolve, reject) => {
            near.write(shared, (error) => (error ? reject(error) : resolve()));
          });
          shared.fill(0xdd);
        }
        near.end();
      })();
      await carryUntil(pair, writing, 2777);
      t.true((await carryUntil(pair, reading, 2777)).equals(Buffer.concat(sent)), `${size}`);
      near.destroy();
      far.destroy();
    }
  });
}

test('half-close: bytes after our own end are read, the other side may write long after, and finished resolves when both have ended', async (t) => {
  const { pair, near, far } = await join();
  const both = Promise.all([near, far].map((end) => finished(end)));
  near.write('');
  near.write(Buffer.alloc(0));
  near.end('question');
  let question = '';
  far.on('data', (chunk: Buffer) => (question += chunk.toString()));
  await carryUntil(pair, once(far, 'end'));
  t.is(question, 'question');
  t.true(far.writable);
  const answer = pattern(300_000);
  far.end(answer);
  t.true((await carryUntil(pair, buffer(near))).equals(answer));
  await carryUntil(pair, both);
  t.true(near.closed && far.closed);
});

test('destroy with a foreign error resets the other end with cancelled and its message, and emits the error here', async (t) => {
  const { pair, near, far } = await join();
  const own = t.throwsAsync(finished(near), { message: 'disk full' });
  near.destroy(new Error('disk full'));
  await own;
  const error = await failure(t, pair, far);
  t.deepEqual([error.code, error.message], ['cancelled', 'disk full']);
});

test('an error without a listener is thrown, as by any stream', async (t) => {
  const { near } = await join();
  near.removeAllListeners('error');
  t.throws(() => near.emit('error', new Error('disk full')), { message: 'disk full' });
  t.false(near.destroyed);
});

/** Whether `text()` destroys a Duplex that it has read: that of Node 20 and 26 does, that of 24.21 does not. */
async function destroysWhatItRead(): Promise<boolean> {
  const duplex = new Duplex({ read: () => undefined });
  duplex.push(null);
  await text(duplex);
  return duplex.destroyed;
}

test('a stream that text() destroys loses its answer, and the caller is told; iterator() can leave it open', async (t) => {
  for (const isKept of (await destroysWhatItRead()) ? [false, true] : [true]) {
    const { pair, near, far } = await join();
    near.end('hello');
    const outcome: Promise<string | VproxyError> = isKept
      ? text(near)
      : t.throwsAsync(finished(near), { instanceOf: VproxyError });
    const answer = carryUntil(pair, outcome);
    let request = '';
    if (!isKept) request = await carryUntil(pair, text(far));
    else for await (const chunk of far.iterator({ destroyOnReturn: false })) request += String(chunk);
    far.end(request.toUpperCase());
    const got = await answer;
    const lost = 'the program at the other end destroyed the stream before it had ended its side';
    t.is(got instanceof VproxyError ? got.message : got, isKept ? 'HELLO' : lost);
  }
});

test('destroy fails waiting writes, each callback once', async (t) => {
  const { pair, near } = await join({ limits: { streamCredit: 1024 } });
  const outcomes: string[] = [];
  near.on('error', (error) => outcomes.push(`error ${error.message}`));
  for (const size of [5000, 10]) near.write(pattern(size), (error) => outcomes.push(error?.message ?? 'written'));
  await carryOn(pair);
  t.deepEqual(outcomes, []);
  near.destroy(new VproxyError('denied', 'no more'));
  await carryOn(pair);
  t.is(outcomes.filter((outcome) => outcome === 'error no more').length, 1);
  t.is(outcomes.length, 3);
  t.false(outcomes.includes('written'));
});

test('the end of the session destroys every stream with its reason, also one that waits to write or to be drained', async (t) => {
  const { pair, near } = await join({ limits: { streamCredit: 1024 }, capacityBytes: 100 });
  near.write(pattern(50_000));
  await carryOn(pair);
  pair.b.restart();
  t.is((await failure(t, pair, near)).code, 'peer-restarted');
});

/** A stream that the peer accepts and stops; `serve` does the rest. */
function stopped(code: string, message: string, serve: (far: MuxStream) => void) {
  const pair = SessionPair.established();
  pair.b.session.server = {
    serve: (stream) => {
      const far = MuxStream.accept(pair.b.session, stream);
      stream.stop(code, message);
      serve(far);
    },
  };
  return { pair, stream: MuxStream.open(pair.a.session, 'x') };
}

test('STOP of the peer fails the writes of this side with its reason', async (t) => {
  const { pair, stream } = stopped('local-error', 'nobody reads', (far) => void far.resume());
  await carryOn(pair);
  stream.write('too late');
  const error = await failure(t, pair, stream);
  t.deepEqual([error.code, error.message], ['local-error', 'nobody reads']);
});

test('with a listener for it, STOP of the peer drops later writes, and the peer may still send', async (t) => {
  const { pair, stream } = stopped('cancelled', 'has ended', (far) => void far.end('answer'));
  const reasons: string[] = [];
  stream.on('stop', ({ code, message }: VproxyError) => reasons.push(`${code} ${message}`));
  await carryOn(pair);
  stream.write('too late');
  stream.end('also');
  t.is(await carryUntil(pair, text(stream)), 'answer');
  t.deepEqual(reasons, ['cancelled has ended']);
  t.is(stream.errored, null);
});

test('after STOP no more than 256 KiB and as much as the peer sends is dropped; a write beyond that waits, and fails after 10 s', async (t) => {
  const fars: MuxStream[] = [];
  const { pair, stream } = stopped('cancelled', 'has ended', (far) => {
    fars.push(far.on('error', () => undefined));
  });
  stream.on('stop', () => undefined).resume();
  const pass = async (ms: number): Promise<void> => {
    pair.clock.advance(ms);
    await carryOn(pair);
  };
  await carryOn(pair);
  let writtenBytes = 0;
  const write = async (bytes: number): Promise<number> => {
    stream.write(Buffer.alloc(bytes), (error) => (writtenBytes += (error ?? null) === null ? bytes : 0));
    await carryOn(pair);
    return writtenBytes;
  };
  t.is(await write(200_000), 200_000);
  t.is(await write(100_000), 200_000, 'it was too much, and waits');
  // The bytes that the peer sends count as well.
  fars[0]?.write(Buffer.alloc(50_000));
  await carryOn(pair);
  await pass(5000);
  t.is(await write(200_000), 300_000);
  await pass(9000);
  t.is(stream.errored, null);
  pair.clock.advance(2000);
  const error = await failure(t, pair, stream);
  t.deepEqual([error.code, error.message], ['cancelled', 'has ended']);
});

test('pipe into a slow program holds no more than the window', async (t) => {
  const settings = { receiveBudget: new Budget(0) };
  const { pair, near, far } = await join({ limits: { streamCredit: 4096 }, settings });
  const slow = new PassThrough({ highWaterMark: 1 });
  far.pipe(slow);
  near.end(pattern(100_000));
  await carryOn(pair);
  t.true(far.readableLength <= 4096);
  t.true(slow.readableLength + slow.writableLength <= 2 * 4096);
  t.true((await carryUntil(pair, buffer(slow))).equals(pattern(100_000)));
});

test('a stream that was never accepted ends with the refusal, its waiting writes too', async (t) => {
  const pair = SessionPair.established();
  const stream = MuxStream.open(pair.a.session, 'nobody');
  const written = new Promise<Error | null | undefined>((resolve) => {
    stream.write(pattern(100_000), resolve);
  });
  const error = await failure(t, pair, stream);
  t.is(error.code, 'unknown-service');
  t.is(await written, error);
});

test('a program that destroys a stream is called back when the channel is done with its buffer', async (t) => {
  const pair = SessionPair.established({ capacityBytes: 100, limits: { streamCredit: 5000 } });
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined);
  let isBack = false;
  stream.write(Buffer.alloc(20_000), () => {
    isBack = true;
  });
  t.true(pair.a.outbound.unwrittenBytes > 4000);
  stream.destroy(new Error('gone'));
  await turn();
  t.false(isBack);
  await carryOn(pair);
  t.true(isBack);
});

async function writeSingly(pair: SessionPair, stream: MuxStream, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 1) {
    stream.write(bytes.subarray(at, at + 1));
    if (at % 512 === 511) await carryOn(pair);
  }
  await carryOn(pair);
}

test.serial('unread bytes take about their size in memory, even in frames of one byte each', async (t) => {
  const { pair, near, far } = await join();
  const remote: MuxStream[] = [far];
  pair.b.session.server = { serve: (stream) => remote.push(MuxStream.accept(pair.b.session, stream)) };
  const streams = [near, ...Array.from({ length: 9 }, () => MuxStream.open(pair.a.session, 'x'))];
  const bytes = pattern(60_000);
  // The memory of a stream itself is not counted.
  for (const stream of streams) await writeSingly(pair, stream, pattern(100));
  const before = await heapBytes();
  for (const stream of streams) await writeSingly(pair, stream, bytes);
  const grownBytes = (await heapBytes()) - before;
  const sentBytes = streams.length * bytes.length;
  // A view of each frame would take a hundred times as much.
  t.true(grownBytes < sentBytes + 2 ** 20, `${grownBytes} for ${sentBytes} bytes`);
  for (const stream of remote) {
    t.true((stream.read(100 + bytes.length) as Buffer).subarray(100).equals(bytes));
  }
});

test('bytes that came one by one are read in pieces of any size, even larger than a window that does not grow', async (t) => {
  for (const streamCredit of [1024, 65_536]) {
    const settings = { receiveBudget: new Budget(0) };
    const { pair, near, far } = await join({ limits: { streamCredit }, settings });
    const bytes = pattern(75_000, 5);
    const read: Buffer[] = [];
    const sizes = [1, 100, 3000, 70_000, 5];
    far.on('readable', () => {
      for (;;) {
        const chunk = far.read(sizes[read.length % sizes.length]) as Buffer | null;
        if (chunk === null) return;
        read.push(chunk);
      }
    });
    const isOver = finished(far, { writable: false });
    for (let at = 0; at < bytes.length; at += 1) {
      if (!near.write(bytes.subarray(at, at + 1))) await carryOn(pair);
    }
    near.end();
    await carryUntil(pair, isOver);
    t.true(Buffer.concat(read).equals(bytes));
    t.true(read.some(({ length }) => length === 70_000));
  }
});
