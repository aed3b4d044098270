/** Copies that are refused because of what is in their way, or of their sources; and links. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { copyScene, describeTree, farSide, makeTree } from '../helpers/copy-pair.js';
import { eventually } from '../helpers/time.js';

const test = farSide.testWith();

for (const direction of ['put', 'get'] as const) {
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
      await eventually(() => pair.service.runningCount === 0);
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

  test(`${direction}: a name that is not UTF-8 is refused, whatever else has the name that it would get`, async (t) => {
    const { from, to, pair, sources } = copyScene(t, { app: { sub: { file: 'x' } }, 'top\ufffd': 'another', b: {} });
    const raw = (name: string) => Buffer.from(join(from, name), 'latin1');
    writeFileSync(raw('app/sub/a\xff'), 'a');
    await t.throwsAsync(pair[direction](sources('app'), to), { code: 'copy-refused', message: /name is not UTF-8$/ });
    writeFileSync(join(from, 'app/sub/a\ufffd'), 'another');
    await t.throwsAsync(pair[direction](sources('app'), to), { code: 'copy-refused', message: /name is not UTF-8$/ });
    writeFileSync(raw('top\xff'), 'a');
    symlinkSync(raw('top\xff'), join(from, 'link'));
    await t.throwsAsync(pair[direction](sources('link'), to), { code: 'copy-refused', message: /name is not UTF-8$/ });
    t.deepEqual(readdirSync(to), []);
    await pair[direction](sources('top\ufffd'), to);
    t.deepEqual(readdirSync(to), ['top\ufffd']);
  });

  test(`${direction}: a file with the name of another's part is refused`, async (t) => {
    const { to, pair, sources } = copyScene(t, { b: 'b', '.b.vproxy-part': 'part' });
    const refusal = {
      code: 'copy-refused',
      message: /b: another copy to this path, or to the part of it, is in progress$/,
    };
    await t.throwsAsync(pair[direction](sources('b', '.b.vproxy-part'), to), refusal);
    t.deepEqual(readdirSync(to), []);
    for (const name of ['.b.vproxy-part', 'b']) await pair[direction](sources(name), to);
    t.deepEqual(readdirSync(to), ['b']);
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
