/** A command that outlives its caller, with its output, its result and its readers. */
import { Writable } from 'node:stream';
import type { StartedFacts } from '../command-log.js';
import type { ExecResult } from '../exec-messages.js';
import type { Execution } from '../execution.js';
import type { JobStatus } from './job-messages.js';
import { KeptOutput } from './kept-output.js';

/** The most words of a command in a list, so that all jobs fit into a record. */
const MAX_WORDS = 8;

/** What can end a command. */
type Ender = Pick<Execution, 'terminate' | 'stop'>;

export class Job {
  readonly id: string;
  readonly keepBytes: number;
  readonly kept: KeptOutput;
  /** In place of a stream for the records of the output: it drops them, in turns, so that no job holds up the event loop. */
  readonly sink = new Writable({ writev: (_chunks, done) => void setImmediate(done) });
  /** What runs it; null before its start and after its end. */
  execution: Ender | null = null;
  readonly #tag: string | null;
  readonly #watchers = new Set<() => void>();
  #facts: Pick<JobStatus, 'argv' | 'user' | 'pid' | 'startedAt'> | null = null;
  #end: { readonly result: ExecResult; readonly endedAt: string } | null = null;

  constructor(id: string, tag: string | null, keepBytes: number) {
    this.id = id;
    this.#tag = tag;
    this.keepBytes = keepBytes;
    this.kept = new KeptOutput(keepBytes);
  }

  /** Null before its end. */
  get result(): ExecResult | null {
    return this.#end?.result ?? null;
  }

  /** Null before its start. */
  get status(): JobStatus | null {
    if (this.#facts === null) return null;
    const { id, kept } = this;
    const { status = null, signal = null, timedOut = false } = this.result ?? {};
    const end = { endedAt: this.#end?.endedAt ?? null, status, signal, timedOut };
    return { id, tag: this.#tag, ...this.#facts, ...end, bytes: kept.byteCount, keptFrom: kept.keptFrom };
  }

  begin({ argv, user, pid }: StartedFacts, execution: Ender): void {
    this.#facts = { argv: argv.slice(0, MAX_WORDS), user, pid, startedAt: new Date().toISOString() };
    this.execution = execution;
  }

  output(bytes: Buffer): void {
    this.kept.write(bytes);
    this.#tell();
  }

  end(result: ExecResult): void {
    this.#end = { result, endedAt: new Date().toISOString() };
    this.execution = null;
    this.#tell();
  }

  /** Calls back when it has written or ended, until the returned function is called. */
  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
