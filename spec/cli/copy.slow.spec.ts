/** `vproxy copy` over real processes. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { basename, join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { describeTree, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { peakBytes, resetPeak } from '../helpers/measures.js';
import { processPair } from '../helpers/process-pair.js';
import { eventually } from '../helpers/time.js';
import { type PipedCommand, runPiped } from '../helpers/vproxy-process.js';

/** A host with a control socket, a guest with these arguments, and an empty folder. */
async function setUp(t: ExecutionContext, ...guest: readonly string[]) {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'control.sock');
  const pair = await processPair(t, { host: ['--control', socket], guest });
  await pair.host.waitForLine(/taking control requests/);
  const run = (...args: readonly string[]): PipedCommand => runPiped(t, ['copy', ...args], { VPROXY_SOCKET: socket });
  const copy = async (...args: readonly string[]) => {
    const command = run(...args);
    command.child.stdin.end();
    const [output, { code, stderr }] = await Promise.all([command.output, command.ended]);
    return { code, stderr, stdout: output.toString() };
  };
  return { guest: pair.guest, host: pair.host, run, copy, path: (name: string) => join(folder, name) };
}

test.serial('files and folders go to the other side and come back', async (t) => {
  const { copy, path, guest } = await setUp(t, '--allow-copy');
  makeTree(path('from'), { 'a.txt': 'a', app: { x: randomBytes(100_000), l: '->x', empty: {} } });
  mkdirSync(path('there'));
  mkdirSync(path('back'));
  const silent = { code: 0, stderr: '', stdout: '' };
  t.deepEqual(await copy(path('from/a.txt'), path('from/app'), `default:${path('there')}`), silent);
  t.deepEqual(await copy(`default:${path('there/a.txt')}`, `default:${path('there/app')}`, `${path('back')}/`), silent);
  t.deepEqual(describeTree(path('back')).slice(1), describeTree(path('from')).slice(1));
  t.true(guest.lines.some((line) => /copy to .*there: 2 files, 100001 bytes/.test(line)));
});

test.serial('--json says what was copied', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  makeTree(path('from'), { app: { x: 'xyz', l: '->x', sub: {} } });
  const { code, stderr, stdout } = await copy('--json', path('from/app'), `:${path('there')}`);
  t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  const { durationMs, ...facts } = JSON.parse(stdout) as Record<string, unknown>;
  t.is(typeof durationMs, 'number');
  t.deepEqual(facts as object, {
    ...{ files: 1, folders: 2, links: 1, bytes: 3, sentBytes: 3, resumedBytes: 0 },
    ...{ targets: [path('there')], warnings: [] },
  });
});

test.serial('--resume goes on with what is there, and says what that has saved', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  makeTree(path('from'), { file: randomBytes(3_000_000) });
  writeFileSync(path('.there.vproxy-part'), readFileSync(path('from/file')).subarray(0, 2_000_000));
  const { code, stderr } = await copy('--resume', path('from/file'), `:${path('there')}`);
  t.is(code, 0);
  t.regex(stderr, /^1 file, 3\.0 MB in .*; 2\.0 MB of that were there already\n$/);
  t.deepEqual(readFileSync(path('there')), readFileSync(path('from/file')));
});

test.serial('--resume --json says how far each side compares, and what was copied in the last line', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  const bytes = 40_000_000;
  writeFileSync(path('file'), Buffer.alloc(bytes + 5, 'content '));
  const lines = async (from: string, to: string): Promise<unknown[]> => {
    const { code, stdout } = await copy('--resume', '--json', from, to);
    t.is(code, 0);
    return stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  };
  // On a slow machine there are lines in between, one in a second.
  const ends = (all: readonly unknown[]): unknown[] =>
    all.filter((line) => {
      const read = (line as { comparing?: { bytes: number } }).comparing?.bytes;
      return read === undefined || read === 0 || read === bytes;
    });
  for (const [from, to, sides] of [
    [path('file'), `:${path('there')}`, ['there', 'here']],
    [`:${path('file')}`, path('back'), ['here', 'there']],
  ] as const) {
    writeFileSync(path(`.${basename(to)}.vproxy-part`), readFileSync(path('file')).subarray(0, bytes));
    const found = ends(await lines(from, to));
    const outcome = found.pop();
    t.like(outcome, { files: 1, sentBytes: 5, resumedBytes: bytes });
    t.deepEqual(
      found,
      sides.flatMap((side) => [0, bytes].map((read) => ({ comparing: { bytes: read, totalBytes: bytes, side } }))),
    );
  }
});

test.serial('a side that allows nothing is told of, and what it has to say', async (t) => {
  const { copy, path } = await setUp(t);
  writeFileSync(path('a'), 'a');
  for (const args of [
    [path('a'), ':/b'],
    [':/b', path('')],
  ]) {
    t.deepEqual(await copy(...args), {
      code: 77,
      stdout: '',
      stderr: 'vproxy: error: the other side does not let files be copied; vproxy has to run with --allow-copy there\n',
    });
  }
});

test.serial('a folder that bounds is a bound', async (t) => {
  const folder = temporaryFolder(t);
  const { copy, path } = await setUp(t, `--allow-copy=${folder}`);
  writeFileSync(path('a'), 'a');
  t.is((await copy(path('a'), `:${folder}`)).code, 0);
  const refused = {
    code: 77,
    stdout: '',
    stderr: 'vproxy: error: the other side says: this path is not allowed\n',
  };
  t.deepEqual(await copy(path('a'), `:${path('b')}`), refused);
  t.deepEqual(await copy(`:${path('a')}`, path('b')), refused);
  t.deepEqual(readdirSync(folder), ['a']);
});

test.serial('a path without a slash in front begins in the home of the user there', async (t) => {
  const { copy, path, guest } = await setUp(t, '--allow-copy');
  writeFileSync(path('a'), 'a');
  // Nothing is left in the home of whoever runs this.
  const there = relative(userInfo().homedir, path('there'));
  t.deepEqual(await copy(path('a'), `default:${there}`), { code: 0, stderr: '', stdout: '' });
  t.is(readFileSync(path('there'), 'utf8'), 'a');
  t.deepEqual(await copy(`:~/${there}`, path('back')), { code: 0, stderr: '', stdout: '' });
  t.is(readFileSync(path('back'), 'utf8'), 'a');
  t.true(guest.lines.some((line) => line.includes(`copy to ${userInfo().homedir}/${there}: 1 files`)));
});

test.serial('a home that is outside of the folder that bounds is refused, and said', async (t) => {
  const folder = temporaryFolder(t);
  const { copy, path } = await setUp(t, `--allow-copy=${folder}`);
  writeFileSync(path('a'), 'a');
  const why = 'a path without a slash in front begins in the home of the user there';
  const refused = {
    code: 77,
    stdout: '',
    stderr: `vproxy: error: the other side says: this path is not allowed; ${why}\n`,
  };
  for (const to of ['default:', ':a', ':~', ':~root/a', ':~nobody-of-that-name/a'])
    t.deepEqual(await copy(path('a'), to), refused);
  t.deepEqual(await copy(':a', path('b')), refused);
});

test.serial('an interrupt keeps what has come, and says so', async (t) => {
  const { run, copy, path, guest } = await setUp(t, '--allow-copy');
  const fd = openSync(path('big'), 'w');
  ftruncateSync(fd, 20_000_000_000);
  closeSync(fd);
  const command = run(path('big'), `:${path('there')}`);
  await eventually(() => statSync(path('.there.vproxy-part')).size > 10_000_000);
  command.child.kill('SIGINT');
  const { code, stderr } = await command.ended;
  t.is(code, 130);
  t.is(stderr, 'vproxy: warning: the copy was broken off; what has come is kept, and --resume goes on with it\n');
  await guest.waitForLine(/copy to .*there: the connection was lost/);
  t.true(statSync(path('.there.vproxy-part')).size > 10_000_000);
  writeFileSync(path('big'), Buffer.alloc(statSync(path('.there.vproxy-part')).size + 5));
  const { stderr: resumed } = await copy('--resume', path('big'), `:${path('there')}`);
  t.regex(resumed, /were there already\n$/);
});

test.serial('a proxy that is killed in the middle is told of, and the copy can go on', async (t) => {
  const { run, path, guest } = await setUp(t, '--allow-copy');
  const fd = openSync(path('big'), 'w');
  ftruncateSync(fd, 20_000_000_000);
  closeSync(fd);
  const command = run(`:${path('big')}`, path('here'));
  await eventually(() => statSync(path('.here.vproxy-part')).size > 10_000_000);
  guest.kill('SIGKILL');
  const { code, stderr } = await command.ended;
  t.true(code !== 0 && code !== null);
  t.regex(stderr, /the connection was lost .*--resume goes on with it/);
  t.true(readdirSync(path('')).includes('.here.vproxy-part'));
});

test.serial('300 MB go through in bounded memory', async (t) => {
  const { copy, path, guest, host } = await setUp(t, '--allow-copy');
  const block = randomBytes(1_000_000);
  const fd = openSync(path('big'), 'w');
  for (let count = 0; count < 300; count++) writeFileSync(fd, block);
  closeSync(fd);
  for (const process of [guest, host]) resetPeak(process.pid);
  t.is((await copy(path('big'), `:${path('there')}`)).code, 0);
  t.is((await copy(`:${path('there')}`, path('back'))).code, 0);
  for (const process of [guest, host]) t.true(peakBytes(process.pid) < 200e6, String(peakBytes(process.pid)));
  t.true(readFileSync(path('back')).equals(readFileSync(path('big'))));
});

test.serial('10,000 small files arrive', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  for (let folder = 0; folder < 10; folder++) {
    mkdirSync(path(`from/${folder}`), { recursive: true });
    for (let file = 0; file < 1000; file++)
      writeFileSync(path(`from/${folder}/${file}`), `${folder} ${file}`.repeat(100));
  }
  t.is((await copy(path('from'), `:${path('there')}`)).code, 0);
  t.deepEqual(describeTree(path('there')), describeTree(path('from')));
});
