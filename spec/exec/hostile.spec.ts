/** Callers that violate the protocol: their stream is destroyed, their command ended, and nothing else happens. */
import test from 'ava';
import fc from 'fast-check';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { toVproxyError } from '../../lib/errors.js';
import {
  EXEC_KIND,
  encodeCredit,
  encodeEof,
  encodeStart,
  STDIN_CREDIT_BYTES,
} from '../../lib/services/exec/exec-messages.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { encodeRecord, encodeRecordHeader, RECORD_HEADER_BYTES } from '../../lib/util/bytes/records.js';
import type { Clock } from '../../lib/util/clock.js';
import { gatedPipes, TestRunner } from '../helpers/exec-peers.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { bestTurnMs } from '../helpers/turn-time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const START = encodeStart({ argv: ['sleep', '1000'] });
const input = (bytes: number): Buffer => encodeRecord(EXEC_KIND.STDIN, Buffer.alloc(bytes));
const signal = (name: string): Buffer => encodeRecord(EXEC_KIND.SIGNAL, name);

/** What a caller sends, and the error; with `isEnd`, it then half-closes. */
const CASES: readonly (readonly [string, readonly Buffer[], RegExp, isEnd?: true])[] = [
  ['STDIN before START', [input(1), START], /STDIN before START/],
  ['a signal before START', [signal('SIGKILL')], /before START/],
  ['START twice', [START, START], /a second START/],
  ['a record of the runner', [START, encodeCredit(1)], /unknown record kind 19/],
  ['a record of an unknown kind', [START, encodeRecord(99, 'x')], /unknown record kind 99/],
  ['input beyond the credit', [START, input(STDIN_CREDIT_BYTES), input(100)], /STDIN exceeds its credit/],
  ['input beyond the credit in one record', [START, input(1_048_576)], /STDIN exceeds its credit/],
  ['input after EOF', [START, encodeEof(0), input(1)], /STDIN after its EOF/],
  ['a second EOF of the input', [START, encodeEof(0), encodeEof(0)], /second EOF/],
  [
    'input for a command without input',
    [encodeStart({ argv: ['sleep', '1000'], hasInput: false }), input(1)],
    /without input/,
  ],
  ['an unknown signal', [START, signal('SIGNAL')], /unknown signal SIGNAL/],
  ['a signal named like a property of Object', [START, signal('SIGTOSTRING')], /unknown signal/],
  ['a signal by its number', [START, signal('9')], /SIGNAL/],
  ['a size of half the length', [START, encodeRecord(EXEC_KIND.RESIZE, Buffer.alloc(2))], /RESIZE/],
  ['a length beyond the limit', [START, encodeRecordHeader(EXEC_KIND.SIGNAL, 2 ** 32 - 1)], /SIGNAL too long/],
  [
    'a signal that is too long',
    [START, encodeRecordHeader(EXEC_KIND.SIGNAL, 16)],
    /SIGNAL too long: 16 bytes \(max 15\)/,
  ],
  ['a size that is too long', [START, encodeRecordHeader(EXEC_KIND.RESIZE, 5)], /RESIZE too long: 5 bytes \(max 4\)/],
  ['an EOF that is too long', [START, encodeRecordHeader(EXEC_KIND.EOF, 2)], /EOF too long: 2 bytes \(max 1\)/],
  ['the header of a second START', [START, encodeRecordHeader(EXEC_KIND.START, 1000)], /a second START/],
  ['the header of a record of an unknown kind', [START, encodeRecordHeader(99, 1000)], /unknown record kind 99/],
  ['input of a length beyond the limit', [START, encodeRecordHeader(EXEC_KIND.STDIN, 2 ** 31)], /kind \d too long/],
  ['half-close before START', [], /the stream ended/, true],
  ['half-close within START', [START.subarray(0, 10)], /the stream ended/, true],
  ['half-close within a record', [START, signal('SIGTERM').subarray(0, 7)], /the stream ended/, true],
];

/** A call over an in-memory session, whose caller writes DATA frames by hand. */
function framedCall(runner: TestRunner): { peer: FramePeer; stream: MuxStream } {
  const peer = FramePeer.established({ limits: { streamCredit: 2 ** 20 } });
  const opened: MuxStream[] = [];
  peer.session.server = { serve: (incoming) => opened.push(MuxStream.accept(peer.session, incoming)) };
  peer.sendOpen(1);
  const [stream] = opened as [MuxStream];
  runner.runner.serve(stream);
  return { peer, stream };
}

/** Such a call with a running command. */
async function runningCall(runner: TestRunner): Promise<ReturnType<typeof framedCall>> {
  const call = framedCall(runner);
  call.peer.sendData(1, START);
  await eventually(() => {
    call.peer.pump();
    return call.peer.log.take().some(({ type }) => type === FRAME_TYPE.DATA);
  });
  return call;
}

for (const [what, record] of [
  ['input in one-byte records', input(1)],
  ['empty input', input(0)],
  ['signals', signal('SIGURG')],
] as const) {
  test.serial(`${what}, as many as a frame holds, hold up no turn of the event loop`, async (t) => {
    const runner = new TestRunner(t);
    const flood = Buffer.concat(Array.from({ length: Math.floor(131_072 / record.length) }, () => record));
    // Starting a command takes a turn of its own, as long as the system's fork.
    const calls = await Promise.all(Array.from({ length: 4 }, () => runningCall(runner)));
    const longestMs = await bestTurnMs(
      20,
      async () => {
        const { peer, stream } = calls.pop() ?? (await runningCall(runner));
        peer.loop.receive(peer.frame(FRAME_TYPE.DATA, 1, flood));
        // Its answer is CREDIT, or that of a caller that breaks a rule.
        peer.loop.receive(peer.frame(FRAME_TYPE.DATA, 1, encodeRecord(99, '')));
        await eventually(() => stream.destroyed);
      },
      calls.length,
    );
    t.true(longestMs < 20, `${longestMs} ms`);
  });
}

for (const [title, records, expected, isEnd = false] of CASES) {
  test(`protocol violation of a caller: ${title}`, async (t) => {
    const runner = new TestRunner(t);
    const { caller, far } = runner.open();
    for (const record of records) caller.stream.write(record);
    if (isEnd) caller.stream.end();
    const error = await t.throwsAsync(caller.exit, { code: 'protocol-error' });
    t.regex(error.message, expected);
    t.true(far.destroyed);
    await runner.idle();
  });
}

test('R-EXEC-1: a first record that is not valid is answered, whatever follows', async (t) => {
  const runner = new TestRunner(t);
  for (const [bytes, message] of [
    [encodeRecord(EXEC_KIND.START, 'ls'), 'START is not a JSON object'],
    [encodeRecord(EXEC_KIND.START, '{"argv":["a\\u0000"]}'), 'START: argv[0]: contains NUL'],
    [encodeRecordHeader(EXEC_KIND.START, 1_048_577), 'START too long: 1048577 bytes (max 1048576)'],
    [encodeRecordHeader(EXEC_KIND.START, 2 ** 32 - 1), 'START too long: 4294967295 bytes (max 1048576)'],
  ] as const) {
    const { caller } = runner.open();
    caller.stream.write(bytes);
    caller.stream.write(Buffer.alloc(2_000_000, 255));
    const { error } = await caller.exit;
    t.deepEqual(error, { code: 'bad-argument', message });
    caller.stream.end();
    await eventually(() => caller.stream.writableFinished, { what: 'the end of the stream' });
  }
  t.deepEqual([runner.events, runner.runner.runningCount], [[], 0]);
});

test('R-EXEC-1: a size of 0 is ignored', async (t) => {
  const { caller } = new TestRunner(t).open();
  caller.stream.write(START);
  caller.stream.write(encodeRecord(EXEC_KIND.RESIZE, Buffer.alloc(4)));
  caller.signal('SIGTERM');
  t.is((await caller.exit).signal, 'SIGTERM');
});

test('START times out after ten seconds', async (t) => {
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock });
  const [silent, slow, quick] = [runner.open(), runner.open(), runner.open()];
  slow.caller.stream.write(START.subarray(0, -1));
  quick.caller.stream.write(START);
  const pid = await quick.caller.started;
  clock.advance(9999);
  t.false(silent.far.destroyed || slow.far.destroyed);
  clock.advance(1);
  t.true(silent.far.destroyed && slow.far.destroyed);
  for (const { caller } of [silent, slow]) {
    await t.throwsAsync(caller.exit, { code: 'stalled', message: 'exec: no complete START within 10 s' });
  }
  t.is(clock.pending, 0);
  t.true(isRunning(pid));
});

test('R-EXEC-3: the time in which a runner starts others, or does not run, is not counted', async (t) => {
  const manual = new ManualClock();
  let heldUpMs = 0;
  const clock: Clock = {
    now: () => manual.now() + heldUpMs,
    schedule: (ms, work) => manual.schedule(ms, work),
  };
  const runner = new TestRunner(t, { clock });
  const { far } = runner.open();
  manual.advance(9000);
  t.is((await runner.run({ argv: ['no-such-program'] })).error?.code, 'command-not-found');
  manual.advance(9999);
  t.false(far.destroyed);
  heldUpMs = 1001;
  manual.advance(1);
  t.false(far.destroyed);
  manual.advance(9999);
  t.false(far.destroyed);
  manual.advance(1);
  t.true(far.destroyed);
});

test('R-EXEC-3: the time begins again when another START is complete, and when its command has been started', async (t) => {
  const clock = new ManualClock();
  const { gate, openPipes } = gatedPipes();
  const runner = new TestRunner(t, { clock, openPipes });
  const { far } = runner.open();
  clock.advance(9999);
  const other = runner.call({ argv: ['sleep', '1000'] });
  await eventually(() => runner.runner.runningCount === 1, { what: 'the other START' });
  clock.advance(9999);
  t.false(far.destroyed);
  gate.resolve();
  await other.started;
  // The note follows the record.
  await new Promise((resolve) => setImmediate(resolve));
  clock.advance(9999);
  t.false(far.destroyed);
  clock.advance(1);
  t.true(far.destroyed);
});

/** A call whose caller has sent these bytes. */
function sending(runner: TestRunner, bytes: Buffer): Opened {
  const opened = runner.open();
  opened.caller.stream.write(bytes);
  return opened;
}

/** A START with a payload of this number of bytes. */
function startOf(bytes: number, argv: readonly string[] = ['true']): Buffer {
  const rest = encodeStart({ argv, env: { LANG: '' } }).length - RECORD_HEADER_BYTES;
  return encodeStart({ argv, env: { LANG: 'x'.repeat(bytes - rest) } });
}

test('all calls share one budget for incomplete STARTs', async (t) => {
  const runner = new TestRunner(t, { maxStartBytes: 100_000 });
  const holder = sending(runner, startOf(60_000).subarray(0, 10));
  const refused = sending(runner, startOf(40_001));
  t.deepEqual((await refused.caller.exit).error, {
    code: 'too-many-streams',
    message: 'no room for a START of 40001 bytes: others use 60000 of 100000',
  });
  const fitting = sending(runner, startOf(40_000));
  t.is((await fitting.caller.exit).status, 0);
  holder.caller.stream.write(startOf(60_000).subarray(10));
  t.is((await holder.caller.exit).status, 0);
});

test('a START is counted until its command runs', async (t) => {
  const { gate, openPipes } = gatedPipes();
  const runner = new TestRunner(t, { maxStartBytes: 100_000, openPipes });
  const [waiting, gone] = [60_000, 40_000].map((bytes) => sending(runner, startOf(bytes, ['sleep', '1000']))) as [
    Opened,
    Opened,
  ];
  await eventually(() => runner.runner.runningCount === 2, { what: 'two calls' });
  gone.far.destroy();
  await eventually(() => runner.runner.unfinished.length > 0, { what: 'the end of the stream' });
  t.deepEqual(runner.runner.unfinished, ['a command that starts']);
  const refused = sending(runner, START);
  t.regex((await refused.caller.exit).error?.message ?? '', /others use 100000 of 100000/);
  gate.resolve();
  await waiting.caller.started;
  await eventually(() => runner.runner.runningCount === 1, { what: 'the end of the command of the closed stream' });
  const next = sending(runner, startOf(100_000));
  t.is((await next.caller.exit).status, 0);
});

test('the budget is fully released, however a START ends', async (t) => {
  const runner = new TestRunner(t, { maxStartBytes: 100_000 });
  const longStart = startOf(100_000);
  for (const end of [
    ({ caller }: Opened) => caller.stream.destroy(),
    ({ far }: Opened) => far.destroy(),
    ({ caller }: Opened) => caller.stream.end(),
    ({ caller }: Opened) => caller.stream.write(Buffer.alloc(100_000, 'x')),
  ]) {
    const opened = sending(runner, longStart.subarray(0, 100));
    const closed = new Promise((resolve) => opened.far.once('close', resolve));
    end(opened);
    await opened.caller.exit.catch(() => undefined);
    opened.caller.stream.end();
    await closed;
  }
  const unknown = sending(runner, startOf(100_000, ['no-such-program']));
  t.is((await unknown.caller.exit).error?.code, 'command-not-found');
  const last = sending(runner, longStart);
  t.is((await last.caller.exit).status, 0);
});

test('input after EXIT is dropped', async (t) => {
  const caller = new TestRunner(t).call({ argv: ['true'] });
  await caller.exit;
  caller.stream.write(Buffer.alloc(1_000_000, 255));
  caller.stream.end();
  await eventually(() => caller.stream.writableFinished, { what: 'the end of the stream' });
  t.is(caller.said.at(-1), 'EXIT');
});

test('arbitrary bytes end the stream or run nothing', async (t) => {
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
      const code = await caller.exit.then(
        ({ error }) => error?.code,
        (error: unknown) => toVproxyError(error).code,
      );
      // Only this is valid.
      const isList = Buffer.concat(chunks).indexOf(encodeRecord(EXEC_KIND.LIST, '')) === 0;
      if (isList) t.deepEqual(caller.said, ['JOBS']);
      else t.true(code === 'bad-argument' || code === 'protocol-error', code);
    }),
  );
  t.deepEqual(runner.events, []);
});

type Opened = ReturnType<TestRunner['open']>;
