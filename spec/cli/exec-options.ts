/** The arguments of `vproxy exec`, and small parts of it. */
import test from 'ava';
import { readExecArguments } from '../../cli/exec/exec-options.js';
import { EscapeKeys } from '../../cli/exec/join-terminal.js';
import { reportOf } from '../../cli/exec/json-report.js';
import { statusOfEnd } from '../../cli/exec/run-exec.js';
import { VproxyError } from '../../lib/errors.js';
import { SUCCESS } from '../helpers/exec-peers.js';

const read = (...words: string[]) => readExecArguments(['exec', ...words], { HERE: 'there' });

test('options end at the first word that is not an option, and at --', (t) => {
  t.deepEqual(read('ls', '-l', '--json').argv, ['ls', '-l', '--json']);
  t.deepEqual(read('-n', '--cwd', '/tmp', 'ls').argv, ['ls']);
  t.deepEqual(read('-nT', '--', '-x', '--').argv, ['-x', '--']);
  t.deepEqual(read('-', 'x').argv, ['-', 'x']);
  t.deepEqual(read().argv, []);
  t.deepEqual(read('ls', '').argv, ['ls', '']);
});

test('a label comes before the command, among the options', (t) => {
  t.like(read('vm1:', 'ls', 'vm2:'), { channel: 'vm1', argv: ['ls', 'vm2:'] });
  t.like(read('-n', 'vm1:', '-t', '--', 'top', '-d', '1'), {
    channel: 'vm1',
    argv: ['top', '-d', '1'],
    wantsTerminal: true,
    hasInput: false,
  });
  t.like(read('--channel=vm1', 'ls'), { channel: 'vm1' });
  t.like(read('--', 'vm1:'), { channel: undefined, argv: ['vm1:'] });
  t.like(read('/x:', 'a'), { channel: undefined, argv: ['/x:', 'a'] });
  t.like(readExecArguments(['shell', 'vm1:'], {}), { channel: 'vm1', argv: [], wantsTerminal: null });
});

test('values', (t) => {
  t.like(read('--timeout', '1.5', '--kill-after=0', 'x'), { timeoutMs: 1500, killAfterMs: 0 });
  t.is(read('--timeout', '0', 'x').timeoutMs, undefined);
  t.is(read('--failure-status', '255', 'x').failureStatus, 255);
  t.is(read('x').failureStatus, null);
  const words = ['--env', 'A=b=c', '--env', 'HERE', '--env', 'MISSING', '--env=E=', '--env', '__proto__=x', 'x'];
  t.deepEqual(Object.entries(read(...words).env), [
    ['A', 'b=c'],
    ['HERE', 'there'],
    ['E', ''],
    ['__proto__', 'x'],
  ]);
  t.is(read('x').wantsTerminal, null);
  t.is(read('--json', 'x').wantsTerminal, false);
});

test('invalid and contradictory words are rejected', (t) => {
  for (const [words, message] of [
    [['-t', '-T'], '-t: not allowed with -T'],
    [['-i', '-n'], '-i: not allowed with -n'],
    [['-t', '--json'], '-t: not allowed with --json'],
    [['--timeout', 'soon'], /^--timeout: "soon" is not a number of seconds/],
    [['--timeout', '300000h'], /^--timeout: "300000h" is not a number of seconds from 0 to 1000000000/],
    [['--channel', 'a', 'b:'], 'two channels given, "a" and "b"; name one'],
    [['--failure-status', '256'], '--failure-status: "256" is not a whole number from 0 to 255'],
    [['--failure-status', '2.5'], '--failure-status: "2.5" is not a whole number from 0 to 255'],
    [['--env', '=x'], '--env: "=x" has no name; expected NAME or NAME=VALUE'],
    [['-n=yes'], '-n: takes no value'],
  ] as const) {
    t.throws(() => read(...words), { code: 'bad-argument', message }, words.join(' '));
  }
  t.throws(() => readExecArguments(['shell', '--timeout', '3'], {}), { message: /--timeout: unknown option/ });
});

test('~. at the beginning of a line ends a call, and ~~ is a tilde', (t) => {
  const typed = (...texts: string[]) => {
    const keys = new EscapeKeys();
    return texts.map((text) => keys.read(Buffer.from(text))?.toString() ?? null);
  };
  t.deepEqual(typed('~.'), [null]);
  t.deepEqual(typed('ls ~/.\r', '~', '.'), ['ls ~/.\r', '', null]);
  t.deepEqual(typed('~~.\n', '~a', '~.'), ['~.\n', '~a', '~.']);
  t.deepEqual(typed('x~.', '\r~', '\r~.'), ['x~.', '\r', null]);
});

test('exit statuses', (t) => {
  const statusOf = (end: Partial<typeof SUCCESS>) => statusOfEnd({ ...SUCCESS, status: null, ...end });
  t.is(statusOf({ status: 200 }), 200);
  t.is(statusOf({ signal: 'SIGTERM' }), 143);
  t.is(statusOf({ signal: 'SIGRTMIN+3' }), 128);
  t.is(statusOf({ signal: 'SIG35' }), 163);
  t.is(statusOf({ signal: 'SIG64' }), 192);
  t.is(statusOf({ signal: 'SIGKILL', timedOut: true }), 124);
  for (const [code, status] of [
    ['command-not-found', 127],
    ['command-denied', 126],
    ['command-failed', 126],
    ['something-new', 125],
    ['toString', 125],
  ] as const) {
    t.is(statusOf({ error: { code, message: '' } }), status);
  }
});

test('a report has text as text, including truncated text', (t) => {
  const report = (stdout: Buffer, stdoutTruncated = false) =>
    reportOf(
      { ...SUCCESS, pid: 1, stdout, stdoutTruncated, stderr: Buffer.alloc(0), stderrTruncated: false },
      new Date(0),
    );
  t.like(report(Buffer.from('\ufeffü')), { stdout: '\ufeffü', stderr: '', startedAt: '1970-01-01T00:00:00.000Z' });
  t.like(report(Buffer.from('üü').subarray(0, 3), true), { stdout: 'ü', stdoutTruncated: true });
  t.like(report(Buffer.from('üü').subarray(0, 3)), { stdout: null, stdoutBase64: 'w7zD' });
  t.like(report(Buffer.from('a\0')), { stdout: null, stdoutBase64: 'YQA=' });
  t.like(reportOf(new VproxyError('exec-unavailable', 'why'), new Date(0)), {
    status: null,
    error: { code: 'exec-unavailable', message: 'why' },
  });
});
