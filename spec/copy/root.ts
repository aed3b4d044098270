/** A service confined to a folder. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { CopyPair, farSide, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';

const test = farSide.testWith();

/** `in` is allowed, `out` and `inside` are not. */
function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  makeTree(folder, {
    in: { a: 'a', sub: { b: 'b' } },
    out: { secret: 'secret' },
    inside: { x: 'x' },
    mine: { new: 'new' },
  });
  const path = (name: string): string => join(folder, name);
  symlinkSync(path('out'), path('in/folder'));
  symlinkSync('../out/secret', path('in/file'));
  symlinkSync('nowhere', path('in/dangling'));
  symlinkSync('../out/made', path('in/dangling out'));
  symlinkSync('in', path('way in'));
  return { path, pair: new CopyPair(t, { root: path('in') }) };
}

const INSIDE_ONLY = { code: 'denied', message: 'peer: path not allowed' };

/** Paths outside the folder, or that lead out of it. */
const OUTSIDE = {
  get: ['out/secret', 'out/missing', 'inside/x', 'in/../out/secret', '', 'in/folder/secret', 'in/file', 'in/dangling'],
  put: ['out', 'out/', 'out/new', 'inside', 'in/../new', 'missing/new', '', 'in/folder/new', 'in/dangling'],
  both: ['in/folder', 'in/dangling out'],
};

for (const direction of ['get', 'put'] as const) {
  test(`a file outside cannot be ${direction === 'get' ? 'read' : 'written'}`, async (t) => {
    const { path, pair } = setUp(t);
    const names = [...OUTSIDE[direction], ...OUTSIDE.both];
    for (const name of names) {
      const [source, target] = direction === 'get' ? [path(name), path('mine')] : [path('mine/new'), path(name)];
      await t.throwsAsync(pair[direction]([source], target), INSIDE_ONLY, name);
      t.deepEqual([readdirSync(path('mine')), readdirSync(path('out'))], [['new'], ['secret']], name);
      t.deepEqual(readdirSync(path('')).sort(), ['in', 'inside', 'mine', 'out', 'way in'], name);
    }
    if (farSide.start !== null) return;
    t.deepEqual(
      pair.events.map(({ event, fields }) => `${event} ${String(fields['code'])}`),
      names.map(() => 'copy-refused denied'),
    );
  });
}

test('links that point outside of it are sent, but not kept: a peer would read and write through them', async (t) => {
  const { path } = setUp(t);
  const pair = new CopyPair(t, { root: path('in'), keepsLinks: true });
  makeTree(path(''), { from: { l: `->${path('out')}` }, 'in/x': { l: '->../../out' } });
  const message = /: link points outside the copied tree: \S+out; the peer keeps no such links: /;
  await t.throwsAsync(pair.put([path('from')], path('in')), { code: 'copy-refused', message });
  t.false(readdirSync(path('in')).some((name) => name.includes('from')));
  await pair.get([path('in/x')], path('mine'));
  t.is(readlinkSync(path('mine/x/l')), '../../out');
});

test('files inside can be read and written, also through a link that leads in', async (t) => {
  const { path, pair } = setUp(t);
  await pair.get([path('in/a'), path('in/sub')], path('mine'));
  t.deepEqual(readdirSync(path('mine')).sort(), ['a', 'new', 'sub']);
  await pair.put([path('mine/new')], path('in'));
  await pair.put([path('mine/new')], path('in/sub/other'));
  await pair.put([path('mine/new')], path('way in/third'));
  for (const name of ['in/new', 'in/sub/other', 'in/third']) t.is(readFileSync(path(name), 'utf8'), 'new');
});

test('a link that leads out does not expose its target', async (t) => {
  const { path, pair } = setUp(t);
  mkdirSync(path('in/tree'));
  symlinkSync('../../out/secret', path('in/tree/link'));
  await t.throwsAsync(pair.get([path('in/tree')], path('mine')), { code: 'copy-refused' });
  t.deepEqual(readdirSync(path('mine')), ['new']);
});

// vproxy-guest does not start with one.
if (farSide.start === null) {
  test('a missing folder allows nothing', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'a'), 'a');
    const pair = new CopyPair(t, { root: join(folder, 'missing') });
    await t.throwsAsync(pair.get([join(folder, 'missing/a')], join(folder, 'b')), { code: 'denied' });
    await t.throwsAsync(pair.put([join(folder, 'a')], join(folder, 'missing/a')), { code: 'denied' });
  });
}
