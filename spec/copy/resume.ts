/** Copies that are resumed. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyScene, describeTree, farSide, makeTree } from '../helpers/copy-pair.js';

const test = farSide.testWith();

for (const direction of ['put', 'get'] as const) {
  test(`${direction}: parts that differ are sent again, and leftovers are removed`, async (t) => {
    const tree = {
      a: randomBytes(3000),
      b: { c: 'c', d: randomBytes(200_000), e: {} },
      l: '->b/c',
      z: randomBytes(70_000),
    };
    const { from, to, pair, sources } = copyScene(t, { app: tree });
    const others = {
      a: 'not the same',
      b: 'a file',
      'too much': { x: 'x' },
      z: randomBytes(80_000),
      l: { folder: 'y' },
    };
    makeTree(to, { '.app.vproxy-part': others });
    const { progress } = await pair[direction](sources('app'), to, true);
    t.is(progress.resumedBytes, 0);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
    t.deepEqual(readdirSync(to), ['app']);
  });

  test(`${direction}: without --resume the part is not used`, async (t) => {
    const { from, to, pair, sources } = copyScene(t, { file: randomBytes(1000) });
    writeFileSync(join(to, '.file.vproxy-part'), readFileSync(join(from, 'file')).subarray(0, 500));
    const { progress } = await pair[direction](sources('file'), to);
    t.is(progress.resumedBytes, 0);
    t.deepEqual(readdirSync(to), ['file']);
  });

  test(`${direction}: a file resumes where it was interrupted, and a complete one is not sent at all`, async (t) => {
    const files = { file: randomBytes(1_000_000), whole: randomBytes(500) };
    const { from, to, pair, sources } = copyScene(t, files);
    writeFileSync(join(to, '.file.vproxy-part'), files.file.subarray(0, 600_001), { mode: 0o400 });
    writeFileSync(join(to, '.whole.vproxy-part'), files.whole);
    const { progress } = await pair[direction](sources('file', 'whole'), to, true);
    t.deepEqual([progress.resumedBytes, progress.sentBytes], [600_501, 399_999]);
    t.deepEqual(describeTree(to).slice(1), describeTree(from).slice(1));
  });
}
