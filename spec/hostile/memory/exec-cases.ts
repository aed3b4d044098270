/** What callers of the service `exec` can make the side that runs commands keep: of each kind as much as they like. */
import { Duplex } from 'node:stream';
import type { Log } from '../../../lib/events.js';
import {
  EXEC_KIND,
  type ExecRequest,
  encodeResize,
  encodeStart,
  STDIN_CREDIT_BYTES,
} from '../../../lib/exec/exec-messages.js';
import { ExecRunner, type ExecRunnerOptions } from '../../../lib/exec/exec-runner.js';
import { spawnInTerminal } from '../../../lib/exec/pty/spawn-in-terminal.js';
import { type OpenPipes, openSystemPipes } from '../../../lib/system/processes/pipes.js';
import { encodeRecord } from '../../../lib/util/bytes/records.js';
import { systemClock } from '../../../lib/util/clock.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { duplexPair } from '../../helpers/channel-pair.js';
import { ExecCaller, statOf } from '../../helpers/exec-peers.js';
import { heapBytes } from '../../helpers/measures.js';
import { eventually } from '../../helpers/time.js';
import type { MemoryCase } from './memory-case.js';

/** One kind of item. */
interface CallCase {
  readonly title: string;
  /**
   * Makes it kept for `calls` calls at once, and returns the bytes that are held then, at both ends of their streams.
   */
  readonly hold: (calls: number) => Promise<number>;
  /** Which of them are allowed, in bytes. */
  readonly limitBytes: (calls: number) => number;
}

/** The memory of a call with a running command, at both ends, whatever it sends. */
const CALL_BYTES = 98_304;

/** How many commands there can be, but for the first one. */
const MOST_CALLS = 255;

/** The largest frame that a channel takes by default, so the longest piece that comes at once. */
const FRAME_BYTES = 131_072;

const SLEEP = ['sleep', '1000'];

/** Makes a call of the runner, keep what it likes, and gives the end of its stream that is to be destroyed. */
type Call = (runner: ExecRunner, index: number) => Promise<Duplex>;

/** The bytes that are held when `calls` calls have been made. */
async function hold(calls: number, call: Call, options: Partial<ExecRunnerOptions> = {}): Promise<number> {
  const runner = new ExecRunner({ rules: { commands: 'any' }, clock: systemClock, log: () => undefined, ...options });
  const streams: Duplex[] = [];
  try {
    // What the first call loads and compiles is not counted.
    streams.push(await call(runner, 0));
    const before = await heapBytes();
    for (let index = 1; index <= calls; index += 1) streams.push(await call(runner, index));
    return (await heapBytes()) - before;
  } finally {
    for (const stream of streams) stream.destroy();
    await runner.stop();
  }
}

/** A call whose caller reads what it is sent. */
const said =
  (act: (caller: ExecCaller, index: number) => Promise<unknown>): Call =>
  async (runner, index) => {
    const [near, far] = duplexPair();
    runner.serve(far);
    // As a channel does: what destroys one end resets the other.
    far.once('close', () => near.destroy(far.errored ?? undefined));
    const caller = new ExecCaller(near);
    await act(caller, index);
    return near;
  };

/** A stream that is not read. */
class StuckStream extends Duplex {
  override _read(): void {
    // What is read is pushed by the test.
  }

  override _write(): void {
    // It never calls back.
  }
}

/** Resolved when the runner has taken it, or has destroyed the stream. */
const write = ({ stream }: ExecCaller, bytes: Buffer): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stream.off('close', done);
      resolve();
    };
    if (stream.destroyed) done();
    else stream.once('close', done).write(bytes, done);
  });

async function run(caller: ExecCaller, request: ExecRequest): Promise<number> {
  return caller.start(request).started;
}

const repeat = (record: Buffer, bytes: number): Buffer =>
  Buffer.concat(Array.from({ length: Math.floor(bytes / record.length) }, () => record));

const RESIZES = repeat(encodeResize({ columns: 80, rows: 25 }), FRAME_BYTES - 5000);

/** Resolved when a process waits twice in a row: what it writes is not read. */
async function blocked(pid: number): Promise<void> {
  let before = '';
  await eventually(
    () => {
      const [state, ...facts] = statOf(pid);
      const now = `${state} ${facts.slice(10, 12).join(' ')}`;
      const isBlocked = state === 'S' && now === before;
      before = now;
      return isBlocked;
    },
    { what: 'a command that is held up' },
  );
}

/** The bytes that are held for commands that write single bytes until they are held up. */
function holdOutput(calls: number, request: Partial<ExecRequest>): Promise<number> {
  const pids: number[] = [];
  const log: Log = ({ event, fields }) => {
    if (event === 'exec-started') pids.push(Number(fields['pid']));
  };
  const call: Call = async (runner) => {
    const stream = new StuckStream();
    const count = pids.length;
    runner.serve(stream);
    stream.push(encodeStart({ ...request, argv: ['sh', '-c', 'while :; do printf x; done'] }));
    await eventually(() => pids.length > count, { what: 'the start of a command' });
    await blocked(pids.at(-1) ?? 0);
    return stream;
  };
  return hold(calls, call, { log, spawnInTerminal });
}

const CALL_CASES: readonly CallCase[] = [
  {
    title: 'signals of a megabyte',
    hold: (calls) => {
      const signal = encodeRecord(EXEC_KIND.SIGNAL, Buffer.alloc(1_048_576)).subarray(0, -1);
      return hold(
        calls,
        said(async (caller) => {
          await run(caller, { argv: SLEEP });
          await write(caller, signal);
        }),
      );
    },
    limitBytes: (calls) => calls * CALL_BYTES,
  },
  {
    title: 'variables of commands that run',
    hold: (calls) =>
      hold(
        calls,
        said((caller, index) => {
          const env = Object.fromEntries(Array.from({ length: 20_000 }, (_, at) => [`V${at}`, `${index}`]));
          return run(caller, { argv: SLEEP, env });
        }),
      ),
    limitBytes: (calls) => calls * CALL_BYTES,
  },
  {
    title: 'input in single bytes that nobody takes',
    hold: (calls) => {
      const bytes = repeat(encodeRecord(EXEC_KIND.STDIN, 'x'), FRAME_BYTES);
      return hold(
        calls,
        said(async (caller) => {
          await run(caller, { argv: SLEEP });
          const most = Math.floor((6 * STDIN_CREDIT_BYTES) / bytes.length);
          for (let count = 0; count < most; count += 1) await write(caller, bytes);
        }),
      );
    },
    limitBytes: (calls) => calls * (1.3 * STDIN_CREDIT_BYTES + CALL_BYTES),
  },
  {
    title: 'input in pieces that come with much else',
    hold: (calls) => {
      const input = encodeRecord(EXEC_KIND.STDIN, Buffer.alloc(4096));
      return hold(
        calls,
        said(async (caller) => {
          await run(caller, { argv: SLEEP });
          // A new buffer each time, as from a channel.
          for (let count = 0; count < STDIN_CREDIT_BYTES / 4096; count += 1)
            await write(caller, Buffer.concat([input, RESIZES]));
        }),
      );
    },
    limitBytes: (calls) => calls * (1.3 * STDIN_CREDIT_BYTES + CALL_BYTES + FRAME_BYTES),
  },
  {
    title: 'signals and sizes for commands that are not there yet',
    hold: async (calls) => {
      const gate = deferred();
      const openPipes: OpenPipes = async (count, owner) => {
        await gate.promise;
        return openSystemPipes(count, owner);
      };
      const signals = repeat(encodeRecord(EXEC_KIND.SIGNAL, 'SIGUSR1'), FRAME_BYTES);
      const call = said(async (caller) => {
        caller.start({ argv: SLEEP });
        for (let count = 0; count < 8; count += 1) await write(caller, count % 2 === 0 ? signals : RESIZES);
      });
      try {
        return await hold(calls, call, { openPipes });
      } finally {
        gate.resolve();
      }
    },
    limitBytes: (calls) => calls * CALL_BYTES,
  },
  {
    title: 'output in single bytes that nobody takes',
    hold: (calls) => holdOutput(calls, {}),
    limitBytes: (calls) => calls * 2 * CALL_BYTES,
  },
  {
    title: 'output of terminals in single bytes that nobody takes',
    hold: (calls) => holdOutput(calls, { terminal: { columns: 80, rows: 25, term: 'dumb' } }),
    limitBytes: (calls) => calls * 2 * CALL_BYTES,
  },
];

export const EXEC_CASES: readonly MemoryCase[] = CALL_CASES.map((call) => {
  const calls = (scale: number): number => Math.ceil(scale * MOST_CALLS);
  return {
    title: call.title,
    hold: (scale) => call.hold(calls(scale)),
    mostBytes: (scale) => call.limitBytes(calls(scale)),
  };
});
