/** Callers that keep to no rule: their stream is destroyed, their command ended, and nothing else happens. */
import test from 'ava';
import fc from 'fast-check';
import {
  EXEC_KIND,
  encodeCredit,
  encodeEof,
  encodeResize,
  encodeStart,
  STDIN_CREDIT_BYTES,
} from '../../lib/exec/messages.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/records.js';
import { eventually } from '../helpers/eventually.js';
import { TestRunner } from '../helpers/exec-caller.js';
import { heapBytes } from '../helpers/heap.js';

const START = encodeStart({ argv: ['sleep', '1000'] });
const input = (bytes: number): Buffer => encodeRecord(EXEC_KIND.STDIN, Buffer.alloc(bytes));
const signal = (name: string): Buffer => encodeRecord(EXEC_KIND.SIGNAL, name);

const CASES: readonly (readonly [string, readonly Buffer[], RegExp])[] = [
  ['STDIN before START', [input(1), START], /STDIN before START/],
  ['a signal before START', [signal('SIGKILL')], /before START/],
  ['no JSON', [encodeRecord(EXEC_KIND.START, 'ls')], /START is not a JSON object/],
  ['START without argv', [encodeRecord(EXEC_KIND.START, '{}')], /START: argv is not valid/],
  ['START twice', [START, START], /a second START/],
  ['a record of the runner', [START, encodeCredit(1)], /unknown kind 19/],
  ['a record of no kind', [START, encodeRecord(99, 'x')], /unknown kind 99/],
  ['input beyond the credit', [START, input(STDIN_CREDIT_BYTES), input(100)], /beyond its credit/],
  ['input beyond the credit in one record', [START, input(1_048_576)], /beyond its credit/],
  ['input behind its end', [START, encodeEof(0), input(1)], /STDIN behind its EOF/],
  ['a second end of the input', [START, encodeEof(0), encodeEof(0)], /a second EOF/],
  ['the end of an output', [START, encodeEof(1)], /EOF of an output/],
  [
    'input for a command without any',
    [encodeStart({ argv: ['sleep', '1000'], hasInput: false }), input(1)],
    /without input/,
  ],
  ['a signal that is none', [START, signal('SIGNAL')], /there is no signal SIGNAL/],
  ['a signal of an object', [START, signal('SIGTOSTRING')], /there is no signal/],
  ['a signal by its number', [START, signal('9')], /SIGNAL/],
  ['a size of nothing', [START, encodeResize({ columns: 0, rows: 0 })], /RESIZE/],
  ['a length beyond the bound', [START, encodeRecordHeader(EXEC_KIND.SIGNAL, 2 ** 32 - 1)], /longer than/],
  ['input of a length beyond the bound', [START, encodeRecordHeader(EXEC_KIND.STDIN, 2 ** 31)], /longer than/],
];

for (const [title, records, expected] of CASES) {
  test(`a caller breaks a rule: ${title}`, async (t) => {
    const runner = new TestRunner(t);
    const { caller, far } = runner.open();
    for (const record of records) caller.stream.write(record);
    const error = await t.throwsAsync(caller.exit, { code: 'protocol-error' });
    t.regex(error.message, expected);
    t.true(far.destroyed);
    await idle(runner);
  });
}

for (const [title, bytes] of [
  ['before START', Buffer.alloc(0)],
  ['within START', START.subarray(0, 10)],
  ['within a record', Buffer.concat([START, signal('SIGTERM').subarray(0, 7)])],
] as const) {
  test(`a caller ends its direction ${title}`, async (t) => {
    const runner = new TestRunner(t);
    const { caller } = runner.open();
    caller.stream.end(bytes);
    await t.throwsAsync(caller.exit, { code: 'protocol-error', message: /the stream ended/ });
    await idle(runner);
  });
}

test('a caller that says nothing takes no place', (t) => {
  const runner = new TestRunner(t, { maxCommands: 1 });
  for (let count = 0; count < 10; count += 1) runner.open();
  t.is(runner.runner.runningCount, 0);
});

test('what comes behind EXIT is dropped', async (t) => {
  const caller = new TestRunner(t).call({ argv: ['true'] });
  await caller.exit;
  caller.stream.write(Buffer.alloc(1_000_000, 255));
  caller.stream.end();
  await eventually(() => caller.stream.writableFinished, { what: 'the end of the stream' });
  t.is(caller.said.at(-1), 'EXIT');
});

// By itself: it measures the memory of the whole process.
test.serial('input in a great many tiny pieces that nobody takes costs little memory', async (t) => {
  const runner = new TestRunner(t);
  const caller = runner.call({ argv: ['sleep', '1000'] });
  await caller.started;
  const tiny = Buffer.concat(Array.from({ length: 1000 }, () => input(1)));
  const before = await heapBytes();
  for (let count = 0; count < STDIN_CREDIT_BYTES / 1000 - 1; count += 1)
    await new Promise((resolve) => caller.stream.write(tiny, resolve));
  const heldBytes = (await heapBytes()) - before;
  t.true(heldBytes < 4 * STDIN_CREDIT_BYTES, `${heldBytes} bytes more`);
  t.deepEqual(caller.said, ['STARTED']);
  caller.signal('SIGTERM');
  await caller.exit;
});

test('any bytes at all end the stream or run nothing', async (t) => {
  const runner = new TestRunner(t);
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(fc.nat(25), fc.uint8Array({ maxLength: 32 })).map(([kind, payload]) => encodeRecord(kind, payload)),
    fc.tuple(fc.nat(25), fc.json()).map(([kind, text]) => encodeRecord(kind, text)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { minLength: 1, maxLength: 4 }), async (chunks) => {
      const { caller } = runner.open();
      for (const chunk of chunks) caller.stream.write(chunk);
      caller.stream.end();
      await t.throwsAsync(caller.exit, { code: 'protocol-error' });
    }),
  );
  t.deepEqual(runner.events, []);
});

const idle = (runner: TestRunner): Promise<unknown> =>
  eventually(() => runner.runner.runningCount === 0, { what: 'the end of all commands' });
