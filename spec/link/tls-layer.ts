/** Two TLS layers joined in memory by sinks that strictly enforce who owns which bytes, and for how long. */
import { createHash, randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { ByteSink } from '../../lib/codec/frame-writer.js';
import { PSK_METHOD } from '../../lib/codec/hello.js';
import type { VproxyError } from '../../lib/errors.js';
import { tlsWithCertificates, tlsWithKeys } from '../../lib/link/tls-layer.js';
import type { Agreement } from '../../lib/session/opening/agreement.js';
import { SecretKey, type SecureLayer } from '../../lib/session/opening/auth.js';
import { eventually, ManualClock } from '../helpers/time.js';

const KEY = SecretKey.parse('1f'.repeat(32));
/** The most that a link reads at once. */
const SLAB_BYTES = 135_168;
const RUBBISH = 0xee;

/** One direction of a channel. It overwrites bytes that it took or lent as soon as that is allowed. */
class HonestWire implements ByteSink {
  /** Whether writes are finished within the call, so that the buffer is the writer's again. */
  takesAtOnce = true;
  /** While true nothing is written, and nothing arrives. */
  isStalled = false;
  reader: SecureLayer | null = null;
  writer: SecureLayer | null = null;
  /** The buffers that were handed over and not yet written. */
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

  /** Writes the kept bytes, and delivers one read. */
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

class End {
  readonly chunks: Buffer[] = [];
  /** The number of bytes that came with each call. */
  readonly sizes: number[] = [];
  readonly memories = new Set<ArrayBufferLike>();
  sink: ByteSink | null = null;
  drains = 0;
  failure: VproxyError | null = null;
  readonly layer: SecureLayer;

  /** Keeps lent bytes if `keeps` says so. */
  constructor(isOdd: boolean, channel: HonestWire, keeps: () => boolean) {
    const auth = { method: PSK_METHOD, keys: [KEY.id] };
    const agreement = { isOdd, self: { auth, nonce: 'one' }, peer: { auth, nonce: 'two' } } as unknown as Agreement;
    this.layer = tlsWithKeys(() => [KEY])(agreement, channel, {
      onReady: (sink) => (this.sink = sink),
      onBytes: (bytes) => {
        const isOurs = keeps();
        this.sizes.push(bytes.length);
        this.memories.add(bytes.buffer);
        this.chunks.push(isOurs ? bytes : Buffer.from(bytes));
        return isOurs;
      },
      onDrain: () => (this.drains += 1),
      onFailed: (reason) => (this.failure = reason),
    });
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get receivedBytes(): number {
    return this.sizes.reduce((sum, size) => sum + size, 0);
  }
}

/** A pair that has completed its handshake; `a` sends on `there`. `b` keeps lent bytes if `keeps` says so. */
async function establish(t: ExecutionContext, keeps: () => boolean = () => false) {
  const [there, back] = [new HonestWire(), new HonestWire()];
  const [a, b] = [new End(true, there, () => false), new End(false, back, keeps)];
  Object.assign(there, { reader: b.layer, writer: a.layer });
  Object.assign(back, { reader: a.layer, writer: b.layer });
  t.teardown(() => [a, b].forEach(({ layer }) => layer.destroy()));
  /** Lets the channel work until `isDone`. */
  const until = async (isDone: () => boolean): Promise<void> => {
    const look = async (): Promise<boolean> => {
      there.carry(t);
      back.carry(t);
      await turn();
      return isDone();
    };
    await eventually(look, { intervalMs: 0 });
  };
  /** Writes pieces as a session does: the next when less than a frame waits; a returned buffer is overwritten. */
  const send = async (...pieces: readonly Buffer[]): Promise<void> => {
    for (const piece of pieces) {
      await until(() => (a.sink?.unwrittenBytes ?? 0) < 131_072);
      const lent = Buffer.from(piece);
      // Some are written as a header and its payload.
      const isFree =
        piece.length === 16_385 ? a.sink?.writeParts([lent.subarray(0, 16), lent.subarray(16)]) : a.sink?.write(lent);
      if (isFree === true) lent.fill(RUBBISH);
    }
  };
  /** Sends, and waits until `b` has everything ever sent. */
  const bring = async (...pieces: readonly Buffer[]): Promise<void> => {
    const total = b.receivedBytes + pieces.reduce((sum, { length }) => sum + length, 0);
    await send(...pieces);
    await until(() => b.receivedBytes >= total);
  };
  await until(() => a.sink !== null && b.sink !== null);
  return { a, b, there, until, send, bring };
}

const FRAME_BYTES = 131_088;
const randomFrames = (count: number): Buffer[] => Array.from({ length: count }, () => randomBytes(FRAME_BYTES));

const SIZES = [1, 22, 4096, 16_384, 16_385, FRAME_BYTES, 300_000, 5];

for (const takesAtOnce of [true, false]) {
  const how = takesAtOnce ? 'finishes writes within the call' : 'keeps buffers for a while';
  test(`bytes arrive unchanged through a channel that ${how}; lent memory is overwritten after each call`, async (t) => {
    const { a, b, there, until, bring } = await establish(t);
    there.takesAtOnce = takesAtOnce;
    const pieces = [...SIZES, ...SIZES].map((size) => randomBytes(size));
    await bring(...pieces);
    t.true(b.received.equals(Buffer.concat(pieces)));
    await until(() => a.sink?.unwrittenBytes === 0);
    t.true(a.drains > 0);
  });
}

test('bytes beyond a turn are left to the next one', async (t) => {
  const { b, there, until, send } = await establish(t);
  const read: Buffer[] = [];
  const { layer } = b;
  const keep = (chunk: Buffer): Buffer => (read.push(Buffer.from(chunk)), Buffer.alloc(0));
  there.reader = { receive: keep } as unknown as SecureLayer;
  const letters = Array.from({ length: 100 }, (_, index) => Buffer.from([index]));
  await send(...letters);
  await until(() => there.isEmpty);
  let turns = 0;
  for (let rest: Buffer = Buffer.concat(read); rest.length > 0; turns += 1) rest = layer.receive(rest, () => true);
  t.is(turns, 7, '16 records in each');
  t.true(b.received.equals(Buffer.concat(letters)));
});

test('kept bytes are not overwritten, other memory is reused; records of one read are handed on together', async (t) => {
  let isKept = false;
  const { b, bring } = await establish(t, () => isKept);
  await bring(...randomFrames(40));
  t.true(b.memories.size <= 4, `${b.memories.size} pieces of memory for 5 MB`);
  // Nine records each; two calls if a frame crosses the end of the memory.
  t.true(b.sizes.length <= 3 * 40, `${b.sizes.length} calls`);
  // From here on every other call keeps its bytes.
  b.chunks.length = 0;
  const kept = randomFrames(20);
  for (const piece of kept) {
    isKept = !isKept;
    await bring(piece);
  }
  t.true(b.received.equals(Buffer.concat(kept)));
});

test('a keystroke costs no large memory, also after bulk', async (t) => {
  const { b, bring } = await establish(t);
  await bring(Buffer.alloc(300_000));
  for (let count = 1; count <= 10; count += 1) await bring(Buffer.from('k'));
  b.memories.clear();
  await bring(Buffer.from('k'));
  for (const { byteLength } of b.memories) t.true(byteLength <= 16_384, `${byteLength}`);
});

test('records that the channel has written take no more memory', async (t) => {
  const { a, b, there, until } = await establish(t);
  there.isStalled = true;
  a.sink?.write(Buffer.alloc(FRAME_BYTES));
  const given = there.kept.map(({ bytes }) => bytes).filter(({ length }) => length >= 16_384);
  t.true(given.length > 0);
  there.isStalled = false;
  await until(() => b.receivedBytes === FRAME_BYTES);
  t.true(given.every(({ buffer }) => buffer.byteLength === 0));
});

test('a layer on a channel that takes nothing holds only what it was given', async (t) => {
  const { a, there } = await establish(t);
  there.isStalled = true;
  let given = 0;
  // As a session does: nothing more while a frame waits.
  for (let turns = 0; turns < 100; turns += 1) {
    if ((a.sink?.unwrittenBytes ?? 0) < 131_072) {
      a.sink?.write(Buffer.alloc(FRAME_BYTES));
      given += FRAME_BYTES;
    }
    await turn();
  }
  t.deepEqual([given, a.sink?.unwrittenBytes], [FRAME_BYTES, FRAME_BYTES]);
  t.true(there.unwrittenBytes < FRAME_BYTES + 9 * 64, `${there.unwrittenBytes}`);
});

test('a layer that ends hands over everything it was given', async (t) => {
  const { a, b, there, until } = await establish(t);
  there.takesAtOnce = false;
  const pieces = randomFrames(5);
  for (const piece of pieces) a.sink?.write(Buffer.from(piece));
  let isClosed = false;
  a.layer.close(() => (isClosed = true));
  t.false(isClosed);
  await until(() => isClosed && b.failure !== null);
  t.true(b.received.equals(Buffer.concat(pieces)));
  t.is(b.failure?.code, 'peer-restarted');
});

test('what a peer sent before it restarted arrives, also in one read with the restart', async (t) => {
  const { a, b, there, until } = await establish(t);
  const pieces = randomFrames(5);
  for (const piece of pieces) a.sink?.write(Buffer.from(piece));
  await new Promise<void>((resolve) => a.layer.close(resolve));
  there.write(Buffer.alloc(64));
  await until(() => b.failure !== null);
  t.true(b.received.equals(Buffer.concat(pieces)));
  t.is(b.failure?.code, 'peer-restarted');
});

test('an unusable private key leaves no limit of time behind, which would end a later session', (t) => {
  const clock = new ManualClock();
  const makeLayer = tlsWithCertificates(() => ({ ca: '', cert: '', key: '\n', peerName: null }), clock);
  const fail = (): void => void t.fail();
  const handler = { onReady: fail, onBytes: () => false, onDrain: fail, onFailed: fail };
  for (const isOdd of [true, false]) {
    const agreement = { isOdd, peer: { nonce: 'two' } } as unknown as Agreement;
    const refused = { code: 'bad-file', message: /^cert= or key=: .*unsupported/ };
    t.throws(() => makeLayer(agreement, new HonestWire(), handler), refused);
  }
  t.is(clock.pending, 0);
});
