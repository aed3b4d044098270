/** Two TLS layers joined in memory by sinks that keep to the letter of who owns which bytes, and for how long. */
import { createHash, randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { ByteSink } from '../../lib/codec/frame-writer.js';
import { PSK_METHOD } from '../../lib/codec/hello.js';
import type { VproxyError } from '../../lib/errors.js';
import { tlsWithKeys } from '../../lib/link/tls-layer.js';
import type { Agreement } from '../../lib/session/opening/agreement.js';
import { SecretKey, type SecureLayer } from '../../lib/session/opening/auth.js';
import { eventually } from '../helpers/time.js';

const KEY = SecretKey.parse('1f'.repeat(32));
/** As much as a link reads at once. */
const SLAB_BYTES = 135_168;
const RUBBISH = 0xee;

/** One direction of a channel. What it has taken or lent is overwritten as soon as that is allowed. */
class HonestWire implements ByteSink {
  /** Whether writes are finished within the call, so that the buffer is the writer's again. */
  takesAtOnce = true;
  /** While true nothing is written, and nothing arrives. */
  isStalled = false;
  reader: SecureLayer | null = null;
  writer: SecureLayer | null = null;
  /** What was handed over and not written: the buffers themselves. */
  readonly kept: { readonly bytes: Buffer; readonly hash: string }[] = [];
  readonly #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #written: Buffer = Buffer.alloc(0);

  get unwrittenBytes(): number {
    return this.kept.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  get isEmpty(): boolean {
    return this.#written.length + this.kept.length === 0;
  }

  write(bytes: Buffer): boolean {
    if (!this.takesAtOnce || this.isStalled || this.kept.length > 0) {
      this.kept.push({ bytes, hash: hashOf(bytes) });
      return false;
    }
    this.#written = Buffer.concat([this.#written, bytes]);
    return true;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    return parts.map((part) => this.write(part)).every(Boolean);
  }

  /** Writes what was kept, and delivers one read. */
  carry(t: ExecutionContext): void {
    if (this.isStalled) return;
    const hadKept = this.kept.length > 0;
    for (const { bytes, hash } of this.kept.splice(0)) {
      t.is(hashOf(bytes), hash, 'the buffer was the channel’s');
      this.#written = Buffer.concat([this.#written, bytes]);
    }
    if (hadKept) this.writer?.handleDrain();
    const count = this.#written.copy(this.#slab, 0, 0, SLAB_BYTES);
    this.#written = this.#written.subarray(count);
    if (count > 0) {
      const unread = this.reader?.receive(this.#slab.subarray(0, count), () => false);
      t.is(unread?.length, 0);
    }
    this.#slab.fill(RUBBISH);
  }
}

const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface End {
  readonly layer: SecureLayer;
  readonly chunks: Buffer[];
  /** The number of bytes that came with each call. */
  readonly sizes: number[];
  readonly memories: Set<ArrayBufferLike>;
  sink: ByteSink | null;
  drains: number;
  failure: VproxyError | null;
}

interface Pair {
  readonly a: End;
  readonly b: End;
  readonly there: HonestWire;
  readonly back: HonestWire;
  /** Lets the channel work until `isDone`. */
  until(isDone: () => boolean): Promise<void>;
}

/** A pair that is through its handshake. What `b` is lent it keeps where `keeps` says so. */
async function establish(t: ExecutionContext, keeps: () => boolean = () => false): Promise<Pair> {
  const [there, back] = [new HonestWire(), new HonestWire()];
  const make = (isOdd: boolean, channel: HonestWire, isKept: () => boolean): End => {
    const auth = { method: PSK_METHOD, keys: [KEY.id] };
    const agreement = { isOdd, self: { auth, nonce: 'one' }, peer: { auth, nonce: 'two' } } as unknown as Agreement;
    const end = { chunks: [], sizes: [], memories: new Set(), sink: null, drains: 0, failure: null } as unknown as End;
    const layer = tlsWithKeys(() => [KEY])(agreement, channel, {
      onReady: (sink) => (end.sink = sink),
      onBytes: (bytes) => {
        const isOurs = isKept();
        end.sizes.push(bytes.length);
        end.memories.add(bytes.buffer);
        end.chunks.push(isOurs ? bytes : Buffer.from(bytes));
        return isOurs;
      },
      onDrain: () => (end.drains += 1),
      onFailed: (reason) => (end.failure = reason),
    });
    return Object.assign(end, { layer });
  };
  const a = make(true, there, () => false);
  const b = make(false, back, keeps);
  Object.assign(there, { reader: b.layer, writer: a.layer });
  Object.assign(back, { reader: a.layer, writer: b.layer });
  t.teardown(() => [a, b].forEach(({ layer }) => layer.destroy()));
  const until = async (isDone: () => boolean): Promise<void> => {
    await eventually(
      async () => {
        there.carry(t);
        back.carry(t);
        await turn();
        return isDone();
      },
      { intervalMs: 0 },
    );
  };
  await until(() => a.sink !== null && b.sink !== null);
  return { a, b, there, back, until };
}

const received = (end: End): Buffer => Buffer.concat(end.chunks);
const receivedBytes = (end: End): number => end.sizes.reduce((sum, size) => sum + size, 0);

/** Writes pieces as a session does: the next where less than a frame waits; a buffer that it has back is overwritten. */
async function send(pair: Pair, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) {
    await pair.until(() => (pair.a.sink?.unwrittenBytes ?? 0) < 131_072);
    const lent = Buffer.from(piece);
    if (pair.a.sink?.write(lent)) lent.fill(RUBBISH);
  }
}

const SIZES = [1, 22, 4096, 16_384, 16_385, 131_088, 300_000, 5];

for (const takesAtOnce of [true, false]) {
  const how = takesAtOnce ? 'finishes writes within the call' : 'keeps what it is given for a while';
  test(`bytes come as they were sent, through a channel that ${how}; lent memory is overwritten after each call`, async (t) => {
    const pair = await establish(t);
    pair.there.takesAtOnce = takesAtOnce;
    const pieces = [...SIZES, ...SIZES].map((size) => randomBytes(size));
    await send(pair, pieces);
    const all = Buffer.concat(pieces);
    await pair.until(() => receivedBytes(pair.b) >= all.length);
    t.true(received(pair.b).equals(all));
    await pair.until(() => pair.a.sink?.unwrittenBytes === 0);
    t.true(pair.a.drains > 0);
  });
}

test('what a turn has no time for is left to another one', async (t) => {
  const pair = await establish(t);
  const read: Buffer[] = [];
  const { layer } = pair.b;
  pair.there.reader = {
    receive: (chunk: Buffer) => (read.push(Buffer.from(chunk)), Buffer.alloc(0)),
  } as unknown as SecureLayer;
  const letters = Array.from({ length: 100 }, (_, index) => Buffer.from([index]));
  await send(pair, letters);
  await pair.until(() => pair.there.isEmpty);
  let turns = 0;
  for (let rest: Buffer = Buffer.concat(read); rest.length > 0; turns += 1) rest = layer.receive(rest, () => true);
  t.is(turns, 7, '16 records in each');
  t.true(received(pair.b).equals(Buffer.concat(letters)));
});

test('a header and its payload that are written as parts come one behind the other', async (t) => {
  const pair = await establish(t);
  const [header, payload] = [randomBytes(16), randomBytes(100_000)];
  const [lentHeader, lentPayload] = [Buffer.from(header), Buffer.from(payload)];
  t.true(pair.a.sink?.writeParts([lentHeader, lentPayload]));
  lentHeader.fill(RUBBISH);
  lentPayload.fill(RUBBISH);
  await pair.until(() => receivedBytes(pair.b) === 100_016);
  t.true(received(pair.b).equals(Buffer.concat([header, payload])));
});

test('what came is not overwritten where it was kept, and its memory is used again where it was not', async (t) => {
  let isKept = false;
  const pair = await establish(t, () => isKept);
  const lent = Array.from({ length: 40 }, () => randomBytes(131_088));
  await send(pair, lent);
  await pair.until(() => receivedBytes(pair.b) === 40 * 131_088);
  t.true(pair.b.memories.size <= 4, `${pair.b.memories.size} pieces of memory for 5 MB`);
  // From here on each other call keeps what it is lent.
  const before = pair.b.chunks.length;
  isKept = true;
  const kept = Array.from({ length: 20 }, () => randomBytes(131_088));
  for (const piece of kept) {
    await send(pair, [piece]);
    isKept = !isKept;
  }
  await pair.until(() => receivedBytes(pair.b) === 60 * 131_088);
  t.true(Buffer.concat(pair.b.chunks.slice(before)).equals(Buffer.concat(kept)));
});

test('records that one read of the channel brought are handed on together', async (t) => {
  const pair = await establish(t);
  await send(
    pair,
    Array.from({ length: 40 }, () => Buffer.alloc(131_088)),
  );
  await pair.until(() => receivedBytes(pair.b) === 40 * 131_088);
  // Nine records each; two calls where a frame goes over the end of the memory.
  t.true(pair.b.sizes.length <= 3 * 40, `${pair.b.sizes.length} calls`);
});

test('a keystroke costs no large memory, also after bulk', async (t) => {
  const pair = await establish(t);
  await send(pair, [Buffer.alloc(300_000)]);
  await pair.until(() => receivedBytes(pair.b) === 300_000);
  for (let count = 1; count <= 10; count += 1) {
    await send(pair, [Buffer.from('k')]);
    await pair.until(() => receivedBytes(pair.b) === 300_000 + count);
  }
  pair.b.memories.clear();
  await send(pair, [Buffer.from('k')]);
  await pair.until(() => receivedBytes(pair.b) === 300_011);
  for (const { byteLength } of pair.b.memories) t.true(byteLength <= 16_384, `${byteLength}`);
});

test('records that the channel has written take no memory any more', async (t) => {
  const pair = await establish(t);
  pair.there.isStalled = true;
  pair.a.sink?.write(Buffer.alloc(131_088));
  const given = pair.there.kept.map(({ bytes }) => bytes).filter(({ length }) => length >= 16_384);
  t.true(given.length > 0);
  pair.there.isStalled = false;
  await pair.until(() => receivedBytes(pair.b) === 131_088);
  t.deepEqual(
    given.map(({ buffer }) => buffer.byteLength),
    given.map(() => 0),
  );
});

test('a layer on a channel that takes nothing holds what it was given, and no more than that', async (t) => {
  const pair = await establish(t);
  pair.there.isStalled = true;
  const frame = 131_088;
  let given = 0;
  // As a session does: nothing more while a frame waits.
  for (let turns = 0; turns < 100; turns += 1) {
    if ((pair.a.sink?.unwrittenBytes ?? 0) < 131_072) {
      pair.a.sink?.write(Buffer.alloc(frame));
      given += frame;
    }
    await turn();
  }
  t.is(given, frame);
  t.is(pair.a.sink?.unwrittenBytes, frame);
  t.true(pair.there.unwrittenBytes < frame + 9 * 64, `${pair.there.unwrittenBytes}`);
});

test('the end of a layer hands over everything that it was given', async (t) => {
  const pair = await establish(t);
  pair.there.takesAtOnce = false;
  const pieces = Array.from({ length: 5 }, () => randomBytes(131_088));
  for (const piece of pieces) pair.a.sink?.write(Buffer.from(piece));
  let isClosed = false;
  pair.a.layer.close(() => (isClosed = true));
  t.false(isClosed);
  await pair.until(() => isClosed && pair.b.failure !== null);
  t.true(received(pair.b).equals(Buffer.concat(pieces)));
  t.is(pair.b.failure?.code, 'peer-restarted');
});
