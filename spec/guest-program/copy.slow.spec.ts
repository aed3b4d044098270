/** Copies with vproxy-guest at the far side: the specs of vproxy's own service, and what a real system may do to it. */
import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { COPY_KIND, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { type CopyFiles, SYSTEM_FILES } from '../../lib/services/copy/system-files.js';
import { Random } from '../../tools/bench/soak/random.js';
import { copyScene, describeTree, makeTree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { residentBytes } from '../helpers/measures.js';
import { processPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runPiped } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest } from './build.js';
import { startCopies } from './copy-far-side.js';
import '../copy/copies.js';
import '../copy/hostile.js';
import '../copy/obstacles.js';
import '../copy/parts.js';
import '../copy/resume.js';
import '../copy/root.js';
import '../cli/copies.js';

const withGo = serialTestWith('go');

buildGuest();

/** A pair of real programs, and `vproxy copy` at the host. */
async function programs(t: ExecutionContext, launcher: readonly string[] = []) {
  const guestOptions = { ...AS_GUEST, launcher };
  const pair = await processPair(t, { control: 'host', guest: ['--allow-copy'], guestOptions });
  const run = (...words: readonly string[]) => runPiped(t, ['copy', ...words], { VPROXY_SOCKET: pair.sockets[0] });
  return { pair, run };
}

const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);
const KILLS = 4;

withGo(`killed ${KILLS} times at random, either side resumes, and every byte is right (seed ${SEED})`, async (t) => {
  t.timeout(300_000);
  const random = new Random(SEED);
  const { pair, run } = await programs(t);
  const folder = temporaryFolder(t);
  const small = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`s${index}`, `contents ${index}`]));
  makeTree(folder, {
    app: { small, large: randomBytes(30_000_000), z: { last: randomBytes(5_000_000) }, l: '->small/s1' },
  });
  const wanted = describeTree(join(folder, 'app'));
  for (let kill = 0; kill < KILLS; kill += 1) {
    const target = join(folder, `to${kill}`);
    const isPut = random.fraction() < 0.5;
    const [from, to] = isPut ? [join(folder, 'app'), `:${target}`] : [`:${join(folder, 'app')}`, target];
    const cut = run('--resume', from, to);
    await delay(100 + 500 * random.fraction());
    const isGuest = random.fraction() < 0.5;
    const seen = { host: pair.host.lines.length, guest: pair.guest.lines.length };
    const [killed, survivor] = isGuest ? (['guest', 'host'] as const) : (['host', 'guest'] as const);
    pair[killed].kill('SIGKILL');
    await pair[killed].exited;
    await cut.ended;
    if (isGuest) pair.startGuest();
    else pair.startHost();
    await pair.established({ [survivor]: seen[survivor] });
    await pair.controlled();
    const { code, stderr } = await run('--resume', from, to).ended;
    t.is(code, 0, stderr);
    t.deepEqual(describeTree(target), wanted, `${kill}: ${killed} killed, ${isPut ? 'put' : 'get'}`);
    rmSync(target, { recursive: true });
    t.deepEqual(readdirSync(folder), ['app']);
  }
});

const SMALL_DISK = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'];

serialTestWith('go', 'root')('a disk that is full leaves nothing behind', async (t) => {
  const folder = temporaryFolder(t);
  makeTree(folder, { disk: {}, app: { a: 'a', large: randomBytes(3_000_000) } });
  const { run } = await programs(t, [...SMALL_DISK, join(folder, 'disk')]);
  const { code, stderr } = await run(join(folder, 'app'), `:${join(folder, 'disk')}`).ended;
  const full = `peer: ${join(folder, 'disk/app/large')}: no space left on device (ENOSPC)`;
  t.deepEqual([code, stderr], [74, `vproxy: error: ${full}\n`]);
  t.is((await run(`:${join(folder, 'disk')}`, join(folder, 'back')).ended).code, 0);
  t.deepEqual(readdirSync(join(folder, 'back')), []);
});

serialTestWith('go', 'strace')('a file for which there is no room when it is closed fails the copy', async (t) => {
  const folder = temporaryFolder(t);
  makeTree(folder, { to: {}, file: 'contents' });
  const part = join(folder, 'to/.file.vproxy-part');
  writeFileSync(part, '');
  const full = ['strace', '-D', '-f', '-o', '/dev/null', '-P', part, '-e', 'inject=close:error=ENOSPC'];
  const { run } = await programs(t, full);
  const { code, stderr } = await run(join(folder, 'file'), `:${join(folder, 'to')}`).ended;
  const why = `peer: ${join(folder, 'to/file')}: no space left on device (ENOSPC)`;
  t.deepEqual([code, stderr], [74, `vproxy: error: ${why}\n`]);
  t.deepEqual(readdirSync(join(folder, 'to')), []);
});

const LARGE = 40_000_000;

for (const [what, act, outcome] of [
  [
    'grows',
    (path: string) => appendFileSync(path, 'more'),
    `grew during the copy; only its first ${LARGE} bytes were copied`,
  ],
  ['shrinks', (path: string) => truncateSync(path, 1000), `shrank during the copy: 1000 of ${LARGE} bytes left`],
  ['changes', (path: string) => writeFileSync(path, 'x', { flag: 'r+' }), 'changed during the copy'],
] as const) {
  withGo(`a source that ${what} while it is sent is reported`, async (t) => {
    const source = { path: '' };
    // It opens the file when the beginning has arrived.
    const open: CopyFiles['open'] = (...args) => {
      act(source.path);
      return SYSTEM_FILES.open(...args);
    };
    const { to, pair, sources } = copyScene(
      t,
      { file: Buffer.alloc(LARGE) },
      { callerFiles: { ...SYSTEM_FILES, open } },
    );
    source.path = sources('file')[0] ?? '';
    const told = await pair.get(sources('file'), to).then(
      ({ warnings }) => warnings,
      (error: unknown) => [(error as Error).message.replace('peer: ', '')],
    );
    t.deepEqual(told, [`${source.path}: ${outcome}`]);
    t.deepEqual(readdirSync(to), what === 'shrinks' ? [] : ['file']);
  });
}

withGo('64 copies of a large folder at once stay below 30 MB, and further ones are refused', async (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'large'));
  for (let index = 0; index < 30_000; index += 1) writeFileSync(join(folder, 'large', `file-${index}`), '');
  const { guest, open } = await startCopies(t, null);
  const sources = [{ path: join(folder, 'large'), name: 'large' }];
  const request = encodeMessage(COPY_KIND.START, { direction: 'get', sources, isResumed: false, hasTotals: false });
  const begin = async () => {
    const stream = await open();
    const seen = { bytes: 0, last: '' };
    stream
      .on('error', () => undefined)
      .on('data', (chunk: Buffer) => {
        seen.bytes += chunk.length;
        seen.last = chunk.toString('latin1');
      });
    stream.write(Buffer.concat([request, encodeMessage(COPY_KIND.READY, { targets: [] })]));
    return seen;
  };
  const copies = await Promise.all(Array.from({ length: 64 }, begin));
  await eventually(() => copies.every(({ bytes }) => bytes > 1_000_000), { timeoutMs: 60_000 });
  t.true(residentBytes(guest.pid) < 30e6, `${residentBytes(guest.pid)} bytes`);
  const beyond = await begin();
  await eventually(() => beyond.last.includes('too many copies (max 64)'));
});
