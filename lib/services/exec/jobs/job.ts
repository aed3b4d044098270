/** A command that outlives its caller, with its input, its output, its result and its readers. */
import { Writable } from 'node:stream';
import type { VproxyError } from '../../../errors.js';
import type { ExecResult, JobStatus } from '../../../status/types.js';
import type { StartedFacts } from '../command-log.js';
import type { StdinReceiver } from '../command-streams.js';
import type { Execution } from '../execution.js';
import { KeptOutput } from './kept-output.js';

/** Limits on a command in a list: its words, and their bytes together with the user's name, as JSON. */
const MAX_WORDS = 8;
const MAX_WORDS_BYTES = 2048;

type Ender = Pick<Execution, 'terminate' | 'stop'>;

/** How callers write to a job; null without an input. */
type JobInput = Pick<StdinReceiver, 'isEnded'> | null;

export class Job {
  readonly id: string;
  readonly keepBytes: number;
  readonly kept: KeptOutput;
  /** In place of a stream for the records of the output: it drops them, in turns, so that no job holds up the event loop. */
  readonly sink = new Writable({ writev: (_chunks, done) => void setImmediate(done) });
  /** What runs it; null before its start and after its end. */
  execution: Ender | null = null;
  hasTerminal = false;
  input: JobInput = null;
  hasWriter = false;
  readonly tag: string | null;
  readonly #watchers = new Set<() => void>();
  #forgotten: VproxyError | null = null;
  #facts: Pick<JobStatus, 'argv' | 'user' | 'pid' | 'startedAt'> | null = null;
  #end: { readonly result: ExecResult; readonly endedAt: string } | null = null;

  constructor(id: string, tag: string | null, keepBytes: number) {
    this.id = id;
    this.tag = tag;
    this.keepBytes = keepBytes;
    this.kept = new KeptOutput(keepBytes);
  }

  /** Null before its end. */
  get result(): ExecResult | null {
    return this.#end?.result ?? null;
  }

  /** Null before its start; `usage` is null while it runs. */
  get status(): JobStatus | null {
    if (this.#facts === null) return null;
    const { id, tag, kept, input, hasWriter } = this;
    const { status = null, signal = null, timedOut = false, usage = null } = this.result ?? {};
    const end = { endedAt: this.#end?.endedAt ?? null, status, signal, timedOut };
    const isRunning = this.result === null;
    const takesInput = isRunning && input?.isEnded === false;
    const ways = { terminal: this.hasTerminal, takesInput, hasWriter: isRunning && hasWriter };
    return { id, tag, ...this.#facts, ...end, bytes: kept.byteCount, keptFrom: kept.keptFrom, ...ways, usage };
  }

  /** Why it was forgotten; otherwise null. */
  get forgotten(): VproxyError | null {
    return this.#forgotten;
  }

  get readerCount(): number {
    return this.#watchers.size;
  }

  begin({ argv, user, pid }: StartedFacts, execution: Ender): void {
    let leftBytes = MAX_WORDS_BYTES;
    const cut = (text: string): string => {
      const part = cutJson(text, leftBytes);
      leftBytes -= jsonBytes(part);
      return part;
    };
    const [name, ...words] = [user ?? '', ...argv.slice(0, MAX_WORDS)].map(cut);
    this.#facts = { argv: words, user: user === null ? null : (name ?? ''), pid, startedAt: new Date().toISOString() };
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

  /** Frees its output, and ends its readers with this reason. */
  forget(reason: VproxyError): void {
    this.#forgotten = reason;
    this.kept.free();
    this.#tell();
  }

  /** Calls back when it has written, ended or been forgotten, until the returned function is called. */
  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

const jsonBytes = (text: string): number => Buffer.byteLength(JSON.stringify(text));

/** Cuts a text to at most this many bytes as JSON, between characters, with an ellipsis. */
function cutJson(text: string, maxBytes: number): string {
  if (jsonBytes(text) <= maxBytes) return text;
  let [part, bytes] = ['', 5];
  for (const sign of text) {
    bytes += jsonBytes(sign) - 2;
    if (bytes > maxBytes) break;
    part += sign;
  }
  return `${part}…`;
}
