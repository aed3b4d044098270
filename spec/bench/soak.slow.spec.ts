/** `npm run soak` for some seconds: it works, and it detects errors. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { runSoak } from '../../tools/bench/soak/soak.js';
import { temporaryFolder } from '../helpers/files.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/tools/bench/soak/index.js';
const patient = { signal: new AbortController().signal, onProgress: () => undefined };

test.serial('a short soak sees nothing wrong, and has its figures and a chart', async (t) => {
  const faults = ['guest-killed', 'channel-cut', 'bytes-lost'];
  const { problems, svg, transfers, processes } = await runSoak({
    ...{ ...patient, durationMs: 4000, seed: 5, maxRestMs: 500 },
    ...{ faults, maxIdleMs: 500, channelOptions: '' },
  });
  t.deepEqual(problems, []);
  for (const kind of ['short', 'bulk', 'refused', 'storage', 'probe'])
    t.true((transfers[kind]?.complete ?? 0) > 0, kind);
  t.true(processes.host.idleResidentBytes > 1e7 && processes.guest.mostDescriptors > 5);
  t.regex(svg, /^<svg [^]*<path d="M[^]*<title>(?:guest-killed|channel-cut|bytes-lost)<\/title>[^]*<\/svg>\n$/);
});

test.serial('a byte that changes on a channel where only frames are checked is seen', async (t) => {
  const stop = new AbortController();
  const { problems, isInterrupted } = await runSoak({
    ...{ durationMs: 60_000, seed: 5, maxRestMs: 200, maxIdleMs: 500, signal: stop.signal },
    ...{ faults: ['byte-changed'], channelOptions: ',integrity=frame' },
    onProgress: () => undefined,
    onProblem: (problem) => {
      if (problem.startsWith('wrong bytes')) stop.abort();
    },
  });
  t.true(isInterrupted);
  const isFound = problems.some((problem) => /^wrong bytes: (?:short|bulk|long|target) at the /.test(problem));
  t.true(isFound, problems.join());
});

test.serial('interrupted, it ends in order with what it has, and leaves nothing behind', async (t) => {
  const folder = temporaryFolder(t);
  const out = join(folder, 'chart.svg');
  const soak = spawnVproxy(t, ['--minutes', '5', '--seed', '3', '--out', out], { script, env: { TMPDIR: folder } });
  await soak.waitForLine(/^soak of 5 minutes with --seed 3$/);
  await soak.waitForLine(/^the two processes have a session$/);
  soak.kill('SIGINT');
  t.deepEqual(await soak.exited, { code: 0, signal: null }, soak.lines.join('\n'));
  const { seed, isInterrupted, problems } = JSON.parse(soak.stdout) as Record<string, unknown>;
  t.deepEqual([seed, isInterrupted, problems], [3, true, []]);
  t.true(readFileSync(out, 'utf8').startsWith('<svg '));
  t.deepEqual(readdirSync(folder), ['chart.svg']);
});
