/** Copies that are resumed. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test from 'ava';
import { CopyPair, describeTree, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';

const TREE = {
  app: { a: randomBytes(3000), b: { c: 'c', d: randomBytes(200_000), e: {} }, l: '->b/c', z: randomBytes(70_000) },
};

for (const direction of ['put', 'get'] as const) {
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
