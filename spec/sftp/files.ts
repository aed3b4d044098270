/** Files of a peer from a program, and peers that answer wrongly. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { systemCode } from '../../lib/errors.js';
import { type FileData, Files } from '../../lib/services/sftp/files.js';
import { FileError } from '../../lib/services/sftp/sftp-client.js';
import { SFTP_KIND, SFTP_STATUS } from '../../lib/services/sftp/sftp-numbers.js';
import { SftpReader } from '../../lib/services/sftp/sftp-packets.js';
import { resettingPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { type Field, packet, startSftp } from '../helpers/sftp-client.js';
import { eventually } from '../helpers/time.js';

/** The files of a service confined to a folder, by their names in it. */
async function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const { open } = await startSftp(t, folder);
  return { folder, files: new Files(open), at: (name: string) => join(folder, name) };
}

/** Rejects with this code, and names the path. */
const fails = (t: ExecutionContext, work: Promise<unknown>, code: string, path: string) =>
  t.throwsAsync(work, { instanceOf: FileError, code, message: new RegExp(`^${path}: .*\\(${code}\\)$`) });

test('files: hundreds are written, listed, read, renamed and removed', async (t) => {
  const { files, at } = await setUp(t);
  const names = Array.from({ length: 400 }, (_, index) => `${String(index).padStart(4, '0')}.txt`);
  await files.mkdir(at('a/b'), { recursive: true });
  await Promise.all(names.map((name) => files.write(at(`a/b/${name}`), `text of ${name}`)));
  const entries = await files.list(at('a/b'));
  t.deepEqual(
    entries.map(({ name }) => name),
    names,
  );
  t.true(entries.every(({ kind, size }) => kind === 'file' && size === 16));
  for (const name of names.slice(0, 200)) {
    t.is(String(await files.read(at(`a/b/${name}`))), `text of ${name}`);
    await files.rename(at(`a/b/${name}`), at(`a/b/${name}.new`));
  }
  t.is(fs.readFileSync(at('a/b/0007.txt.new'), 'utf8'), 'text of 0007.txt');
  await files.remove(at('a'), { recursive: true });
  t.false(fs.existsSync(at('a')));
});

test('files: long ones come whole, from any byte, and in pieces', async (t) => {
  const { files, at } = await setUp(t);
  const bytes = randomBytes(5_000_001);
  const path = at('long');
  await files.write(path, bytes);
  t.true(fs.readFileSync(path).equals(bytes));
  t.true((await files.read(path)).equals(bytes));
  for (const [offset, length] of [
    [0, 0],
    [1, 1],
    [4_999_999, 100],
    [261_119, 261_122],
    [9_000_000, 5],
  ] as const)
    t.true((await files.read(path, { offset, length })).equals(bytes.subarray(offset, offset + length)), `${offset}`);
  async function* pieces() {
    for (let from = 0; from < bytes.length; from += 99_999) {
      await setImmediate();
      yield bytes.subarray(from, from + 99_999);
    }
    yield 'the end';
  }
  const lengths: number[] = [];
  await files.write(path, pieces());
  for await (const piece of files.pieces(path)) lengths.push(piece.length);
  t.is(Math.max(...lengths), 261_120);
  t.is(fs.readFileSync(path).subarray(bytes.length).toString(), 'the end');
  await files.append(path, [' and ', 'more']);
  t.is(String(await files.read(path, { offset: bytes.length })), 'the end and more');
  for (const pieceCount of [1, 2, 5]) {
    const stop = new AbortController();
    let count = 0;
    const reading = async () => {
      for await (const piece of files.pieces(path, { signal: stop.signal })) {
        count += piece.length > 0 ? 1 : 0;
        if (count === pieceCount) stop.abort();
      }
    };
    await t.throwsAsync(reading(), { code: 'cancelled' });
    t.true(count >= pieceCount);
  }
  for await (const piece of files.pieces(path)) {
    t.is(piece.length, 261_120);
    break;
  }
  const all = new Files((await startSftp(t, null)).open);
  fs.symlinkSync('loop', at('loop'));
  t.false(await all.exists(at('loop')));
  t.regex(String(await all.read('/proc/self/status')), /^Name:.*\nnonvoluntary_ctxt_switches:.*\n$/s);
});

test('files: permissions are kept or set, links are replaced, and not followed by removals', async (t) => {
  const { files, at } = await setUp(t);
  const modeOf = (name: string) => fs.lstatSync(at(name)).mode & 0o7777;
  await files.write(at('own'), 'x', { mode: 0o600 });
  await files.write(at('own'), 'y');
  t.is(modeOf('own'), 0o600);
  await files.chmod(at('own'), 0o640);
  t.like(await files.stat(at('own')), { kind: 'file', size: 1, mode: 0o640, uid: process.getuid?.() });
  const age = Date.now() - (await files.stat(at('own'))).modifiedAt.getTime();
  t.true(age > -2000 && age < 60_000);
  await files.mkdir(at('dir'), { mode: 0o700 });
  await files.write(at('dir/file'), 'kept');
  fs.symlinkSync('dir', at('link'));
  fs.symlinkSync('nowhere', at('dangling'));
  t.is((await files.stat(at('link'))).kind, 'folder');
  t.is((await files.lstat(at('link'))).kind, 'link');
  t.deepEqual(await Promise.all(['link', 'none'].map((name) => files.exists(at(name)))), [...[true, false]]);
  await fails(t, files.remove(`${at('own')}/`, { force: true }), 'ENOTDIR', at('own'));
  await files.remove(`${at('link')}//`, { recursive: true });
  t.false(fs.existsSync(at('link')));
  for (const name of ['dir/.', 'dir/..', '.', '..'])
    await t.throwsAsync(files.remove(name, { recursive: true }), { code: 'bad-argument' }, name);
  fs.symlinkSync('dir', at('dir/again'));
  await files.write(at('dangling'), 'a file now');
  t.true(fs.lstatSync(at('dangling')).isFile());
  t.true(fs.existsSync(at('dir/file')));
  await files.remove(at('dir'), { recursive: true });
  await files.remove(at('dir'), { recursive: true, force: true });
});

test('files: what others remove meanwhile is gone, and no error', async (t) => {
  const { at, files, folder } = await setUp(t);
  await files.mkdir(folder, { recursive: true });
  for (let time = 0; time < 5; time += 1) {
    const names = Array.from({ length: 60 }, (_, index) => at(`tree/${index % 7}/${index}`));
    await Promise.all(names.map((_, index) => files.mkdir(at(`tree/${index % 7}`), { recursive: true })));
    await Promise.all(names.map((name) => files.write(name, '')));
    await Promise.all([1, 2, 3].map(() => files.remove(at('tree'), { recursive: true, force: true })));
    t.false(fs.existsSync(at('tree')));
  }
});

test('files: a path whose folders come and go is there, or it is not', async (t) => {
  const { at, files } = await setUp(t);
  const over = new AbortController();
  const others = (async () => {
    while (!over.signal.aborted) {
      fs.mkdirSync(at('p/q/r/x'), { recursive: true });
      await setImmediate();
      fs.rmSync(at('p'), { recursive: true });
      await setImmediate();
    }
  })();
  for (let time = 0; time < 300; time += 1) {
    t.is(typeof (await files.exists(at('p/q/r/x'))), 'boolean');
    const failure = await files.list(at('p/q/r')).then(() => 'ENOENT', systemCode);
    t.is(failure, 'ENOENT');
  }
  over.abort();
  await others;
});

test('files: nobody may open a part who may not read the file', async (t) => {
  const folder = temporaryFolder(t);
  const { open } = await startSftp(t, folder);
  const sent: Buffer[] = [];
  const files = new Files(async () => {
    const stream = await open();
    const write = stream.write.bind(stream);
    return Object.assign(stream, {
      write: (bytes: Buffer) => {
        sent.push(bytes);
        return write(bytes);
      },
    });
  });
  const path = join(folder, 'secret');
  fs.writeFileSync(path, 'old', { mode: 0o600 });
  await files.write(path, 'new');
  const opened = sent.find((bytes) => bytes[4] === SFTP_KIND.OPEN);
  t.deepEqual(opened?.subarray(-8), Buffer.of(0, 0, 0, 4, 0, 0, 1, 0o200));
});

test('files: names are bytes', async (t) => {
  const { files, at } = await setUp(t);
  const folder = at('sub');
  await files.mkdir(folder);
  await files.write(`${folder}/näme`, 'utf8');
  const odd = Buffer.concat([Buffer.from(`${folder}/`), Buffer.of(0x66, 0xff, 0x6f)]);
  await files.write(odd, 'bytes');
  const entries = await files.list(folder);
  t.deepEqual(
    entries.map(({ rawName }) => rawName.toString('latin1')),
    ['f\xffo', 'n\xc3\xa4me'],
  );
  t.is(entries[1]?.name, 'näme');
  t.is(String(await files.read(odd)), 'bytes');
  const long = 'ä'.repeat(127);
  await files.write(`${folder}/${long}`, 'long');
  t.is(String(await files.read(`${folder}/${long}`)), 'long');
  await files.remove(folder, { recursive: true });
});

test('files: what fails says which path, and why', async (t) => {
  const { files, folder, at } = await setUp(t);
  fs.mkdirSync(at('full/sub'), { recursive: true });
  fs.writeFileSync(at('file'), '');
  await fails(t, files.read(at('none')), 'ENOENT', at('none'));
  await fails(t, files.list(at('file')), 'ENOTDIR', at('file'));
  await fails(t, files.mkdir(at('full')), 'EEXIST', at('full'));
  await fails(t, files.mkdir(at('file'), { recursive: true }), 'EEXIST', at('file'));
  await fails(t, files.remove(at('full')), 'ENOTEMPTY', at('full'));
  await fails(t, files.remove(at('none')), 'ENOENT', at('none'));
  await fails(t, files.write(at('none/x'), ''), 'ENOENT', at('none/x'));
  await t.throwsAsync(files.read('/etc/passwd'), { code: 'EACCES', message: /^\/etc\/passwd: / });
  await t.throwsAsync(files.write(at('full'), 'x'), { instanceOf: FileError });
  await fails(t, files.read(at('nöne')), 'ENOENT', at('nöne'));
  await t.throwsAsync(files.read(at('x'.repeat(5000))), { code: 'ENAMETOOLONG' });
  t.deepEqual(fs.readdirSync(folder).sort(), ['file', 'full']);
  for (const path of ['', 'a\0b', Buffer.from('a\0b')])
    await t.throwsAsync(
      files.stat(path),
      { code: 'bad-argument', message: /^not a path: "(|a\\x00b)"$/ },
      String(path),
    );
  await t.throwsAsync(files.read('x', { offset: -1 }), { code: 'bad-argument', message: /^offset: / });
  await t.throwsAsync(files.chmod('x', 0o10000), { code: 'bad-argument', message: /^mode: / });
});

test('files: a call that fails or is cancelled leaves no part', async (t) => {
  const { files, folder, at } = await setUp(t);
  const stop = new AbortController();
  async function* slow(fail: boolean) {
    yield Buffer.alloc(100_000);
    await eventually(() => fs.readdirSync(folder).some((name) => /^\.new\.vproxy-[0-9a-f]{12}$/.test(name)));
    if (fail) throw new Error('no more');
    stop.abort();
    await new Promise(() => undefined);
  }
  await t.throwsAsync(files.write(at('new'), slow(true)), { message: 'no more' });
  await t.throwsAsync(files.write(at('new'), slow(false), { signal: stop.signal }), { code: 'cancelled' });
  await eventually(() => fs.readdirSync(folder).length === 0, { what: 'the end of both parts' });
  await t.throwsAsync(files.read(at('new'), { signal: stop.signal }), { code: 'cancelled' });
  for (let turns = 0; turns < 40; turns += 1) {
    const soon = new AbortController();
    const written = files.write(at('new'), Buffer.alloc(10), { signal: soon.signal }).catch(() => undefined);
    for (let turn = 0; turn < turns; turn += 1) await setImmediate();
    soon.abort();
    await written;
  }
  await eventually(() => fs.readdirSync(folder).every((name) => name === 'new'), { what: 'the end of all parts' });
  const never = new Files(() => new Promise(() => undefined));
  const later = new AbortController();
  const waiting = never.read(at('new'), { signal: later.signal });
  later.abort();
  await t.throwsAsync(waiting, { code: 'cancelled' });
});

test('files: a source that fails or waits does not hold up its call', async (t) => {
  const { files, folder, at } = await setUp(t);
  const missing = fs.createReadStream(at('none'));
  await once(missing, 'error');
  await t.throwsAsync(files.write(at('new'), missing), { code: 'ENOENT' });
  await t.throwsAsync(files.append(at('old'), fs.createReadStream(at('none'))), { code: 'ENOENT' });
  const [idle, stop] = [new PassThrough(), new AbortController()];
  const written = files.write(at('new'), idle, { signal: stop.signal });
  await eventually(() => fs.readdirSync(folder).some((name) => name.startsWith('.new')), { what: 'a part' });
  stop.abort();
  await t.throwsAsync(written, { code: 'cancelled' });
  t.true(idle.destroyed);
  await eventually(() => fs.readdirSync(folder).join() === 'old', { what: 'the end of the part' });
  const broken = new Files(() => {
    throw new Error('no stream');
  });
  await t.throwsAsync(broken.read('x'), { message: 'no stream' });
});

/** Files of a peer that answers each request after INIT with the next of these packets; its side of the only stream is returned, too. */
function answering(answers: Iterable<Buffer>) {
  const [caller, served] = resettingPair();
  served.on('error', () => undefined).write(packet(SFTP_KIND.VERSION, 3));
  const requests = new SftpReader(served);
  const answer = async () => {
    await requests.next();
    for (const each of answers) {
      if ((await requests.next()) === null) return;
      served.write(each);
    }
  };
  return { caller, served, requests, files: new Files(() => Promise.resolve(caller)), done: answer() };
}

/** The same, but then it ends the stream. */
function lying(...answers: readonly Buffer[]): Files {
  const { files, served, done } = answering(answers);
  done.then(
    () => served.end(),
    (error: unknown) => served.destroy(error as Error),
  );
  return files;
}

const status = (id: number, code: number, text: Field = 'x') => packet(SFTP_KIND.STATUS, id, code, text, '');

test('files: a peer that does not end its stream keeps none open, but is told to remove a part', async (t) => {
  const idle = answering([status(1, SFTP_STATUS.NO_SUCH_FILE)]);
  const slow = answering([status(1, SFTP_STATUS.NO_SUCH_FILE), packet(SFTP_KIND.HANDLE, 2, 'h')]);
  const stop = new AbortController();
  const written = slow.files.write('x', Buffer.alloc(5_000_000), { signal: stop.signal });
  await eventually(() => slow.caller.writableLength > 1_000_000, { what: 'a part' });
  stop.abort();
  await t.throwsAsync(written, { code: 'cancelled' });
  await t.throwsAsync(idle.files.stat('x'), { code: 'ENOENT' });
  await eventually(() => idle.caller.destroyed, { what: 'its end' });
  const kinds: (number | undefined)[] = [];
  for (let next = await slow.requests.next(); next !== null; next = await slow.requests.next()) kinds.push(next.byte());
  t.is(kinds.at(-1), SFTP_KIND.REMOVE);
});

test('files: after a call, no stream is kept for what nobody waits for', async (t) => {
  const { caller, files } = answering([packet(SFTP_KIND.HANDLE, 1, 'h')]);
  const stop = new AbortController();
  const appended = files.append('x', Buffer.alloc(5_000_000), { signal: stop.signal });
  await eventually(() => caller.writableLength > 1_000_000, { what: 'requests' });
  stop.abort();
  await t.throwsAsync(appended, { code: 'cancelled' });
  t.true(caller.destroyed);
  const flood = answering([status(1, SFTP_STATUS.NO_SUCH_FILE)]);
  await t.throwsAsync(flood.files.stat('x'), { code: 'ENOENT' });
  flood.served.write(status(1, SFTP_STATUS.NO_SUCH_FILE));
  await eventually(() => flood.caller.destroyed, { timeoutMs: 2000, what: 'the end of a flood' });
});

test('files: a tree that a peer makes up has an end', async (t) => {
  function* tree() {
    yield packet(SFTP_KIND.ATTRS, 1, 4, 0o40755);
    for (let id = 2; ; id += 4) {
      yield packet(SFTP_KIND.HANDLE, id, 'h');
      yield packet(SFTP_KIND.NAME, id + 1, 1, 'x'.repeat(255), '', 4, 0o40755);
      yield status(id + 2, SFTP_STATUS.EOF);
      yield status(id + 3, SFTP_STATUS.OK);
    }
  }
  await t.throwsAsync(answering(tree()).files.remove('x', { recursive: true }), { code: 'ENAMETOOLONG' });
});

test('files: a folder that a peer makes up does not fill the memory', async (t) => {
  function* endless() {
    yield packet(SFTP_KIND.ATTRS, 1, 4, 0o40755);
    yield packet(SFTP_KIND.HANDLE, 2, 'h');
    const folders = Array.from({ length: 60 }, () => ['x'.repeat(4000), '', 4, 0o40755]).flat();
    const names = packet(SFTP_KIND.NAME, 0, 60, ...folders);
    for (let id = 3; id < 2000; id += 1) {
      names.writeUInt32BE(id, 5);
      yield Buffer.from(names);
    }
  }
  await t.throwsAsync(answering(endless()).files.remove('x', { recursive: true }), { message: /too many folders/ });
});

test('files: a peer that answers wrongly fails the call, and no more', async (t) => {
  const handle = packet(SFTP_KIND.HANDLE, 1, 'h');
  const wrong: readonly (readonly [string, ...Buffer[]])[] = [
    ['another kind', packet(SFTP_KIND.NAME, 1, 0)],
    ['another id', packet(SFTP_KIND.HANDLE, 7, 'h')],
    ['OK without a handle', status(1, SFTP_STATUS.OK)],
    ['EOF for a handle', status(1, SFTP_STATUS.EOF)],
    ['a field that is cut off', packet(SFTP_KIND.HANDLE, 1, 10)],
    ['data of no bytes', handle, packet(SFTP_KIND.DATA, 2, '')],
    ['more than was asked for', handle, packet(SFTP_KIND.DATA, 2, 'four')],
    ['a long packet', handle, Buffer.of(0, 16, 0, 0, 103)],
    ['an empty one', handle, Buffer.alloc(4)],
    ['two answers', handle, handle],
  ];
  for (const [what, ...answers] of wrong)
    await t.throwsAsync(lying(...answers).read('x', { length: 3 }), { code: 'protocol-error' }, what);
  await fails(t, lying(status(1, SFTP_STATUS.FAILURE, 'disk full (ENOSPC)')).read('x'), 'ENOSPC', 'x');
  await t.throwsAsync(lying(status(1, SFTP_STATUS.FAILURE, 'no')).read('x'), { code: 'EIO', message: 'x: no' });
  await t.throwsAsync(lying(status(1, SFTP_STATUS.NO_SUCH_FILE, 'no')).read('x'), { code: 'ENOENT' });
  const names = packet(SFTP_KIND.NAME, 2, 2, 'a', '', 0);
  await t.throwsAsync(lying(handle, names).list('x'), { code: 'protocol-error' });
  const none = packet(SFTP_KIND.NAME, 2, 0);
  await t.throwsAsync(lying(handle, none).list('x'), { code: 'protocol-error', message: /no names/ });
  for (const name of ['', '../../x', '/x', 'a\0b']) {
    const entry = packet(SFTP_KIND.NAME, 2, 1, name, '', 0);
    await t.throwsAsync(lying(handle, entry).list('x'), { code: 'protocol-error', message: /not a name/ }, name);
  }
  await t.throwsAsync(lying(packet(SFTP_KIND.VERSION, 2)).list('x'), { code: 'protocol-error' });
  await t.throwsAsync(lying().list('x'), { code: 'protocol-error', message: /ended/ });
  const data: FileData = 'x'.repeat(3_000_000);
  await t.throwsAsync(
    lying(status(1, SFTP_STATUS.NO_SUCH_FILE), packet(SFTP_KIND.HANDLE, 2, 'h'), status(3, 4)).write('x', data),
    {
      code: 'EIO',
    },
  );
});
