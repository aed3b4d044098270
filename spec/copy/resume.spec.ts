/** Copies that are broken off at any point, and resumed. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import { CopyPair, describeTree, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';

/** Breaks a stream when the side that has the files has sent `bytes` bytes. */
function cutAfter(bytes: number, sender: 'caller' | 'service') {
  return (caller: Duplex, service: Duplex): void => {
    let left = bytes;
    const from = sender === 'caller' ? caller : service;
    const write = from.write.bind(from) as (chunk: Buffer) => boolean;
    from.write = ((chunk: Buffer): boolean => {
      if (left <= 0) return false;
      const part = chunk.subarray(0, left);
      left -= chunk.length;
      const hasRoom = write(part);
      if (left <= 0) setImmediate(() => (sender === 'caller' ? service : caller).destroy(new Error('cut')));
      return hasRoom;
    }) as typeof from.write;
  };
}

const TREE = {
  app: { a: randomBytes(3000), b: { c: 'c', d: randomBytes(200_000), e: {} }, l: '->b/c', z: randomBytes(70_000) },
};

for (const direction of ['put', 'get'] as const) {
  test(`${direction}: broken off at any byte, a copy leaves nothing but its part, and goes on from there`, async (t) => {
    const from = temporaryFolder(t);
    makeTree(from, TREE);
    const wanted = describeTree(join(from, 'app'));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 275_000 }), fc.boolean(), async (bytes, isMerged) => {
        const to = mkdtempSync(join(from, '..', 'vproxy-cut-'));
        t.teardown(() => rmSync(to, { recursive: true, force: true }));
        if (isMerged) makeTree(to, { app: { other: 'x' } });
        const there = describeTree(to);
        const sender = direction === 'put' ? 'caller' : 'service';
        const cut = new CopyPair(t, { onStream: cutAfter(bytes, sender) });
        await t.throwsAsync(cut[direction]([join(from, 'app')], to));
        await eventually(() => cut.service.runningCount === 0);
        t.deepEqual(
          readdirSync(to).filter((name) => !name.endsWith('.vproxy-part')),
          isMerged ? ['app'] : [],
        );
        if (isMerged)
          t.deepEqual(
            describeTree(to).filter((line) => line.startsWith('/app')),
            there.slice(1),
          );
        const { progress } = await new CopyPair(t)[direction]([join(from, 'app')], to, true);
        t.deepEqual(
          describeTree(join(to, 'app')).filter((line) => !line.startsWith('/other')),
          wanted,
        );
        t.deepEqual(readdirSync(to), ['app']);
        // What is in the last record, or belonged to a small file, may be lost.
        if (bytes > 240_000) t.true(progress.resumedBytes > 100_000, `${bytes}: ${progress.resumedBytes}`);
        t.is(progress.bytes, 273_001);
      }),
      { numRuns: 5 },
    );
  });

  test(`${direction}: what is there and is not the same comes anew, and what is too much goes`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, TREE);
    const part = join(to, '.app.vproxy-part');
    makeTree(part, {
      a: 'not the same',
      b: 'a file',
      'too much': { x: 'x' },
      z: randomBytes(80_000),
      l: { folder: 'y' },
    });
    const { progress } = await new CopyPair(t)[direction]([join(from, 'app')], to, true);
    t.is(progress.resumedBytes, 0);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
    t.false(existsSync(part));
  });

  test(`${direction}: without --resume what is there is of no use`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { file: randomBytes(1000) });
    writeFileSync(join(to, '.file.vproxy-part'), readFileSync(join(from, 'file')).subarray(0, 500));
    const { progress } = await new CopyPair(t)[direction]([join(from, 'file')], to);
    t.is(progress.resumedBytes, 0);
    t.deepEqual(readdirSync(to), ['file']);
  });

  test(`${direction}: a file goes on where it was broken off, and a complete one is not sent at all`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { file: randomBytes(1_000_000), whole: randomBytes(500) });
    writeFileSync(join(to, '.file.vproxy-part'), readFileSync(join(from, 'file')).subarray(0, 600_001), {
      mode: 0o400,
    });
    writeFileSync(join(to, '.whole.vproxy-part'), readFileSync(join(from, 'whole')));
    const sources = [join(from, 'file'), join(from, 'whole')];
    const { progress } = await new CopyPair(t)[direction](sources, to, true);
    t.deepEqual([progress.resumedBytes, progress.sentBytes], [600_501, 399_999]);
    t.deepEqual(describeTree(to).slice(1), describeTree(from).slice(1));
  });
}

test('many files with names that are long in JSON go on', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  const name = (index: number): string => `${'\u0001'.repeat(200)}${index}`;
  const files = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [name(index), `contents ${index}`]));
  makeTree(from, { app: files });
  makeTree(to, { '.app.vproxy-part': files });
  const { progress } = await new CopyPair(t).put([join(from, 'app')], to, true);
  t.is(progress.sentBytes, 0);
  t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
});

test('a caller that breaks off keeps what has come, and says so', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { file: randomBytes(5_000_000) });
  const breakOff = new AbortController();
  const pair = new CopyPair(t, { signal: breakOff.signal, onStream: abortAfter(breakOff, 2_000_000) });
  await t.throwsAsync(pair.get([join(from, 'file')], to), { code: 'cancelled' });
  t.deepEqual(readdirSync(to), ['.file.vproxy-part']);
  await eventually(() => pair.events.some(({ event }) => event === 'copy-ended'));
  const { progress } = await new CopyPair(t).get([join(from, 'file')], to, true);
  t.true(progress.resumedBytes > 500_000);
});

/** Aborts when `bytes` bytes have come to the caller. */
function abortAfter(controller: AbortController, bytes: number) {
  return (caller: Duplex): void => {
    let seen = 0;
    caller.on('data', (chunk: Buffer) => {
      seen += chunk.length;
      if (seen >= bytes) controller.abort();
    });
  };
}
