/** Remote paths relative to a home directory, on either side of a copy, and with older peers. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { putFiles } from '../../lib/services/copy/copy-call.js';
import { COPY_KIND, encodeError, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { Homes, nameRemoteSource, resolveAllowed } from '../../lib/services/copy/named-paths.js';
import { RecordStream } from '../../lib/services/copy/record-stream.js';
import { walkSources } from '../../lib/services/copy/sources.js';
import { Accounts } from '../../lib/system/accounts.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { CopyPair, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';

const UID = process.geteuid?.() ?? -1;

/** A machine where this user and another one have a home directory with a file, and a file to copy there. */
function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const path = (name: string): string => join(folder, name);
  makeTree(folder, { me: { 'notes.txt': 'mine' }, bob: { 'notes.txt': "bob's" }, here: { 'a.txt': 'a' } });
  chmodSync(path('here/a.txt'), 0o600);
  const passwdFile = path('passwd');
  const rows = [`me:x:${UID}:0::${path('me')}:`, `bob:x:77777:0::${path('bob')}:`, 'odd:x:77778:0::home:'];
  writeFileSync(passwdFile, `${rows.join('\n')}\n`);
  const accounts = new Accounts({ passwdFile, getent: null });
  const pair = new CopyPair(t, { accounts });
  return { path, passwdFile, accounts, pair, put: (target: string) => pair.put([path('here/a.txt')], target) };
}

test('a file copied to the empty path goes into the home directory, under its own name', async (t) => {
  const { path, put } = setUp(t);
  for (const target of ['', '~', '~/', './']) {
    writeFileSync(path('here/a.txt'), target);
    t.deepEqual((await put(target)).targets, [path('me/a.txt')], target);
    t.is(readFileSync(path('me/a.txt'), 'utf8'), target);
  }
});

test('a relative path starts in the home directory, and ~user in that of another user', async (t) => {
  const { path, pair, put } = setUp(t);
  mkdirSync(path('me/in'));
  for (const [target, copy] of [
    ['in', 'me/in/a.txt'],
    ['in/b.txt', 'me/in/b.txt'],
    ['~/c.txt', 'me/c.txt'],
    ['~bob/', 'bob/a.txt'],
    ['~bob', 'bob/a.txt'],
    // A name that only looks like one.
    ['./~bob', 'me/~bob'],
  ] as const) {
    t.deepEqual((await put(target)).targets, [path(copy)], target);
  }
  await pair.get(['notes.txt', '~/in/b.txt'], path('here'));
  await pair.get(['~bob/notes.txt'], path('here/bobs.txt'));
  const copied = ['notes.txt', 'b.txt', 'bobs.txt'].map((name) => readFileSync(path(`here/${name}`), 'utf8'));
  t.deepEqual(copied, ['mine', 'a', "bob's"]);
  t.deepEqual(pair.events.at(-1)?.fields['paths'], [path('bob/notes.txt')], 'what is logged is where it is');
});

test('an unknown user, a user without a home, and a home that is not a folder are reported', async (t) => {
  const { path, passwdFile, put } = setUp(t);
  for (const name of ['eve', 'odd']) {
    const message = `peer: ~${name}: no such user, or the user has no home directory`;
    await t.throwsAsync(put(`~${name}/x`), { code: 'copy-refused', message });
  }
  writeFileSync(passwdFile, `me:x:${UID}:0::${path('nowhere')}:\n`);
  await t.throwsAsync(put(''), { code: 'copy-refused', message: /nowhere\/: no such folder$/ });
  t.deepEqual(readdirSync(path('')).sort(), ['bob', 'here', 'me', 'passwd']);
  writeFileSync(passwdFile, 'bob:x:77777:0::/:\n');
  const message = `peer: user ${UID} has no home directory; use an absolute path`;
  await t.throwsAsync(put('x'), { code: 'copy-failed', message });
});

test('with copies confined to a folder, homes outside are denied without revealing users', async (t) => {
  const { path, accounts } = setUp(t);
  const pair = new CopyPair(t, { accounts, root: path('me/in') });
  mkdirSync(path('me/in'));
  symlinkSync('../..', path('me/in/out'));
  const why = 'a relative path starts in the home directory of the remote user';
  const refusal = { code: 'denied', message: `peer: path not allowed; ${why}` };
  for (const target of ['', '~', 'x', 'in/../x', 'in/out/x', '~bob/x', '~eve/x', '../me/in/../x', 'in']) {
    if (target === 'in') t.deepEqual((await pair.put([path('here/a.txt')], target)).targets, [path('me/in/a.txt')]);
    else await t.throwsAsync(pair.put([path('here/a.txt')], target), refusal, target);
  }
  for (const source of ['notes.txt', 'in/out/me/notes.txt', '~bob/notes.txt', '~eve/notes.txt']) {
    await t.throwsAsync(pair.get([source], path('here')), refusal, source);
  }
  t.deepEqual(readdirSync(path('me')).sort(), ['in', 'notes.txt']);
});

test.serial('a path of hundreds of names is resolved in a few steps', async (t) => {
  const root = realpathSync(temporaryFolder(t));
  const deep = 'a/'.repeat(200);
  mkdirSync(join(root, deep), { recursive: true });
  symlinkSync('a', join(root, 'link'));
  symlinkSync('no', join(root, 'dangling'));
  let count = 0;
  const { realpath, lstat } = promises;
  const counted =
    <T extends unknown[], R>(call: (...args: T) => R) =>
    (...args: T) => {
      count += 1;
      return call(...args);
    };
  Object.assign(promises, { realpath: counted(realpath), lstat: counted(lstat) });
  syncBuiltinESMExports();
  t.teardown(() => {
    Object.assign(promises, { realpath, lstat });
    syncBuiltinESMExports();
  });
  for (const [path, found] of [
    [`${deep}b`, `${deep}b`],
    [`link/${deep}${deep}b`, `a/${deep}${deep}b`],
    [`${'b/'.repeat(1000)}b`, `${'b/'.repeat(1000)}b`],
    ['link/', 'a'],
    [`dangling/${deep}b`, null],
    ['dangling', null],
  ] as const) {
    count = 0;
    const done = resolveAllowed(join(root, path), root);
    if (found === null) await t.throwsAsync(done, { code: 'ENOENT' }, path);
    else t.is(await done, join(root, found));
    t.true(count <= 32, `${count} for ${path}`);
  }
});

test('a path without a name of its own is not a source', (t) => {
  for (const path of ['', '~', '~bob', '~bob/', '/', '.', '..', 'a/..', '~/..', 'a/.']) {
    t.throws(() => nameRemoteSource(path), { code: 'bad-argument' }, path);
  }
  t.deepEqual(nameRemoteSource('a/b//'), { path: 'a/b', name: 'b' });
  t.deepEqual(nameRemoteSource('./~bob'), { path: './~bob', name: '~bob' });
  t.throws(() => nameRemoteSource('a'.repeat(4097)), { code: 'bad-argument', message: /^path too long: 4097 bytes/ });
});

test('an account is looked up once for a request with thousands of homes, of which few may be different', async (t) => {
  const { passwdFile, accounts, path } = setUp(t);
  const homes = new Homes(null, accounts);
  t.deepEqual([await homes.resolve('~bob/x'), await homes.resolve('x')], [path('bob/x'), path('me/x')]);
  writeFileSync(passwdFile, '');
  t.deepEqual([await homes.resolve('~bob/y'), await homes.resolve('z')], [path('bob/y'), path('me/z')]);
  for (let index = 0; index < 31; index += 1) await t.throwsAsync(homes.resolve(`~eve${index}/x`));
  await t.throwsAsync(homes.resolve('~eve31/x'), { message: '~eve31: more than 32 home directories' });
});

/** A copy to an older peer, and that peer's end of the stream. */
function putToOlder(source: string, target: string) {
  const [caller, far] = duplexPair();
  const progress = new CopyProgress();
  const compared: string[] = [];
  progress.onComparison = ({ side }) => compared.push(side);
  const open = () => Promise.resolve(caller);
  const done = putFiles([source], target, { open, isResumed: true, hasTotals: false, progress, warn: () => undefined });
  return { far, older: new RecordStream(far), done, compared };
}

test('a folder whose path in the copy is too long for any target is refused, even if its own path is not', async (t) => {
  const top = setUp(t).path('top');
  mkdirSync(join(top, ...Array.from({ length: 15 }, () => 'd'.repeat(255)), 'x'), { recursive: true });
  const walked: string[] = [];
  const walk = async (): Promise<void> => {
    const sources = [{ path: top, name: 'n'.repeat(255), kind: 'folder' }] as const;
    for await (const { names } of walkSources(sources, () => t.fail())) walked.push(names.at(-1) ?? '');
  };
  await t.throwsAsync(walk, { code: 'copy-refused', message: /\/x: path in the copy longer than 4095 bytes$/ });
  t.is(walked.length, 16);
});

test('an older peer, which knows only absolute paths, is reported in one line, and gets nothing', async (t) => {
  const { far, older, done } = putToOlder(setUp(t).path('here/a.txt'), 'x');
  const refused = t.throwsAsync(done, {
    code: 'copy-refused',
    message: 'the peer runs an older vproxy, which takes only absolute paths',
  });
  const start = JSON.parse((await older.expect(COPY_KIND.START)).toString()) as { target: string };
  t.is(start.target, 'x', 'not as a path that it would take for another one');
  older.write(encodeError(new VproxyError('protocol-error', 'copy: START: target is not valid')));
  far.end();
  await refused;
});

test('other errors about a path in a home are passed on unchanged', async (t) => {
  const { far, older, done } = putToOlder(setUp(t).path('here/a.txt'), 'x');
  const refused = t.throwsAsync(done, {
    code: 'protocol-error',
    message: 'peer: copy: PLAN: files is not valid',
  });
  await older.expect(COPY_KIND.START);
  older.write(encodeError(new VproxyError('protocol-error', 'copy: PLAN: files is not valid')));
  far.end();
  await refused;
});

test('an older peer reports no comparison, and the copy works the same', async (t) => {
  const { far, older, done, compared } = putToOlder(setUp(t).path('here/a.txt'), '/x');
  older.onData = () => true;
  for (const kind of [COPY_KIND.START, COPY_KIND.PLAN]) await older.expect(kind);
  await older.send(encodeMessage(COPY_KIND.READY, { targets: ['/x'] }));
  for (const kind of [COPY_KIND.CHECKS, COPY_KIND.END]) await older.expect(kind);
  await older.send(encodeMessage(COPY_KIND.DONE, {}));
  far.end();
  t.deepEqual(await done, ['/x']);
  t.deepEqual(compared, []);
});
