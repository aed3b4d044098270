/** The requests of SFTP, by their answers and by what they do to files. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MAX_DATA_BYTES, MAX_HANDLES, MAX_PACKET_BYTES, SFTP_KIND } from '../../lib/services/sftp/sftp-numbers.js';
import { farSide } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { type Answer, handleOf, NO_ATTRIBUTES, type SftpClient, startSftp } from '../helpers/sftp-client.js';

const test = farSide.testWith();

const { OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR } = SFTP_KIND;
const { REALPATH, STAT, RENAME, READLINK, SYMLINK } = SFTP_KIND;

/** The flags of OPEN. */
const [R, W, APPEND, CREAT, TRUNC, EXCL] = [1, 2, 4, 8, 16, 32];

interface Scene {
  readonly client: SftpClient;
  readonly at: (name: string) => string;
}

async function setUp(t: ExecutionContext): Promise<Scene> {
  const folder = fs.realpathSync(temporaryFolder(t));
  const at = (name: string): string => join(folder, name);
  fs.writeFileSync(at('file'), 'contents');
  fs.mkdirSync(at('folder'));
  fs.mkdirSync(at('empty'));
  fs.writeFileSync(at('folder/inner'), 'inner');
  fs.symlinkSync('file', at('link'));
  execFileSync('mkfifo', [at('fifo')]);
  const { connect } = await startSftp(t, null);
  return { client: await connect(), at };
}

const whole = async (client: SftpClient, handle: string): Promise<string> =>
  (await client.ask(READ, handle, 0n, 100)).text();

/** What is asked, the status of the answer, and a text of it. */
const STATUSES: readonly (readonly [
  what: string,
  ask: (scene: Scene) => Promise<Answer>,
  status: string,
  message?: RegExp,
])[] = [
  [
    'STAT of nothing',
    ({ client, at }) => client.ask(STAT, at('no')),
    'NO_SUCH_FILE',
    /no such file or directory \(ENOENT\)/,
  ],
  ['STAT below a file', ({ client, at }) => client.ask(STAT, at('file/x')), 'NO_SUCH_FILE', /\(ENOTDIR\)/],
  ['OPEN of nothing', ({ client, at }) => client.ask(OPEN, at('no'), R, 0), 'NO_SUCH_FILE'],
  ['OPENDIR of a file', ({ client, at }) => client.ask(OPENDIR, at('file')), 'NO_SUCH_FILE'],
  ['RMDIR of nothing', ({ client, at }) => client.ask(RMDIR, at('no')), 'NO_SUCH_FILE'],
  ['REMOVE of nothing', ({ client, at }) => client.ask(REMOVE, at('no')), 'NO_SUCH_FILE'],
  ['RENAME of nothing', ({ client, at }) => client.ask(RENAME, at('no'), at('new')), 'NO_SUCH_FILE'],
  [
    'REALPATH of a loop',
    async ({ client, at }) => {
      await client.ask(SYMLINK, 'loop', at('folder/loop'));
      return client.ask(REALPATH, at('folder/loop'));
    },
    'NO_SUCH_FILE',
  ],
  ['REALPATH through nothing', ({ client, at }) => client.ask(REALPATH, at('no/x')), 'NO_SUCH_FILE'],
  [
    'READ of a file that is open for writing',
    async ({ client, at }) => client.ask(READ, await client.open(at('file'), W), 0n, 9),
    'NO_SUCH_FILE',
  ],
  ['MKDIR of what is there', ({ client, at }) => client.ask(MKDIR, at('folder'), 0), 'FAILURE'],
  ['RMDIR of a folder that is not empty', ({ client, at }) => client.ask(RMDIR, at('folder')), 'FAILURE'],
  ['REMOVE of a folder', ({ client, at }) => client.ask(REMOVE, at('empty')), 'FAILURE'],
  ['RENAME of nothing to what is there', ({ client, at }) => client.ask(RENAME, at('no'), at('link')), 'NO_SUCH_FILE'],
  ['RENAME to what is there', ({ client, at }) => client.ask(RENAME, at('file'), at('link')), 'FAILURE'],
  ['RENAME of a folder to what is there', ({ client, at }) => client.ask(RENAME, at('folder'), at('empty')), 'FAILURE'],
  ['OPEN of what must be new', ({ client, at }) => client.ask(OPEN, at('file'), W | CREAT | EXCL, 0), 'FAILURE'],
  ['OPEN of a folder', ({ client, at }) => client.ask(OPEN, at('folder'), R, 0), 'FAILURE', /is a directory/],
  ['OPEN of a FIFO to read', ({ client, at }) => client.ask(OPEN, at('fifo'), R, 0), 'FAILURE', /not a file/],
  ['OPEN of a FIFO to write', ({ client, at }) => client.ask(OPEN, at('fifo'), W, 0), 'FAILURE', /not a file/],
  ['OPEN of a device', ({ client }) => client.ask(OPEN, '/dev/null', W, 0), 'FAILURE', /not a file/],
  ['READ of no handle', ({ client }) => client.ask(READ, '\0\0\0?', 0n, 9), 'FAILURE', /no such handle/],
  ['CLOSE of a long handle', ({ client }) => client.ask(CLOSE, '\0\0\0\0\0'), 'FAILURE'],
  ['FSTAT of a handle beyond all', ({ client }) => client.ask(FSTAT, '\xff\xff\xff\xff'), 'FAILURE'],
  ['READDIR of a file', async ({ client, at }) => client.ask(READDIR, await client.open(at('file'))), 'FAILURE'],
  [
    'READ of a folder',
    async ({ client, at }) => client.ask(READ, handleOf(await client.ask(OPENDIR, at('folder'))), 0n, 9),
    'FAILURE',
  ],
  ['READLINK of a file', ({ client, at }) => client.ask(READLINK, at('file')), 'BAD_MESSAGE'],
  ['STAT of a long name', ({ client, at }) => client.ask(STAT, at('a'.repeat(300))), 'BAD_MESSAGE'],
  ['STAT of a long path', ({ client }) => client.ask(STAT, '/a'.repeat(100_000)), 'BAD_MESSAGE'],
  [
    'READ far away',
    async ({ client, at }) => client.ask(READ, await client.open(at('file')), 2n ** 63n, 9),
    'BAD_MESSAGE',
  ],
  ['SETSTAT of a size too large', ({ client, at }) => client.ask(SETSTAT, at('file'), 1, 2n ** 63n), 'BAD_MESSAGE'],
  [
    'FSETSTAT of the size of a folder',
    async ({ client, at }) => client.ask(FSETSTAT, handleOf(await client.ask(OPENDIR, at('folder'))), 1, 0n),
    'FAILURE',
  ],
  ['a request of another version', ({ client, at }) => client.ask(22, at('file')), 'OP_UNSUPPORTED'],
  ['an extension of nobody', ({ client }) => client.extended('x@example.org', 'x'), 'OP_UNSUPPORTED'],
  ['READ at the end', async ({ client, at }) => client.ask(READ, await client.open(at('file')), 8n, 9), 'EOF'],
  [
    'READDIR of an empty folder',
    async ({ client, at }) => client.ask(READDIR, handleOf(await client.ask(OPENDIR, at('empty')))),
    'EOF',
  ],
  [
    'READDIR of a folder that was removed',
    async ({ client, at }) => {
      await client.ask(MKDIR, at('removed'), 0);
      const handle = handleOf(await client.ask(OPENDIR, at('removed')));
      await client.ask(RMDIR, at('removed'));
      return client.ask(READDIR, handle);
    },
    'EOF',
  ],
];

test('the errors of requests have the codes of OpenSSH', async (t) => {
  const scene = await setUp(t);
  for (const [what, ask, status, message = /./] of STATUSES) {
    const answer = await ask(scene);
    t.is(answer.status, status, what);
    answer.number();
    t.regex(answer.text(), message, what);
  }
  t.deepEqual(fs.readdirSync(scene.at('')).sort(), ['empty', 'fifo', 'file', 'folder', 'link']);
});

test('files are opened as the flags say, read and written', async (t) => {
  const { client, at } = await setUp(t);
  const made = await client.open(at('new'), R | W | CREAT | EXCL, [4, 0o4640]);
  t.is((await client.ask(WRITE, made, 3n, 'there')).status, 'OK');
  t.is((await client.ask(WRITE, made, 0n, 'all')).status, 'OK');
  t.is(await whole(client, made), 'allthere');
  // Setuid is not for peers.
  t.is(fs.statSync(at('new')).mode, 0o100640);
  t.is((await client.ask(CLOSE, made)).status, 'OK');
  t.is((await client.ask(CLOSE, made)).status, 'FAILURE');
  const appended = await client.open(at('new'), W | APPEND);
  await client.ask(WRITE, appended, 0n, '!');
  t.is(fs.readFileSync(at('new'), 'utf8'), 'allthere!');
  t.is((await client.extended('fsync@openssh.com', appended)).status, 'OK');
  t.is(await whole(client, await client.open(at('link'))), 'contents');
  await client.open(at('link'), W | TRUNC);
  t.is(fs.readFileSync(at('file'), 'utf8'), '');
});

test('attributes are told and set', async (t) => {
  const { client, at } = await setUp(t);
  fs.utimesSync(at('file'), 1_000_000_000, 1_100_000_000);
  const { uid, gid } = fs.statSync(at('file'));
  const wanted = { size: 8, uid, gid, mode: 0o100644, accessed: 1_000_000_000, modified: 1_100_000_000 };
  t.deepEqual((await client.ask(STAT, at('link'))).attributes(), wanted);
  t.is((await client.ask(LSTAT, at('link'))).attributes().mode, 0o120777);
  const handle = await client.open(at('file'), R | W);
  t.deepEqual((await client.ask(FSTAT, handle)).attributes(), wanted);
  // All of them, of which setgid does not count.
  const all = [15, 3n, uid, gid, 0o2600, 4_000_000_000, 2_000_000_000] as const;
  t.is((await client.ask(SETSTAT, at('link'), ...all)).status, 'OK');
  const changed = { ...wanted, size: 3, mode: 0o100600, accessed: 4_000_000_000, modified: 2_000_000_000 };
  t.deepEqual((await client.ask(STAT, at('file'))).attributes(), changed);
  t.is((await client.ask(FSETSTAT, handle, 5, 5n, 0o644)).status, 'OK');
  t.is((await client.ask(FSETSTAT, handle, 2 ** 31, 2, 'a', 'b', 'c', 'd')).status, 'OK');
  const { size, mode } = (await client.ask(FSTAT, handle)).attributes();
  t.deepEqual([size, mode], [5, 0o100644]);
  const folder = handleOf(await client.ask(OPENDIR, at('folder')));
  t.is((await client.ask(FSETSTAT, folder, 4, 0o1700)).status, 'OK');
  t.is(fs.statSync(at('folder')).mode, 0o41700);
});

test('names are made, changed and removed', async (t) => {
  const { client, at } = await setUp(t);
  const done = async (answer: Promise<Answer>): Promise<boolean> => t.is((await answer).status, 'OK');
  await done(client.ask(MKDIR, at('made'), 4, 0o700));
  t.is(fs.statSync(at('made')).mode, 0o40700);
  await done(client.ask(RENAME, at('file'), at('made/file')));
  await done(client.ask(RENAME, at('folder'), at('made/folder')));
  t.is(fs.statSync(at('made/file')).nlink, 1);
  await done(client.extended('hardlink@openssh.com', at('made/file'), at('made/hard')));
  await done(client.extended('posix-rename@openssh.com', at('made/hard'), at('link')));
  await done(client.ask(SYMLINK, '../target', at('made/new link')));
  const link = await client.ask(READLINK, at('made/new link'));
  t.deepEqual([link.number(), link.text(), link.text(), link.number()], [1, '../target', '../target', 0]);
  await done(client.ask(REMOVE, at('made/folder/inner')));
  await done(client.ask(RMDIR, at('made/folder')));
  t.deepEqual(fs.readdirSync(at('made')).sort(), ['file', 'new link']);
  t.deepEqual(fs.readdirSync(at('')).sort(), ['empty', 'fifo', 'link', 'made']);
});

test('REALPATH resolves links, and paths begin in the home directory', async (t) => {
  const { client, at } = await setUp(t);
  const real = async (path: string): Promise<string> => {
    const answer = await client.ask(REALPATH, path);
    answer.number();
    return answer.text();
  };
  t.is(await real(at('folder/../link')), at('file'));
  t.is(await real(at('empty/new')), at('empty/new'));
  t.is(await real('.'), fs.realpathSync(process.env['HOME'] ?? ''));
  t.is(await real(''), await real('.'));
});

test('limits and file systems are described', async (t) => {
  const { client, at } = await setUp(t);
  const limits = await client.extended('limits@openssh.com');
  const wanted = [MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_HANDLES];
  t.deepEqual(
    wanted.map(() => Number(limits.long())),
    wanted,
  );
  const byPath = await client.extended('statvfs@openssh.com', at('file'));
  const byHandle = await client.extended('fstatvfs@openssh.com', await client.open(at('file')));
  const { bsize, blocks, files } = fs.statfsSync(at('file'));
  for (const answer of [byPath, byHandle]) {
    const numbers = Array.from({ length: 11 }, () => Number(answer.long()));
    t.deepEqual([numbers[0], numbers[1], numbers[2], numbers[5], numbers[10]], [bsize, bsize, blocks, files, 255]);
    t.is(answer.bytes.length, 88);
  }
});

test('names that are not UTF-8 are bytes', async (t) => {
  const { client, at } = await setUp(t);
  const name = 'caf\xe9 \xff\xfe';
  const path = at(`empty/${name}`);
  await client.ask(CLOSE, await client.open(path, W | CREAT));
  t.deepEqual(fs.readdirSync(at('empty'), 'latin1'), [name]);
  const { names, lines } = await client.list(at('empty'));
  t.deepEqual(names, [name]);
  t.regex(lines[0] ?? '', /^-rw-r--r-- +1 \d+ +\d+ +0 [A-Z][a-z]{2} [ \d]\d \d\d:\d\d caf\xe9 \xff\xfe$/);
  t.is((await client.ask(STAT, path)).status, 'ATTRS');
  t.true((await client.ask(REALPATH, path)).bytes.includes(Buffer.from(name, 'latin1')));
  t.is((await client.ask(SYMLINK, name, at('empty/l'))).status, 'OK');
  t.true((await client.ask(READLINK, at('empty/l'))).bytes.includes(Buffer.from(name, 'latin1')));
  t.is((await client.ask(STAT, at('empty/l'))).status, 'ATTRS');
  t.is((await client.ask(RENAME, path, at('empty/\xc3\xa4'))).status, 'OK');
  t.deepEqual(fs.readdirSync(at('empty')).sort(), ['l', 'ä']);
});

test('a large folder comes in many answers', async (t) => {
  const { client, at } = await setUp(t);
  const wanted = Array.from({ length: 1000 }, (_, index) => `${String(index).padStart(4, '0')}${'x'.repeat(200)}`);
  for (const name of wanted) fs.writeFileSync(at(`empty/${name}`), '');
  const { names, answers } = await client.list(at('empty'));
  t.deepEqual(names.sort(), wanted);
  t.is(answers, 16);
});

test('requests that do not wait for answers are carried out in their order', async (t) => {
  const { client, at } = await setUp(t);
  const bytes = randomBytes(3_000_000);
  const handle = await client.open(at('large'), R | W | CREAT);
  for (const step of [32_768, MAX_DATA_BYTES]) {
    const answers: Promise<Answer>[] = [];
    for (let offset = 0; offset < bytes.length; offset += step) {
      const part = bytes.subarray(offset, offset + step);
      answers.push(client.ask(WRITE, handle, BigInt(offset), part));
      answers.push(client.ask(READ, handle, BigInt(offset), part.length));
    }
    answers.push(client.ask(FSETSTAT, handle, 1, 0n));
    const read = await Promise.all(answers);
    const data = read.filter(({ kind }) => kind === SFTP_KIND.DATA).map((answer) => answer.bytes.subarray(4));
    t.true(Buffer.concat(data).equals(bytes));
    t.is(fs.statSync(at('large')).size, 0);
  }
  // scp of OpenSSH needs the order also of answers.
  fs.writeFileSync(at('large'), bytes);
  const offsets = Array.from({ length: 366 }, (_, index) => index * 8192);
  const parts = await Promise.all(
    offsets.map((offset) => client.ask(READ, handle, BigInt(offset), offset % 16_384 === 0 ? MAX_DATA_BYTES : 8192)),
  );
  t.true(
    parts.every((part, index) =>
      part.bytes.subarray(4, 4 + 8192).equals(bytes.subarray(index * 8192, (index + 1) * 8192)),
    ),
  );
  const ids = client.answered.slice(-offsets.length);
  t.deepEqual(
    ids,
    ids.slice().sort((a, b) => a - b),
  );
});

test('a stream has so many handles, which end with it', async (t) => {
  const { client, at } = await setUp(t);
  const handles: string[] = [];
  for (let count = 0; count < MAX_HANDLES; count += 1) handles.push(await client.open(at('file')));
  t.is(new Set(handles).size, MAX_HANDLES);
  t.is((await client.ask(OPENDIR, at('folder'))).status, 'FAILURE');
  // They are counted before anything is emptied or made.
  for (const name of ['file', 'new'])
    t.is((await client.ask(OPEN, at(name), W | CREAT | TRUNC, ...NO_ATTRIBUTES)).status, 'FAILURE');
  t.is(fs.readFileSync(at('file'), 'utf8'), 'contents');
  t.false(fs.existsSync(at('new')));
  await client.ask(CLOSE, handles[7] ?? '');
  t.true(handles.includes(await client.open(at('file'))));
  client.stream.end();
  t.is(await client.ended, null);
});
