/** The bounds on lists that grow with the peer's input, and their release. */

import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { COPY_KIND, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { CopyService } from '../../lib/services/copy/copy-service.js';
import { KeptLists, keptBytes, Warnings } from '../../lib/services/copy/kept-list.js';
import { findSources } from '../../lib/services/copy/sources.js';
import { StagedList } from '../../lib/services/copy/staging/manifest.js';
import { StagedTree } from '../../lib/services/copy/staging/tree.js';
import { SYSTEM_FILES } from '../../lib/services/copy/system-files.js';
import { findTargets } from '../../lib/services/copy/targets.js';
import { CheckList } from '../../lib/services/copy/unpacking.js';
import { Budget } from '../../lib/util/bounds.js';
import { systemClock } from '../../lib/util/clock.js';
import { Turns } from '../../lib/util/concurrency.js';
import { temporaryFolder } from '../helpers/files.js';
import { tellService } from '../helpers/hostile-copy.js';

const BOUNDS = { what: 'things', maxCount: 3, maxBytes: 1000 };

const tooMuch = (message: string) => ({ code: 'protocol-error', message: `copy: ${message}` });

test('a list is bounded in number and bytes', (t) => {
  const list = new KeptLists().list(BOUNDS);
  for (const bytes of [1, 2, 3]) list.add(bytes);
  t.throws(() => list.add(4), tooMuch('too many things: 4, 10 bytes (max 3, 1000 bytes)'));
  list.remove(3);
  t.true(list.hasRoom(997));
  t.false(list.hasRoom(998));
  t.throws(() => list.add(998), tooMuch('too many things: 3, 1001 bytes (max 3, 1000 bytes)'));
  list.add(997);
  list.clear();
  t.is(list.count, 0);
  list.add(1000);
});

test('the lists of several copies share a bound, and a copy releases its share at its end', (t) => {
  const budget = new Budget(1500);
  const [one, other] = [new KeptLists(budget), new KeptLists(budget)];
  const list = one.list(BOUNDS);
  list.add(800);
  const full = { code: 'too-many-streams', message: 'copy: out of memory for all copies (max 100663296 bytes)' };
  t.throws(() => other.list(BOUNDS).add(701), full);
  other.list(BOUNDS).add(700);
  one.release();
  // Work still in progress after the end of a copy is not counted.
  list.remove(800);
  list.add(1);
  other.list(BOUNDS).add(800);
  t.throws(() => other.list(BOUNDS).add(1), full);
});

const hashOf = (letter: string): string => letter.repeat(64);

test('staged files are found as reported, and each is counted once', (t) => {
  const lists = new KeptLists();
  const staged = new StagedList(lists.list({ what: 'files', maxCount: 1000, maxBytes: 1_000_000 }));
  for (let index = 0; index < 1000; index += 1) staged.add([`${index}`, 2 ** 40 + index, hashOf('a')]);
  staged.add(['7', 3, hashOf('b')]);
  t.deepEqual(staged.find('999'), { bytes: 2 ** 40 + 999, sha256: Buffer.from(hashOf('a'), 'hex') });
  t.deepEqual(staged.find('7'), { bytes: 3, sha256: Buffer.from(hashOf('b'), 'hex') });
  t.is(staged.find('1000'), null);
  t.is(staged.find('__proto__'), null);
  t.throws(() => staged.add(['1000', 1, hashOf('a')]), { code: 'protocol-error' });
});

test('files without checks, and checks without files, are bounded; pairs are not kept', (t) => {
  const lists = new KeptLists();
  const list = new CheckList(lists);
  const check = Buffer.from([0, 0, 0, 1]);
  for (let index = 0; index < 70_000; index += 1) {
    list.addFile('n'.repeat(4000), 1);
    list.addExpected(check);
  }
  t.is(lists.bytes, 0);
  list.finish();
  const addFiles = (name: string, count: number) => (): void => {
    for (let index = 0; index < count; index += 1) list.addFile(name, 1);
  };
  const names = {
    code: 'protocol-error',
    message: /^copy: too many files without a check: \d+, \d+ bytes \(max 65536, 16777216 bytes\)$/,
  };
  t.throws(addFiles('n'.repeat(4000), 2100), names);
  t.throws(() => new CheckList(lists).addExpected(Buffer.alloc(4 * 65_537)), {
    code: 'protocol-error',
    message: /checks without a file/,
  });
  t.notThrows(() => new CheckList(lists).addExpected(Buffer.alloc(4 * 65_536)));
  t.throws(() => list.finish(), { code: 'protocol-error' });
});

test('the first warnings are reported, the others counted', (t) => {
  const told: string[] = [];
  const warnings = new Warnings((message) => told.push(message), 'here');
  for (let index = 0; index < 13_345; index += 1) warnings.add(String(index));
  warnings.end();
  warnings.end();
  t.is(told.length, 1001);
  t.deepEqual(told.slice(-2), ['999', 'and 12,345 more']);
});

test('warnings are bounded in bytes, and none is reported after one that was dropped', (t) => {
  const told: string[] = [];
  const warnings = new Warnings((message) => told.push(message), 'peer');
  const long = 'w'.repeat(8000);
  for (let index = 0; index < 100; index += 1) warnings.add(long);
  warnings.add('short');
  warnings.end();
  t.is(told.at(-1), `and ${101 - (told.length - 1)} more`);
  t.true(told.reduce((sum, message) => sum + keptBytes(message), 0) < 600_000);
  t.false(told.includes('short'));
});

test('the number of warnings that one side dropped is reported by the other', (t) => {
  const told: string[] = [];
  const received = new Warnings((message) => told.push(message), 'peer');
  const sent = new Warnings((message) => received.add(message), 'here');
  for (let index = 0; index < 5000; index += 1) sent.add('w'.repeat(70));
  sent.end();
  received.end();
  t.is(told.at(-1), 'and 4,000 more');
});

test('targets too long for a READY are refused before all are computed', async (t) => {
  const folder = deepFolder(temporaryFolder(t), 3000);
  const roots = Array.from({ length: 10_000 }, (_, index) => ({ name: String(index), kind: 'file' as const }));
  const lists = new KeptLists();
  await t.throwsAsync(findTargets(folder, roots, null, lists), {
    code: 'bad-argument',
    message: 'the paths of all sources together are too long; copy their folder instead',
  });
  t.true(lists.bytes < 13_000_000);
  const few = await findTargets(folder, roots.slice(0, 300), null, new KeptLists());
  await few.folder.close();
  t.is(few.targets.length, 300);
});

test('sources that are links to long paths are bounded by their targets', async (t) => {
  const folder = temporaryFolder(t);
  const deep = deepFolder(folder, 3000);
  writeFileSync(join(deep, 'file'), 'x');
  const link = join(folder, 'link');
  symlinkSync(deep, link);
  const sources = Array.from({ length: 4000 }, (_, index) => ({ path: join(link, 'file'), name: String(index) }));
  const lists = new KeptLists();
  await t.throwsAsync(findSources(sources, null, lists), { code: 'bad-argument', message: /together are too long/ });
  t.true(lists.bytes < 13_000_000);
  t.is((await findSources(sources.slice(0, 300), null, new KeptLists())).length, 300);
});

/** A folder in `folder` whose path has `bytes` bytes or a few more. */
function deepFolder(folder: string, bytes: number): string {
  let path = folder;
  while (path.length < bytes) path = join(path, 'd'.repeat(200));
  mkdirSync(path, { recursive: true });
  return path;
}

test('a finished copy takes nothing from the budget of others', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), 'x');
  const service = new CopyService({ root: null, clock: systemClock, log: () => undefined });
  t.teardown(() => service.stop());
  // Five times a third of the budget of all copies.
  for (let copy = 0; copy < 5; copy += 1) {
    const records = Array.from({ length: 20 }, (_, index) => stagedRecord(index));
    const answer = await tellService(service, join(folder, 'file'), [...records, END]);
    t.deepEqual(answer, { code: 'protocol-error', message: 'copy: unexpected record of kind 8 before READY' });
  }
});

const END = encodeMessage(COPY_KIND.END, {});

/** Names of 4,096 bytes, nearly as many as fit. */
const stagedRecord = (record: number): Buffer =>
  encodeMessage(COPY_KIND.STAGED, {
    files: Array.from({ length: 200 }, (_, index) => [`${record}-${index}-`.padEnd(4096, 'n'), 1, hashOf('a')]),
  });

test('complete folders get their permissions before too many bytes of them wait', async (t) => {
  const path = join(temporaryFolder(t), 'app');
  const target = { root: { name: 'app', kind: 'folder' }, path, stage: `${path}.part`, isMerged: false } as const;
  const lists = new KeptLists();
  const jobs = new Turns(1);
  const tree = new StagedTree([target], { isResumed: false, keepsLinks: false, files: SYSTEM_FILES, lists }, jobs);
  const add = async (...names: string[]): Promise<void> => {
    const facts = { kind: 'folder', mode: 0o750, mtimeNs: 0n, bytes: 0, offset: 0, linkTarget: '' } as const;
    const place = await tree.place({ names, ...facts });
    await tree.addFolder({ names, ...facts }, place);
  };
  const above = ['app', ...Array.from({ length: 14 }, () => 'd'.repeat(200))];
  for (let depth = 1; depth <= above.length; depth += 1) await add(...above.slice(0, depth));
  const openBytes = lists.bytes;
  const staged: string[] = [];
  let mostBytes = 0;
  for (let index = 1000; index < 1600; index += 1) {
    await add(...above, String(index));
    staged.push(join(target.stage, ...above.slice(1), String(index)));
    mostBytes = Math.max(mostBytes, lists.bytes);
  }
  t.true(mostBytes - openBytes < 2_200_000, `${mostBytes - openBytes} bytes`);
  await tree.finish();
  t.is(lists.bytes, 0);
  t.true(staged.every((folder) => (lstatSync(folder).mode & 0o7777) === 0o750));
});
