/** Recordings of terminals: contents, permissions and limits. */
import { chmodSync, chownSync, mkdirSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../../lib/events.js';
import {
  type RecordingRule,
  TerminalRecorder,
  type TerminalRecorderOptions,
} from '../../../lib/services/exec/recording/terminal-recorder.js';
import { TerminalRecording } from '../../../lib/services/exec/recording/terminal-recording.js';
import { temporaryFolder } from '../../helpers/files.js';
import { testWith } from '../../helpers/test-with.js';
import { eventually, ManualClock } from '../../helpers/time.js';

const TERMINAL = { columns: 80, rows: 24, term: 'xterm' };
const FACTS = { argv: ['top', '-b c'], user: null, cwd: null, from: null };

/** A recorder, and the folder of its recordings. */
function setUp(t: ExecutionContext, options: Partial<TerminalRecorderOptions & RecordingRule> = {}) {
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const { folder = join(temporaryFolder(t), 'recordings'), hasInput = false, ...others } = options;
  if (options.folder === undefined) mkdirSync(folder, { mode: 0o700 });
  const timeOfDay = () => Date.UTC(2026, 10, 23, 8, 45, 12, 345);
  const recorder = new TerminalRecorder({
    label: 'vm1',
    clock,
    log: (event) => events.push(event),
    timeOfDay,
    ...others,
  });
  t.teardown(() => recorder.stop());
  const begin = () => recorder.begin({ folder, hasInput }, FACTS, TERMINAL);
  return { clock, events, folder, recorder, begin };
}

/** The lines of a file, each parsed as JSON. */
const linesOf = (path: string): unknown[] => {
  const text = readFileSync(path, 'utf8');
  if (!text.endsWith('\n')) throw new Error(`the last line is not whole: ${text.slice(-100)}`);
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
};

const HEADER = {
  version: 2,
  width: 80,
  height: 24,
  timestamp: 1_795_423_512,
  command: "top '-b c'",
  env: { TERM: 'xterm' },
};

test('a recording has output and resizes, with their times, and no input', async (t) => {
  const { begin, clock } = setUp(t);
  const recording = begin();
  t.truthy(recording);
  clock.advance(250);
  recording?.output(Buffer.from('hello\r\n'));
  recording?.input(Buffer.from('secret'));
  clock.advance(1000);
  recording?.resize({ columns: 100, rows: 30 });
  recording?.end();
  recording?.output(Buffer.from('late'));
  recording?.end();
  await recording?.closed;
  const path = recording?.path ?? '';
  t.regex(path, /\/vm1-20261123T084512Z-[0-9a-f]{8}\.cast$/);
  t.deepEqual(linesOf(path), [HEADER, [0.25, 'o', 'hello\r\n'], [1.25, 'r', '100x30']]);
  t.is(statSync(path).mode & 0o777, 0o600);
});

test('input is recorded if the rule says so', async (t) => {
  const { begin } = setUp(t, { hasInput: true });
  const recording = begin();
  recording?.input(Buffer.from([0xc3]));
  recording?.output(Buffer.from('ok'));
  recording?.input(Buffer.from([0xa4]));
  recording?.end();
  await recording?.closed;
  t.deepEqual(linesOf(recording?.path ?? '').slice(1), [
    [0, 'o', 'ok'],
    [0, 'i', 'ä'],
  ]);
});

test('split characters are joined, and invalid bytes are replaced', async (t) => {
  const { begin } = setUp(t);
  const recording = begin();
  for (const byte of Buffer.from('a€😀')) recording?.output(Buffer.from([byte]));
  recording?.output(Buffer.from([0x80, 0xe2, 0x82]));
  recording?.end();
  await recording?.closed;
  const data = linesOf(recording?.path ?? '')
    .slice(1)
    .map((event) => (event as unknown[])[2]);
  t.deepEqual(data, ['a', '€', '😀', '\ufffd', '\ufffd']);
});

test('each line is written soon, before the terminal ends', async (t) => {
  const { begin } = setUp(t);
  const recording = begin();
  recording?.output(Buffer.from('one'));
  await eventually(() => linesOf(recording?.path ?? '').length === 2);
  recording?.output(Buffer.from('two'));
  await eventually(() => linesOf(recording?.path ?? '').length === 3);
  t.pass();
});

test('at its limit a recording ends with a marker and one warning', async (t) => {
  const { begin, events } = setUp(t, { maxBytes: 2000 });
  const recording = begin();
  for (let count = 0; count < 100; count += 1) recording?.output(Buffer.alloc(100, 'x'));
  await recording?.closed;
  const path = recording?.path ?? '';
  const lines = linesOf(path);
  t.deepEqual(lines.at(-1), [0, 'm', 'the recording ends here: it has reached 2000 bytes']);
  t.true(lines.length > 10 && statSync(path).size < 2100);
  const told = events.map(({ event, level, fields }) => [event, level, fields['recording']]);
  t.deepEqual(told, [['recording-failed', 'warn', path]]);
  t.regex(events[0]?.message ?? '', /stopped early: it has reached 2000 bytes; the command continues$/);
});

test('no recording begins in a full folder, however small its recordings are', async (t) => {
  const { begin, events, folder, recorder } = setUp(t, { maxFolderBytes: 8192 });
  writeFileSync(join(folder, 'old.cast'), '');
  writeFileSync(join(folder, 'other.txt'), Buffer.alloc(100_000));
  await recorder.prepare({ folder, hasInput: false });
  const first = begin();
  t.truthy(first);
  await eventually(() => linesOf(first?.path ?? '').length === 1);
  // The first one may be the end of a scan that began before.
  await recorder.prepare({ folder, hasInput: false });
  await recorder.prepare({ folder, hasInput: false });
  t.is(begin(), null);
  const why = /^cannot record a terminal in .*: the recordings in .* have reached 8192 bytes; the command continues$/;
  t.regex(events.at(-1)?.message ?? '', why);
});

test('a recording ends when the folder is full', async (t) => {
  const { begin, folder, recorder } = setUp(t, { maxFolderBytes: 3_000_000 });
  const recording = begin();
  recording?.output(Buffer.alloc(3_500_000, 'x'));
  await eventually(() => statSync(recording?.path ?? '').size > 3_000_000);
  // The first one may be the end of a scan that began before.
  await recorder.prepare({ folder, hasInput: false });
  await recorder.prepare({ folder, hasInput: false });
  recording?.output(Buffer.alloc(1_000_000, 'x'));
  recording?.output(Buffer.from('more'));
  await recording?.closed;
  t.deepEqual(linesOf(recording?.path ?? '').at(-1), [
    0,
    'm',
    `the recording ends here: the recordings in ${folder} have reached 3000000 bytes`,
  ]);
});

/** A recording on a full disk, and its warnings. */
function recordOnFullDisk(): { recording: TerminalRecording; cuts: string[] } {
  const cuts: string[] = [];
  const recording = new TerminalRecording({
    path: '/dev/full',
    fd: openSync('/dev/full', 'w'),
    clock: new ManualClock(),
    header: { size: TERMINAL, timestamp: null, command: null, term: null },
    hasInput: false,
    maxBytes: 1_000_000,
    whyFull: () => null,
    onCut: (why) => cuts.push(why),
  });
  return { recording, cuts };
}

test('a full disk causes one warning, and nothing more', async (t) => {
  const { recording, cuts } = recordOnFullDisk();
  recording.output(Buffer.from('one'));
  await recording.closed;
  recording.output(Buffer.from('two'));
  recording.end();
  t.deepEqual(cuts, ['no space left on device (ENOSPC)']);
});

test('a disk that is full when the terminal has ended is reported, too', async (t) => {
  const { recording, cuts } = recordOnFullDisk();
  recording.end();
  await recording.closed;
  t.is(cuts.length, 1);
});

test('a terminal does not wait for a slow disk: its recording ends', async (t) => {
  const { begin, events } = setUp(t);
  const recording = begin();
  // All in one turn, so nothing is written meanwhile.
  for (let count = 0; count < 100; count += 1) recording?.output(Buffer.alloc(65_536, 'x'));
  await recording?.closed;
  const lines = linesOf(recording?.path ?? '');
  t.deepEqual(lines.at(-1), [0, 'm', 'the recording ends here: the disk is too slow']);
  t.is(events.length, 1);
});

function make(folder: string, mode = 0o700): string {
  mkdirSync(folder);
  chmodSync(folder, mode);
  return folder;
}

test('nothing is recorded in a folder that is not private to its owner', (t) => {
  const parent = temporaryFolder(t);
  writeFileSync(join(parent, 'file'), '');
  symlinkSync(make(join(parent, 'real')), join(parent, 'link'));
  make(join(parent, 'open'), 0o730);
  for (const [name, why] of [
    ['gone', /gone: no such file or directory \(ENOENT\);/],
    ['open', /writable by other users \(mode 0730\); run chmod 700/],
    ['file', /not a folder, or a link to one/],
    ['link', /not a folder, or a link to one/],
  ] as const) {
    const { begin, events } = setUp(t, { folder: join(parent, name) });
    t.is(begin(), null, name);
    t.is(events.length, 1);
    t.regex(events[0]?.message ?? '', why);
  }
});

testWith('root')('nothing is recorded in the folder of another user', (t) => {
  const folder = make(join(temporaryFolder(t), 'a'));
  chownSync(folder, 12_345, 0);
  const { begin, events } = setUp(t, { folder });
  t.is(begin(), null);
  t.regex(events[0]?.message ?? '', /owned by another user \(12345\)/);
});
