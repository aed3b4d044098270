/** The caller's side of a command, record by record: it can also send what no caller should. */
import { readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import {
  decodeCredit,
  decodeEof,
  decodeExit,
  decodeStarted,
  EXEC_KIND,
  type ExecRequest,
  encodeCredit,
  encodeEof,
  encodeExit,
  encodeStart,
} from '../../lib/services/exec/exec-messages.js';
import { ExecRunner, type ExecRunnerOptions } from '../../lib/services/exec/exec-runner.js';
import type { ExecResult } from '../../lib/status/types.js';
import { type OpenPipes, openSystemPipes } from '../../lib/system/processes/pipes.js';
import { encodeRecord, RecordReader } from '../../lib/util/bytes/records.js';
import { systemClock } from '../../lib/util/clock.js';
import { deferred } from '../../lib/util/concurrency.js';
import { duplexPair } from './channel-pair.js';
import { advanceUntil, eventually, ManualClock } from './time.js';

const nameOf = (kind: number): string =>
  Object.entries(EXEC_KIND).find(([, value]) => value === kind)?.[0] ?? `kind ${kind}`;

export class ExecCaller {
  readonly stream: Duplex;
  /** The names of all records in order; consecutive outputs count once. */
  readonly said: string[] = [];
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #started = deferred<number>();
  readonly #exit = deferred<ExecResult>();
  creditBytes = 0;
  creditCount = 0;
  /** Takes the bytes of outputs instead of keeping them. */
  onOutput: ((fd: 1 | 2, bytes: Buffer) => void) | null = null;

  constructor(stream: Duplex) {
    this.stream = stream;
    // A caller that awaits one of them gets its rejection.
    for (const promise of [this.started, this.exit]) promise.catch(() => undefined);
    const reader = new RecordReader({
      pieces: new Set([EXEC_KIND.STDOUT, EXEC_KIND.STDERR]),
      onRecord: (kind, payload) => this.#take(kind, payload),
      onPiece: (kind, bytes) => this.#takeOutput(kind, bytes),
    });
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
    const lost = (error: Error): void => {
      this.#started.reject(error);
      this.#exit.reject(error);
    };
    stream.on('error', lost);
    stream.on('end', () => {
      stream.end();
      lost(new Error('the stream ended without EXIT'));
    });
    stream.on('close', () => lost(new Error('the stream was closed without EXIT')));
  }

  get started(): Promise<number> {
    return this.#started.promise;
  }

  get exit(): Promise<ExecResult> {
    return this.#exit.promise;
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  /** Sends bytes of standard input, within the credit or not. */
  input = (bytes: Buffer | string): this => this.#write(encodeRecord(EXEC_KIND.STDIN, bytes));
  endInput = (): this => this.#write(encodeEof(0));
  close = (fd: 1 | 2): this => this.#write(encodeEof(fd));
  signal = (name: string): this => this.#write(encodeRecord(EXEC_KIND.SIGNAL, name));
  start = (request: ExecRequest): this => this.#write(encodeStart(request));

  #write(bytes: Buffer): this {
    this.stream.write(bytes);
    return this;
  }

  #take(kind: number, payload: Buffer): void {
    if (kind === EXEC_KIND.CREDIT) {
      this.creditCount += 1;
      this.creditBytes += decodeCredit(payload);
      return;
    }
    this.said.push(kind === EXEC_KIND.EOF ? `EOF ${decodeEof(payload)}` : nameOf(kind));
    if (kind === EXEC_KIND.STARTED) this.#started.resolve(decodeStarted(payload));
    if (kind === EXEC_KIND.EXIT) this.#exit.resolve(decodeExit(payload));
  }

  #takeOutput(kind: number, bytes: Buffer): void {
    if (this.said.at(-1) !== nameOf(kind)) this.said.push(nameOf(kind));
    if (this.onOutput !== null) this.onOutput(kind === EXEC_KIND.STDOUT ? 1 : 2, bytes);
    else (kind === EXEC_KIND.STDOUT ? this.#stdout : this.#stderr).push(bytes);
  }
}

export class TestRunner {
  readonly runner: ExecRunner;
  readonly events: LogEvent[] = [];

  constructor(t: ExecutionContext, options: Partial<ExecRunnerOptions> = {}) {
    this.runner = new ExecRunner({
      rules: { commands: 'any' },
      clock: systemClock,
      log: (event) => this.events.push(event),
      ...options,
    });
    const { clock } = options;
    t.teardown(async () => {
      const stopping = this.runner.stop();
      if (clock instanceof ManualClock) await advanceUntil(clock, stopping);
      await stopping;
    });
  }

  /** A call through memory. `far` is the runner's end; destroying it with an error acts like a reset. */
  open(): { readonly caller: ExecCaller; readonly far: Duplex } {
    const [near, far] = duplexPair();
    this.runner.serve(far);
    // Like a channel: destroying one end resets the other.
    far.once('close', () => near.destroy(far.errored ?? undefined));
    return { caller: new ExecCaller(near), far };
  }

  call(request: ExecRequest): ExecCaller {
    return this.open().caller.start(request);
  }

  async run(request: ExecRequest): Promise<ExecResult & { readonly stdout: string; readonly stderr: string }> {
    const caller = this.call({ hasInput: false, ...request });
    const result = await caller.exit;
    return { ...result, stdout: caller.stdout, stderr: caller.stderr };
  }

  idle(): Promise<unknown> {
    return eventually(() => this.runner.runningCount === 0, { what: 'the end of all commands' });
  }

  eventNames(): string[] {
    return this.events.map(({ event }) => event);
  }
}

/** Pipes that open when the gate does, once requested. */
export function gatedPipes() {
  const [asked, gate] = [deferred(), deferred()];
  const openPipes: OpenPipes = async (count, owner) => {
    asked.resolve();
    await gate.promise;
    return openSystemPipes(count, owner);
  };
  return { asked, gate, openPipes };
}

/** State, parent, group and session of a process, as in /proc/PID/stat. Throws if it has exited. */
export function statOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name before them may contain blanks and parentheses.
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

// The runner's side of an `exec` stream, simulated by a test: it records its input, and sends what it is told to.

export const SUCCESS: ExecResult = {
  ...{ status: 0, signal: null, timedOut: false, durationMs: 1, usage: null },
  error: null,
};

export class ExecPeer {
  readonly stream: Duplex;
  /** What the caller sent, without standard input: the name of the kind and the payload as text. */
  readonly said: string[] = [];
  input = Buffer.alloc(0);
  request: ExecRequest | null = null;

  constructor(stream: Duplex) {
    this.stream = stream;
    const reader = new RecordReader({
      pieces: new Set([EXEC_KIND.STDIN]),
      onRecord: (kind, payload) => {
        if (kind === EXEC_KIND.START) this.request = JSON.parse(payload.toString()) as ExecRequest;
        else this.said.push(`${nameOf(kind)} ${payload.toString(kind === EXEC_KIND.SIGNAL ? 'utf8' : 'hex')}`);
      },
      onPiece: (_kind, bytes) => void (this.input = Buffer.concat([this.input, bytes])),
    });
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
    stream.on('error', () => undefined);
  }

  /** Sends one record; false if the caller takes no more for now. */
  say(kind: keyof typeof EXEC_KIND, payload: Uint8Array | string): boolean {
    return this.stream.write(encodeRecord(EXEC_KIND[kind], payload));
  }

  grant(bytes: number): void {
    this.stream.write(encodeCredit(bytes));
  }

  exit(result: Partial<ExecResult> = {}): void {
    this.stream.end(encodeExit({ ...SUCCESS, ...result }));
  }
}

/** Checks what a runner tells of the processors and the memory that commands used. */
export async function checkUsage(
  t: ExecutionContext,
  run: (argv: readonly string[]) => Promise<Pick<ExecResult, 'usage'>>,
): Promise<void> {
  const idle = (await run(['true'])).usage;
  t.true(idle !== null && idle.cpuMs < 1000 && (idle.peakBytes ?? 0) < 4_000_000, JSON.stringify(idle));
  const busy = (await run(['sh', '-c', 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'])).usage;
  t.true((busy?.cpuMs ?? 0) > 50 && (busy?.peakBytes ?? 0) < 40_000_000, JSON.stringify(busy));
  const large = (await run(['sh', '-c', 'head -c 300000000 /dev/zero | tail -c 290000000 | cksum; :'])).usage;
  t.true((large?.peakBytes ?? 0) > 290_000_000, JSON.stringify(large));
}
