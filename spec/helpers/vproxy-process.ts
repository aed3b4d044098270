/** The real command line of vproxy as a process of its own, with its log at hand. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { within } from './eventually.js';
import { listeningFor } from './log-lines.js';
import { PROJECT_ROOT } from './project-root.js';
import { withoutControl } from './without-control.js';

/** How a process ended: its status, or the signal that killed it. */
export interface ExitResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Where and with what environment a command runs. */
export interface SpawnOptions {
  /** Set on top of this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The program, seen from the project's folder. Default `dist/cli/vproxy.js`. */
  readonly script?: string;
  /** The program, with what stands before its arguments, where it is no script of this project. Default: Node and `script`. */
  readonly program?: readonly string[];
  /** How many file descriptors it may have. Default: as many as this process. */
  readonly descriptorLimit?: number;
  /** How long a file can get that it writes, in blocks of 512 or 1024 bytes. Default: as of this process. */
  readonly fileLimitBlocks?: number;
  /** A file that gets its log, behind what is in it; `lines` stays empty. */
  readonly logFile?: string;
  /** Whether it has a control socket in the default place, unless its arguments say otherwise. Default false. */
  readonly hasDefaultControl?: boolean;
  /** A program that becomes the command: its words, behind which the command's stand. Default: none. */
  readonly launcher?: readonly string[];
  /** Whether an interrupt at the terminal passes it by. Default false. */
  readonly hasOwnGroup?: boolean;
}

interface LineWaiter {
  readonly pattern: RegExp;
  readonly resolve: (match: RegExpExecArray) => void;
  readonly reject: (error: Error) => void;
}

/** A running command line. Whoever started it stops it with `stop`. */
export class VproxyProcess {
  /** Every line of stderr so far, oldest first. */
  readonly lines: string[] = [];
  /** How the process ended; never rejects. */
  readonly exited: Promise<ExitResult>;

  readonly #child: ChildProcess;
  readonly #stdout: Buffer[] = [];
  readonly #waiters = new Set<LineWaiter>();
  #result: ExitResult | undefined;

  constructor(args: readonly string[], options: SpawnOptions = {}) {
    const script = join(PROJECT_ROOT, options.script ?? 'dist/cli/vproxy.js');
    const program = options.program ?? [process.execPath, script];
    const words = options.hasDefaultControl === true ? args : withoutControl(args);
    const command = [...program, ...words];
    const { descriptorLimit, fileLimitBlocks, logFile, launcher = [] } = options;
    command.unshift(...launcher);
    const limits = [
      ...(descriptorLimit === undefined ? [] : [`ulimit -n ${descriptorLimit};`]),
      ...(fileLimitBlocks === undefined ? [] : [`ulimit -f ${fileLimitBlocks};`]),
    ].join(' ');
    if (limits !== '') command.unshift('sh', '-c', `${limits} exec "$@"`, 'sh');
    if (logFile !== undefined) command.unshift('sh', '-c', 'log=$1; shift; exec "$@" 2>>"$log"', 'sh', logFile);
    const [file = '', ...rest] = command;
    const child = spawn(file, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      cwd: options.cwd ?? process.cwd(),
      detached: options.hasOwnGroup ?? false,
    });
    this.#child = child;
    child.stdout.on('data', (chunk: Buffer) => this.#stdout.push(chunk));
    createInterface({ input: child.stderr }).on('line', (line) => this.#handleLine(line));
    // A test process that is given up by the runner must not leave this one behind.
    const killNow = () => child.kill('SIGKILL');
    process.once('exit', killNow);
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => this.#handleLine(error.message));
      child.once('close', (code, signal) => {
        process.off('exit', killNow);
        this.#result = { code, signal };
        for (const waiter of this.#waiters) waiter.reject(this.#failure(waiter.pattern, 'the process ended'));
        resolve(this.#result);
      });
    });
  }

  /** The process id. */
  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the process could not be started');
    return this.#child.pid;
  }

  /** All of stdout so far. */
  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  /**
   * The first line of stderr from number `from` on that matches, also one that came before the call. Rejects, with the
   * log, when none comes within `timeoutMs` (default 30,000) or the process ends.
   */
  async waitForLine(pattern: RegExp, options: { timeoutMs?: number; from?: number } = {}): Promise<RegExpExecArray> {
    const { timeoutMs = 30_000, from = 0 } = options;
    for (const line of this.lines.slice(from)) {
      const match = pattern.exec(line);
      if (match !== null) return match;
    }
    if (this.#result !== undefined) throw this.#failure(pattern, 'the process ended');
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const waiter: LineWaiter = {
        pattern,
        resolve: (match) => {
          settle();
          resolve(match);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const timer = setTimeout(() => waiter.reject(this.#failure(pattern, `after ${timeoutMs} ms`)), timeoutMs);
      this.#waiters.add(waiter);
    });
  }

  /** The local TCP port that the log names for a forward of `service`. */
  async listeningPort(service: string): Promise<number> {
    return Number((await this.waitForLine(listeningFor(service)))[2]);
  }

  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Stops reading stderr, as a log reader does that ends: what the process writes there fails from now on. */
  closeLog(): void {
    this.#child.stderr?.destroy();
  }

  /** Ends the process with SIGTERM, or with SIGKILL after 3 s, and waits until it is gone. */
  async stop(): Promise<ExitResult> {
    if (this.#result === undefined) this.kill('SIGTERM');
    return within(3_000, 'SIGTERM', this.exited).catch(() => {
      this.kill('SIGKILL');
      return this.exited;
    });
  }

  #handleLine(line: string): void {
    this.lines.push(line);
    for (const waiter of this.#waiters) {
      const match = waiter.pattern.exec(line);
      if (match !== null) waiter.resolve(match);
    }
  }

  #failure(pattern: RegExp, when: string): Error {
    const end = this.#result === undefined ? '' : ` (${JSON.stringify(this.#result)})`;
    return new Error(`${when}${end} no line like ${String(pattern)} in the log:\n${this.lines.join('\n')}`);
  }
}

/** Starts the command line, and stops it when the test is over. */
export function spawnVproxy(
  t: { teardown(undo: () => Promise<unknown>): void },
  args: readonly string[],
  options: SpawnOptions = {},
): VproxyProcess {
  const vproxy = new VproxyProcess(args, options);
  t.teardown(() => vproxy.stop());
  return vproxy;
}
