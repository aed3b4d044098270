/** Copies that fail: what they report, and that they leave nothing behind. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, renameSync, symlinkSync, truncateSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type CopyFiles, SYSTEM_FILES } from '../../lib/services/copy/system-files.js';
import {
  type CopyPair,
  type CopyPairOptions,
  copyScene,
  describeTree,
  makeTree,
  type Tree,
} from '../helpers/copy-pair.js';
import { eventually } from '../helpers/time.js';

test('two folders with the same name on the target file system are not merged', async (t) => {
  // As on a case-insensitive file system.
  const mkdir: CopyFiles['mkdir'] = (path) => SYSTEM_FILES.mkdir(path.replace('/data', '/Data'));
  const serviceFiles = { ...SYSTEM_FILES, mkdir };
  const { to, pair, sources } = copyScene(t, { app: { Data: { x: 'x' }, data: { y: 'y' } } }, { serviceFiles });
  await t.throwsAsync(pair.put(sources('app'), to), { code: 'copy-failed', message: /app\/data: .*\(EEXIST\)$/ });
  t.deepEqual(readdirSync(to), []);
});

/** Writes like a disk that is full after this number of bytes. */
function fullAfter(bytes: number): CopyFiles['write'] {
  let left = bytes;
  return (fd, buffers, position) => {
    if (left <= 0) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const part = Buffer.concat(buffers).subarray(0, left);
    left -= part.length;
    return SYSTEM_FILES.write(fd, [part], position);
  };
}

const writing = (direction: 'put' | 'get', write: CopyFiles['write']): CopyPairOptions => ({
  [direction === 'put' ? 'serviceFiles' : 'callerFiles']: { ...SYSTEM_FILES, write },
});

const isOver = (pair: CopyPair) => eventually(() => pair.service.runningCount === 0, { what: 'the end of the copy' });

for (const direction of ['put', 'get'] as const) {
  for (const bytes of [0, 10, 400_000]) {
    test(`${direction}: a disk full after ${bytes} bytes leaves nothing behind`, async (t) => {
      const tree = { app: { large: Buffer.alloc(5_000_000, 1), small: 'small' } };
      const { to, pair, sources } = copyScene(t, tree, writing(direction, fullAfter(bytes)));
      const error = await t.throwsAsync(pair[direction](sources('app'), to), { code: 'copy-failed' });
      t.true(error.message.endsWith(`${join(to, 'app/large')}: no space left on device (ENOSPC)`), error.message);
      await isOver(pair);
      t.deepEqual(readdirSync(to), []);
    });
  }

  test(`${direction}: short writes are continued`, async (t) => {
    const write: CopyFiles['write'] = (fd, buffers, position) =>
      SYSTEM_FILES.write(fd, [Buffer.concat(buffers).subarray(0, 30_011)], position);
    const tree = { app: { large: Buffer.alloc(1_000_001, 'abcdefg'), small: 'small' } };
    const { from, to, pair, sources } = copyScene(t, tree, writing(direction, write));
    await pair[direction](sources('app'), to);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
  });

  test(`${direction}: an obstacle at the target is refused, and stays`, async (t) => {
    const { to, pair, sources } = copyScene(t, { app: { a: 'a', sub: { x: 'x' } }, file: 'file' });
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
    for (const [source, target, why] of [
      ['app', 'app', 'not a folder; cannot replace it with one'],
      ['file', 'folder', 'is a folder; cannot replace it with a file'],
      ['app', 'merged', 'not a folder; cannot replace it with one'],
      ['app', 'merged2', 'is a folder; cannot replace it with a file'],
      ['app', 'merged3', 'not a folder; cannot replace it with one'],
      ['app', 'merged4', 'not a file, folder or link'],
      ['file', 'fifo/file', 'not a file, folder or link'],
      ['file', 'missing/', 'no such folder'],
      ['file', 'missing/x', 'no such folder'],
      ['file', 'app/', 'not a folder'],
    ] as const) {
      const copied = pair[direction](sources(source), `${to}/${target}`);
      const { message } = await t.throwsAsync(copied, { code: 'copy-refused' }, target);
      t.true(message.endsWith(why), `${target}: ${message}`);
      await isOver(pair);
      t.is(names(), before, target);
    }
  });

  test(`${direction}: a source that is missing, or must not be copied, is named`, async (t) => {
    const tree = { app: { 'a.txt': 'a', sub: { l: '->../../out' } }, twice: { app: {} }, abs: { l: '->/etc' } };
    const { from, to, pair, sources } = copyScene(t, tree);
    execFileSync('mkfifo', [join(from, 'fifo')]);
    mkdirSync(join(from, 'raw'));
    symlinkSync(Buffer.from('a\xff', 'latin1'), join(from, 'raw/l'));
    for (const [paths, code, says] of [
      [sources('missing'), 'copy-failed', /missing: no such file or directory \(ENOENT\)$/],
      [sources('fifo'), 'copy-refused', /fifo: not a file or folder$/],
      [
        sources('app'),
        'copy-refused',
        /app\/sub\/l: link points outside the copied tree: \.\.\/\.\.\/out; --links=keep copies/,
      ],
      [sources('abs'), 'copy-refused', /abs\/l: link points outside the copied tree: \/etc; --links=keep copies/],
      [sources('raw'), 'copy-refused', /raw\/l: link target is not UTF-8$/],
      [sources('app', 'twice/app'), 'copy-refused', /app/],
      [['/'], 'bad-argument', /\//],
    ] as const) {
      const { message } = await t.throwsAsync(pair[direction](paths, to), { code }, paths.join());
      t.regex(message, says);
      t.deepEqual(readdirSync(to), []);
    }
  });

  test(`${direction}: links that point outside the tree are kept as they are, if asked`, async (t) => {
    const links = { abs: '->/etc/passwd', up: '->../../../x', 'no such': '->/nowhere/a b', loop: '->loop', dot: '->.' };
    const tree = { app: { ...links, 'a.txt': 'a', sub: { l: '->../../out' } }, 'to/app': { abs: 'replaced' } };
    const { from, pair, sources } = copyScene(t, tree, { keepsLinks: true });
    const to = join(from, 'to');
    for (const isResumed of [false, true]) {
      const { progress } = await pair[direction](sources('app'), to, isResumed);
      t.is(progress.links, 6);
      t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
    }
  });

  test(`${direction}: special files in a tree are skipped; a source that is a link is followed`, async (t) => {
    const tree = { app: { a: 'a' }, folder: { x: 'x' }, link: '->app/a', other: '->folder' };
    const { from, to, pair, sources } = copyScene(t, tree);
    execFileSync('mkfifo', [join(from, 'app/fifo')]);
    const server = net.createServer().listen(join(from, 'app/socket'));
    t.teardown(() => server.close());
    await eventually(() => server.listening);
    const { warnings, progress } = await pair[direction](sources('app', 'link', 'other'), to);
    const why = 'skipped: not a file, folder or link';
    t.deepEqual(warnings, [`${from}/app/fifo: ${why}`, `${from}/app/socket: ${why}`]);
    t.is(progress.files, 3);
    t.deepEqual(readdirSync(to, { recursive: true }).sort(), ['app', 'app/a', 'link', 'other', 'other/x']);
    t.true(describeTree(to).every((line) => !line.includes('->')));
  });
}

/** A copy during which something happens when the service first opens a file. */
function meanwhile(t: ExecutionContext, tree: Tree, act: (scene: ReturnType<typeof copyScene>) => void) {
  let hasActed = false;
  const open: CopyFiles['open'] = (...args) => {
    if (!hasActed) {
      hasActed = true;
      act(scene);
    }
    return SYSTEM_FILES.open(...args);
  };
  const scene = copyScene(t, tree, { serviceFiles: { ...SYSTEM_FILES, open } });
  return scene;
}

const LARGE = 20_000_000;

test('a file that shrinks during the copy fails it, and is named', async (t) => {
  const { to, pair, sources } = meanwhile(t, { file: Buffer.alloc(LARGE) }, ({ from }) =>
    truncateSync(join(from, 'file'), 1000),
  );
  const error = await t.throwsAsync(pair.put(sources('file'), to), { code: 'copy-failed' });
  t.regex(error.message, /file: shrank during the copy: \d+ of 20000000 bytes left$/);
  await isOver(pair);
  t.deepEqual(readdirSync(to), []);
});

test('a file that grows during the copy is copied at its first size, with a warning', async (t) => {
  const { from, to, pair, sources } = meanwhile(t, { file: Buffer.alloc(LARGE) }, (scene) =>
    appendFileSync(join(scene.from, 'file'), 'more'),
  );
  const { warnings, progress } = await pair.put(sources('file'), to);
  t.deepEqual(warnings, [`${from}/file: grew during the copy; only its first ${LARGE} bytes were copied`]);
  t.is(progress.bytes, LARGE);
});

test('a second copy to the same path is refused while one runs', async (t) => {
  const state = { second: null as Promise<unknown> | null };
  const { to, pair, sources } = meanwhile(t, { file: 'x' }, (scene) => {
    state.second = t.throwsAsync(scene.pair.put(scene.sources('file'), scene.to), { code: 'copy-refused' });
  });
  await pair.put(sources('file'), to);
  t.not(state.second, null);
  await state.second;
  await pair.put(sources('file'), to);
});

test('a copy whose part was replaced by another one moves nothing into place', async (t) => {
  const { to, pair, sources } = meanwhile(t, { app: { a: 'a', b: 'b' } }, (scene) => {
    renameSync(join(scene.to, '.app.vproxy-part'), join(scene.to, 'elsewhere'));
    mkdirSync(join(scene.to, '.app.vproxy-part'));
  });
  await t.throwsAsync(pair.put(sources('app'), to), { code: 'copy-failed' });
  t.false(readdirSync(to).includes('app'));
});

test('a service logs its copies', async (t) => {
  const { to, pair, sources } = copyScene(t, { 'a\n': 'hello' });
  await pair.put(sources('a\n'), join(to, 'b\n'));
  await t.throwsAsync(pair.get(sources('missing'), to));
  await isOver(pair);
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

test('a stopped service interrupts running copies, and serves no more', async (t) => {
  const state = { stopped: null as Promise<void> | null };
  const { to, pair, sources } = meanwhile(t, { file: Buffer.alloc(LARGE) }, (scene) => {
    state.stopped = scene.pair.service.stop();
  });
  await t.throwsAsync(pair.put(sources('file'), to));
  await state.stopped;
  t.is(pair.service.runningCount, 0);
  t.deepEqual(readdirSync(to), ['.file.vproxy-part']);
  await t.throwsAsync(pair.put(sources('file'), to), { code: 'too-many-streams' });
});
