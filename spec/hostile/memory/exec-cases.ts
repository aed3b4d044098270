/** The most that callers of the service `exec` can make the side that runs commands keep, without limit for each kind. */
import { Duplex } from 'node:stream';
import type { Log } from '../../../lib/events.js';
import * as exec from '../../../lib/services/exec/exec-messages.js';
import { ExecRunner, type ExecRunnerOptions } from '../../../lib/services/exec/exec-runner.js';
import { spawnInTerminal } from '../../../lib/services/exec/pty/spawn-in-terminal.js';
import { type OpenPipes, openSystemPipes } from '../../../lib/system/processes/pipes.js';
import { encodeRecord } from '../../../lib/util/bytes/records.js';
import { systemClock } from '../../../lib/util/clock.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { duplexPair } from '../../helpers/channel-pair.js';
import { ExecCaller, statOf } from '../../helpers/exec-peers.js';
import { heapBytes } from '../../helpers/measures.js';
import { eventually, untilStill } from '../../helpers/time.js';
import type { MemoryCase } from './memory-case.js';

const { EXEC_KIND, STDIN_CREDIT_BYTES } = exec;

/** The memory of a call with a running command, at both ends, whatever it sends. */
const CALL_BYTES = 98_304;

/** The most commands there can be besides the first one. */
const MOST_CALLS = 255;

/** The default largest frame of a channel, and so the longest piece that comes at once. */
const FRAME_BYTES = 131_072;

const SLEEP = ['sleep', '1000'];

/** Makes a call that the runner keeps, and returns the end of its stream to destroy. */
type Call = (runner: ExecRunner, index: number) => Promise<Duplex>;

/** The bytes held after `calls` calls, at both ends of their streams. */
async function hold(calls: number, call: Call, options: Partial<ExecRunnerOptions> = {}): Promise<number> {
  const runner = new ExecRunner({ rules: { commands: 'any' }, clock: systemClock, log: () => undefined, ...options });
  const streams: Duplex[] = [];
  try {
    // Code loaded and compiled for the first call is not counted.
    streams.push(await call(runner, 0));
    const before = await heapBytes();
    for (let index = 1; index <= calls; index += 1) streams.push(await call(runner, index));
    return (await heapBytes()) - before;
  } finally {
    for (const stream of streams) stream.destroy();
    await runner.stop();
  }
}

const holding =
  (call: Call) =>
  (calls: number): Promise<number> =>
    hold(calls, call);

/** A call whose caller reads its output. */
const said =
  (act: (caller: ExecCaller, index: number) => Promise<unknown>): Call =>
  async (runner, index) => {
    const [near, far] = duplexPair();
    runner.serve(far);
    // Like a channel: destroying one end resets the other.
    far.once('close', () => near.destroy(far.errored ?? undefined));
    await act(new ExecCaller(near), index);
    return near;
  };

/** The same after the start of a command that takes no input. */
const saidTo = (act: (caller: ExecCaller) => Promise<unknown>): Call =>
  said(async (caller) => {
    await caller.start({ argv: SLEEP }).started;
    await act(caller);
  });

/** A stream whose writes never call back, because the other end is not read; input is pushed. */
const stuckStream = (): Duplex => new Duplex({ read: () => undefined, write: () => undefined });

/** Resolves when the runner has taken it, or has destroyed the stream. */
const write = ({ stream }: ExecCaller, bytes: Buffer): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stream.off('close', done);
      resolve();
    };
    if (stream.destroyed) done();
    else stream.once('close', done).write(bytes, done);
  });

async function writeTimes(caller: ExecCaller, count: number, bytes: (index: number) => Buffer): Promise<void> {
  for (let index = 0; index < Math.floor(count); index += 1) await write(caller, bytes(index));
}

const repeat = (record: Buffer, bytes: number): Buffer =>
  Buffer.concat(Array.from({ length: Math.floor(bytes / record.length) }, () => record));

/** Resolves when a process waits twice in a row: its output is not read. */
function blocked(pid: number): Promise<void> {
  const waiting = () => {
    const [state, ...facts] = statOf(pid);
    return state === 'S' && facts.slice(10, 12).join(' ');
  };
  return untilStill(waiting, { what: 'a command that is blocked' });
}

/** The bytes held for commands that write single bytes until they block. */
function holdOutput(calls: number, request: Partial<exec.ExecRequest>): Promise<number> {
  const pids: number[] = [];
  const log: Log = ({ event, fields }) => {
    if (event === 'exec-started') pids.push(Number(fields['pid']));
  };
  const call: Call = async (runner) => {
    const stream = stuckStream();
    const count = pids.length;
    runner.serve(stream);
    stream.push(exec.encodeStart({ ...request, argv: ['sh', '-c', 'while :; do printf x; done'] }));
    await eventually(() => pids.length > count, { what: 'the start of a command' });
    await blocked(pids.at(-1) ?? 0);
    return stream;
  };
  return hold(calls, call, { log, spawnInTerminal });
}

/** The bytes held for commands whose pipes do not exist yet. */
async function holdEarly(calls: number, call: Call): Promise<number> {
  const gate = deferred();
  const openPipes: OpenPipes = async (count, owner) => {
    await gate.promise;
    return openSystemPipes(count, owner);
  };
  try {
    return await hold(calls, call, { openPipes });
  } finally {
    gate.resolve();
  }
}

const LONG_SIGNAL = encodeRecord(EXEC_KIND.SIGNAL, Buffer.alloc(1_048_576)).subarray(0, -1);
const SIGNALS = repeat(encodeRecord(EXEC_KIND.SIGNAL, 'SIGUSR1'), FRAME_BYTES);
const RESIZES = repeat(exec.encodeResize({ columns: 80, rows: 25 }), FRAME_BYTES - 5000);
const SINGLE_INPUT = repeat(encodeRecord(EXEC_KIND.STDIN, 'x'), FRAME_BYTES);
const PIECE_BYTES = 4096;
const INPUT = encodeRecord(EXEC_KIND.STDIN, Buffer.alloc(PIECE_BYTES));

const variables = (index: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: 20_000 }, (_, at) => [`V${at}`, `${index}`]));

/** For each kind: the bytes allowed per call, and a function for the bytes held for a number of calls at once. */
const CASES: readonly [title: string, bytesPerCall: number, hold: (calls: number) => Promise<number>][] = [
  ['signals of a megabyte', CALL_BYTES, holding(saidTo((caller) => write(caller, LONG_SIGNAL)))],
  [
    'variables of commands that run',
    CALL_BYTES,
    holding(said((caller, index) => caller.start({ argv: SLEEP, env: variables(index) }).started)),
  ],
  [
    'input in single bytes that nobody takes',
    1.3 * STDIN_CREDIT_BYTES + CALL_BYTES,
    holding(saidTo((caller) => writeTimes(caller, (6 * STDIN_CREDIT_BYTES) / SINGLE_INPUT.length, () => SINGLE_INPUT))),
  ],
  [
    'input in pieces that come with much else',
    1.3 * STDIN_CREDIT_BYTES + CALL_BYTES + FRAME_BYTES,
    // A new buffer each time, as from a channel.
    holding(
      saidTo((caller) => writeTimes(caller, STDIN_CREDIT_BYTES / PIECE_BYTES, () => Buffer.concat([INPUT, RESIZES]))),
    ),
  ],
  [
    'signals and sizes for commands that are not there yet',
    CALL_BYTES,
    (calls) =>
      holdEarly(
        calls,
        said(async (caller) => {
          caller.start({ argv: SLEEP });
          await writeTimes(caller, 8, (index) => (index % 2 === 0 ? SIGNALS : RESIZES));
        }),
      ),
  ],
  ['unread output in single bytes', 2 * CALL_BYTES, (calls) => holdOutput(calls, {})],
  [
    'output of terminals in single bytes that nobody takes',
    2 * CALL_BYTES,
    (calls) => holdOutput(calls, { terminal: { columns: 80, rows: 25, term: 'dumb' } }),
  ],
];

export const EXEC_CASES: readonly MemoryCase[] = CASES.map(([title, bytesPerCall, holdCalls]) => {
  const calls = (scale: number): number => Math.ceil(scale * MOST_CALLS);
  return { title, hold: (scale) => holdCalls(calls(scale)), mostBytes: (scale) => calls(scale) * bytesPerCall };
});
