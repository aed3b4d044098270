/** Clients that break the rules of SFTP, or want more than they may. */
import fs from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MAX_PACKET_BYTES, MAX_SFTP_STREAMS, SFTP_KIND, SPARE_BYTES } from '../../lib/services/sftp/sftp-numbers.js';
import { Random } from '../../tools/bench/soak/random.js';
import { farSide, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  type Answer,
  type Field,
  number32,
  packet,
  rawPacket,
  type SftpClient,
  startSftp,
} from '../helpers/sftp-client.js';
import { eventually, within } from '../helpers/time.js';

const test = farSide.testWith();

const { OPEN, READ, LSTAT, SETSTAT, OPENDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK } =
  SFTP_KIND;

/** A service confined to `in`, which is beside `out`, with links that lead there. */
async function setUp(t: ExecutionContext) {
  const folder = fs.realpathSync(temporaryFolder(t));
  const at = (name: string): string => join(folder, name);
  makeTree(folder, { in: { a: 'a', sub: { b: 'b' } }, out: { secret: 'secret' }, inside: { x: 'x' } });
  fs.symlinkSync(at('out'), at('in/folder'));
  fs.symlinkSync('../out/secret', at('in/file'));
  fs.symlinkSync('../out/made', at('in/dangling'));
  fs.symlinkSync('sub/b', at('in/good'));
  fs.symlinkSync('in', at('way in'));
  const { connect, ...others } = await startSftp(t, at('in'));
  return { at, connect, client: await connect(), ...others };
}

/** Paths that lead out, also by their last name; and those of which only the name is inside. */
const OUTSIDE = [
  'out/secret',
  'out/missing',
  'out',
  'inside/x',
  '',
  'in/../out/secret',
  'in/folder/secret',
  'in/folder/new',
];
const LEADING_OUT = ['in/folder', 'in/file', 'in/dangling'];

/** The requests with a path, by whether they follow a link. */
const FOLLOWING: readonly ((path: string) => readonly [number, ...Field[]])[] = [
  (path) => [OPEN, path, 1, 0],
  (path) => [OPEN, path, 2 | 8 | 16, 0],
  (path) => [STAT, path],
  (path) => [SETSTAT, path, 4, 0o777],
  (path) => [SETSTAT, path, 1, 0n],
  (path) => [OPENDIR, path],
  (path) => [REALPATH, path],
  (path) => [SFTP_KIND.EXTENDED, 'statvfs@openssh.com', path],
];
const NAMING: readonly ((path: string, inside: string) => readonly [number, ...Field[]])[] = [
  (path) => [LSTAT, path],
  (path) => [READLINK, path],
  (path) => [REMOVE, path],
  (path) => [MKDIR, path, 0],
  (path) => [RMDIR, path],
  (path, inside) => [RENAME, path, inside],
  (path, inside) => [RENAME, inside, path],
  (path) => [SYMLINK, 'a', path],
  (path, inside) => [SFTP_KIND.EXTENDED, 'posix-rename@openssh.com', path, inside],
  (path, inside) => [SFTP_KIND.EXTENDED, 'posix-rename@openssh.com', inside, path],
  (path, inside) => [SFTP_KIND.EXTENDED, 'hardlink@openssh.com', path, inside],
  (path, inside) => [SFTP_KIND.EXTENDED, 'hardlink@openssh.com', inside, path],
];

test('nothing outside of the folder is seen or changed', async (t) => {
  const { at, client } = await setUp(t);
  const shape = (): string[] =>
    fs.readdirSync(at(''), { recursive: true, encoding: 'utf8' }).map((name) => {
      const { mode, size, ino } = fs.lstatSync(at(name));
      return `${name} ${mode} ${size} ${ino}`;
    });
  const before = shape();
  const cases = [
    ...[...OUTSIDE, ...LEADING_OUT].flatMap((name) => FOLLOWING.map((ask) => ask(at(name)))),
    ...OUTSIDE.flatMap((name) => NAMING.map((ask) => ask(at(name), at('in/a')))),
    [OPEN, '../out/secret', 1, 0],
    [RMDIR, at('in')],
    [RENAME, at('in'), at('in/sub/x')],
    // Targets that lead out, or would if the link were moved up.
    ...['../out', '/etc', at('in/a'), 'x/../../out', '..', ''].map((target) => [SYMLINK, target, at('in/new')]),
  ] as (readonly [number, ...Field[]])[];
  for (const [kind, ...fields] of cases)
    t.is((await client.ask(kind, ...fields)).status, 'PERMISSION_DENIED', `${kind} ${fields.join(' ')}`);
  t.deepEqual(shape(), before);
});

/** Links in the folder, paths that lead nowhere inside, with the error of the system, and those that lead out. */
const LINKS = {
  lost: 'nowhere',
  chain: 'lost',
  up: 'sub/../lost',
  back: '../out/../in/lost',
  through: 'a/x',
  loop: 'loop',
  'loop out': '../out/loop',
  below: '../out/secret/x',
  unknown: '../out/none/x',
  low: 'folder/none',
};
const NOWHERE = {
  ENOTDIR: ['a/x', 'a/x/y', 'good/x', 'through'],
  ENOENT: ['none', 'none/x', 'lost', 'lost/x', 'chain', 'up', 'back/x'],
  ELOOP: ['loop', 'loop/x/y'],
  ENAMETOOLONG: ['x'.repeat(300)],
  'path not allowed': ['loop out', 'loop out/x', 'below', 'unknown', 'low', 'low/x', 'folder/none/x'],
};

test('what leads nowhere inside has the error of the system', async (t) => {
  const { at, client } = await setUp(t);
  for (const [name, target] of Object.entries(LINKS)) fs.symlinkSync(target, at(`in/${name}`));
  fs.symlinkSync('../in/loop out', at('out/loop'));
  const before = fs.readdirSync(at('in'));
  for (const [error, names] of Object.entries(NOWHERE))
    for (const name of names)
      for (const [kind, ...fields] of FOLLOWING.map((ask) => ask(at(`in/${name}`)))) {
        // These make a new file, or give its name.
        if (name === 'none' && (fields[1] === 26 || kind === REALPATH)) continue;
        const answer = await client.ask(kind, ...fields);
        answer.number();
        t.true(answer.text().includes(error), `${kind} ${name}`);
      }
  for (const [name, error] of [
    ['a/x', 'ENOTDIR'],
    ['lost/x', 'ENOENT'],
    ['loop/x', 'ELOOP'],
  ] as const)
    for (const [kind, ...fields] of NAMING.map((ask) => ask(at(`in/${name}`), at('in/sub/b')))) {
      const answer = await client.ask(kind, ...fields);
      answer.number();
      t.true(answer.text().includes(error), `${kind} ${name}`);
    }
  t.deepEqual(fs.readdirSync(at('in')), before);
});

test('what is inside can be used, by its links, by relative paths, and by a link that leads in', async (t) => {
  const { at, client } = await setUp(t);
  const real = async (path: string): Promise<string> => {
    const answer = await client.ask(REALPATH, path);
    answer.number();
    return answer.text();
  };
  t.is(await real('.'), at('in'));
  t.is(await real(at('way in/good')), at('in/sub/b'));
  t.is(await real('new'), at('in/new'));
  t.is((await client.ask(REALPATH, 'no/new')).status, 'NO_SUCH_FILE');
  t.is((await client.ask(READ, await client.open('good'), 0n, 9)).text(), 'b');
  t.deepEqual((await client.list('')).names.sort(), ['a', 'dangling', 'file', 'folder', 'good', 'sub']);
  for (const path of [at('in'), at('in/'), '.', ''])
    t.is((await client.ask(LSTAT, path)).attributes().mode & 0o40000, 0o40000);
  const asks: Promise<Answer>[] = [
    client.ask(SYMLINK, 'sub/b', 'new link'),
    client.ask(MKDIR, 'x\xff', 0),
    client.ask(RENAME, 'a', 'x\xff/a'),
    client.ask(SETSTAT, 'x\xff/a', 4, 0o600),
    client.extended('hardlink@openssh.com', 'x\xff/a', 'hard'),
    client.ask(REMOVE, 'folder'),
    client.ask(RENAME, 'file', 'sub/file'),
  ];
  t.deepEqual(
    (await Promise.all(asks)).map(({ status }) => status),
    asks.map(() => 'OK'),
  );
  t.is(fs.statSync(at('in/hard')).mode, 0o100600);
  t.is(fs.readFileSync(at('out/secret'), 'utf8'), 'secret');
});

const START = packet(SFTP_KIND.INIT, 3);
const path = (length: number, text: string): Buffer =>
  Buffer.concat([number32(1), number32(length), Buffer.from(text)]);

const MALFORMED: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['a packet without a kind', Buffer.concat([START, Buffer.alloc(4)])],
  ['a packet too long', Buffer.concat([START, number32(MAX_PACKET_BYTES + SPARE_BYTES + 1)])],
  ['a packet of 4 GiB', Buffer.concat([START, Buffer.alloc(9, 0xff)])],
  ['a request before INIT', packet(STAT, 1, '/')],
  ['an INIT without a version', rawPacket(SFTP_KIND.INIT, Buffer.alloc(3))],
  ['a request without an id', Buffer.concat([START, rawPacket(STAT, Buffer.alloc(3))])],
  ['a path that ends late', Buffer.concat([START, rawPacket(STAT, path(5, '/tmp'))])],
  ['a path of 4 GiB', Buffer.concat([START, rawPacket(REMOVE, path(0xffffffff, '/tmp'))])],
  ['a path with NUL', Buffer.concat([START, packet(STAT, 1, '/tmp\0x')])],
  ['a READ without a length', Buffer.concat([START, packet(READ, 1, '\0\0\0\0', 0n)])],
  ['attributes that are missing', Buffer.concat([START, packet(SETSTAT, 1, '/', 15, 0n)])],
  ['billions of attributes', Buffer.concat([START, packet(SETSTAT, 1, '/', 2 ** 31, 0xffffffff)])],
  [
    'attributes of nobody',
    Buffer.concat([START, packet(SETSTAT, 1, '/', 2 ** 31, 257, ...Array.from({ length: 514 }, () => ''))]),
  ],
  ['an extension without a name', Buffer.concat([START, packet(SFTP_KIND.EXTENDED, 1)])],
];

test('a malformed packet ends its stream', async (t) => {
  const { connect, events, client } = await setUp(t);
  for (const [what, bytes] of MALFORMED) {
    const broken = await connect(false);
    // In pieces of one byte and of all.
    for (const byte of bytes.subarray(0, 12)) broken.stream.write(Buffer.of(byte));
    broken.stream.write(bytes.subarray(12));
    t.is(await within(30_000, what, broken.ended), 'protocol-error', what);
  }
  const cut = await connect();
  cut.stream.end(packet(STAT, 1, '/').subarray(0, 9));
  t.is(await within(30_000, 'the end', cut.ended), 'protocol-error');
  t.is((await client.ask(STAT, '.')).status, 'ATTRS');
  if (farSide.start !== null) return;
  const codes = events
    .filter(({ event }) => event === 'sftp-ended')
    .map(({ level, fields }) => [level, fields['code']]);
  t.deepEqual(
    codes,
    [...MALFORMED, null].map(() => ['warn', 'protocol-error']),
  );
});

const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);

test(`any bytes are answered or end the stream (seed ${SEED})`, async (t) => {
  const { at, connect, client } = await setUp(t);
  const random = new Random(SEED);
  const below = (count: number): number => Math.floor(random.fraction() * count);
  const texts = [
    '',
    'a',
    'sub',
    'sub/b',
    '..',
    '/',
    'folder/secret',
    'x\xff',
    '\0\0\0\0',
    '\0\0\0\x01',
    'hardlink@openssh.com',
  ];
  const field = (): Field =>
    [() => below(64), () => BigInt(below(9)), () => texts[below(texts.length)] ?? '', () => 0xffffffff][below(4)]?.() ??
    0;
  for (let round = 0; round < 150; round += 1) {
    const hostile = await connect();
    for (let count = 0; count < 20; count += 1) {
      const kind = below(20) === 0 ? below(256) : 3 + below(18);
      const bytes = packet(kind, count, ...Array.from({ length: below(5) }, field));
      if (below(10) === 0) bytes[below(bytes.length)] = below(256);
      hostile.stream.write(bytes);
    }
    hostile.stream.end();
    t.true([null, 'protocol-error'].includes(await within(30_000, 'the end', hostile.ended)));
  }
  t.is((await client.ask(REALPATH, '.')).status, 'NAME');
  t.is(fs.readFileSync(at('out/secret'), 'utf8'), 'secret');
  t.deepEqual(fs.readdirSync(at('out')), ['secret']);
});

test('requests wait while their answers are not read', async (t) => {
  const { connect, client } = await setUp(t);
  const slow = await connect();
  slow.stream.pause();
  const some = Buffer.concat(Array.from({ length: 1000 }, () => packet(LSTAT, 7, 'no')));
  let writtenCount = 0;
  const PIECES = 300;
  for (let count = 0; count < PIECES; count += 1) slow.stream.write(some, () => (writtenCount += 1));
  for (let count = 0; count < 300; count += 1) t.is((await client.ask(STAT, 'a')).status, 'ATTRS');
  t.true(writtenCount < PIECES, `${writtenCount}`);
  slow.stream.destroy();
});

test('a channel has so many streams', async (t) => {
  const { connect } = await setUp(t);
  const others: SftpClient[] = [];
  while (others.length < MAX_SFTP_STREAMS - 1) others.push(await connect());
  const ended = connect(false).then(
    (beyond) => beyond.ended,
    (error: unknown) => (error as { code: string }).code,
  );
  t.is(await within(30_000, 'a refusal', ended), 'too-many-streams');
  others[0]?.stream.end();
  await others[0]?.ended;
  const again = await eventually(() => connect().catch(() => null));
  t.is((await again.ask(STAT, 'a')).status, 'ATTRS');
});
