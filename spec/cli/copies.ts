/** `vproxy copy` with the real program at the far side, vproxy or vproxy-guest. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { describeTree, farSide, makeTree } from '../helpers/copy-pair.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { peakBytes, resetPeak } from '../helpers/measures.js';
import { processPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { type PipedCommand, runPiped } from '../helpers/vproxy-process.js';

const test = farSide.program === null ? serialTestWith() : farSide.testWith();

/** A host with a control socket, a guest with these arguments, and an empty folder. */
async function setUp(t: ExecutionContext, ...words: readonly string[]) {
  const folder = temporaryFolder(t);
  const { program } = farSide;
  const control = program === null ? 'both' : 'host';
  const { host, guest, sockets } = await processPair(t, { control, guest: words, guestOptions: program ?? {} });
  const run = (...args: readonly string[]): PipedCommand =>
    runPiped(t, ['copy', ...args], { VPROXY_SOCKET: sockets[0] });
  const copy = async (...args: readonly string[]) => {
    const command = run(...args);
    command.child.stdin.end();
    const [output, { code, stderr }] = await Promise.all([command.output, command.ended]);
    return { code, stderr, stdout: output.toString() };
  };
  return { guest, host, run, copy, path: (name: string) => join(folder, name) };
}

const SILENT = { code: 0, stderr: '', stdout: '' };

const refused = (why: string) => ({ code: 77, stdout: '', stderr: `vproxy: error: ${why}\n` });

/** A sparse file. */
function makeSparse(path: string, bytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, bytes);
}

test('an argument that is not UTF-8 is refused: Node knows it by another name', (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'a\ufffd'), 'another');
  const script = `exec "$0" "$1" copy "$(printf '${folder}/a\\377')" :/nowhere`;
  const program = [process.execPath, join(PROJECT_ROOT, 'dist/program/vproxy.cjs')];
  const { status, stderr } = spawnSync('sh', ['-c', script, ...program], { encoding: 'utf8' });
  t.deepEqual([status, stderr], [64, `vproxy: error: "${folder}/a\\xff": not UTF-8\n`]);
});

test('files and folders are copied both ways, and --json reports what was copied', async (t) => {
  const { copy, path, guest } = await setUp(t, '--allow-copy');
  makeTree(path('from'), { 'a.txt': 'a', app: { x: randomBytes(100_000), l: '->x', empty: {} } });
  mkdirSync(path('there'));
  mkdirSync(path('back'));
  t.deepEqual(await copy(path('from/a.txt'), path('from/app'), `default:${path('there')}`), SILENT);
  t.deepEqual(await copy(`default:${path('there/a.txt')}`, `default:${path('there/app')}`, `${path('back')}/`), SILENT);
  t.deepEqual(describeTree(path('back')).slice(1), describeTree(path('from')).slice(1));
  t.true(guest.lines.some((line) => /copy to .*there: 2 files, 100001 bytes/.test(line)));
  const { code, stderr, stdout } = await copy('--json', path('from/app'), `:${path('again')}`);
  t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  const { durationMs, ...facts } = JSON.parse(stdout) as Record<string, unknown>;
  t.is(typeof durationMs, 'number');
  t.deepEqual(facts as object, {
    ...{ files: 1, folders: 2, links: 1, bytes: 100_000, sentBytes: 100_000, resumedBytes: 0 },
    ...{ targets: [path('again')], warnings: [] },
  });
});

test('--links=keep copies a link that leads out of the tree, which ends the copy otherwise', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  makeTree(path(''), { etc: { l: '->/nowhere' } });
  const words = [path('etc'), `:${path('copied')}`];
  const refusal = `vproxy: error: ${path('etc/l')}: link points outside the copied tree: /nowhere; --links=keep copies links as they are\n`;
  t.deepEqual(await copy(...words), { code: 73, stdout: '', stderr: refusal });
  t.deepEqual(await copy('--links=keep', ...words), SILENT);
  t.deepEqual(describeTree(path('copied')), describeTree(path('etc')));
  const { code, stderr } = await copy('--links', 'all', ...words);
  t.deepEqual([code, stderr], [64, 'vproxy: error: --links: "all" is not valid; expected keep or refuse\n']);
});

test('--resume --json reports the comparison of each side, and what was copied in the last line', async (t) => {
  const { copy, path } = await setUp(t, '--allow-copy');
  const bytes = 40_000_000;
  writeFileSync(path('file'), Buffer.alloc(bytes + 5, 'content '));
  for (const [from, to, sides] of [
    [path('file'), `:${path('there')}`, ['there', 'here']],
    [`:${path('file')}`, path('back'), ['here', 'there']],
  ] as const) {
    writeFileSync(path(`.${basename(to)}.vproxy-part`), readFileSync(path('file')).subarray(0, bytes));
    const startedAtMs = performance.now();
    const { code, stdout } = await copy('--resume', '--json', from, to);
    const seconds = (performance.now() - startedAtMs) / 1000;
    t.is(code, 0);
    const lines = stdout.trimEnd().split('\n');
    const said = lines.map((line) => JSON.parse(line) as { comparing?: { bytes: number } });
    t.like(said.pop(), { files: 1, sentBytes: 5, resumedBytes: bytes });
    // On a slow machine there are lines in between, one per second.
    t.true(said.length <= 4 + seconds);
    t.deepEqual(
      said.filter(({ comparing }) => comparing?.bytes === 0 || comparing?.bytes === bytes) as object[],
      sides.flatMap((side) => [0, bytes].map((read) => ({ comparing: { bytes: read, totalBytes: bytes, side } }))),
    );
  }
});

test('the error for a side that allows nothing names the remedy', async (t) => {
  const { copy, path } = await setUp(t);
  writeFileSync(path('a'), 'a');
  const no = refused('the other side does not allow copies; run vproxy with --allow-copy there');
  t.deepEqual(await copy(path('a'), ':/b'), no);
  t.deepEqual(await copy(':/b', path('')), no);
});

test('an interrupt, and a killed proxy, keep what has arrived, and say how to continue', async (t) => {
  const { run, copy, path, guest } = await setUp(t, '--allow-copy');
  makeSparse(path('big'), 20_000_000_000);
  const parts = { there: path('.there.vproxy-part'), here: path('.here.vproxy-part') };
  const arrives = (part: string) => eventually(() => statSync(part).size > 10_000_000);

  const interrupted = run(path('big'), `:${path('there')}`);
  await arrives(parts.there);
  interrupted.child.kill('SIGINT');
  const kept = 'vproxy: warning: copy interrupted; what has arrived is kept, continue with --resume\n';
  t.deepEqual(await interrupted.ended, { code: 130, stderr: kept });
  await guest.waitForLine(/copy to .*there: connection lost/);
  const size = statSync(parts.there).size;
  t.true(size > 10_000_000);
  makeSparse(path('small'), size + 5);
  const { stderr: resumed } = await copy('--resume', path('small'), `:${path('there')}`);
  t.regex(resumed, /already existed\n$/);

  const cut = run(`:${path('big')}`, path('here'));
  await arrives(parts.here);
  guest.kill('SIGKILL');
  const { code, stderr } = await cut.ended;
  t.true(code !== 0 && code !== null);
  t.regex(stderr, /connection lost .*continue with --resume/);
  t.true(statSync(parts.here).size > 10_000_000);
});

test('300 MB are copied in bounded memory', async (t) => {
  const { copy, path, guest, host } = await setUp(t, '--allow-copy');
  const block = randomBytes(1_000_000);
  for (let count = 0; count < 300; count++) writeFileSync(path('big'), block, { flag: 'a' });
  for (const process of [guest, host]) resetPeak(process.pid);
  t.is((await copy(path('big'), `:${path('there')}`)).code, 0);
  t.is((await copy(`:${path('there')}`, path('back'))).code, 0);
  for (const process of [guest, host]) t.true(peakBytes(process.pid) < 200e6, String(peakBytes(process.pid)));
  t.true(readFileSync(path('back')).equals(readFileSync(path('big'))));
});
