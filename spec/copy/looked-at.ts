/** The checks before a file is read, resumed or given its permissions, one by one. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { COPY_KIND, decodeStaged, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { ComparisonCount, CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { KeptLists } from '../../lib/services/copy/kept-list.js';
import { closeEntry, readEntry } from '../../lib/services/copy/read-entry.js';
import { RecordStream } from '../../lib/services/copy/record-stream.js';
import { walkSources } from '../../lib/services/copy/sources.js';
import { StagedFile } from '../../lib/services/copy/staging/file.js';
import { reportStaged } from '../../lib/services/copy/staging/manifest.js';
import { SYSTEM_FILES } from '../../lib/services/copy/system-files.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

const ignore = (): void => undefined;

test('setuid and setgid of a source are not sent', async (t) => {
  const folder = temporaryFolder(t);
  const [file, sub] = [join(folder, 'file'), join(folder, 'sub')];
  writeFileSync(file, 'x');
  mkdirSync(sub);
  for (const path of [file, sub]) chmodSync(path, 0o7755);
  t.is(modeOf(file) & 0o4000, 0o4000);
  t.is((await readEntry({ path: file, names: ['file'], kind: 'file' }, ignore))?.mode, 0o755);
  t.is((await readEntry({ path: sub, names: ['sub'], kind: 'folder' }, ignore))?.mode, 0o1755);
});

test('a sender does not read through a link that replaced a file', async (t) => {
  const folder = temporaryFolder(t);
  const [secret, path] = [join(folder, 'secret'), join(folder, 'file')];
  writeFileSync(secret, 'secret');
  const walked = { path, names: ['app', 'file'], kind: 'file' } as const;
  writeFileSync(path, 'plain');
  const plain = await readEntry(walked, ignore);
  t.is(plain?.contents?.toString(), 'plain');
  if (plain !== null) await closeEntry(plain);
  const link = join(folder, 'link');
  symlinkSync(secret, link);
  await t.throwsAsync(readEntry({ ...walked, path: link }, ignore), { code: 'copy-failed' });
});

test('a sender does not go through a link that replaced a folder', async (t) => {
  const folder = realpathSync(temporaryFolder(t));
  const [top, moved, secret] = [join(folder, 'top'), join(folder, 'moved'), join(folder, 'secret')];
  for (const each of [top, secret]) {
    mkdirSync(join(each, 'a/b'), { recursive: true });
    writeFileSync(join(each, 'a/f'), each);
    symlinkSync(each, join(each, 'a/l'));
  }
  const entries = [
    { path: join(top, 'a/b'), names: ['top', 'a', 'b'], kind: 'folder' },
    { path: join(top, 'a/f'), names: ['top', 'a', 'f'], kind: 'file' },
    { path: join(top, 'a/l'), names: ['top', 'a', 'l'], kind: 'link' },
  ] as const;
  for (const entry of entries) {
    t.is((await readEntry(entry, ignore, true))?.kind, entry.kind);
    // Where case does not matter, a path is not the only one either.
    t.not(await readEntry({ ...entry, path: join(top, '/') + entry.path.slice(top.length) }, ignore, true), null);
  }
  for (const depth of [1, 2]) {
    const walk = walkSources([{ path: top, name: 'top', kind: 'folder' }], ignore);
    for (let count = 0; count < depth; count += 1) t.false((await walk.next()).done);
    renameSync(top, moved);
    symlinkSync(secret, top);
    await t.throwsAsync(walk.next(), { code: 'copy-failed', message: /not a directory/ });
    for (const entry of entries) await t.throwsAsync(readEntry(entry, ignore, true), { code: 'copy-failed' });
    unlinkSync(top);
    renameSync(moved, top);
  }
});

test('a sender opens nothing behind a link that replaced a folder, not even for a moment', async (t) => {
  const folder = realpathSync(temporaryFolder(t));
  const path = join(folder, 'link/fifo');
  mkdirSync(join(folder, 'elsewhere'));
  symlinkSync('elsewhere', join(folder, 'link'));
  execFileSync('mkfifo', [path]);
  const state = { isOpened: false };
  const writer = open(path, 'w').finally(() => (state.isOpened = true));
  const walked = { path, names: ['app', 'fifo'], kind: 'file' } as const;
  await t.throwsAsync(readEntry(walked, ignore), { code: 'copy-failed', message: /not a directory|replaced/ });
  await setImmediate();
  t.false(state.isOpened);
  const reader = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  for (const file of [reader, await writer]) await file.close();
});

test('only a regular file of the right size with one name is resumed', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'five5');
  writeFileSync(path, '12345');
  const entry = { names: ['file'], kind: 'file', mode: 0o644, mtimeNs: 0n, bytes: 9, linkTarget: '' } as const;
  const open = (at: string, offset: number): Promise<StagedFile> =>
    StagedFile.open(SYSTEM_FILES, { staged: at, shown: 'shown' }, { ...entry, offset });
  const refusal = { code: 'protocol-error', message: 'copy: the peer resumes a file that does not exist here' };
  for (const offset of [4, 6]) await t.throwsAsync(open(path, offset), refusal);
  // The size of a link is the length of its target path.
  symlinkSync('five5', join(folder, 'link'));
  await t.throwsAsync(open(join(folder, 'link'), 5), refusal);
  await (await open(path, 5)).abandon();
  linkSync(path, join(folder, 'second'));
  await t.throwsAsync(open(path, 5), refusal);
});

/** What a receiver reports of the partial copy of a folder `app`, and its contents afterwards. */
async function tellPart(stage: string, maxCount: number) {
  const [here, there] = duplexPair();
  const [records, far] = [new RecordStream(here), new RecordStream(there)];
  const target = { root: { name: 'app', kind: 'folder' }, path: `${stage}.done`, stage, isMerged: false } as const;
  const bounds = { what: 'files', maxCount, maxBytes: 10_000 };
  const [progress, lists] = [new CopyProgress(), new KeptLists()];
  const comparing = new ComparisonCount({
    records,
    progress,
    lists,
    warn: () => undefined,
    isComparisonTold: false,
    keepsLinks: false,
  });
  await reportStaged(records, [target], lists, comparing, bounds);
  await records.send(encodeMessage(COPY_KIND.READY, {}));
  const told: string[] = [];
  for (let record = await far.next(); record.kind === COPY_KIND.STAGED; record = await far.next()) {
    told.push(...decodeStaged(record.payload).map(([name]) => name));
  }
  for (const stream of [here, there]) stream.destroy();
  return { told: told.sort(), left: readdirSync(stage, { recursive: true }).map(String).sort() };
}

test('whatever is empty, not a file, or beyond the bounds is not reported of a part, but removed', async (t) => {
  const stage = temporaryFolder(t);
  mkdirSync(join(stage, 'empty/in it'), { recursive: true });
  mkdirSync(join(stage, 'folder'));
  for (const name of ['a', 'folder/b']) writeFileSync(join(stage, name), name);
  writeFileSync(join(stage, 'nothing'), '');
  symlinkSync('a', join(stage, 'link'));
  t.deepEqual(await tellPart(stage, 10), { told: ['app/a', 'app/folder/b'], left: ['a', 'folder', 'folder/b'] });
  const full = temporaryFolder(t);
  for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(full, name), name);
  const { told, left } = await tellPart(full, 3);
  t.is(told.length, 3);
  t.is(told.join(), left.map((name) => `app/${name}`).join());
});

test('a part that cannot be made private is named, and not kept open', async (t) => {
  const stage = `/proc/${process.pid}/task`;
  const message = `${stage}.done: operation not permitted (EPERM)`;
  await t.throwsAsync(tellPart(stage, 1), { code: 'copy-failed', message });
  const paths = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return 'closed';
    }
  });
  t.false(paths.includes(stage));
});

test.serial('nested folders of a part are never all open at once', async (t) => {
  const stage = temporaryFolder(t);
  const deep = Array.from({ length: 300 }, () => 'd').join('/');
  mkdirSync(join(stage, deep), { recursive: true });
  writeFileSync(join(stage, deep, 'file'), 'x');
  const state = { isDone: false };
  const done = tellPart(stage, 1000).finally(() => (state.isDone = true));
  let most = 0;
  while (!state.isDone) {
    most = Math.max(most, readdirSync('/proc/self/fd').length);
    await setImmediate();
  }
  t.deepEqual((await done).told, [`app/${deep}/file`]);
  t.true(most < 150, `${most} descriptors`);
});
