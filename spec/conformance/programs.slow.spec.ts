/** `npm run conformance` judges real programs, over their standard input and output and over a socket, and finds defects. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { buildGuest, GUEST } from '../guest-program/build.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { serialTestWith } from '../helpers/test-with.js';

const VPROXY = [process.execPath, 'dist/program/vproxy.cjs', '--no-control', '-c'];
const FORWARDS = ['-i', 'target:{target}', '-o', 'far:{far}'];
/** The clock is left alone. */
const OWN = ['--allow-exec', '--reseed', '--allow-freeze'];
const SERVICES = [...FORWARDS, '-i', 'flow:udp:127.0.0.1:{flow}', ...OWN];
const LIMITS = ',streams={streams},in-flight={inFlight},frame={frame},resume=60s';
const KEY = ['--with-key=--key {key}'];
const PYTHON_LIMITS =
  '{"frame":{frame},"streamCredit":{streamCredit},"inFlight":{inFlight},"streams":{streams},"opens":{opens}}';

buildGuest();

/** The whole suite, which may be copied. */
const SUITE = 'dist/conformance.mjs';

test('the suite needs only its file, and Node', (t) => {
  const needed = [...projectText(SUITE).matchAll(/^import .* from "(.*)";$/gm)].map(([, name = '']) => name);
  t.true(needed.length > 3);
  for (const name of needed) t.true(isBuiltin(name), name);
});

function suite(...words: readonly string[]): Promise<{ readonly status: number; readonly out: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [SUITE, ...words],
      { cwd: PROJECT_ROOT, maxBuffer: 2 ** 24 },
      (_error, stdout, stderr) => resolve({ status: child.exitCode ?? -1, out: stdout + stderr }),
    );
  });
}

/** At least `count` cases pass, and no other is skipped than those that cannot be seen from outside, or need `missing`. */
async function passes(
  t: ExecutionContext,
  count: number,
  missing: readonly string[],
  ...words: readonly string[]
): Promise<void> {
  t.timeout(300_000);
  const { status, out } = await suite(...words);
  t.is(status, 0, out);
  t.deepEqual([...out.matchAll(/ skipped: (.*)/g)].map(([, reason]) => reason).toSorted(), [
    'in process only',
    ...missing,
  ]);
  t.true(Number(/^(\d+) passed, 0 failed/m.exec(out)?.[1]) >= count, out);
}

// A process for each conversation: only some, as all are held over a socket.
test.serial('vproxy over its standard input and output', (t) =>
  passes(t, 14, [], '--filter', 'R-STREAM', '--jobs', '4', ...VPROXY, `stdio:${LIMITS}`, ...SERVICES),
);

test.serial('vproxy over a unix socket', (t) =>
  passes(t, 150, [], ...KEY, ...VPROXY, `unix-listen:{path}${LIMITS}`, ...SERVICES),
);

serialTestWith('go')('vproxy-guest', (t) =>
  passes(
    t,
    155,
    ['without datagram'],
    ...[...KEY, '--without', 'datagram', GUEST, '-c', `unix-listen:{path}${LIMITS}`],
    ...[...FORWARDS, ...OWN],
  ),
);

serialTestWith('python')('the second implementation', (t) =>
  passes(
    t,
    150,
    ['it does not offer clock', 'it does not offer exec', 'it does not offer freeze', 'without ports'],
    ...[...KEY, '--without', 'ports', 'python3', '-B', 'spec/interop/peer.py', 'unix-listen:{path}', '--datagrams'],
    ...['--resume', '60', '--service', 'target={target}', '--far', '{far}', '--service', 'flow=echo-datagrams'],
    ...['--limits', PYTHON_LIMITS],
  ),
);

for (const [fault, format, shown] of [
  ['broken-frame', [], /^FAIL  R-STREAM-7: .*\n {8}at: .*\n.*\n.*\n {8}came: .*frame \d+ has a wrong check/m],
  ['wrong-credit', ['--tap'], /^not ok \d+ - R-FLOW-3: .*\n  ---\n(?:.*\n)+  came: .*GOAWAY 0 flow-control/m],
  ['lost-fin', [], /classname="R-STREAM-7".*<failure message=".*FIN 1 is expected on stream 1/],
] as const) {
  test.serial(`a program with a ${fault} fails the rule that it breaks`, async (t) => {
    const relay = [process.execPath, 'dist/spec/conformance/faulty.js', fault];
    const words = ['--filter', 'R-STREAM-7|R-FLOW-3', ...relay, ...VPROXY, 'stdio:', ...SERVICES];
    const report = join(temporaryFolder(t), 'report.xml');
    const { status, out } = await suite(...format, '--junit', report, ...words);
    t.is(status, 1);
    t.regex(out + readFileSync(report, 'utf8'), shown);
  });
}

test.serial('arguments that are not valid, and a program that cannot be started', async (t) => {
  const all = await Promise.all(
    [
      [],
      ['--without', 'x', 'cat'],
      ['--timeout', '0', 'cat'],
      ['--jobs', '1.5', 'cat'],
      ['--filter', '(', 'cat'],
      ['--filter', 'R-NOTHING', 'cat'],
    ].map((words) => suite(...words)),
  );
  for (const { status, out } of all) t.deepEqual([status, /^conformance: [^\n]+\n$/.test(out)], [64, true], out);
  const { status, out } = await suite('--filter', 'R-LIVE-1', '--timeout', '2', '/nonexistent/program');
  t.is(status, 1);
  t.regex(out, /stderr: +spawn \/nonexistent\/program ENOENT/);
});

test.serial('a program that does not speak the protocol is described, and the suite stops', async (t) => {
  const text = `echo 'usage: prog FILE'; exit 2`;
  for (const words of [
    ['sh', '-c', text],
    ['sh', '-c', text, '{path}'],
  ]) {
    const { status, out } = await suite(...words);
    t.is(status, 1);
    t.regex(out, /^ {8}came: +the program wrote "usage: prog FILE", not vproxy frames, and exited with status 2$/m);
    t.regex(out, /^conformance: stopped, because the program sent no HELLO/m);
    t.true(Number(/^0 passed, (\d+) failed/m.exec(out)?.[1]) <= 4, out);
  }
  const { out } = await suite('--tap', 'sh', '-c', 'echo no such file >&2; exit 1');
  t.regex(out, /came: "the program exited with status 1"\n {2}stderr: "no such file"\n/);
  t.regex(out, /^Bail out! stopped/m);
});
