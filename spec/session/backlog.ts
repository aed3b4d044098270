import test from 'ava';
import { Random } from '../../bench/soak/random.js';
import { Backlog } from '../../lib/session/resume/backlog.js';
import { FairBudget } from '../../lib/util/bounds.js';
import { MemoryPipe } from '../helpers/session-pair.js';

function onPipe(capacityBytes: number, limitBytes = 1_000_000) {
  const pipe = new MemoryPipe(capacityBytes);
  return { pipe, backlog: new Backlog(pipe, limitBytes) };
}

test('what is given to it is with the link at once; a short piece is the caller’s again', (t) => {
  const { pipe, backlog } = onPipe(1_000_000);
  const short = Buffer.from('short');
  t.true(backlog.write(short));
  short.fill(0);
  t.false(backlog.write(Buffer.alloc(5000, 'x')));
  t.is(pipe.take(10_000).bytes.toString(), `short${'x'.repeat(5000)}`);
  t.is(backlog.unwrittenBytes, 0);
  t.is(backlog.keptBytes, 5005);
});

test('parts are copied, unless they may be kept and are long', (t) => {
  const pipe = new MemoryPipe(1);
  const backlog = new Backlog(pipe, 1_000_000);
  const [short, long] = [Buffer.alloc(20, 's'), Buffer.alloc(20_000, 'l')];
  t.true(backlog.writeParts([short, long]));
  short.fill('x');
  long.fill('k');
  t.false(backlog.writeParts([short, long], true));
  short.fill('y');
  long.fill('K');
  backlog.detach();
  const next = new MemoryPipe(1_000_000);
  backlog.attach(next, 0);
  const { bytes } = next.take(1_000_000);
  t.is(bytes.toString(), `${'s'.repeat(20)}${'l'.repeat(20_000)}${'x'.repeat(20)}${'K'.repeat(20_000)}`);
});

test('what the peer has is kept no longer, and is free when it has all of it', (t) => {
  const pipe = new MemoryPipe(1_000_000);
  const free: number[] = [];
  const backlog = new Backlog(pipe, 6000);
  backlog.write(Buffer.allocUnsafeSlow(5000));
  backlog.afterKept(() => free.push(1));
  backlog.write(Buffer.allocUnsafeSlow(5010).subarray(10));
  t.true(backlog.isFull);
  backlog.acknowledge(4999);
  t.deepEqual(free, []);
  backlog.afterKept(() => free.push(2));
  backlog.acknowledge(5000);
  t.deepEqual(free, [1]);
  t.false(backlog.isFull);
  backlog.acknowledge(10_000);
  t.is(backlog.keptBytes, 0);
  t.deepEqual(free, [1, 2]);
});

test('a peer that says it has more than it can have is refused, and on another link less than it had', (t) => {
  const { pipe, backlog } = onPipe(10);
  backlog.write(Buffer.alloc(200_000, 'a'));
  backlog.write(Buffer.alloc(100, 'b'));
  backlog.acknowledge(10);
  for (const totalBytes of [200_001, 200_100])
    t.throws(() => backlog.acknowledge(totalBytes), { message: /the peer says it has/ }, `${totalBytes}`);
  for (const totalBytes of [9, 0, 200_001])
    t.throws(() => backlog.attach(pipe, totalBytes), { message: /the peer says it has/ }, `${totalBytes}`);
  backlog.acknowledge(9);
  backlog.acknowledge(200_000);
});

test('many short pieces cost no more than a few that are written again', (t) => {
  const { backlog } = onPipe(1_000_000);
  const written: Buffer[] = [];
  const parts: number[] = [];
  const sink = {
    unwrittenBytes: 0,
    write: (bytes: Buffer) => sink.writeParts([bytes]),
    writeParts(pieces: readonly Buffer[]) {
      written.push(...pieces.map((piece) => Buffer.from(piece)));
      parts.push(pieces.length);
      return true;
    },
  };
  const sent = Array.from({ length: 10_000 }, (_, index) => Buffer.from(`piece ${index};`));
  for (const piece of sent) backlog.write(piece);
  backlog.detach();
  backlog.attach(sink, 0);
  t.true(Buffer.concat(written).equals(Buffer.concat(sent)));
  t.true(parts.reduce((sum, count) => sum + count, 0) < 12);
});

test('a piece that is the lesser part of its buffer does not keep that', (t) => {
  const { backlog } = onPipe(1_000_000);
  t.true(backlog.write(Buffer.allocUnsafeSlow(131_072).subarray(0, 60_000)));
  t.false(backlog.write(Buffer.allocUnsafeSlow(131_072).subarray(0, 70_000)));
});

test('at the end what waits is written where there is a link, and what waited for the peer is given back', (t) => {
  const { pipe, backlog } = onPipe(10);
  const calls: string[] = [];
  backlog.write(Buffer.alloc(400_000, 'a'));
  backlog.afterKept(() => calls.push('first'));
  backlog.write(Buffer.alloc(5, 'b'));
  t.true(backlog.unwrittenBytes > 0);
  for (const callback of backlog.end(true)) callback();
  t.deepEqual(calls, ['first']);
  t.is(backlog.keptBytes, 0);
  t.is(pipe.totalBytes, 400_005);

  const apart = new Backlog(null, 1_000_000);
  apart.write(Buffer.alloc(400_000, 'a'));
  apart.end(true);
  t.deepEqual([apart.unwrittenBytes, apart.keptBytes], [0, 0]);
});

test('so much more than the limit is only kept for a peer that acknowledges nothing', (t) => {
  const { backlog } = onPipe(100_000_000, 1000);
  backlog.write(Buffer.alloc(2_000_000));
  t.true(backlog.isFull);
  t.false(backlog.isOverfull);
  backlog.write(Buffer.alloc(3_000_000));
  t.true(backlog.isOverfull);
  backlog.acknowledge(4_999_500);
  t.false(backlog.isFull);
  t.false(backlog.isOverfull);
});

test('of a budget that is full each has as large a share, one that comes has one, too, and each can keep some', (t) => {
  const budget = new FairBudget(8_000_000);
  const backlogs = Array.from({ length: 40 }, () => new Backlog(null, 100_000_000, budget));
  const fill = (backlog: Backlog): void => {
    while (!backlog.isFull) backlog.write(Buffer.alloc(1000));
  };
  backlogs.slice(0, 3).forEach(fill);
  t.deepEqual(
    backlogs.slice(0, 4).map(({ keptBytes }) => Math.round(keptBytes / 10_000)),
    [400, 200, 100, 0],
  );
  // What the first one gives up is there for the others.
  backlogs[0]?.end(false).forEach((release) => release());
  backlogs.slice(1, 3).forEach(fill);
  t.true(budget.usedBytes > 5_000_000 && budget.usedBytes < 6_000_000, `${budget.usedBytes}`);
  backlogs.slice(3).forEach(fill);
  for (const { keptBytes } of backlogs.slice(1)) t.true(keptBytes >= 262_144);
  t.true(budget.usedBytes < 8_000_000 + 40 * 264_000, `${budget.usedBytes}`);
  backlogs.forEach((backlog) => backlog.end(false).forEach((release) => release()));
  t.is(budget.usedBytes, 0);
});

test('what the link of an ended session has not written is still of the budget', (t) => {
  const budget = new FairBudget(1_000_000);
  const backlog = new Backlog(new MemoryPipe(10), 1_000_000, budget);
  backlog.write(Buffer.alloc(300_000));
  backlog.acknowledge(1);
  t.is(budget.usedBytes, 299_999);
  const callbacks = backlog.end(true);
  t.is(budget.usedBytes, 299_999);
  for (const callback of callbacks) callback();
  t.is(budget.usedBytes, 0);
});

test('one whose share shrinks is not overfull for that', (t) => {
  const budget = new FairBudget(20_000_000);
  const [first, second] = [new Backlog(null, 100_000_000, budget), new Backlog(null, 100_000_000, budget)];
  first.write(Buffer.alloc(9_000_000));
  second.write(Buffer.alloc(5_000_000));
  t.true(first.isFull);
  t.false(first.isOverfull);
  first.write(Buffer.alloc(4_000_000));
  t.false(first.isOverfull);
  first.write(Buffer.alloc(1_000_000));
  t.true(first.isOverfull);
});

test('whatever breaks when, the peer has every byte once', (t) => {
  const random = new Random(18);
  for (let run = 0; run < 20; run += 1) {
    let pipe = new MemoryPipe(random.integer(1, 50_000));
    const backlog = new Backlog(pipe, 100_000_000);
    const sent: Buffer[] = [];
    const received: Buffer[] = [];
    let receivedBytes = 0;
    const take = (maxBytes: number): boolean => {
      const { bytes, drained } = pipe.take(maxBytes);
      received.push(bytes);
      receivedBytes += bytes.length;
      return drained;
    };
    for (let step = 0; step < 60; step += 1) {
      const pieces = Array.from({ length: random.integer(1, 3) }, () => random.bytes(random.integer(1, 9000)));
      sent.push(...pieces.map((piece) => Buffer.from(piece)));
      // A buffer that is free may be used for something else at once.
      if (random.fraction() < 0.5) {
        if (backlog.writeParts(pieces)) for (const piece of pieces) piece.fill(0);
      } else {
        for (const piece of pieces) if (backlog.write(piece)) piece.fill(0);
      }
      if (take(random.integer(0, 30_000))) backlog.flush();
      if (random.fraction() < 0.3) backlog.acknowledge(receivedBytes);
      if (random.fraction() < 0.2) {
        backlog.detach();
        pipe = new MemoryPipe(random.integer(1, 50_000));
        backlog.attach(pipe, receivedBytes);
      }
    }
    while (receivedBytes < backlog.totalBytes) if (take(100_000)) backlog.flush();
    t.true(Buffer.concat(received).equals(Buffer.concat(sent)), `run ${run}`);
    backlog.acknowledge(receivedBytes);
    t.is(backlog.keptBytes, 0);
  }
});

test('a peer that acknowledges more than its new link was given breaks the protocol, and nothing is given up', (t) => {
  const { backlog } = onPipe(1_000_000);
  for (let piece = 0; piece < 10; piece += 1) backlog.write(Buffer.alloc(100_000, piece));
  backlog.detach();
  const narrow = new MemoryPipe(10);
  backlog.attach(narrow, 0);
  t.true(narrow.totalBytes < 1_000_000);
  t.throws(() => backlog.acknowledge(1_000_000), { code: 'protocol-error' });
  for (let rest = 1_000_000; rest > 0; ) {
    rest -= narrow.take(1_000_000).bytes.length;
    backlog.flush();
  }
  backlog.acknowledge(1_000_000);
  t.is(backlog.keptBytes, 0);
});
