/** Jobs with an input, in this process: what the runner of vproxy keeps of their writers, and tells of them. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { EXEC_KIND, encodeCredit, encodeExit, encodeStart } from '../../lib/services/exec/exec-messages.js';
import { listJobs, readJob, startJob } from '../../lib/services/exec/jobs/job-calls.js';
import { decodeJobs, encodeJobRequest, encodeJson } from '../../lib/services/exec/jobs/job-messages.js';
import { JobWriter } from '../../lib/services/exec/jobs/job-writer.js';
import { spawnInTerminal } from '../../lib/services/exec/pty/spawn-in-terminal.js';
import { TerminalRecorder } from '../../lib/services/exec/recording/terminal-recorder.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { systemClock } from '../../lib/util/clock.js';
import { duplexPair, resettingPair } from '../helpers/channel-pair.js';
import { ExecCaller, ExecPeer, gatedPipes, SUCCESS, TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { testWriters } from './writers.js';

const TERMINAL = { columns: 80, rows: 24, term: 'dumb' };

function open(runner: TestRunner) {
  const [near, far] = resettingPair();
  runner.runner.serve(Object.assign(far, { from: 'a program' }));
  return near;
}

testWriters(test, (t) => {
  const runner = new TestRunner(t, { spawnInTerminal });
  return Promise.resolve(() => Promise.resolve(open(runner)));
});

/** A runner that records its terminals; `end` resolves with the joined data of the events of a code. */
function recordingRunner(t: ExecutionContext) {
  const folder = join(temporaryFolder(t), 'recordings');
  mkdirSync(folder, { mode: 0o700 });
  const recorder = new TerminalRecorder({ label: 'vm1', clock: systemClock, log: () => undefined });
  const rule = { folder, hasInput: true };
  const runner = new TestRunner(t, { spawnInTerminal, findRecorder: () => Promise.resolve({ recorder, rule }) });
  const end = async (): Promise<(code: string) => string> => {
    await recorder.stop();
    const [name = ''] = readdirSync(folder);
    const lines = readFileSync(join(folder, name), 'utf8').split('\n').slice(1, -1);
    const events = lines.map((line) => JSON.parse(line) as string[]);
    return (code) => events.flatMap(([, kind, text]) => (kind === code ? [text] : [])).join('');
  };
  return { runner, end };
}

test('R-JOBS-8: a terminal is recorded for its whole life, with what all its writers type', async (t) => {
  const { runner, end } = recordingRunner(t);
  const { id } = await startJob(() => open(runner), {
    argv: ['sh', '-c', 'stty -echo; echo begin; while read -r line; do echo "got $line"; done'],
    terminal: TERMINAL,
    detach: {},
  });
  for (const word of ['one', 'two']) {
    const caller = new ExecCaller(open(runner));
    caller.stream.write(encodeJobRequest(EXEC_KIND.ATTACH, { id, input: true, steal: true, columns: 90, rows: 30 }));
    await eventually(() => caller.stdout.includes('begin'), { what: 'its begin' });
    caller.input(`${word}\r`);
    await eventually(() => caller.stdout.includes(`got ${word}`), { what: word });
    if (word === 'two') await caller.endInput().exit;
  }
  await eventually(() => runner.events.length === 6, { what: 'all events' });
  const of = await end();
  t.deepEqual([of('i'), of('o').replaceAll('\r\n', ' ')], ['one\rtwo\r', 'begin got one got two ']);
  t.true(of('r').startsWith('90x30'));
  const told = runner.events.map(({ event, fields }) => [event, fields['from'], fields['inputBytes']]);
  t.deepEqual(told.slice(1), [
    ['exec-attached', 'a program', undefined],
    ['exec-detached', 'a program', 4],
    ['exec-attached', 'a program', undefined],
    ['exec-ended', 'a program', 8],
    ['exec-detached', 'a program', 4],
  ]);
});

test('R-JOBS-8: the stream of a writer that ends does so once all was read; whoever comes then follows, also by stealing', async (t) => {
  const runner = new TestRunner(t);
  // More than is read in a turn.
  const many = Buffer.concat(Array.from({ length: 25_000 }, () => encodeRecord(EXEC_KIND.STDIN, 'x')));
  for (const steal of [false, true]) {
    const { id } = await startJob(() => open(runner), { argv: ['cat'], hasInput: true, detach: {} });
    const request = encodeJobRequest(EXEC_KIND.ATTACH, { id, input: true, steal });
    let answer = '';
    const stream = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        answer += chunk.toString();
        done();
      },
    });
    runner.runner.serve(stream);
    stream.push(request);
    await eventually(() => runner.events.at(-1)?.event === 'exec-attached', { what: 'the writer' });
    for (const chunk of [many, many, null]) stream.push(chunk);
    await once(stream, steal ? 'end' : 'finish');
    const other = new ExecCaller(open(runner));
    other.stream.write(request);
    t.is((await other.endInput().exit).status, 0);
    t.is(other.stdout.length, 50_000);
    t.false(answer.includes('input-taken'));
  }
});

test('what is typed into a terminal before it runs is recorded, too', async (t) => {
  const { runner, end } = recordingRunner(t);
  const caller = new ExecCaller(open(runner)).start({ argv: ['sh', '-c', 'read -r line'], terminal: TERMINAL });
  await caller.input('se').input('cret\r').exit;
  t.is((await end())('i'), 'secret\r');
});

test('R-JOBS-8: what is written to a job before it runs waits for it; one that does not start is forgotten', async (t) => {
  for (const argv of [['cat'], ['no-such-command-x']]) {
    const { asked, gate, openPipes } = gatedPipes();
    const runner = new TestRunner(t, { openPipes });
    const start = { argv, hasInput: true, detach: { tag: 'a', unique: true } };
    const started = startJob(() => open(runner), start);
    if (argv[0] === 'cat') await asked.promise;
    const twin = new ExecCaller(open(runner)).start(start);
    const { error } = await twin.exit;
    const id = error?.message.slice(4, 12) ?? '';
    const caller = new ExecCaller(open(runner));
    caller.stream.write(encodeJobRequest(EXEC_KIND.ATTACH, { id, input: true }));
    caller.input('early').endInput();
    gate.resolve();
    if (argv[0] === 'cat') t.is((await started).id, id);
    else await t.throwsAsync(started, { code: 'command-not-found' });
    const exit = await caller.exit;
    t.deepEqual([caller.stdout, exit.error?.code], argv[0] === 'cat' ? ['early', undefined] : ['', 'not-found']);
  }
});

test('R-JOBS-1: the end of the stream of START is not that of the input, whenever it comes', async (t) => {
  const { asked, gate, openPipes } = gatedPipes();
  const runner = new TestRunner(t, { openPipes });
  const caller = new ExecCaller(open(runner));
  const started = startJob(() => open(runner), { argv: ['cat'], hasInput: true, detach: {} });
  caller.stream.end(encodeStart({ argv: ['cat'], hasInput: true, detach: { tag: 'ended' } }));
  await asked.promise;
  gate.resolve();
  await Promise.all([started, eventually(() => caller.said.includes('STARTED'), { what: 'its start' })]);
  t.deepEqual(runner.runner.jobs.length, 2);
});

test('a writer continues where it was, with its size, after its stream was lost, and leaves the job as it is', async (t) => {
  const runner = new TestRunner(t, { spawnInTerminal });
  const script = 'stty -echo; echo begin; while read -r line; do stty size; echo "got $line"; done; exit 3';
  const request = { argv: ['sh', '-c', script], terminal: TERMINAL, detach: {} };
  const { id } = await startJob(() => open(runner), request);
  const streams: Duplex[] = [];
  const isDetached = async (): Promise<void> => {
    await eventually(() => runner.eventNames().includes('exec-detached'), { what: 'the end of the first stream' });
  };
  const join = (): { readonly writer: JobWriter; readonly shown: () => string; readonly over: Promise<void> } => {
    let [shown, joined] = ['', 0];
    const writer = new JobWriter({ size: { columns: 90, rows: 30 }, onJoined: () => (joined += 1) }, (one) => {
      const opened = () => {
        streams.push(open(runner));
        return streams.at(-1) as Duplex;
      };
      return readJob(opened, id, { from: 0 }, isDetached, one);
    });
    const read = async (): Promise<void> => {
      for await (const piece of writer.output)
        shown += piece.kind === 'output' ? piece.bytes.toString() : `${piece.kind} ${joined}`;
    };
    return { writer, shown: () => shown, over: read() };
  };
  const { writer, shown, over } = join();
  writer.stdin.write('one\r');
  await eventually(() => shown().endsWith('30 90\r\ngot one\r\n'), { what: 'the first line' });
  writer.resize({ columns: 100, rows: 40 });
  streams[0]?.destroy();
  writer.stdin.write('two\r');
  await eventually(() => shown().endsWith('one\r\n40 100\r\ngot two\r\n'), { what: 'the second line' });
  writer.stdin.write('three\r');
  writer.leave();
  await over;
  const last = join();
  last.writer.stdin.end();
  await last.over;
  t.regex(last.shown(), /got one\r\n40 100\r\ngot two\r\n.*got three\r\nend 1$/s);
});

test('all that was written to a job before it is left reaches it, and so does the end of its input', async (t) => {
  const runner = new TestRunner(t);
  const output = (id: string, writer: JobWriter | null = null) =>
    readJob(() => open(runner), id, { tail: 0 }, undefined, writer);
  for (const hasEnd of [false, true]) {
    const { id } = await startJob(() => open(runner), {
      argv: ['cat'],
      hasInput: true,
      detach: { tag: String(hasEnd) },
    });
    const writer = new JobWriter({}, (one) => output(id, one));
    for (const length of [1, 2, 400_000]) writer.stdin.write(Buffer.alloc(length));
    if (hasEnd) writer.stdin.end();
    writer.leave();
    for await (const piece of writer.output) t.not(piece.kind, 'gap');
    const isThere = async () => (await listJobs(open(runner))).find((job) => job.id === id)?.bytes === 400_003;
    await eventually(isThere, { what: 'all of it' });
    if (hasEnd) for await (const piece of output(id)) if (piece.kind === 'end') t.is(piece.result.status, 0);
  }
});

test('what was written to a job before it is left is sent after a loss, or its output says that it may be lost', async (t) => {
  const runner = new TestRunner(t);
  const { id } = await startJob(() => open(runner), { argv: ['cat'], hasInput: true, detach: {} });
  for (const how of ['before', 'between', 'after', 'lost'] as const) {
    const streams: Duplex[] = [];
    const opened = (): Duplex => {
      streams.push(open(runner));
      return streams.at(-1) as Duplex;
    };
    const lose = (): void => void streams[0]?.destroy(new Error('lost'));
    const leave = (): Promise<void> => {
      writer.leave();
      return Promise.resolve();
    };
    const writer: JobWriter = new JobWriter({ onJoined: how === 'before' ? lose : undefined }, (one) =>
      readJob(opened, id, { tail: 0 }, how === 'after' ? undefined : leave, one),
    );
    writer.stdin.write('typed ');
    if (how === 'between') writer.stdin.write(Buffer.alloc(1_000_000));
    if (how === 'after' || how === 'lost') writer.stdin.write('', lose);
    if (how !== 'lost') writer.leave();
    const read = async (): Promise<void> => {
      for await (const { kind } of writer.output) if (kind === 'output' && how === 'between') lose();
    };
    if (how === 'before') await read();
    else await t.throwsAsync(read(), { message: /may be lost: lost/ });
  }
  const isThere = async () => ((await listJobs(open(runner)))[0]?.bytes ?? 0) >= 6;
  await eventually(isThere, { what: 'what was typed' });
});

test('what follows the EXIT of a job is not shown, and nothing is sent to it, since no recording has it', async (t) => {
  const [near, far] = resettingPair();
  const peer = new ExecPeer(far);
  const writer = new JobWriter({}, (one) => readJob(() => near, '0123abcd', {}, undefined, one));
  const kinds: string[] = [];
  for (const record of [encodeJson(EXEC_KIND.FROM, { from: 0 }), encodeCredit(10)]) far.write(record);
  far.write(encodeExit(SUCCESS));
  far.write(encodeRecord(EXEC_KIND.STDOUT, 'late'));
  far.end(encodeCredit(10));
  const over = once(near, 'end').then(() => writer.stdin.write('typed'));
  for await (const { kind } of writer.output) kinds.push(kind);
  await over;
  await once(far, 'end');
  t.deepEqual([kinds, peer.input.toString()], [['end'], '']);
});

test('R-JOBS-3: the jobs of a runner that knows neither inputs nor usage have none', (t) => {
  const job = { id: '0123abcd', tag: null, argv: [], user: null, pid: 1, startedAt: '2026-01-31T12:00:00.000Z' };
  const rest = { endedAt: null, status: null, signal: null, timedOut: false, bytes: 0, keptFrom: 0 };
  const ways = { terminal: false, takesInput: false, hasWriter: false, usage: null };
  t.deepEqual(decodeJobs(Buffer.from(JSON.stringify({ jobs: [{ ...job, ...rest }] }))), [{ ...job, ...rest, ...ways }]);
});

test('sizes that come faster than the runner takes them need no memory; the last one is sent', async (t) => {
  const [near, far] = duplexPair();
  const writer = new JobWriter({}, () => (async function* () {})());
  writer.begin(near);
  for (let columns = 1; columns < 50_000; columns += 1) writer.resize({ columns, rows: 50 });
  t.true(near.writableLength < 100_000, `${near.writableLength}`);
  const sizes: Buffer[] = [];
  far.on('data', (bytes: Buffer) => sizes.push(bytes));
  await eventually(() => Buffer.concat(sizes).subarray(-4).toString('hex') === 'c34f0032', { what: 'the last size' });
});
