import test from 'ava';
import { Backlog } from '../../lib/session/resume/backlog.js';
import { FairBudget } from '../../lib/util/bounds.js';
import { MemoryPipe } from '../helpers/session-pair.js';

const LIMIT_BYTES = 1_000_000;

test('bytes go to the link at once; a short piece, or less than half of its buffer, is the caller’s again, and a long part that may be kept is not', (t) => {
  const pipe = new MemoryPipe(LIMIT_BYTES);
  const backlog = new Backlog(pipe, LIMIT_BYTES);
  const [short, long] = [Buffer.alloc(20, 's'), Buffer.alloc(20_000, 'l')];
  for (const [isFree, write] of [
    [true, () => backlog.write(short)],
    [false, () => backlog.write(Buffer.alloc(5000, 'x'))],
    [true, () => backlog.write(Buffer.allocUnsafeSlow(131_072).fill('y').subarray(0, 60_000))],
    [false, () => backlog.write(Buffer.allocUnsafeSlow(131_072).fill('z').subarray(0, 70_000))],
    [true, () => backlog.writeParts([short, long])],
  ] as const) {
    t.is(write(), isFree);
    t.is(backlog.unwrittenBytes, 0);
  }
  short.fill('a');
  long.fill('b');
  t.false(backlog.writeParts([short, long], true));
  short.fill('-');
  long.fill('B');
  const wanted = ['s', 20, 'x', 5000, 'y', 60_000, 'z', 70_000, 's', 20, 'l', 20_000, 'a', 20, 'B', 20_000];
  const text = Array.from({ length: 8 }, (_, at) => String(wanted[2 * at]).repeat(Number(wanted[2 * at + 1]))).join('');
  t.is(backlog.keptBytes, text.length);
  backlog.detach();
  const next = new MemoryPipe(LIMIT_BYTES);
  backlog.attach(next, 0);
  t.is(next.take(LIMIT_BYTES).bytes.toString(), text);
});

test('bytes that the peer has are no longer kept, and are free when it has all of them', (t) => {
  const backlog = new Backlog(new MemoryPipe(LIMIT_BYTES), 6000);
  const free: number[] = [];
  backlog.write(Buffer.allocUnsafeSlow(5000));
  backlog.afterKept(() => free.push(1));
  backlog.write(Buffer.allocUnsafeSlow(5010).subarray(10));
  t.true(backlog.isFull);
  backlog.acknowledge(4999);
  t.deepEqual(free, []);
  backlog.afterKept(() => free.push(2));
  backlog.acknowledge(5000);
  t.deepEqual([free, backlog.isFull], [[1], false]);
  backlog.acknowledge(10_000);
  t.deepEqual([free, backlog.keptBytes], [[1, 2], 0]);
});

test('many short pieces cost no more than a few when they are sent again', (t) => {
  const backlog = new Backlog(new MemoryPipe(LIMIT_BYTES), LIMIT_BYTES);
  for (let piece = 0; piece < 10_000; piece += 1) backlog.write(Buffer.from(`piece ${piece};`));
  backlog.detach();
  const sizes: number[] = [];
  const writeParts = (parts: readonly Buffer[]): boolean => sizes.push(...parts.map(({ length }) => length)) > 0;
  backlog.attach({ unwrittenBytes: 0, write: (bytes) => writeParts([bytes]), writeParts }, 0);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  t.is(bytes, backlog.totalBytes);
  t.true(sizes.length < 12, `${sizes.length}`);
});

test('at the end waiting bytes are written if there is a link, and those kept for the peer are returned to the budget', (t) => {
  for (const pipe of [new MemoryPipe(10), null]) {
    const budget = new FairBudget(LIMIT_BYTES);
    const backlog = new Backlog(pipe, LIMIT_BYTES, budget);
    const calls: string[] = [];
    backlog.write(Buffer.alloc(400_000, 'a'));
    backlog.afterKept(() => calls.push('first'));
    backlog.write(Buffer.alloc(5, 'b'));
    t.is(budget.usedBytes, 400_005);
    const callbacks = backlog.end(true);
    t.is(budget.usedBytes, 400_005);
    for (const callback of callbacks) callback();
    t.deepEqual([calls, backlog.keptBytes, budget.usedBytes], [['first'], 0, 0]);
    t.is(pipe?.totalBytes ?? 400_005, 400_005);
  }
});

test('a full budget is shared equally, also with a newcomer, and each can keep some', (t) => {
  const budget = new FairBudget(8_000_000);
  const backlogs = Array.from({ length: 40 }, () => new Backlog(null, 100_000_000, budget));
  const fill = (backlog: Backlog): void => {
    while (!backlog.isFull) backlog.write(Buffer.alloc(1000));
  };
  const end = (backlog: Backlog): void => backlog.end(false).forEach((release) => release());
  backlogs.slice(0, 3).forEach(fill);
  const kept = backlogs.slice(0, 4).map(({ keptBytes }) => Math.round(keptBytes / 10_000));
  t.deepEqual(kept, [400, 200, 100, 0]);
  // What the first one gives up is available to the others.
  backlogs.slice(0, 1).forEach(end);
  backlogs.slice(1, 3).forEach(fill);
  t.true(budget.usedBytes > 5_000_000 && budget.usedBytes < 6_000_000, `${budget.usedBytes}`);
  backlogs.slice(3).forEach(fill);
  for (const { keptBytes } of backlogs.slice(1)) t.true(keptBytes >= 262_144);
  t.true(budget.usedBytes < 8_000_000 + 40 * 264_000, `${budget.usedBytes}`);
  backlogs.forEach(end);
  t.is(budget.usedBytes, 0);
});

test('one whose share shrinks is not overfull because of that', (t) => {
  const budget = new FairBudget(20_000_000);
  const [first, second] = [new Backlog(null, 100_000_000, budget), new Backlog(null, 100_000_000, budget)];
  first.write(Buffer.alloc(9_000_000));
  second.write(Buffer.alloc(5_000_000));
  t.deepEqual([first.isFull, first.isOverfull], [true, false]);
  first.write(Buffer.alloc(4_000_000));
  t.false(first.isOverfull);
  first.write(Buffer.alloc(1_000_000));
  t.true(first.isOverfull);
});

test('a peer that acknowledges more than its new link was given violates the protocol, and nothing is dropped', (t) => {
  const backlog = new Backlog(new MemoryPipe(LIMIT_BYTES), LIMIT_BYTES);
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
