/** A target that is a process of its own for each stream. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import type { SessionStream } from '../session/session-stream.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';
import { ChildSink } from './child-sink.js';
import { filterInput } from './input-filter.js';
import { refuseBeyond, type Target, type TargetContext } from './target.js';

/** How much of one line on stderr is logged. */
const MAX_LOGGED = 512;

export interface ExecTargetOptions {
  /** Default `/bin/sh`. */
  readonly shell?: string;
}

/** Runs `command` with a shell for each stream, in a process group of its own. */
export class ExecTarget implements Target {
  readonly #command: string;
  readonly #context: TargetContext;
  readonly #shell: string;
  readonly #children = new Set<ChildSink>();

  constructor(command: string, context: TargetContext, { shell = '/bin/sh' }: ExecTargetOptions = {}) {
    this.#command = command;
    this.#context = context;
    this.#shell = shell;
  }

  get openCount(): number {
    return this.#children.size;
  }

  serve(stream: SessionStream): void {
    const { clock, maxStreams, name, onClosed, onOpened, log } = this.#context;
    if (refuseBeyond(stream, this.#children.size, maxStreams)) return;
    const child = this.#spawn(stream);
    if (child === null) return;
    child.once('error', (error) => stream.refuse('connect-failed', `${name}: ${describeError(error)}`));
    if (!hasPipes(child)) {
      stream.refuse('connect-failed', `${name}: too many files are open`);
      return;
    }
    filterInput(child.stdin, this.#context.createFilter?.() ?? null);
    const sink = new ChildSink(stream, child, {
      clock,
      describe: (ending) => `${name} ${ending}`,
      onDone: (reason) => {
        this.#children.delete(sink);
        onClosed(stream, reason);
      },
    });
    this.#children.add(sink);
    stream.attach(sink);
    child.once('spawn', () => {
      stream.accept();
      onOpened(stream);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.split('\n')) {
        if (line !== '') log('debug', 'target-stderr', `${name} says: ${escapeText(line, MAX_LOGGED)}`, stream);
      }
    });
    child.stderr.on('error', () => undefined);
  }

  /** Some failures are thrown: a command that is too long, or a process that may start none. Null where the stream was refused. */
  #spawn(stream: SessionStream): ChildProcessWithoutNullStreams | null {
    try {
      // A group of its own: what the shell starts is killed with it.
      return spawn(this.#shell, ['-c', this.#command], { detached: true, stdio: 'pipe' });
    } catch (error) {
      stream.refuse('connect-failed', `${this.#context.name}: ${describeError(error)}`);
      return null;
    }
  }

  /** Ends every process: told to at first, killed shortly after. */
  async stop(): Promise<void> {
    await Promise.all([...this.#children].map((child) => child.stop()));
  }
}

/** Without descriptors for them Node makes none, against its types. */
function hasPipes(child: { readonly stdin?: unknown; readonly stdout?: unknown; readonly stderr?: unknown }): boolean {
  return [child.stdin, child.stdout, child.stderr].every((pipe) => pipe !== undefined && pipe !== null);
}
