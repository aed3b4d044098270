/** Reading and removing a large folder. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { KeptLists } from '../../lib/services/copy/kept-list.js';
import { findSources, walkSources } from '../../lib/services/copy/sources.js';
import { removeTree } from '../../lib/services/copy/staging/remove.js';
import { heapBytes } from '../helpers/measures.js';

const COUNT = 20_000;

/** Limit on memory for names read in parts; removing a folder with all its names in memory takes eight times as much. */
const MOST_BYTES = 2 * 2 ** 20;

/** A folder in memory with this many empty files, created out of order. */
function largeFolder(): string {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : '/tmp', 'vproxy-folders-'));
  for (let index = 0; index < COUNT; index += 1) writeFileSync(join(folder, nameOf((index * 7919) % COUNT)), '');
  return folder;
}

const nameOf = (index: number): string => `file-${'n'.repeat(40)}-${String(index).padStart(6, '0')}`;

test.serial('a large folder is walked in name order, and removed, without holding its names', async (t) => {
  const folder = largeFolder();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const sources = await findSources([{ path: folder, name: 'large' }], null, new KeptLists());
  const before = await heapBytes();
  let [count, most] = [0, 0];
  for await (const { names } of walkSources(sources, () => t.fail())) {
    if (count > 0) t.is(names[1], nameOf(count - 1));
    if (count % 5000 === 1) most = Math.max(most, (await heapBytes()) - before);
    count += 1;
  }
  t.is(count, COUNT + 1);
  const removal = { isOver: false };
  const removed = removeTree(folder).finally(() => (removal.isOver = true));
  for (let turn = 0; !removal.isOver; turn += 1) {
    await setImmediate();
    if (turn % 500 === 1) most = Math.max(most, (await heapBytes()) - before);
  }
  await removed;
  t.false(existsSync(folder));
  t.log(`${most} bytes`);
  t.true(most < MOST_BYTES, `${most}`);
});
