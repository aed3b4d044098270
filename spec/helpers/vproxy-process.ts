/** The real command line of vproxy as a separate process, with its log at hand. */
import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { type Deferred, deferred } from '../../lib/util/concurrency.js';
import { PROJECT_ROOT, temporaryFolder } from './files.js';
import { Deadline, within } from './time.js';

/** The words of the command line for a shell. */
export const VPROXY = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;

interface ExitResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The program, relative to the project's folder. Default `dist/program/vproxy.cjs`. */
  readonly script?: string;
  /** The program and the words before its arguments, if it is not a script of this project. Default: Node and `script`. */
  readonly program?: readonly string[];
  /** The limit on its file descriptors. Default: that of this process. */
  readonly descriptorLimit?: number;
  /** The longest file that it may write, in blocks of 512 or 1024 bytes. Default: that of this process. */
  readonly fileLimitBlocks?: number;
  /** A file to which its log is appended; `lines` stays empty. */
  readonly logFile?: string;
  /** Whether it has a control socket in the default place, unless its arguments say otherwise. Default false. */
  readonly hasDefaultControl?: boolean;
  /** A program that becomes the command: its words, before the command's. Default: none. */
  readonly launcher?: readonly string[];
  /** Descriptors of this process that it is started with, from 3 on. Default: none. */
  readonly inherited?: readonly number[];
  /** Whether an interrupt at the terminal does not reach it. Default false. */
  readonly hasOwnGroup?: boolean;
}

interface LineWaiter {
  readonly pattern: RegExp;
  readonly match: Deferred<RegExpExecArray>;
}

/** Bounds on what is kept of a program that floods its output or its log: of a line, and of all, where each costs more than it has. */
const MAX_STDOUT = 2 ** 28;
const MAX_LINE = 2 ** 20;
const MAX_KEPT = 2 ** 26;
const LINE_COST = 64;

/** A running command line. The caller that starts it stops it with `stop`. */
export class VproxyProcess {
  /** Of a flood only the later ones. */
  readonly lines: string[] = [];
  /** How the process ended; never rejects. */
  readonly exited: Promise<ExitResult>;

  readonly #child: ChildProcess;
  readonly #stdout: Buffer[] = [];
  #stdoutBytes = 0;
  readonly #waiters = new Set<LineWaiter>();
  /** The beginning of the next line. */
  #rest = '';
  #keptCharacters = 0;
  #result: ExitResult | undefined;

  constructor(args: readonly string[], options: SpawnOptions = {}) {
    const { script = 'dist/program/vproxy.cjs', program = [process.execPath, join(PROJECT_ROOT, script)] } = options;
    const { descriptorLimit, fileLimitBlocks, logFile, launcher = [] } = options;
    const words = options.hasDefaultControl === true ? args : withoutControl(args);
    const command = [...launcher, ...program, ...words];
    for (const [flag, limit] of Object.entries({ n: descriptorLimit, f: fileLimitBlocks }))
      if (limit !== undefined) command.unshift('sh', '-c', `ulimit -${flag} ${limit}; exec "$@"`, 'sh');
    if (logFile !== undefined) command.unshift('sh', '-c', 'log=$1; shift; exec "$@" 2>>"$log"', 'sh', logFile);
    const [file = '', ...rest] = command;
    const child = spawn(file, rest, {
      stdio: ['ignore', 'pipe', 'pipe', ...(options.inherited ?? [])],
      env: { ...process.env, ...options.env },
      cwd: options.cwd ?? process.cwd(),
      detached: options.hasOwnGroup ?? false,
    }) as ChildProcessByStdio<null, Readable, Readable>;
    this.#child = child;
    child.stdout.on('data', (chunk: Buffer) => {
      this.#stdoutBytes += chunk.length;
      if (this.#stdoutBytes <= MAX_STDOUT) this.#stdout.push(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.#handleText(text));
    child.stderr.once('end', () => this.#rest !== '' && this.#handleLine(this.#rest));
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => this.#handleLine(error.message));
      child.once('close', (code, signal) => {
        this.#result = { code, signal };
        for (const { pattern, match } of this.#waiters) match.reject(this.#failure(pattern, 'the process ended'));
        resolve(this.#result);
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the process could not be started');
    return this.#child.pid;
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  /**
   * The first line of stderr from number `from` on that matches, past or future. Rejects, with the log, if none comes within
   * `timeoutMs` (default 30,000) or the process exits.
   */
  async waitForLine(pattern: RegExp, options: { timeoutMs?: number; from?: number } = {}): Promise<RegExpExecArray> {
    const { timeoutMs = 30_000, from = 0 } = options;
    for (const line of this.lines.slice(from)) {
      const match = pattern.exec(line);
      if (match !== null) return match;
    }
    if (this.#result !== undefined) throw this.#failure(pattern, 'the process ended');
    const waiter: LineWaiter = { pattern, match: deferred() };
    const late = () => waiter.match.reject(this.#failure(pattern, `after ${timeoutMs} ms`));
    const deadline = new Deadline(timeoutMs, late);
    this.#waiters.add(waiter);
    try {
      return await waiter.match.promise;
    } finally {
      deadline.cancel();
      this.#waiters.delete(waiter);
    }
  }

  async listeningPort(service: string): Promise<number> {
    return Number((await this.waitForLine(listeningFor(service)))[2]);
  }

  /** Returns whether it had not exited yet. */
  kill(signal: NodeJS.Signals): boolean {
    return this.#child.kill(signal);
  }

  /** Stops reading stderr, as when a log reader exits: later writes to it fail. */
  closeLog(): void {
    this.#child.stderr?.destroy();
  }

  /** Ends the process with SIGTERM, or with SIGKILL after 3 s, and waits until it has exited. */
  async stop(): Promise<ExitResult> {
    if (this.#result === undefined) this.kill('SIGTERM');
    return within(3_000, 'SIGTERM', this.exited).catch(() => {
      this.kill('SIGKILL');
      return this.exited;
    });
  }

  #handleText(text: string): void {
    const [first = '', ...others] = text.split(/\r?\n/);
    const last = others.pop();
    if (this.#rest.length < MAX_LINE) this.#rest += first;
    if (last === undefined) return;
    for (const line of [this.#rest, ...others]) this.#handleLine(line);
    this.#rest = last;
  }

  #handleLine(timed: string): void {
    const line = withoutTimes(timed);
    this.lines.push(line);
    this.#keptCharacters += line.length + LINE_COST;
    if (this.#keptCharacters > MAX_KEPT) {
      this.lines.splice(0, this.lines.length / 2);
      this.#keptCharacters = this.lines.reduce((sum, { length }) => sum + length + LINE_COST, 0);
    }
    for (const { pattern, match } of this.#waiters) {
      const found = pattern.exec(line);
      if (found !== null) match.resolve(found);
    }
  }

  #failure(pattern: RegExp, when: string): Error {
    const end = this.#result === undefined ? '' : ` (${JSON.stringify(this.#result)})`;
    return new Error(`${when}${end} no line like ${String(pattern)} in the log:\n${this.lines.join('\n')}`);
  }
}

export function spawnVproxy(
  t: { teardown(undo: () => Promise<unknown>): void },
  args: readonly string[],
  options: SpawnOptions = {},
): VproxyProcess {
  const vproxy = new VproxyProcess(args, options);
  t.teardown(() => vproxy.stop());
  return vproxy;
}

/** A command line with a control socket of its own, once it answers requests there. */
export async function spawnControlled(t: ExecutionContext, args: readonly string[], options: SpawnOptions = {}) {
  const socket = join(temporaryFolder(t), 'control.sock');
  const vproxy = spawnVproxy(t, [...args, '--control', socket], options);
  await vproxy.waitForLine(TAKING_CONTROL);
  return { vproxy, socket };
}

// The real command line of vproxy, run to its end.

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Removes root's right to bypass permissions. Needs setpriv(1) if the test runs as root. Default false. */
  readonly obeysPermissions?: boolean;
  /** Default 20,000. */
  readonly timeoutMs?: number;
}

/** A launcher without root's right to bypass permissions. */
export const OBEYING_PERMISSIONS: readonly string[] =
  process.getuid?.() === 0 ? ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'] : [];

/** Runs `vproxy` with `args`; one that does not exit by itself is killed, and its `code` is null. The log of a proxy has no times. */
export async function runVproxy(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { env = {}, obeysPermissions = false, timeoutMs = 20_000 } = options;
  const command = [process.execPath, join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), ...withoutControl(args)];
  if (obeysPermissions) command.unshift(...OBEYING_PERMISSIONS);
  const result = await runProgram(command, { env: { ...process.env, ...env }, timeoutMs, keepsInput: true });
  return isProxy(args) ? { ...result, stderr: withoutTimes(result.stderr) } : result;
}

/** Runs a program to its end; one that takes longer is killed, and its `code` is null. Its input is empty unless `keepsInput`. */
export function runProgram(
  [file = '', ...words]: readonly string[],
  options: { env?: NodeJS.ProcessEnv; timeoutMs?: number; keepsInput?: boolean } = {},
): Promise<RunResult> {
  const { env, timeoutMs = 60_000, keepsInput = false } = options;
  return new Promise((resolve) => {
    const child = execFile(file, words, { env, maxBuffer: 2 ** 26 }, (_error, stdout, stderr) => {
      deadline.cancel();
      resolve({ code: child.exitCode, stdout, stderr });
    });
    const deadline = new Deadline(timeoutMs, () => child.kill('SIGKILL'));
    if (!keepsInput) child.stdin?.end();
  });
}

export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

// A command line of vproxy on pipes held by the test.

/** A running command; killed when the test ends. */
export interface PipedCommand {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** All of stdout until EOF, which may come before the process exits. */
  readonly output: Promise<Buffer>;
  /** The status, and all of stderr. */
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>;
}

export function runPiped(
  t: ExecutionContext,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): PipedCommand {
  const child = spawn(process.execPath, [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  t.teardown(() => child.kill('SIGKILL'));
  child.stdin.on('error', () => undefined);
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const ended = Promise.all([exited, text(child.stderr)]).then(([[code], stderr]) => ({ code, stderr }));
  return {
    child,
    output: within(120_000, 'the end of stdout', buffer(child.stdout)),
    ended: within(120_000, 'the end of the process', ended),
  };
}

// Command lines of specs that need no control socket, so that none is left in a folder shared by all processes.

/** The words of a command line; one that runs a proxy, and does not mention a control socket, gets none. */
function withoutControl(args: readonly string[]): readonly string[] {
  const says = args.some((word) => /^--(no-)?control/.test(word));
  return isProxy(args) && !says ? ['--no-control', ...args] : args;
}

/** Whether a command line runs a proxy; `vproxy ping -c 1` is a command for a running process. */
const isProxy = (args: readonly string[]): boolean =>
  args[0]?.startsWith('-') === true && args.some((word) => /^(-c|--channel|--config)/.test(word));

// The log lines of vproxy that specs wait for: the only place that knows their wording.

/** The times at the start of lines of the log of a proxy. */
const TIMES = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} /gm;

const withoutTimes = (log: string): string => log.replace(TIMES, '');

/** A forward of `service` listens on a TCP port: `$1` is the host, `$2` the port. */
export function listeningFor(service: string): RegExp {
  return new RegExp(`listening on (\\S+):(\\d+) for ${service}(?![a-z0-9._-])`);
}

export const ESTABLISHED = /\bsession established with .+ on \S/;

export const ENDED = /\bsession on \S.* ended: /;

/**
 * A session ended because the process at the other end was restarted. If its predecessor was cut off within a frame header, the
 * flush of the new one completes the header, and only a wrong check shows.
 */
export const ENDED_BY_RESTART = /\bsession on \S.* ended: .*\((?:peer-restarted|desync)\)/;

/** A listening channel waits for the peer on a TCP port: `$1` is the port. */
export const CHANNEL_LISTENING = /\bwaiting for the peer on tcp-listen:\S+:(\d+)/;

export const TAKING_CONTROL = /\blistening on .* for control requests\b/;
