/** What a receiver does not take over from a sender, and from an earlier copy. */
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { COPY_KIND } from '../../lib/services/copy/copy-messages.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { copyScene, farSide } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { hostilePlaces, makeTar, sendHostile, tarRecords } from '../helpers/hostile-copy.js';

const test = farSide.testWith();
const asRoot = farSide.testWith('root');

const NOBODY = 65_534;

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

for (const place of hostilePlaces()) {
  test(`${place}: received setuid and setgid bits are dropped, and sticky except for folders`, async (t) => {
    const target = temporaryFolder(t);
    const tar = await makeTar([
      { name: 'app', type: 'directory', mode: 0o7755 },
      { name: 'app/file', mode: 0o7755, body: '' },
      { name: 'app/sub', type: 'directory', mode: 0o6711 },
    ]);
    const [end, ...data] = tarRecords(tar).reverse();
    const records = [...data.reverse(), encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(4)), end as Buffer];
    t.is(await sendHostile(t, place, target, { records }), 'done');
    t.is(modeOf(join(target, 'app')), 0o1755);
    t.is(modeOf(join(target, 'app/file')), 0o755);
    t.is(modeOf(join(target, 'app/sub')), 0o711);
  });
}

/** Resumes a copy of a file, and checks that whatever `make` put in place of its part is not resumed, or only that much. */
async function copiesAnew(t: ExecutionContext, make: (part: string) => void, resumedBytes = 0): Promise<string> {
  const { to, pair, sources } = copyScene(t, { app: { file: '0123456789', sub: { x: 'x' } } });
  make(join(to, '.app.vproxy-part'));
  const { progress } = await pair.put(sources('app'), to, true);
  t.is(progress.resumedBytes, resumedBytes);
  t.deepEqual(readdirSync(to), ['app']);
  t.true(lstatSync(join(to, 'app')).isDirectory());
  t.is(readFileSync(join(to, 'app/file'), 'utf8'), '0123456789');
  return join(to, 'app');
}

/** A part with the first half of the file, and nothing in its folder. */
function makePart(part: string): void {
  mkdirSync(part);
  mkdirSync(join(part, 'sub'));
  writeFileSync(join(part, 'file'), '01234', { mode: 0o644 });
}

test('a part with a second hard link is not written to', async (t) => {
  const outside = join(temporaryFolder(t), 'outside');
  await copiesAnew(t, (part) => {
    makePart(part);
    linkSync(join(part, 'file'), outside);
  });
  t.is(readFileSync(outside, 'utf8'), '01234');
  t.deepEqual([modeOf(outside), lstatSync(outside).nlink], [0o644, 1]);
});

test('a link in place of a part is not followed', async (t) => {
  const outside = join(temporaryFolder(t), 'outside');
  makePart(outside);
  chmodSync(outside, 0o755);
  await copiesAnew(t, (part) => symlinkSync(outside, part));
  t.is(modeOf(outside), 0o755);
  t.is(readFileSync(join(outside, 'file'), 'utf8'), '01234');
});

test('names that are not UTF-8 are removed from a part, and one that only looks so is not', async (t) => {
  const { to, pair, sources } = copyScene(t, { app: { 'a\ufffd': '0123456789', sub: { 'a\ufffd': 'a' } } });
  const part = join(to, '.app.vproxy-part');
  const raw = (name: string) => Buffer.from(`${part}/${name}a\xff`, 'latin1');
  for (const folder of ['', '/sub', '/sub/b']) mkdirSync(part + folder);
  writeFileSync(join(part, 'a\ufffd'), '01234');
  writeFileSync(raw(''), 'x');
  mkdirSync(raw('sub/'));
  writeFileSync(Buffer.concat([raw('sub/'), Buffer.from('/x')]), 'x');
  symlinkSync('x', raw('sub/b/'));
  const { progress } = await pair.put(sources('app'), to, true);
  t.is(progress.resumedBytes, 5);
  t.deepEqual(readdirSync(to, { recursive: true }).sort(), ['app', 'app/a\ufffd', 'app/sub', 'app/sub/a\ufffd']);
  mkdirSync(part);
  mkdirSync(raw(''));
  await pair.put(sources('app'), to);
  t.deepEqual(readdirSync(to), ['app']);
});

asRoot('what somebody else has left, a file, a folder or a whole part, is not gone on with', async (t) => {
  for (const name of ['file', 'sub', '.']) {
    const make = (part: string): void => {
      makePart(part);
      chownSync(join(part, name), NOBODY, NOBODY);
      if (name === 'sub') writeFileSync(join(part, 'sub/x'), 'y');
    };
    const copy = await copiesAnew(t, make, name === 'sub' ? 5 : 0);
    for (const path of [copy, join(copy, 'sub'), join(copy, 'file')]) t.is(lstatSync(path).uid, 0);
  }
});

for (const place of hostilePlaces()) {
  asRoot(`${place}: a part that somebody else makes during the copy is not copied into`, async (t) => {
    const target = temporaryFolder(t);
    const part = join(target, '.app.vproxy-part');
    const onReady = (): void => {
      mkdirSync(part, { mode: 0o777 });
      writeFileSync(join(part, 'theirs'), 'theirs');
      chownSync(part, NOBODY, NOBODY);
    };
    const entries = [{ name: 'app', type: 'directory', mode: 0o755 } as const, { name: 'app/file', body: '' }];
    const [end, ...data] = tarRecords(await makeTar(entries)).reverse();
    const records = [...data.reverse(), encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(4)), end as Buffer];
    t.is(await sendHostile(t, place, target, { records, onReady, isResumed: true }), 'done');
    t.deepEqual(readdirSync(target, { recursive: true }).sort(), ['app', 'app/file']);
    t.is(lstatSync(join(target, 'app')).uid, 0);
  });

  asRoot(`${place}: a file that somebody else makes during the copy is not gone on with`, async (t) => {
    const target = temporaryFolder(t);
    const part = join(target, '.app.vproxy-part');
    const onReady = (): void => {
      writeFileSync(part, 'theirs');
      chownSync(part, NOBODY, NOBODY);
    };
    const entry = { name: 'app', body: 'ours', pax: { 'VPROXY.offset': '6' } };
    const roots = [{ name: 'app', kind: 'file' }];
    const records = tarRecords(await makeTar([entry]));
    t.is(await sendHostile(t, place, target, { roots, records, onReady, isResumed: true }), 'protocol-error');
    t.deepEqual(readdirSync(target), []);
  });
}
