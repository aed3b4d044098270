import { buffer } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { carryOn, carryUntil, SessionPair, type Side } from '../helpers/session-pair.js';

/** Makes a side accept every stream and hand it to `serve`. */
function serve(side: Side, handle: (stream: MuxStream) => void): void {
  side.session.on('stream', (stream) => handle(MuxStream.accept(side.session, stream)));
}

const echo = (stream: MuxStream): void => void pipeline(stream, stream).catch(() => undefined);

/** All that a stream sends, without ending its other direction (as `buffer` would). */
function readAll(stream: MuxStream): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
  });
}

function pattern(bytes: number, seed: number): Buffer {
  const data = Buffer.alloc(bytes);
  for (let index = 0; index < bytes; index += 1) data[index] = (index * 31 + seed + (index >> 8)) & 0xff;
  return data;
}

test('a stream echoes what it was sent, at either level of integrity', async (t) => {
  for (const integrity of INTEGRITY_LEVELS) {
    const pair = new SessionPair({ integrity });
    pair.establish();
    serve(pair.b, echo);
    const data = pattern(1_000_000, 7);
    const stream = MuxStream.open(pair.a.session, 'echo');
    stream.end(data);
    const back = await carryUntil(pair, buffer(stream), 10_007);
    t.true(back.equals(data));
  }
});

test('half-close keeps the other direction open', async (t) => {
  const pair = new SessionPair();
  pair.establish();
  serve(pair.b, (stream) => {
    void readAll(stream).then((request) => stream.end(`answer to ${request.toString()}`));
  });
  const stream = MuxStream.open(pair.a.session, 'ask');
  stream.end('question');
  const answer = await carryUntil(pair, buffer(stream));
  t.is(answer.toString(), 'answer to question');
  await finished(stream);
  t.is(pair.a.session.streams.size, 0);
  t.is(pair.b.session.streams.size, 0);
});

test('destroy with an error resets the stream, and the other end is destroyed with its code', async (t) => {
  const pair = new SessionPair();
  pair.establish();
  const remote: MuxStream[] = [];
  serve(pair.b, (stream) => remote.push(stream));
  const stream = MuxStream.open(pair.a.session, 'x');
  stream.write('hello');
  await carryOn(pair);
  const [other] = remote as [MuxStream];
  const failure = t.throwsAsync(finished(other), { instanceOf: VproxyError });
  const own = t.throwsAsync(finished(stream));
  stream.destroy(new VproxyError('denied', 'no more'));
  await carryOn(pair);
  const error = await failure;
  t.is(error.code, 'denied');
  t.is(error.message, 'no more');
  await own;
});

test('a refused stream is destroyed with the reason', async (t) => {
  const pair = new SessionPair();
  pair.establish();
  const stream = MuxStream.open(pair.a.session, 'nothing');
  const error = await carryUntil(pair, t.throwsAsync(finished(stream), { instanceOf: VproxyError }));
  t.is(error.code, 'unknown-service');
});

test('the whole window is given back when a program reads it in one piece', async (t) => {
  const pair = new SessionPair({ limits: { streamCredit: 1024 } });
  pair.establish();
  serve(pair.b, echo);
  const data = pattern(50_000, 3);
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.end(data);
  t.true((await carryUntil(pair, buffer(stream))).equals(data));
});

test('a stream that is not read holds no more than its window, and the writer waits', async (t) => {
  const pair = new SessionPair();
  pair.establish();
  const remote: MuxStream[] = [];
  serve(pair.b, (stream) => remote.push(stream));
  const stream = MuxStream.open(pair.a.session, 'sink');
  t.false(stream.write(pattern(1_000_000, 1)));
  await carryOn(pair);
  const [other] = remote as [MuxStream];
  t.is(other.readableLength, 65_536);
  const other2 = buffer(other);
  stream.end();
  const all = await carryUntil(pair, other2);
  t.true(all.equals(pattern(1_000_000, 1)));
});

test('a program that destroys a stream is called back when the channel is done with its buffer', async (t) => {
  const pair = new SessionPair({ capacityBytes: 100, limits: { streamCredit: 5000 } });
  pair.establish();
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined);
  let isBack = false;
  stream.write(Buffer.alloc(20_000), () => {
    isBack = true;
  });
  t.true(pair.a.outbound.unwrittenBytes > 4000);
  stream.destroy(new Error('gone'));
  await setImmediate();
  t.false(isBack);
  await carryOn(pair);
  t.true(isBack);
});
