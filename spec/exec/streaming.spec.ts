/** Large inputs and outputs: complete, in bounded memory, concurrently, over streams of a session. */
import { createHash, randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { STDIN_CREDIT_BYTES } from '../../lib/services/exec/exec-messages.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { RECORD_HEADER_BYTES } from '../../lib/util/bytes/records.js';
import { ExecCaller, TestRunner } from '../helpers/exec-peers.js';
import { sha256 } from '../helpers/files.js';
import { carryOn, carryUntil, SessionPair } from '../helpers/session-pair.js';
import { eventually, untilStill } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const MEGABYTE = 2 ** 20;

/** Hashes both outputs of a call as they arrive. */
function hashing(caller: ExecCaller): { digests: () => string[]; bytes: () => number } {
  const hashes = [createHash('sha256'), createHash('sha256')];
  let count = 0;
  caller.onOutput = (fd, bytes) => {
    hashes[fd - 1]?.update(bytes);
    count += bytes.length;
  };
  return { digests: () => hashes.map((hash) => hash.digest('hex')), bytes: () => count };
}

/** Sends bytes as standard input within the credit, then EOF. */
async function feed(caller: ExecCaller, bytes: Buffer, pieceBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes);
    await eventually(() => at + piece.length <= STDIN_CREDIT_BYTES + caller.creditBytes, {
      what: 'credit',
      intervalMs: 0,
    });
    caller.input(piece);
  }
  caller.endInput();
}

for (const pieceBytes of [100_000, 7]) {
  test(`input in pieces of ${pieceBytes} bytes comes back as it was sent, within its credit`, async (t) => {
    const bytes = randomBytes(pieceBytes === 7 ? 300_000 : MEGABYTE);
    const caller = new TestRunner(t).call({ argv: ['cat'] });
    const { digests } = hashing(caller);
    await feed(caller, bytes, pieceBytes);
    t.is((await caller.exit).status, 0);
    // One credit record per half of the window, not per piece.
    t.true(caller.creditCount <= bytes.length / (STDIN_CREDIT_BYTES / 2));
    t.is(digests()[0], sha256(bytes));
  });
}

test('credit is returned as the command reads, and not before', async (t) => {
  const caller = new TestRunner(t).call({
    argv: ['sh', '-c', 'trap : USR1; echo ready; sleep 1000 & wait; exec cat > /dev/null'],
  });
  await eventually(() => caller.stdout === 'ready\n', { what: 'the handler' });
  // The kernel's pipe holds 64 KiB, less than the step.
  caller.input(Buffer.alloc(STDIN_CREDIT_BYTES));
  for (let turn = 0; turn < 100; turn += 1) await setImmediate();
  t.is(caller.creditBytes, 0);
  caller.signal('SIGUSR1');
  await eventually(() => caller.creditBytes > 0, { what: 'credit' });
  t.true(caller.creditBytes >= STDIN_CREDIT_BYTES / 2);
  caller.endInput();
  await caller.exit;
});

test('input that is no longer read is dropped, and its credit returned', async (t) => {
  const caller = new TestRunner(t).call({ argv: ['sh', '-c', 'exec 0<&-; kill -STOP $$; echo done'] });
  await caller.started;
  await feed(caller, Buffer.alloc(2 * MEGABYTE), 65_536);
  t.true(caller.creditBytes >= 2 * MEGABYTE - STDIN_CREDIT_BYTES);
  // Repeat SIGCONT: the command may not have stopped yet.
  const goOn = setInterval(() => caller.signal('SIGCONT'), 20);
  t.teardown(() => clearInterval(goOn));
  t.is((await caller.exit).status, 0);
});

test('a caller that does not read blocks the command, and this process buffers little', async (t) => {
  const runner = new TestRunner(t);
  const { caller, far } = runner.open();
  const { bytes } = hashing(caller);
  let produced = 0;
  const write = far.write.bind(far) as (chunk: Buffer, onWritten?: () => void) => boolean;
  far.write = ((chunk: Buffer, onWritten?: () => void) => {
    produced += chunk.length;
    return write(chunk, onWritten);
  }) as typeof far.write;
  caller.start({ argv: ['head', '-c', String(16 * MEGABYTE), '/dev/zero'] });
  await caller.started;
  caller.stream.pause();
  // Unblocked, it would be over by then.
  await untilStill(() => produced, { intervalMs: 200 });
  t.true(produced < MEGABYTE, `${produced} bytes were written for a caller that reads none`);
  t.true(caller.stream.readableLength + far.writableLength < MEGABYTE);
  caller.stream.resume();
  t.is((await caller.exit).status, 0);
  t.is(bytes(), 16 * MEGABYTE);
});

test('twenty commands at once each have their own input, output and status', async (t) => {
  const runner = new TestRunner(t);
  const callers = Array.from({ length: 20 }, (_, index) =>
    runner.call({ argv: ['sh', '-c', `cat; echo e${index} >&2; exit ${index}`] }),
  );
  await Promise.all(callers.map((caller) => caller.started));
  t.is(runner.runner.runningCount, 20);
  for (const [index, caller] of callers.entries()) caller.input(`input ${index}`).endInput();
  for (const [index, caller] of callers.entries()) {
    t.is((await caller.exit).status, index);
    t.deepEqual([caller.stdout, caller.stderr], [`input ${index}`, `e${index}\n`]);
  }
  t.is(runner.runner.runningCount, 0);
});

test('over a session: a stream reset and the end of the session end the command', async (t) => {
  const runner = new TestRunner(t);
  const pair = new SessionPair();
  pair.establish();
  pair.b.session.server = { serve: (stream) => runner.runner.serve(MuxStream.accept(pair.b.session, stream)) };
  const open = () => new ExecCaller(MuxStream.open(pair.a.session, 'exec', 'here'));
  const [first, second] = [open(), open()];
  for (const caller of [first, second]) caller.start({ argv: ['sleep', '1000'] });
  const firstPid = await carryUntil(pair, first.started);
  const secondPid = await carryUntil(pair, second.started);
  first.stream.destroy();
  await carryOn(pair);
  await eventually(() => !isRunning(firstPid), { what: 'the end of the first' });
  t.true(isRunning(secondPid));
  t.is(runner.events[0]?.fields['from'], 'here');
  pair.a.restart();
  await carryOn(pair);
  await eventually(() => !isRunning(secondPid), { what: 'the end of the second' });
});

test('output is sent in chunks of one record each, long ones without a copy', async (t) => {
  const runner = new TestRunner(t);
  const { caller, far } = runner.open();
  const long: boolean[] = [];
  const write = far.write.bind(far) as (chunk: Buffer, onWritten?: () => void) => boolean;
  far.write = ((chunk: Buffer, onWritten?: () => void) => {
    t.is(chunk.readUInt32BE(1), chunk.length - RECORD_HEADER_BYTES);
    // A copy would have memory of its own size.
    if (chunk.length > 5000) long.push(chunk.buffer.byteLength > chunk.length);
    return write(chunk, onWritten);
  }) as typeof far.write;
  caller.start({ argv: ['sh', '-c', 'printf short; head -c 500000 /dev/zero'] });
  await caller.exit;
  t.true(long.length > 0 && !long.includes(false));
});

test('what a command writes in many short pieces is sent in few', async (t) => {
  const { caller, far } = new TestRunner(t).open();
  let count = 0;
  const write = far.write.bind(far) as (chunk: Buffer, onWritten?: () => void) => boolean;
  far.write = ((chunk: Buffer, onWritten?: () => void) => {
    count += 1;
    return write(chunk, onWritten);
  }) as typeof far.write;
  caller.start({ argv: ['awk', 'BEGIN { for (i = 0; i < 50000; i++) { print "123456789"; fflush() } }'] });
  t.is((await caller.exit).status, 0);
  t.is(caller.stdout.length, 500_000);
  t.true(count < 10_000, `${count} pieces`);
});
