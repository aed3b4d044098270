import test from 'ava';
import { Random } from '../../bench/soak/random.js';
import { encodeHello } from '../../lib/codec/hello.js';
import { deliver, ResumePair } from './resume-pair.js';

test('a session goes on with another link, and its streams notice nothing', (t) => {
  const pair = new ResumePair();
  const { session } = pair.a.loop;
  t.not(session, null);
  const end = pair.traffic.open(pair.a);
  end?.send(100_000);
  pair.step(20_000);
  pair.cut();
  t.true(session?.isSuspended);
  pair.settle();
  t.is(pair.a.loop.session, session);
  t.is(pair.a.resumed, 1);
  end?.finish();
  pair.settle();
  t.deepEqual(pair.traffic.faults(), []);
  t.deepEqual(pair.endings, []);
});

test('a cut after every byte of an exchange loses nothing', (t) => {
  for (let at = 0; at < 3000; at += 1) {
    const pair = new ResumePair();
    const { traffic } = pair;
    const one = traffic.open(pair.a);
    const other = traffic.open(pair.b);
    one?.send(900);
    other?.send(700);
    one?.finish();
    other?.finish();
    const half = at / 2;
    pair.step(Math.floor(half) + 1, Math.ceil(half) + 1);
    pair.cut();
    pair.settle();
    const faults = traffic.faults();
    if (faults.length > 0 || pair.endings.length > 0) {
      t.deepEqual({ at, faults, endings: pair.endings }, { at, faults: [], endings: [] });
      return;
    }
  }
  t.pass();
});

test('whatever breaks when, no stream loses a byte', (t) => {
  const random = new Random(46);
  for (let run = 0; run < 50; run += 1) {
    const pair = new ResumePair();
    const { traffic } = pair;
    const ends = Array.from({ length: 8 }, (_, index) => traffic.open(index % 2 === 0 ? pair.a : pair.b));
    for (let cut = 0; cut < 20; cut += 1) {
      for (const end of ends) if (random.fraction() < 0.5) end?.send(random.integer(1, 50_000));
      for (let step = random.integer(0, 20); step > 0; step -= 1) pair.step(random.integer(1, 20_000));
      if (random.fraction() < 0.3) pair.clock.advance(random.integer(0, 1000));
      pair.cut(random.integer(1000, 1_000_000));
    }
    pair.settle();
    for (const end of ends) end?.finish();
    pair.settle();
    t.deepEqual({ run, faults: traffic.faults(), endings: pair.endings }, { run, faults: [], endings: [] });
  }
});

test('a link that dies while all is written again, ten times in a row, loses nothing', (t) => {
  const pair = new ResumePair();
  const end = pair.traffic.open(pair.a);
  pair.settle();
  end?.other?.send(900_000);
  end?.send(900_000);
  while (pair.step(40_000) && (end?.receivedBytes ?? 0) < 300_000);
  for (let link = 0; link < 10; link += 1) {
    pair.cut(5000);
    while (pair.a.resumed === link || pair.b.resumed === link) pair.step(5000);
    for (let step = 0; step < link; step += 1) pair.step(4000);
    t.true(pair.a.session.unwrittenBytes > 0);
  }
  pair.cut();
  pair.settle();
  end?.finish();
  end?.other?.finish();
  pair.settle();
  t.deepEqual(pair.traffic.faults(), []);
  t.deepEqual([end?.receivedBytes, end?.other?.receivedBytes], [900_000, 900_000]);
  t.deepEqual(pair.endings, []);
});

test('a round trip is never one over two links; what was asked for meanwhile is measured on the next one', (t) => {
  const pair = new ResumePair();
  const { session } = pair.a;
  const measured: number[] = [];
  session.on('measured', (roundTripMs) => measured.push(roundTripMs));
  session.measure();
  pair.disconnect();
  pair.clock.advance(50_000);
  pair.connect();
  pair.settle();
  t.deepEqual(measured, [0.5]);
  pair.disconnect();
  session.measure();
  pair.clock.advance(50_000);
  pair.connect();
  pair.settle();
  t.deepEqual(measured, [0.5, 0.5]);
  pair.cut();
  pair.settle();
  t.is(measured.length, 2);
});

/** A pair whose `a` has sent something, and the HELLO that it repeats. */
function withHello(): { readonly pair: ResumePair; readonly hello: Buffer } {
  const pair = new ResumePair();
  const end = pair.traffic.open(pair.a);
  end?.send(1000);
  end?.other?.send(1000);
  pair.settle();
  return { pair, hello: encodeHello(pair.a.session.agreement.self) };
}

/** Sends more, cuts the link when this much of it has come, and has all come on the next one. What is wrong then. */
function faultsAfterCut(pair: ResumePair, bytes = 2500): string[] {
  const [end] = pair.traffic.ends;
  end?.send(5000);
  if (bytes > 0) pair.step(bytes);
  pair.cut();
  pair.settle();
  end?.finish();
  end?.other?.finish();
  pair.settle();
  const faults = [...pair.traffic.faults(), ...pair.endings];
  return pair.traffic.ends.every(({ isOver }) => isOver) ? faults : [...faults, 'a stream does not end'];
}

test('a HELLO that is repeated into a session is no part of its bytes, wherever a chunk ends in it', (t) => {
  const { hello } = withHello();
  for (let split = 0; split <= hello.length; split += 1) {
    const { pair, hello: again } = withHello();
    deliver(pair.b, Buffer.from(again.subarray(0, split)));
    if (split < hello.length) deliver(pair.b, Buffer.from(again.subarray(split)));
    t.deepEqual([split, ...faultsAfterCut(pair)], [split]);
  }
});

test('a HELLO of which only a part came before the link was lost is no part of a session', (t) => {
  const { hello } = withHello();
  for (let split = 0; split <= hello.length; split += 1) {
    const { pair, hello: again } = withHello();
    deliver(pair.b, Buffer.from(again.subarray(0, split)));
    t.deepEqual([split, ...faultsAfterCut(pair, 0)], [split]);
  }
});

test('the HELLO of the link that a session goes on with may be repeated into it, and that of an earlier link not', (t) => {
  const { pair, hello } = withHello();
  let repeated = Buffer.alloc(0);
  pair.cut();
  while (pair.b.loop.session === null) {
    // The last HELLO that `a` writes is the one that it is established with.
    const { bytes } = pair.a.outbound.take(1_000_000);
    const at = bytes.lastIndexOf(hello.subarray(0, 16));
    if (at >= 0) repeated = Buffer.from(bytes.subarray(at, at + bytes.readUInt32BE(at + 24) + 32));
    deliver(pair.b, bytes);
    deliver(pair.a, pair.b.outbound.take(1_000_000).bytes);
  }
  pair.settle();
  deliver(pair.b, Buffer.from(repeated));
  t.deepEqual(faultsAfterCut(pair), []);
  deliver(pair.b, Buffer.from(hello));
  t.true(pair.b.session.isSuspended);
  pair.settle();
  pair.clock.advance(125);
  pair.settle();
  t.deepEqual(faultsAfterCut(pair), []);
});
