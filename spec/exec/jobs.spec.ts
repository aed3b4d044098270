/** Jobs: commands that outlive their caller, their kept output, and their readers (R-JOBS-1 to 7). */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import { commandFacts } from '../../lib/services/exec/command-log.js';
import {
  EXEC_KIND,
  type ExecRequest,
  encodeStart,
  MAX_JOBS,
  MAX_KEEP_BYTES,
} from '../../lib/services/exec/exec-messages.js';
import type { Job } from '../../lib/services/exec/jobs/job.js';
import { listJobs, readJob, startJob, stopJob } from '../../lib/services/exec/jobs/job-calls.js';
import {
  decodeJobRequest,
  decodeJobs,
  encodeJson,
  type JobPiece,
  type JobPlace,
} from '../../lib/services/exec/jobs/job-messages.js';
import { JobTable } from '../../lib/services/exec/jobs/job-table.js';
import { KeptOutput } from '../../lib/services/exec/jobs/kept-output.js';
import type { JobStatus } from '../../lib/status/types.js';
import { Accounts, type UserAccount } from '../../lib/system/accounts.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/bytes/records.js';
import { systemClock } from '../../lib/util/clock.js';
import { duplexPair, resettingPair } from '../helpers/channel-pair.js';
import { TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { openFiles } from '../helpers/measures.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { bestTurnMs } from '../helpers/turn-time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const KEEP = 1_048_576;

test('R-JOBS-3: a list that has no room is not made', async (t) => {
  const made = { lists: 0 };
  class CountingTable extends JobTable {
    override list(): JobStatus[] {
      made.lists += 1;
      return super.list();
    }
    override get mostListBytes(): number {
      return made.lists < 3 ? super.mostListBytes : 2 ** 30;
    }
  }
  const runner = new TestRunner(t, { jobs: new CountingTable(systemClock) });
  for (let count = 0; count < 3; count += 1) t.deepEqual(await list(runner), []);
  await t.throwsAsync(list(runner), { code: 'too-many-streams' });
  t.is(made.lists, 3);
});

/** A stream to the runner. */
function open(runner: TestRunner): Duplex {
  const [near, far] = resettingPair();
  runner.runner.serve(far);
  return near;
}

const request = (script: string, { tag = null as string | null, keepBytes = KEEP } = {}): ExecRequest => ({
  argv: ['sh', '-c', script],
  detach: { tag, keepBytes },
});

const start = (runner: TestRunner, script: string, options = {}) =>
  startJob(() => open(runner), request(script, options));

const list = (runner: TestRunner): Promise<JobStatus[]> => listJobs(open(runner));

const ended = (runner: TestRunner, id: string): Promise<unknown> =>
  eventually(async () => (await list(runner)).find((job) => job.id === id)?.endedAt !== null, { what: 'its end' });

/** Reads a job to its end, or until `isEnough`. */
async function read(
  runner: TestRunner,
  id: string,
  place: JobPlace = { from: 0 },
  isEnough: (byteCount: number) => boolean = () => false,
) {
  const pieces: JobPiece[] = [];
  const bytes: Buffer[] = [];
  let byteCount = 0;
  for await (const piece of readJob(() => open(runner), id, place)) {
    pieces.push(piece);
    if (piece.kind !== 'output') continue;
    bytes.push(piece.bytes);
    byteCount += piece.bytes.length;
    if (isEnough(byteCount)) break;
  }
  const [last] = pieces.slice(-1);
  return {
    pieces,
    output: Buffer.concat(bytes),
    result: last?.kind === 'end' ? last.result : null,
    gaps: pieces.flatMap((piece) => (piece.kind === 'gap' ? [[piece.at, piece.droppedBytes]] : [])),
  };
}

test('R-JOBS-2: what is kept of an output are its last bytes, by number', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 9000 }),
      fc.array(fc.uint8Array({ maxLength: 6000 })),
      (keepBytes, writes) => {
        const output = new KeptOutput(keepBytes);
        let all = Buffer.alloc(0);
        for (const bytes of writes) {
          output.write(Buffer.from(bytes));
          all = Buffer.concat([all, bytes]);
          const found: Buffer[] = [];
          for (let at = output.keptFrom; at < output.byteCount; ) {
            const view = output.view(at, 1000);
            found.push(Buffer.from(view));
            at += view.length;
          }
          t.is(output.byteCount, all.length);
          t.true(Buffer.concat(found).equals(all.subarray(Math.max(0, all.length - keepBytes))));
        }
      },
    ),
  );
});

test('R-JOBS-1: a job has no input, one output in order, and outlives its stream', async (t) => {
  const runner = new TestRunner(t);
  const { id, pid } = await start(
    runner,
    'readlink /proc/self/fd/0; for i in 1 2 3; do echo $i; echo e$i >&2; done; exit 7',
  );
  t.regex(id, /^[0-9a-f]{8}$/);
  const { output, result } = await read(runner, id);
  t.is(output.toString(), '/dev/null\n1\ne1\n2\ne2\n3\ne3\n');
  t.like(result, { status: 7, signal: null, timedOut: false, error: null });
  const [begun, over] = runner.events;
  t.deepEqual([begun?.event, over?.event], ['exec-started', 'exec-ended']);
  t.like(begun?.fields, { job: id, pid });
  t.like(over?.fields, { job: id, pid, status: 7, outputBytes: output.length });
  t.true(begun?.message.endsWith(`PID ${pid}, job ${id}`));
  const running = await start(runner, 'exec sleep 1000');
  t.is((await list(runner)).at(-1)?.id, running.id);
  t.deepEqual(runner.runner.unfinished, []);
});

test('R-JOBS-1: both outputs are one pipe, which can be reopened', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(
    runner,
    'echo out > /dev/stdout; echo err > /dev/stderr; test /dev/fd/1 -ef /dev/fd/2 && echo one',
  );
  t.is((await read(runner, id)).output.toString(), 'out\nerr\none\n');
});

test('R-JOBS-1: without pipes a job has sockets', async (t) => {
  const runner = new TestRunner(t, { openPipes: () => Promise.resolve(null) });
  const { id } = await start(runner, 'echo out; sleep 0.1; echo err >&2');
  t.is((await read(runner, id)).output.toString(), 'out\nerr\n');
});

test('R-JOBS-1: a job that cannot be run is answered with the reason, and takes no room', async (t) => {
  const runner = new TestRunner(t);
  const job = { argv: ['no-such-command-x'], detach: { keepBytes: MAX_KEEP_BYTES } };
  // More than have room.
  for (let turn = 0; turn < 5; turn += 1)
    await t.throwsAsync(
      startJob(() => open(runner), job),
      { code: 'command-not-found' },
    );
  t.deepEqual([await list(runner), new Set(runner.eventNames())], [[], new Set(['exec-refused'])]);
});

test('R-JOBS-1: rules and the timeout hold for jobs, too', async (t) => {
  const runner = new TestRunner(t, { rules: { commands: ['/usr/bin/sleep'] } });
  await t.throwsAsync(start(runner, 'true'), { code: 'command-denied' });
  const { id } = await startJob(() => open(runner), {
    ...request(''),
    argv: ['/usr/bin/sleep', '1000'],
    timeoutMs: 50,
  });
  t.like((await read(runner, id)).result, { status: null, signal: 'SIGTERM', timedOut: true });
});

test('R-JOBS-1: jobs that run leave no room for others: by number, and by the output that they keep', async (t) => {
  const sleep = 'exec sleep 1000';
  for (const [keepBytes, count] of [
    [KEEP, MAX_JOBS],
    [MAX_KEEP_BYTES, 4],
  ] as const) {
    const runner = new TestRunner(t);
    const begin = () => start(runner, sleep, { keepBytes });
    const [first] = await Promise.all(Array.from({ length: count }, begin));
    const message = `no room to keep 1 bytes of output: ${count} jobs run and keep 67108864 (max 64 jobs, 67108864 bytes)`;
    await t.throwsAsync(start(runner, sleep, { keepBytes: 1 }), { code: 'too-many-streams', message });
    t.is((await list(runner)).length, count);
    t.like(await stopJob(() => open(runner), first?.id ?? ''), { signal: 'SIGTERM' });
    const { id } = await begin();
    const jobs = await list(runner);
    t.deepEqual([jobs.length, jobs.at(-1)?.id], [count, id]);
    t.false(jobs.some((job) => job.id === first?.id));
  }
});

test('R-JOBS-1: a runner that knows no jobs gets the stream reset, which ends the command', async (t) => {
  const [near, far] = resettingPair();
  far.once('data', () => far.write(encodeRecord(EXEC_KIND.STARTED, '{"pid":5}'))).on('error', () => undefined);
  await t.throwsAsync(
    startJob(() => near, request('true')),
    {
      code: 'protocol-error',
      message: /STARTED: job is not valid/,
    },
  );
  await eventually(() => far.destroyed, { what: 'the reset' });
});

test('R-JOBS-3: jobs are listed with what is known of them', async (t) => {
  const runner = new TestRunner(t);
  const { id, pid } = await start(runner, 'echo 12345; exec sleep 1000', { tag: 'näme', keepBytes: 2 });
  await eventually(async () => (await list(runner))[0]?.bytes === 6);
  const [job] = await list(runner);
  const argv = ['sh', '-c', 'echo 12345; exec sleep 1000'];
  const { username: user } = os.userInfo();
  const facts = { id, tag: 'näme', argv, user, pid, bytes: 6, keptFrom: 4, timedOut: false };
  t.like(job, { ...facts, endedAt: null, status: null, signal: null });
  t.true(Math.abs(Date.parse(job?.startedAt ?? '') - Date.now()) < 60_000);
  await stopJob(() => open(runner), id);
  t.like((await list(runner))[0], { ...facts, status: null, signal: 'SIGTERM' });
  t.regex((await list(runner))[0]?.endedAt ?? '', /Z$/);
});

test('R-JOBS-3: the list of the most jobs with the longest words fits a record', (t) => {
  const table = new JobTable(systemClock);
  const long = '\u0001'.repeat(10_000);
  const facts = commandFacts({ argv: Array.from({ length: 33 }, () => long), user: long, cwd: null, from: null });
  const execution = { terminate: () => undefined, stop: () => Promise.resolve() };
  for (let count = 0; count < MAX_JOBS; count += 1)
    table.add({ tag: '\u0001'.repeat(64), keepBytes: 0 }).begin({ ...facts, pid: 2 ** 31 }, execution);
  const jobs = table.list();
  const used = jobs.map((job) => ({ ...job, usage: { cpuMs: 1.5, peakBytes: null } }));
  const record = encodeJson(EXEC_KIND.JOBS, { jobs: used });
  t.true(record.length < 200_000, `${record.length}`);
  t.deepEqual(decodeJobs(record.subarray(5)), used);
  for (const usage of [1, { cpuMs: -1, peakBytes: 1 }, { cpuMs: 1 }]) {
    const wrong = encodeJson(EXEC_KIND.JOBS, { jobs: jobs.map((job) => ({ ...job, usage })) }).subarray(5);
    t.throws(() => decodeJobs(wrong), { code: 'protocol-error', message: /usage/ });
  }
  for (const startedAt of ['2026', '2026-02-30T25:00:00Z', '2026-01-31 12:00:00Z', '2026-01-31T12:00:00']) {
    const wrong = encodeJson(EXEC_KIND.JOBS, { jobs: jobs.map((job) => ({ ...job, startedAt })) }).subarray(5);
    t.throws(() => decodeJobs(wrong), { code: 'protocol-error' }, startedAt);
  }
  t.is(jobs[0]?.argv.length, 8);
});

test('R-JOBS-3: words of a list are cut as JSON, and stay text', (t) => {
  const table = new JobTable(systemClock);
  const facts = commandFacts({
    argv: [`x${'😀'.repeat(200)}`, '"'.repeat(2000), 'last'],
    user: 'me',
    cwd: null,
    from: null,
  });
  const execution = { terminate: () => undefined, stop: () => Promise.resolve() };
  table.add({ keepBytes: 0 }).begin({ ...facts, pid: 2 }, execution);
  const argv = table.list()[0]?.argv ?? [];
  t.is(argv.join(''), Buffer.from(argv.join('')).toString());
  t.true(Buffer.byteLength(JSON.stringify(argv)) < 2100);
});

test('R-JOBS-3: lists that nobody reads are bounded', async (t) => {
  const runner = new TestRunner(t);
  const script = `exec sleep 1000 ${'\u0001'.repeat(2000)}`;
  // A list is longer than the buffer of a stream, which is 64 KiB on newer versions of Node.
  await Promise.all(Array.from({ length: 60 }, () => start(runner, script, { keepBytes: 0 })));
  const leaveUnread = async () => {
    const ask = () => {
      const [near, far] = resettingPair();
      runner.runner.serve(far);
      near.on('error', () => undefined).write(encodeRecord(EXEC_KIND.LIST, ''));
      return { near, far };
    };
    const unread: ReturnType<typeof ask>[] = [];
    // What a list has reserved and does not need is free once it is made.
    for (let hasRoom = true; hasRoom; ) {
      const more = Array.from({ length: 100 }, ask);
      unread.push(...more);
      await eventually(() => more.every(({ far }) => far.writableEnded), { what: 'the answers' });
      hasRoom = more.some(({ far }) => far.writableLength > 1000);
    }
    const heldBytes = unread.reduce((sum, { far }) => sum + far.writableLength, 0);
    t.true(heldBytes <= 2_200_000, `${heldBytes}`);
    await t.throwsAsync(list(runner), { code: 'too-many-streams' });
    for (const { near } of unread) near.destroy();
  };
  await leaveUnread();
  await eventually(async () => (await list(runner)).length === 60);
  // Lists that were read count once.
  for (let count = 0; count < 20; count += 1) await list(runner);
  await leaveUnread();
});

test('R-JOBS-3: a command that does not start costs no ended job its place', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'echo kept', { keepBytes: MAX_KEEP_BYTES });
  await ended(runner, id);
  await Promise.all(Array.from({ length: 3 }, () => start(runner, 'exec sleep 1000', { keepBytes: MAX_KEEP_BYTES })));
  const job = { argv: ['no-such-command-x'], detach: { keepBytes: MAX_KEEP_BYTES } };
  await t.throwsAsync(
    startJob(() => open(runner), job),
    { code: 'command-not-found' },
  );
  t.is((await read(runner, id)).output.toString(), 'kept\n');
});

test('R-JOBS-5: a forgotten job frees its output, and tells its readers', async (t) => {
  const jobs = new JobTable(systemClock);
  const runner = new TestRunner(t, { jobs });
  const { id } = await start(runner, 'head -c 1000000 /dev/zero', { keepBytes: MAX_KEEP_BYTES });
  await ended(runner, id);
  const job = jobs.find(id) as Job;
  const reader = readJob(() => open(runner), id, { from: 0 });
  await reader.next();
  for (let count = 0; count < 4; count += 1) await start(runner, 'exec sleep 1000', { keepBytes: MAX_KEEP_BYTES });
  const message = `job "${id}" is no longer kept: others needed its room`;
  await t.throwsAsync(
    (async () => {
      for await (const piece of reader) t.is(piece.kind, 'output');
    })(),
    { code: 'not-found', message },
  );
  t.is(job.kept.heldBytes, 0);
});

test('R-JOBS-5: a thousand readers that do not read hold a bounded amount', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'head -c 1000000 /dev/zero; exec sleep 1000');
  const request = encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id }));
  const readers = Array.from({ length: 1000 }, () => {
    const [near, far] = resettingPair();
    runner.runner.serve(far);
    near.on('error', () => undefined).write(request);
    return { near, far };
  });
  await eventually(() => readers.every(({ near, far }) => near.readableLength + far.writableLength > 4000), {
    what: 'output for all',
  });
  const heldBytes = readers.reduce((sum, { far }) => sum + far.writableLength, 0);
  t.true(heldBytes < 30_000_000, `${heldBytes}`);
  for (const { near } of readers) near.destroy();
});

test.serial('a thousand readers of a job hold up no turn of the event loop', async (t) => {
  const jobs = new JobTable(systemClock);
  const runner = new TestRunner(t, { jobs });
  const { id } = await start(runner, 'exec sleep 1000');
  const request = encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id }));
  const job = jobs.find(id) as Job;
  let gotCount = 0;
  for (let count = 0; count < 1000; count += 1) {
    const near = open(runner);
    near
      .on('error', () => undefined)
      .on('data', (bytes: Buffer) => {
        if (bytes.includes('x')) gotCount += 1;
      });
    near.write(request);
  }
  await eventually(() => job.readerCount === 1000, { what: 'the readers' });
  const longestMs = await bestTurnMs(20, async () => {
    gotCount = 0;
    job.output(Buffer.from('x'));
    await eventually(() => gotCount >= 1000, { what: 'the byte' });
  });
  t.true(longestMs < 20, `${longestMs} ms`);
});

test('R-JOBS-3: an ended job is kept for an hour, unless others need its room', async (t) => {
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock });
  const table = new JobTable(clock);
  const result = { status: 0, signal: null, timedOut: false, durationMs: 0, usage: null, error: null };
  const jobs: Job[] = [];
  for (let count = 0; count < MAX_JOBS + 2; count += 1) {
    const job = table.add({ keepBytes: 0 });
    jobs.push(job);
    table.end(job, result);
    table.makeRoom();
  }
  t.deepEqual(
    jobs.map(({ id }) => table.find(id)),
    [undefined, undefined, ...jobs.slice(2)],
  );
  table.clear();
  t.deepEqual([table.find(jobs[5]?.id ?? ''), clock.pending], [undefined, 0]);
  const { id } = await start(runner, 'exit 3');
  await ended(runner, id);
  clock.advance(3_599_999);
  t.is((await list(runner)).length, 1);
  clock.advance(1);
  t.deepEqual(await list(runner), []);
});

test('R-JOBS-4: readers, one of which stalls and one of which returns at random bytes, read the same', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'for i in $(seq 100000); do echo $i; done');
  const all = Buffer.from(Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join(''));
  const stalling = (async () => {
    const bytes: Buffer[] = [];
    for await (const piece of readJob(() => open(runner), id, { from: 0 })) {
      if (piece.kind !== 'output') continue;
      bytes.push(piece.bytes);
      if (bytes.length === 1) await ended(runner, id);
    }
    return Buffer.concat(bytes);
  })();
  const returning = (async () => {
    let got = Buffer.alloc(0);
    for (let turn = 0; ; turn += 1) {
      const enough = turn < 10 ? Math.ceil(Math.random() * 50_000) : Number.POSITIVE_INFINITY;
      const { output, result } = await read(runner, id, { from: got.length }, (count) => count >= enough);
      const cut = turn < 10 ? output.subarray(0, enough) : output;
      got = Buffer.concat([got, cut]);
      if (turn >= 10 && result !== null) return got;
    }
  })();
  const [plain, ...others] = await Promise.all([read(runner, id), stalling, returning]);
  t.true(plain.output.equals(all));
  t.deepEqual(plain.gaps, []);
  for (const other of others) t.true(other.equals(all));
});

test('R-JOBS-4: a reader begins at a byte, before the end, or at the first kept byte, and is told what it missed', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'printf 0123456789', { keepBytes: 6 });
  await ended(runner, id);
  const at = async (place: JobPlace) => {
    const { output, gaps } = await read(runner, id, place);
    return [output.toString(), gaps];
  };
  t.deepEqual(await at({ from: 7 }), ['789', []]);
  t.deepEqual(await at({ tail: 2 }), ['89', []]);
  t.deepEqual(await at({ tail: 100 }), ['456789', []]);
  t.deepEqual(await at({ from: 1 }), ['456789', [[1, 3]]]);
  t.deepEqual(await at({ from: 100 }), ['', []]);
  t.deepEqual((await read(runner, id, {})).gaps, [[0, 4]]);
});

test('R-JOBS-4: a byte that is not yet written is waited for', async (t) => {
  const runner = new TestRunner(t);
  const release = join(temporaryFolder(t), 'release');
  const { id } = await start(runner, `printf 01234; until test -e ${release}; do sleep 0.01; done; printf 56789`);
  const reader = readJob(() => open(runner), id, { from: 7 });
  const first = reader.next();
  await eventually(async () => (await list(runner))[0]?.bytes === 5);
  writeFileSync(release, '');
  t.deepEqual((await first).value, { kind: 'output', at: 7, bytes: Buffer.from('789') });
  t.like((await reader.next()).value, { kind: 'end' });
});

test('R-JOBS-2: with nothing kept, readers learn only how much there was, and one that never reads holds nothing up', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'exec yes', { keepBytes: 0 });
  const stalled = open(runner);
  stalled.write(encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id })));
  await eventually(async () => ((await list(runner))[0]?.bytes ?? 0) > 1_000_000);
  const reading = read(runner, id);
  await stopJob(() => open(runner), id);
  const { gaps, output } = await reading;
  t.true(gaps.length > 0);
  t.is(output.length, 0);
});

test.serial('R-JOBS-4: a reader that is too slow learns where bytes were dropped', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'seq 1000000', { keepBytes: 100_000 });
  const reader = readJob(() => open(runner), id, { from: 0 });
  const pieces: JobPiece[] = [];
  for await (const piece of reader) {
    pieces.push(piece);
    if (piece.kind === 'output' && pieces.length < 4) await ended(runner, id);
  }
  let at = 0;
  const all = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => `${index + 1}\n`).join(''));
  for (const piece of pieces) {
    if (piece.kind === 'end') continue;
    t.is(piece.at, at);
    if (piece.kind === 'gap') at += piece.droppedBytes;
    if (piece.kind !== 'output') continue;
    t.true(piece.bytes.equals(all.subarray(at, at + piece.bytes.length)));
    at += piece.bytes.length;
  }
  t.is(at, all.length);
  t.true(pieces.some(({ kind }) => kind === 'gap'));
});

test.serial(
  'R-JOBS-2: jobs with endless output and readers that never read hold what is kept, and nothing up',
  async (t) => {
    const runner = new TestRunner(t);
    const keepBytes = 65_536;
    const jobs = await Promise.all(Array.from({ length: MAX_JOBS }, () => start(runner, 'exec yes', { keepBytes })));
    for (const { id } of jobs) open(runner).write(encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id })));
    const before = process.memoryUsage();
    await eventually(async () => (await list(runner)).every(({ bytes }) => bytes > 1_000_000), { timeoutMs: 60_000 });
    const grownBytes = process.memoryUsage().arrayBuffers - before.arrayBuffers;
    t.true(grownBytes < MAX_JOBS * 6 * keepBytes, `${grownBytes} bytes`);
    t.true((await list(runner)).every(({ bytes, keptFrom }) => bytes - keptFrom === keepBytes));
  },
);

test('R-JOBS-5: a reader that ends its direction is detached, and a job goes on without readers', async (t) => {
  const runner = new TestRunner(t);
  const release = join(temporaryFolder(t), 'release');
  const { id, pid } = await start(runner, `echo begun; until test -e ${release}; do sleep 0.01; done; echo end`);
  const { caller } = runner.open();
  caller.stream.write(encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id })));
  await eventually(() => caller.stdout === 'begun\n');
  caller.stream.end();
  await t.throwsAsync(caller.exit, { message: 'the stream ended without EXIT' });
  const deaf = await start(runner, 'trap "" TERM; echo ready; while :; do sleep 0.05; done');
  await read(runner, deaf.id, { from: 0 }, () => true);
  const { caller: stopper } = runner.open();
  stopper.stream.end(encodeRecord(EXEC_KIND.STOP, JSON.stringify({ id: deaf.id, killAfterMs: 1e9 })));
  await t.throwsAsync(stopper.exit, { message: 'the stream ended without EXIT' });
  t.true(isRunning(deaf.pid));
  const reset = open(runner);
  reset.on('error', () => undefined).write(encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id })));
  await once(reset, 'data');
  reset.destroy();
  t.true(isRunning(pid));
  const reading = read(runner, id);
  writeFileSync(release, '');
  t.is((await reading).output.toString(), 'begun\nend\n');
});

test('R-JOBS-5: a reader that has ended its direction before its request is read is detached, too', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'exec sleep 1000');
  for (const kind of [EXEC_KIND.ATTACH, EXEC_KIND.STOP]) {
    const [near, far] = duplexPair();
    near.resume().end(encodeRecord(kind, JSON.stringify({ id, killAfterMs: 100_000 })));
    await eventually(() => near.writableFinished && far.readableLength > 0, { what: 'its end' });
    const ended = once(near, 'end');
    runner.runner.serve(far);
    await ended;
    t.true(far.writableEnded);
  }
});

test('R-JOBS-5: readers of a silent job leave nothing behind', async (t) => {
  const jobs = new JobTable(systemClock);
  const runner = new TestRunner(t, { jobs });
  const { id } = await start(runner, 'exec sleep 1000');
  const job = jobs.find(id) as Job;
  const watch = job.watch.bind(job);
  let watchers = 0;
  job.watch = (onChange) => {
    watchers += 1;
    const unwatch = watch(onChange);
    return () => {
      watchers -= 1;
      unwatch();
    };
  };
  const streams = Array.from({ length: 10 }, () => open(runner));
  for (const stream of streams) {
    stream.on('error', () => undefined).write(encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id })));
    await once(stream, 'data');
  }
  t.is(watchers, 10);
  for (const stream of streams) stream.destroy();
  await eventually(() => watchers <= 0);
});

test('R-JOBS-6: a job is stopped as a group, killed if it ignores that, and the answer is its end', async (t) => {
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock });
  const script = 'trap "echo term" TERM; echo ready; while :; do sleep 0.01; done';
  const { id, pid } = await startJob(() => open(runner), { ...request(script), killAfterMs: 60_000 });
  await read(runner, id, { from: 0 }, () => true);
  const stopping = stopJob(() => open(runner), id);
  await eventually(async () => (await list(runner))[0]?.bytes !== 6, { what: 'the signal' });
  clock.advance(4999);
  t.true(isRunning(pid));
  clock.advance(1);
  t.like(await stopping, { status: null, signal: 'SIGKILL', error: null });
  t.like(await stopJob(() => open(runner), id), { signal: 'SIGKILL' });
});

test('R-JOBS-6: the time to KILL is that of STOP, and the earlier of two', async (t) => {
  const clock = new ManualClock();
  const jobs = new JobTable(clock);
  const runner = new TestRunner(t, { clock, jobs });
  const ignoring = { ...request('trap "" TERM; echo ready; while :; do sleep 0.01; done'), killAfterMs: 2 ** 31 - 1 };
  const { id, pid } = await startJob(() => open(runner), ignoring);
  await read(runner, id, { from: 0 }, () => true);
  const stops = [stopJob(() => open(runner), id, 9000), stopJob(() => open(runner), id, 2000)];
  await eventually(() => jobs.find(id)?.readerCount === 2, { what: 'both' });
  clock.advance(1999);
  stops.push(stopJob(() => open(runner), id, 5000));
  await eventually(() => jobs.find(id)?.readerCount === 3, { what: 'the third' });
  t.true(isRunning(pid));
  clock.advance(1);
  for (const stop of stops) t.like(await stop, { signal: 'SIGKILL' });
});

test('R-JOBS-7: a job of another channel is not found', async (t) => {
  const [runner, other] = [new TestRunner(t), new TestRunner(t)];
  const { id, pid } = await start(runner, 'exec sleep 1000');
  for (const text of [id, '', 'no-id', 'x'.repeat(1000)]) {
    await t.throwsAsync(read(other, text), { code: 'not-found', message: /^no job "/ });
    await t.throwsAsync(
      stopJob(() => open(other), text),
      { code: 'not-found' },
    );
  }
  t.true(isRunning(pid));
});

test('a stop of the runner ends its jobs, and readers get that end', async (t) => {
  const runner = new TestRunner(t);
  const { id, pid } = await start(runner, 'echo ready; exec sleep 1000');
  const reading = read(runner, id);
  await read(runner, id, { from: 0 }, () => true);
  await runner.runner.stop();
  t.like((await reading).result, { signal: 'SIGTERM' });
  t.false(isRunning(pid));
  t.deepEqual(await list(runner), []);
});

test('jobs outlive the rules that they were started by', async (t) => {
  const jobs = new JobTable(systemClock);
  const [runner, next] = [new TestRunner(t, { jobs }), new TestRunner(t, { jobs, rules: { commands: [] } })];
  const { id } = await start(runner, 'exec sleep 1000');
  t.is((await list(next))[0]?.id, id);
  t.deepEqual(
    jobs.running.map((job) => job.id),
    [id],
  );
  await jobs.running[0]?.execution?.stop();
  t.deepEqual(jobs.running, []);
  t.like((await read(next, id)).result, { signal: 'SIGTERM' });
});

test('no pipe of a job leaks', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await start(runner, 'readlink /proc/$$/fd/1; exec sleep 0');
  const pipe = (await read(runner, id)).output.toString().trim();
  t.regex(pipe, /^pipe:/);
  await eventually(() => !openFiles().includes(pipe), { what: 'the end of the pipe' });
});

const position = 'not a whole number from 0 to 9007199254740991';
const size = 'not a whole number from 1 to 65535';
const alone = 'not allowed without input';

for (const [what, bytes, expected] of [
  ['ATTACH without an id', encodeRecord(EXEC_KIND.ATTACH, '{}'), 'ATTACH: id: not a string'],
  ['ATTACH that is not JSON', encodeRecord(EXEC_KIND.ATTACH, 'x'), 'ATTACH is not a JSON object'],
  ['ATTACH from a negative byte', encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","from":-1}'), `ATTACH: from: ${position}`],
  ['ATTACH from half a byte', encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","from":0.5}'), `ATTACH: from: ${position}`],
  ['ATTACH from a text', encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","from":"1"}'), `ATTACH: from: ${position}`],
  [
    'ATTACH from and tail',
    encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","from":0,"tail":1}'),
    'ATTACH: tail: not allowed with from',
  ],
  ['ATTACH beyond all bytes', encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","tail":1e300}'), `ATTACH: tail: ${position}`],
  [
    'ATTACH for half a size',
    encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","input":true,"rows":1}'),
    `ATTACH: columns: ${size}`,
  ],
  ['ATTACH that steals nothing', encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","steal":true}'), `ATTACH: steal: ${alone}`],
  [
    'ATTACH that only resizes',
    encodeRecord(EXEC_KIND.ATTACH, '{"id":"x","columns":1,"rows":1}'),
    `ATTACH: columns: ${alone}`,
  ],
  ['STOP of a number', encodeRecord(EXEC_KIND.STOP, '{"id":9}'), 'STOP: id: not a string'],
  ['a long ATTACH', encodeRecordHeader(EXEC_KIND.ATTACH, 4097), 'ATTACH too long: 4097 bytes (max 4096)'],
  ['a LIST with a payload', encodeRecordHeader(EXEC_KIND.LIST, 1), 'LIST too long: 1 bytes (max 0)'],
] as const) {
  test(`R-EXEC-1: a request for jobs that is refused: ${what}`, async (t) => {
    const { caller } = new TestRunner(t).open();
    caller.stream.write(bytes);
    t.deepEqual((await caller.exit).error, { code: 'bad-argument', message: expected });
  });
}

test('LIST after START is a protocol error', async (t) => {
  const runner = new TestRunner(t);
  const { caller } = runner.open();
  caller.stream.write(Buffer.concat([encodeStart({ argv: ['true'] }), encodeRecord(EXEC_KIND.LIST, '')]));
  await t.throwsAsync(caller.exit, { code: 'protocol-error', message: /LIST after/ });
  await runner.idle();
});

test('R-JOBS-7: null is as if absent, and what follows a request is ignored', async (t) => {
  const place = { from: undefined, tail: undefined, killAfterMs: undefined, input: undefined, columns: undefined };
  t.like(decodeJobRequest(Buffer.from('{"id":"x","from":null,"input":null}'), 'ATTACH'), { id: 'x', ...place });
  const runner = new TestRunner(t);
  const near = open(runner);
  const jobs = listJobs(near);
  near.write(Buffer.alloc(100_000, 255));
  t.deepEqual(await jobs, []);
});

test('a peer that does not list its jobs is given 10 s', async (t) => {
  const clock = new ManualClock();
  const [near, far] = duplexPair();
  far.on('error', () => undefined).resume();
  const jobs = listJobs(near, clock);
  clock.advance(9999);
  t.false(near.destroyed);
  clock.advance(1);
  await t.throwsAsync(jobs, { code: 'stalled', message: 'the peer did not list its jobs within 10 s' });
  t.deepEqual([near.destroyed, clock.pending], [true, 0]);
});

test('a caller that is gone before its job has started does not run it', async (t) => {
  // It goes once its START has been read, which may take more than a turn of the event loop: without it there is no event.
  class AskedAccounts extends Accounts {
    override describeUser(uid: number, gid: number): Promise<UserAccount> {
      near.destroy();
      return super.describeUser(uid, gid);
    }
  }
  const runner = new TestRunner(t, { system: { accounts: new AskedAccounts() } });
  const near = open(runner);
  near.on('error', () => undefined).write(encodeStart(request('exec sleep 1000')));
  await eventually(() => runner.eventNames().length > 0);
  t.deepEqual([runner.eventNames(), await list(runner)], [['exec-refused'], []]);
});
