/** Jobs with an input, their terminals and their writers, by records: for any runner (R-JOBS-1, R-JOBS-8). */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import {
  EXEC_KIND,
  type ExecRequest,
  encodeResize,
  STDIN_CREDIT_BYTES,
} from '../../lib/services/exec/exec-messages.js';
import { listJobs, startJob } from '../../lib/services/exec/jobs/job-calls.js';
import { encodeJson } from '../../lib/services/exec/jobs/job-messages.js';
import type { JobStatus } from '../../lib/status/types.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { ExecCaller } from '../helpers/exec-peers.js';
import type { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

type Open = () => Promise<Duplex>;

const TERMINAL = { columns: 80, rows: 24, term: 'dumb' };

/** Answers each line. Nothing is echoed, so that its output does not depend on when that was switched off. */
const SHELL =
  'stty -echo; echo ready; while read -r line; do if test "$line" = size; then stty size; else echo "got $line"; fi; done; exit 3';

/** Declares the tests; `start` resolves with what opens streams to the service. */
export function testWriters(test: ReturnType<typeof serialTestWith>, start: (t: ExecutionContext) => Promise<Open>) {
  async function startJobs(t: ExecutionContext) {
    const open = await start(t);
    const begin = (script: string, request: Partial<ExecRequest> = {}) =>
      startJob(open, { argv: ['sh', '-c', script], detach: {}, ...request });
    const attach = async (id: string, fields: object = { input: true }): Promise<ExecCaller> => {
      const caller = new ExecCaller(await open());
      caller.stream.write(encodeJson(EXEC_KIND.ATTACH, { id, ...fields }));
      return caller;
    };
    const status = async (id: string) => (await listJobs(await open())).find((job) => job.id === id) as JobStatus;
    const shows = (caller: ExecCaller, text: string) =>
      eventually(() => caller.stdout.includes(text), { what: `the output ${text}` });
    const detached = (id: string) => eventually(async () => !(await status(id)).hasWriter, { what: 'its end' });
    return { open, begin, attach, status, shows, detached };
  }

  /** Ends the caller's direction; resolves when the runner has ended the stream, without EXIT. */
  async function leave({ stream }: ExecCaller): Promise<void> {
    const ended = once(stream, 'end');
    stream.end();
    await ended;
  }

  test('R-JOBS-8: a writer types into the terminal of a job, resizes it, and ends its input', async (t) => {
    const { begin, attach, status, shows } = await startJobs(t);
    const { id } = await begin(SHELL, { terminal: TERMINAL });
    t.like(await status(id), { terminal: true, takesInput: true, hasWriter: false });
    const caller = await attach(id, { input: true, columns: 100, rows: 30 });
    await shows(caller, 'ready\r\n');
    t.like(await status(id), { terminal: true, takesInput: true, hasWriter: true });
    t.deepEqual([caller.said[0], caller.creditBytes], ['FROM', STDIN_CREDIT_BYTES]);
    caller.input('hello\rsize\r');
    await shows(caller, 'got hello\r\n30 100\r\n');
    caller.stream.write(encodeResize({ columns: 120, rows: 40 }));
    caller.input('size\r');
    await shows(caller, '40 120\r\n');
    t.is((await caller.endInput().exit).status, 3);
    t.like(await status(id), { terminal: true, takesInput: false, status: 3 });
  });

  test('R-JOBS-8: a job has one writer, until it leaves or another one takes over', async (t) => {
    const { begin, attach, status, shows } = await startJobs(t);
    const { id } = await begin('cat', { hasInput: true });
    t.like(await status(id), { terminal: false, takesInput: true });
    const first = (await attach(id)).input('one ');
    await shows(first, 'one ');
    const refused = await attach(id, { input: true, from: 0 });
    t.is((await refused.exit).error?.code, 'input-taken');
    t.deepEqual(refused.said, ['EXIT']);
    const thief = (await attach(id, { input: true, steal: true })).input('two');
    t.is((await first.exit).error?.code, 'input-taken');
    first.input('dropped');
    t.true((await status(id)).hasWriter);
    t.is((await thief.endInput().exit).status, 0);
    t.is(thief.stdout, 'one two');
  });

  for (const [how, go] of [
    ['its end', leave],
    ['a reset', ({ stream }: ExecCaller) => void stream.destroy()],
    ['a protocol error', ({ stream }: ExecCaller) => void stream.write(Buffer.from([99, 0, 0, 0, 0]))],
  ] as const) {
    test(`R-JOBS-8: ${how} detaches a writer, and leaves the input to the next one`, async (t) => {
      const { begin, attach, shows, detached } = await startJobs(t);
      const { id } = await begin('cat', { hasInput: true });
      const first = (await attach(id)).input('one ');
      await shows(first, 'one ');
      await go(first);
      await detached(id);
      const second = (await attach(id)).input('two');
      t.is((await second.endInput().exit).status, 0);
      t.is(second.stdout, 'one two');
    });
  }

  test('R-JOBS-8: all that was sent before the end of the direction reaches the command', async (t) => {
    const { begin, attach } = await startJobs(t);
    const { id } = await begin('head -c 200000 | wc -c', { hasInput: true });
    const caller = await attach(id);
    for (let at = 0; at < 200_000; at += 1000) caller.input(Buffer.alloc(1000));
    await leave(caller);
    const reader = await attach(id, {});
    t.is((await reader.exit).status, 0);
    t.is(reader.stdout.trim(), '200000');
  });

  for (const isReset of [false, true])
    for (const steal of [false, true])
      test(`R-JOBS-8: who comes while a writer leaves by a ${isReset ? 'reset' : 'FIN'}, ${steal ? 'stealing' : 'asking'}, is next`, async (t) => {
        const { open, begin, attach } = await startJobs(t);
        const { id } = await begin('cat', { hasInput: true });
        const [first, second] = [await attach(id), new ExecCaller(await open())];
        const records = Array.from({ length: 8000 }, () => encodeRecord(EXEC_KIND.STDIN, 'x'));
        first.stream.write(Buffer.concat(records));
        if (isReset) await once(first.stream.destroy(), 'close');
        // A busy link takes the end later than an ATTACH on another stream.
        else await once(first.stream.end(), 'finish');
        second.stream.write(encodeJson(EXEC_KIND.ATTACH, { id, input: true, steal, from: 0 }));
        t.is((await second.input('two').endInput().exit).status, 0);
        t.regex(second.stdout, isReset ? /^x*two$/ : /^x{8000}two$/);
      });

  test('R-JOBS-8: what follows an EOF of an earlier writer is dropped; after its own it is an error', async (t) => {
    const { begin, attach, status, shows, detached } = await startJobs(t);
    const { id } = await begin('cat; echo over; exec sleep 1000', { hasInput: true });
    const first = (await attach(id)).input('one ').endInput();
    await shows(first, 'one over\n');
    await leave(first);
    await detached(id);
    t.like(await status(id), { takesInput: false, endedAt: null });
    const second = await attach(id);
    for (let round = 1; round <= 3; round += 1) {
      await eventually(() => second.creditBytes >= round * STDIN_CREDIT_BYTES, { what: 'credit' });
      for (let at = 0; at < 4; at += 1) second.input(Buffer.alloc(STDIN_CREDIT_BYTES / 4));
    }
    second.endInput().input('x');
    await t.throwsAsync(second.exit);
    await detached(id);
    t.is((await (await attach(id)).signal('SIGKILL').exit).signal, 'SIGKILL');
  });

  test('R-JOBS-8: the credit of a writer is what earlier input has left, and signals need none', async (t) => {
    const { begin, attach, detached } = await startJobs(t);
    const { id } = await begin('exec sleep 1000', { hasInput: true });
    const first = await attach(id);
    for (let at = 0; at < 4; at += 1) first.input(Buffer.alloc(STDIN_CREDIT_BYTES / 4));
    await leave(first);
    await detached(id);
    const [second, reader] = [await attach(id), await attach(id, {})];
    await eventually(() => second.creditCount > 0, { what: 'credit' });
    t.true(second.creditBytes <= STDIN_CREDIT_BYTES / 2, `${second.creditBytes} bytes`);
    second.input(Buffer.alloc(STDIN_CREDIT_BYTES));
    await t.throwsAsync(second.exit);
    await detached(id);
    t.is((await (await attach(id)).signal('SIGTERM').exit).signal, 'SIGTERM');
    t.is((await reader.exit).signal, 'SIGTERM');
  });

  test('R-JOBS-7: a reader of a terminal writes nothing to it, whatever it sends', async (t) => {
    const { begin, attach, status, shows } = await startJobs(t);
    const { id } = await begin(SHELL, { terminal: TERMINAL });
    const reader = (await attach(id, {})).input('no\r').signal('SIGKILL').endInput();
    const writer = (await attach(id)).close(1).input('yes\r');
    for (const caller of [reader, writer]) await shows(caller, 'got yes\r\n');
    t.is(reader.creditCount, 0);
    reader.stream.destroy();
    t.true((await status(id)).hasWriter);
    await writer.endInput().exit;
    t.false(writer.stdout.includes('no'));
  });

  test('R-JOBS-8: a job without an input has no writer, and one that has ended needs none', async (t) => {
    const { begin, attach, status } = await startJobs(t);
    for (const request of [{}, { terminal: TERMINAL, hasInput: false }]) {
      const { id } = await begin('exec sleep 1000', request);
      t.like(await status(id), { takesInput: false, hasWriter: false, terminal: request.terminal !== undefined });
      const { error } = await (await attach(id)).exit;
      t.deepEqual(error, { code: 'bad-argument', message: 'ATTACH: input: the job was started without one' });
    }
    const { id } = await begin('echo over', { hasInput: true });
    await eventually(async () => (await status(id)).endedAt !== null, { what: 'its end' });
    const late = await attach(id);
    t.is((await late.exit).status, 0);
    t.deepEqual([late.said, late.stdout, late.creditCount], [['FROM', 'STDOUT', 'EXIT'], 'over\n', 0]);
  });

  test('R-JOBS-3: the list tells what the processes of a job have used, running or not', async (t) => {
    const { begin, attach, status, shows } = await startJobs(t);
    const burn = 'i=0; while test $i -lt 200000; do i=$((i+1)); done; echo burnt; read word; exit 0';
    const { id } = await begin(`(${burn}); exit 0`, { hasInput: true });
    const caller = await attach(id);
    await shows(caller, 'burnt');
    const { usage: running } = await status(id);
    t.true((running?.cpuMs ?? 0) >= 20 && (running?.peakBytes ?? 0) > 100_000, JSON.stringify(running));
    caller.input('go on\n');
    const { usage: ended } = await caller.exit;
    t.true((ended?.cpuMs ?? 0) >= 20, JSON.stringify(ended));
    t.deepEqual((await status(id)).usage, ended);
  });

  test('R-JOBS-1: a tag that is to be unique names one job at a time', async (t) => {
    const { open, begin, attach } = await startJobs(t);
    const detach = { tag: 'shell', unique: true };
    const calls = Array.from({ length: 8 }, () => begin('exec sleep 1000', { terminal: TERMINAL, detach }));
    const results = await Promise.allSettled(calls);
    const ids = results.flatMap((result) => (result.status === 'fulfilled' ? result.value.id : []));
    t.is(ids.length, 1);
    for (const result of results) {
      if (result.status !== 'rejected') continue;
      const { code, message } = result.reason as { code: string; message: string };
      t.deepEqual([code, message.slice(0, 13)], ['job-exists', `job ${ids[0]} `]);
    }
    t.is((await listJobs(await open())).length, 1);
    await (await attach(ids[0] ?? '')).signal('SIGKILL').exit;
    const { id } = await begin('exec sleep 1000', { detach });
    t.not(id, ids[0]);
    await begin('exec sleep 1000', { detach: { tag: 'shell' } });
  });

  test('R-JOBS-8: writers that come and go leave nothing behind', async (t) => {
    const { begin, attach, shows, detached } = await startJobs(t);
    const { id } = await begin('cat', { hasInput: true });
    for (let count = 0; count < 100; count += 1) {
      const caller = (await attach(id, { input: true, steal: true, tail: 0 })).input('x');
      await shows(caller, 'x');
      if (count % 2 === 0) await leave(caller);
    }
    const reader = await attach(id, {});
    await shows(reader, 'x'.repeat(100));
    t.is((await (await attach(id, { input: true, steal: true })).endInput().exit).status, 0);
    await detached(id);
  });
}
