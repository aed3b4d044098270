/** `npm run soak`, for some seconds: it works, and it sees what is wrong. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type EndResult, Ledger } from '../../bench/soak/ledger.js';
import { parseSoakArguments } from '../../bench/soak/options.js';
import { PatternCheck, patternBytes } from '../../bench/soak/pattern.js';
import { Random } from '../../bench/soak/random.js';
import { runSoak } from '../../bench/soak/soak.js';
import { temporaryFolder } from '../helpers/files.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/bench/soak/index.js';
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
  t.true(
    problems.some((problem) => /^wrong bytes: (?:short|bulk|long|target) at the /.test(problem)),
    problems.join(),
  );
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

test('--help tells its options, and what it does not understand is a line and status 64', async (t) => {
  const help = spawnVproxy(t, ['--help'], { script });
  t.is((await help.exited).code, 0);
  for (const option of ['--minutes N', '--seed N', '--out FILE.svg']) t.true(help.stdout.includes(option), option);
  const wrong = spawnVproxy(t, ['--minutes', 'x'], { script });
  t.is((await wrong.exited).code, 64);
  t.deepEqual(wrong.lines, ['soak: --minutes x: should be a number above 0, and at most 10080']);
});

test('the arguments', (t) => {
  const { seed, ...rest } = parseSoakArguments([]);
  t.deepEqual(rest, { minutes: 5, out: 'soak.svg', help: false });
  t.true(Number.isInteger(seed));
  t.like(parseSoakArguments(['--minutes', '0.25', '--seed', '4294967295', '--out', 'a']), {
    ...{ minutes: 0.25, seed: 4_294_967_295, out: 'a' },
  });
  for (const args of [
    ['--minutes', '0'],
    ['--minutes', '1e1'],
    ['--seed', '4294967296'],
    ['--seed', '-1'],
    ['x'],
    ['--x'],
  ]) {
    t.throws(() => parseSoakArguments(args), { instanceOf: Error }, args.join(' '));
  }
});

const verdict = test.macro({
  title: (title) => `verdict: ${title}`,
  exec(t, result: Partial<EndResult>, meanwhile: (ledger: Ledger) => void, problem: RegExp | null) {
    const ledger = new Ledger();
    const ticket = ledger.begin('host');
    meanwhile(ledger);
    ledger.judge('bulk', ticket, { end: 'ended', isPrefix: true, isComplete: true, receivedBytes: 9, ...result });
    t.is(ledger.problemCount, problem === null ? 0 : 1);
    if (problem !== null) t.regex(ledger.problems[0] ?? '', problem);
  },
});

const nothing = () => undefined;
const cutShort = { isComplete: false };
const reset = { end: 'reset', isComplete: false } as const;
const disturb = (ledger: Ledger) => {
  ledger.disturb();
  ledger.settle();
};
const killHost = (ledger: Ledger) => {
  disturb(ledger);
  ledger.countKill('host');
};
test('all of it, and its end, are well', verdict, {}, nothing, null);
test('a wrong byte is wrong whatever happened', verdict, { ...reset, isPrefix: false }, killHost, /^wrong bytes/);
test('a part with an end in order is wrong', verdict, cutShort, disturb, /^cut short, but ended/);
test('a part with an end that the system made for a killed process is well', verdict, cutShort, killHost, null);
test('a reset is well where something was disturbed', verdict, reset, disturb, null);
test('a reset is wrong where nothing was', verdict, reset, nothing, /^broken off \(reset\) although/);

test('what begins while something is disturbed is excused also when it ends later', (t) => {
  const ledger = new Ledger();
  ledger.disturb();
  const ticket = ledger.begin('guest');
  ledger.settle();
  t.false(ledger.isUndisturbed(ticket));
  t.true(ledger.isUndisturbed(ledger.begin('guest')));
});

test('a pattern is told from another one, from another place of itself, and from more than there is', (t) => {
  const bytes = patternBytes(4, 999_990, 3_000_000);
  const cases = [
    [4, 999_990, 0, true],
    [5, 999_990, 0, false],
    [4, 999_991, 0, false],
  ] as const;
  for (const [key, position, , isPrefix] of cases) {
    t.is(bytes.equals(patternBytes(key, position, bytes.length)), isPrefix, `${key} ${position}`);
  }
  const check = new PatternCheck(7, 100);
  check.push(patternBytes(7, 0, 60));
  t.deepEqual([check.isPrefix, check.isComplete], [true, false]);
  check.push(patternBytes(7, 60, 40));
  t.true(check.isComplete);
  check.push(patternBytes(7, 100, 1));
  t.false(check.isPrefix);
});

test('a seed repeats its numbers, and another one has others', (t) => {
  const numbers = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 1000 }, () => random.integer(3, 12));
  };
  t.deepEqual(numbers(1), numbers(1));
  t.notDeepEqual(numbers(1), numbers(2));
  t.deepEqual(
    [...new Set(numbers(1))].sort((a, b) => a - b),
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
  );
});
