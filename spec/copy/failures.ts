/** Copies that fail: what they report, and that they leave nothing. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { type CopyFiles, SYSTEM_FILES } from '../../lib/copy/system-files.js';
import { CopyPair, type CopyPairOptions, describeTree, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';

test('two folders that the file system at the target takes for one are not merged', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { app: { Data: { x: 'x' }, data: { y: 'y' } } });
  // As one does that tells no capitals.
  const mkdir: CopyFiles['mkdir'] = (path) => SYSTEM_FILES.mkdir(path.replace('/data', '/Data'));
  const pair = new CopyPair(t, { serviceFiles: { ...SYSTEM_FILES, mkdir } });
  await t.throwsAsync(pair.put([join(from, 'app')], to), { code: 'copy-failed', message: /app\/data: .*\(EEXIST\)$/ });
  t.deepEqual(readdirSync(to), []);
});

/** A system whose disk is full after this number of bytes. */
function fullAfter(bytes: number): CopyFiles {
  let left = bytes;
  return {
    ...SYSTEM_FILES,
    async write(fd, buffers, position) {
      if (left <= 0) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      const part = Buffer.concat(buffers).subarray(0, left);
      left -= part.length;
      return SYSTEM_FILES.write(fd, [part], position);
    },
  };
}

const receiverFiles = (direction: 'put' | 'get', files: CopyFiles): CopyPairOptions =>
  direction === 'put' ? { serviceFiles: files } : { callerFiles: files };

for (const direction of ['put', 'get'] as const) {
  for (const bytes of [0, 10, 400_000]) {
    test(`${direction}: a disk that is full after ${bytes} bytes leaves nothing`, async (t) => {
      const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
      makeTree(from, { app: { large: Buffer.alloc(5_000_000, 1), small: 'small' } });
      const pair = new CopyPair(t, receiverFiles(direction, fullAfter(bytes)));
      const error = await t.throwsAsync(pair[direction]([join(from, 'app')], to), { code: 'copy-failed' });
      t.true(error.message.endsWith(`${join(to, 'app/large')}: no space left on device (ENOSPC)`), error.message);
      await eventually(() => pair.service.runningCount === 0);
      t.deepEqual(readdirSync(to), []);
    });
  }

  test(`${direction}: short writes are gone on with`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { app: { large: Buffer.alloc(1_000_001, 'abcdefg'), small: 'small' } });
    const write: CopyFiles['write'] = (fd, buffers, position) =>
      SYSTEM_FILES.write(fd, [Buffer.concat(buffers).subarray(0, 30_011)], position);
    await new CopyPair(t, receiverFiles(direction, { ...SYSTEM_FILES, write }))[direction]([join(from, 'app')], to);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
  });

  const TARGETS = [
    ['a file for a folder', 'app', 'app', 'it is no folder, and a folder is to take its place'],
    ['a folder for a file', 'file', 'folder', 'it is a folder, and a file is to take its place'],
    ['a file within for a folder', 'app', 'merged', 'it is no folder, and a folder is to take its place'],
    ['a folder within for a file', 'app', 'merged2', 'it is a folder, and a file is to take its place'],
    ['a link within for a folder', 'app', 'merged3', 'it is no folder, and a folder is to take its place'],
    ['a FIFO within for a file', 'app', 'merged4', 'it is neither a file nor a folder'],
    ['a FIFO for a file', 'file', 'fifo/file', 'it is neither a file nor a folder'],
    ['no folder at all', 'file', 'missing/', 'there is no such folder'],
    ['no folder to put it into', 'file', 'missing/x', 'there is no such folder'],
    ['a file as a folder', 'file', 'app/', 'it is no folder'],
  ] as const;
  for (const [title, source, target, why] of TARGETS) {
    test(`${direction}: refused: ${title} at the target`, async (t) => {
      const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
      makeTree(from, { app: { a: 'a', sub: { x: 'x' } }, file: 'file' });
      makeTree(to, {
        app: 'a file',
        folder: { file: {} },
        merged: { app: { sub: 'a file' } },
        merged2: { app: { a: { z: 'z' } } },
        merged3: { app: { sub: '->../../folder' } },
        merged4: { app: {} },
        fifo: {},
      });
      for (const name of ['fifo/file', 'merged4/app/a']) execFileSync('mkfifo', [join(to, name)]);
      const names = (): string => execFileSync('find', [to, '-printf', '%p %y\\n'], { encoding: 'utf8' });
      const before = names();
      const pair = new CopyPair(t);
      const path = title === 'a file for a folder' ? join(to, 'app') : `${to}/${target}`;
      const error = await t.throwsAsync(pair[direction]([join(from, source)], path), { code: 'copy-refused' });
      t.true(error.message.endsWith(why), error.message);
      await eventually(() => pair.service.runningCount === 0);
      t.is(names(), before);
    });
  }

  test(`${direction}: what is there no longer, or may not be copied, is named`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { app: { 'a.txt': 'a', sub: { l: '->../../out' } }, twice: { app: {} }, abs: { l: '->/etc' } });
    execFileSync('mkfifo', [join(from, 'fifo')]);
    const cases = [
      [['missing'], 'copy-failed', 'missing: there is no such file or folder (ENOENT)'],
      [['fifo'], 'copy-refused', 'fifo: it is neither a file nor a folder'],
      [['app'], 'copy-refused', 'app/sub/l: the link leads out of what is copied, to ../../out'],
      [['abs'], 'copy-refused', 'abs/l: the link leads out of what is copied, to /etc'],
    ] as const;
    for (const [names, code, message] of cases) {
      const copied = new CopyPair(t)[direction](
        names.map((name) => join(from, name)),
        to,
      );
      const error = await t.throwsAsync(copied, { code });
      t.true(error.message.endsWith(message), error.message);
      t.deepEqual(readdirSync(to), []);
    }
    await t.throwsAsync(
      new CopyPair(t)[direction](
        ['app', 'twice/app'].map((name) => join(from, name)),
        to,
      ),
      {
        code: 'copy-refused',
      },
    );
    await t.throwsAsync(new CopyPair(t)[direction](['/'], to), { code: 'bad-argument' });
  });

  test(`${direction}: what is neither file, folder nor link in a tree is left out with a warning`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { app: { a: 'a' } });
    execFileSync('mkfifo', [join(from, 'app/fifo')]);
    const server = net.createServer().listen(join(from, 'app/socket'));
    t.teardown(() => server.close());
    await eventually(() => server.listening);
    const { warnings, progress } = await new CopyPair(t)[direction]([join(from, 'app')], to);
    t.deepEqual(
      warnings,
      ['fifo', 'socket'].map(
        (name) => `${join(from, 'app', name)}: left out: it is neither a file, a folder nor a link`,
      ),
    );
    t.is(progress.files, 1);
    t.deepEqual(readdirSync(join(to, 'app')), ['a']);
  });

  test(`${direction}: a source that is a link is followed`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { a: 'a', folder: { x: 'x' } });
    symlinkSync('a', join(from, 'link'));
    symlinkSync('folder', join(from, 'other'));
    await new CopyPair(t)[direction]([join(from, 'link'), join(from, 'other')], to);
    t.deepEqual(readdirSync(to, { recursive: true }).sort(), ['link', 'other', 'other/x']);
    t.true(describeTree(to).every((line) => !line.includes('->')));
  });
}

/** Does something to the source when the first bytes of it come. */
const onFirstData = (act: () => void): CopyPairOptions => {
  let hasActed = false;
  return {
    serviceFiles: {
      ...SYSTEM_FILES,
      open: (path, flags, mode) => {
        if (!hasActed) act();
        hasActed = true;
        return SYSTEM_FILES.open(path, flags, mode);
      },
    },
  };
};

const LARGE = 20_000_000;

test('a file that becomes shorter while it is copied fails, and is named', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  const path = join(from, 'file');
  writeFileSync(path, Buffer.alloc(LARGE));
  const pair = new CopyPair(
    t,
    onFirstData(() => truncateSync(path, 1000)),
  );
  const error = await t.throwsAsync(pair.put([path], to), { code: 'copy-failed' });
  t.regex(error.message, /file: it became shorter while it was copied: \d+ bytes of 20000000$/);
  await eventually(() => pair.service.runningCount === 0);
  t.deepEqual(readdirSync(to), []);
});

test('a file that grows while it is copied is copied as long as it was, with a warning', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  const path = join(from, 'file');
  writeFileSync(path, Buffer.alloc(LARGE));
  const pair = new CopyPair(
    t,
    onFirstData(() => appendFileSync(path, 'more')),
  );
  const { warnings, progress } = await pair.put([path], to);
  t.deepEqual(warnings, [`${path}: it has grown while it was copied; its first ${LARGE} bytes were taken`]);
  t.is(progress.bytes, LARGE);
});

test('another copy to the same place is refused while one runs', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { file: 'x' });
  const state = { second: null as Promise<unknown> | null };
  const pair: CopyPair = new CopyPair(
    t,
    onFirstData(() => {
      state.second = t.throwsAsync(pair.put([join(from, 'file')], to), { code: 'copy-refused' });
    }),
  );
  await pair.put([join(from, 'file')], to);
  await state.second;
  t.not(state.second, null);
  await pair.put([join(from, 'file')], to);
});

test('a copy whose part was taken by another one puts nothing into its place', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { app: { a: 'a', b: 'b' } });
  const pair = new CopyPair(
    t,
    onFirstData(() => {
      renameSync(join(to, '.app.vproxy-part'), join(to, 'elsewhere'));
      mkdirSync(join(to, '.app.vproxy-part'));
    }),
  );
  await t.throwsAsync(pair.put([join(from, 'app')], to), { code: 'copy-failed' });
  t.false(readdirSync(to).includes('app'));
});

test('what a service does is in its log', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { 'a\n': 'hello' });
  const pair = new CopyPair(t);
  await pair.put([join(from, 'a\n')], join(to, 'b\n'));
  await t.throwsAsync(pair.get([join(from, 'missing')], to));
  await eventually(() => pair.service.runningCount === 0);
  t.deepEqual(
    pair.events.map(({ event, fields: { direction, bytes, code } }) => [event, direction, bytes, code]),
    [
      ['copy-started', 'put', undefined, undefined],
      ['copy-ended', 'put', 5, null],
      ['copy-started', 'get', undefined, undefined],
      ['copy-ended', 'get', 0, 'copy-failed'],
    ],
  );
  t.deepEqual(pair.events[0]?.fields['paths'], [join(to, 'b\n')]);
  for (const { message } of pair.events) t.false(message.includes('\n'));
});

test('a service that stops breaks off what runs, and serves no more', async (t) => {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, { file: Buffer.alloc(LARGE) });
  const state = { stopped: null as Promise<void> | null };
  const pair: CopyPair = new CopyPair(
    t,
    onFirstData(() => {
      state.stopped = pair.service.stop();
    }),
  );
  await t.throwsAsync(pair.put([join(from, 'file')], to));
  await state.stopped;
  t.is(pair.service.runningCount, 0);
  t.deepEqual(readdirSync(to), ['.file.vproxy-part']);
  await t.throwsAsync(pair.put([join(from, 'file')], to), { code: 'too-many-streams' });
});
