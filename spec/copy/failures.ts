/** Copies that fail: what they report, and that they leave nothing behind. */
import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, renameSync, symlinkSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { type CopyFiles, SYSTEM_FILES } from '../../lib/services/copy/system-files.js';
import { deferred } from '../../lib/util/concurrency.js';
import { CopyPair, type CopyPairOptions, copyScene, describeTree, makeTree, type Tree } from '../helpers/copy-pair.js';
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

  for (const size of [10, 5_000_000]) {
    test(`${direction}: ${size} bytes for which there turns out to be no room when the file is closed`, async (t) => {
      const close: CopyFiles['close'] = async (fd) => {
        await SYSTEM_FILES.close(fd);
        throw Object.assign(new Error('ENOSPC: no space left on device, close'), { code: 'ENOSPC' });
      };
      const files = { ...SYSTEM_FILES, close };
      const options = direction === 'put' ? { serviceFiles: files } : { callerFiles: files };
      const { to, pair, sources } = copyScene(t, { app: { file: Buffer.alloc(size) } }, options);
      const error = await t.throwsAsync(pair[direction](sources('app'), to), { code: 'copy-failed' });
      t.true(error.message.endsWith(`${join(to, 'app/file')}: no space left on device (ENOSPC)`), error.message);
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

test('a folder of the target that gives its place to a link while it is merged leads nowhere', async (t) => {
  const state = { isSwapped: false, outside: '' };
  const rename: CopyFiles['rename'] = async (from, to) => {
    await SYSTEM_FILES.rename(from, to);
    if (state.isSwapped || !from.includes('file')) return;
    state.isSwapped = true;
    renameSync(join(scene.to, 'app/sub'), join(scene.to, 'app/aside'));
    symlinkSync(state.outside, join(scene.to, 'app/sub'));
  };
  const files = Object.fromEntries(Array.from({ length: 5 }, (_, index) => [`file${index}`, 'x']));
  const scene = copyScene(t, { app: { sub: files }, outside: {} }, { serviceFiles: { ...SYSTEM_FILES, rename } });
  state.outside = join(scene.from, 'outside');
  makeTree(scene.to, { app: { sub: {} } });
  const before = describeTree(state.outside);
  await scene.pair.put(scene.sources('app'), scene.to).catch(() => undefined);
  t.true(state.isSwapped);
  t.deepEqual(describeTree(state.outside), before);
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

for (const why of ['is lost', 'fails, and then its stream is lost']) {
  test(`a copy that ${why} goes on until its last file is closed, and says so`, async (t) => {
    const [held, state] = [deferred(), { stream: null as Duplex | null, isClosing: false }];
    const close: CopyFiles['close'] = async (fd) => {
      state.isClosing = true;
      await held.promise;
      return SYSTEM_FILES.close(fd);
    };
    const write: CopyFiles['write'] = (...args) => {
      if (why !== 'is lost') throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' });
      state.stream?.destroy();
      return SYSTEM_FILES.write(...args);
    };
    const { pair, to, sources } = copyScene(
      t,
      { file: Buffer.alloc(LARGE) },
      { serviceFiles: { ...SYSTEM_FILES, close, write }, onStream: (_caller, service) => (state.stream = service) },
    );
    const copied = t.throwsAsync(pair.put(sources('file'), to));
    await eventually(() => state.isClosing);
    state.stream?.destroy();
    await eventually(() => pair.service.unfinished.join() === 'a copy that ends');
    held.resolve();
    await copied;
    await isOver(pair);
    t.deepEqual(pair.service.unfinished, []);
  });
}

test('an interrupted caller keeps what has arrived, and reports it', async (t) => {
  const breakOff = new AbortController();
  let seen = 0;
  const { to, pair, sources } = copyScene(
    t,
    { file: randomBytes(5_000_000) },
    {
      signal: breakOff.signal,
      onStream: (caller) =>
        caller.on('data', (chunk: Buffer) => {
          seen += chunk.length;
          if (seen >= 2_000_000) breakOff.abort();
        }),
    },
  );
  await t.throwsAsync(pair.get(sources('file'), to), { code: 'cancelled' });
  t.deepEqual(readdirSync(to), ['.file.vproxy-part']);
  await eventually(() => pair.events.some(({ event }) => event === 'copy-ended'));
  const { progress } = await new CopyPair(t).get(sources('file'), to, true);
  t.true(progress.resumedBytes > 500_000);
});
