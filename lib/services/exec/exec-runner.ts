/** The service `exec`: runs commands for callers that open streams to it (docs/exec.md). */
import { promises as fs } from 'node:fs';
import { systemCode, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { loadSystemPipes, type OpenPipes, openSystemPipes } from '../../system/processes/pipes.js';
import { Budget } from '../../util/bounds.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { decideCommand, type ExecRules, type ExecSystem, thisSystem } from './decide-command.js';
import type { ExecRequest, TerminalRequest } from './exec-messages.js';
import { JobTable } from './jobs/job-table.js';
import type { CommandOptions, RunningCommand } from './running-command.js';
import { type CallHost, type CallStream, type Decided, ServedCall, type TerminalRecorders } from './served-call.js';
import { spawnWithPipes } from './spawn-with-pipes.js';

export type { ExecRules } from './decide-command.js';

export type SpawnInTerminal = (options: CommandOptions, terminal: TerminalRequest) => Promise<RunningCommand>;

export interface ExecRunnerOptions {
  readonly rules: ExecRules;
  readonly clock: Clock;
  readonly log: Log;
  /** Default: an empty one. */
  readonly jobs?: JobTable;
  /** Limit on commands at once. Default 256. */
  readonly maxCommands?: number;
  /** A lower limit, which may change at any time. Default: none. */
  readonly mostCommands?: () => number;
  /** Limit on bytes of STARTs whose commands are not running yet, over all calls. Default 16 MiB. */
  readonly maxStartBytes?: number;
  /** `PATH` and `LANG` of commands, the user of this process, and the account files. Default: this machine. */
  readonly system?: Partial<ExecSystem>;
  /** Opens the pipes of commands. Default: this machine's, with koffi. */
  readonly openPipes?: OpenPipes;
  /** Default: commands in a terminal are refused. */
  readonly spawnInTerminal?: SpawnInTerminal;
  /** Finds the recorder for the terminal of a starting command; null: not recorded. Default: never recorded. */
  readonly findRecorder?: () => Promise<TerminalRecorders | null>;
}

const MAX_COMMANDS = 256;
const MAX_START_BYTES = 16_777_216;
const MAX_LIST_BYTES = 2_097_152;

export class ExecRunner {
  readonly #options: ExecRunnerOptions;
  /** Null: no commands are allowed. */
  #rules: ExecRules | null;
  readonly #host: CallHost;
  readonly #calls = new Set<ServedCall>();
  /** Calls that wait for one of `#calls` to be over, in the order of arrival. */
  readonly #waiting = new Map<ServedCall, (refusal: VproxyError | null) => void>();
  readonly #callOf = new WeakMap<CallStream, ServedCall>();
  #isStopped = false;

  constructor(options: ExecRunnerOptions) {
    const { clock, log, openPipes = openSystemPipes, maxStartBytes = MAX_START_BYTES } = options;
    const { jobs = new JobTable(clock) } = options;
    const system = { ...thisSystem(), ...options.system };
    this.#options = options;
    this.#rules = options.rules;
    this.#host = {
      clock,
      log,
      jobs,
      jobCalls: new WeakMap(),
      startBudget: new Budget(maxStartBytes),
      listBudget: new Budget(MAX_LIST_BYTES),
      admit: (call, waits) => this.#admit(call, waits),
      leave: (call, reason) => this.#settle(call, reason),
      lastStartAtMs: clock.now(),
      decide: (request) => this.#decide(request, system),
      requireService: () => {
        if (this.#rules === null) throw new VproxyError('denied', 'service exec is no longer allowed');
      },
      spawn: (command, { terminal }) =>
        terminal === undefined ? spawnWithPipes(command, openPipes) : this.#spawnInTerminal(command, terminal),
      findRecorder: options.findRecorder ?? (() => Promise.resolve(null)),
      turns: new LoopTurns(),
      onOver: (call) => {
        this.#calls.delete(call);
        this.admitWaiting();
      },
    };
    // Load now, so that the first command starts fast, and with the koffi that belongs to this version.
    if (options.openPipes === undefined) void loadSystemPipes();
  }

  /**
   * Replaces the rules, for all commands that have not started; null denies them. Logs the allowed programs that do not exist.
   */
  allow(rules: ExecRules | null): void {
    this.#rules = rules;
    if (rules !== null) void warnOfMissing(rules, this.#options.log);
    else for (const call of this.#waiting.keys()) this.#settle(call, notAllowed());
  }

  /** Call it when `mostCommands` may have risen. */
  admitWaiting(): void {
    for (const next of this.#waiting.keys()) if (this.#calls.size < this.#maxCommands) this.#settle(next, null);
  }

  /** The jobs that run, human-readable. */
  get jobs(): string[] {
    return this.#host.jobs.running.map(({ id }) => `job ${id}`);
  }

  /** Commands that are starting, running or ending. */
  get runningCount(): number {
    return this.#calls.size;
  }

  /**
   * Serves a call; the runner then owns the stream. A protocol violation destroys it with `protocol-error`. If it is
   * destroyed before EXIT was written, its command is ended.
   */
  serve(stream: CallStream): void {
    this.#callOf.set(stream, new ServedCall(stream, this.#host));
  }

  /** Whether the command of a stream is starting, running or ending, even if the stream has closed. */
  isServing(stream: CallStream): boolean {
    const call = this.#callOf.get(stream);
    return call !== undefined && this.#calls.has(call);
  }

  /** Commands that have outlived their streams, without running jobs, human-readable. */
  get unfinished(): string[] {
    return [...this.#calls].flatMap((call) => call.unfinished ?? []);
  }

  /** Ends all commands within 0.4 s by the clock. */
  endUnfinished(): void {
    for (const call of this.#calls) void call.stop(stopped());
  }

  /** Ends every command within 0.4 s by the clock, and refuses new ones. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const call of this.#waiting.keys()) this.#settle(call, stopped());
    await Promise.all([...this.#calls].map((call) => call.stop(stopped())));
    this.#host.jobs.clear();
  }

  get #maxCommands(): number {
    const { maxCommands = MAX_COMMANDS, mostCommands } = this.#options;
    return Math.min(maxCommands, mostCommands?.() ?? MAX_COMMANDS);
  }

  async #admit(call: ServedCall, waits: boolean): Promise<VproxyError | null> {
    if (this.#isStopped) return stopped();
    if (this.#rules === null) return notAllowed();
    const maxCommands = this.#maxCommands;
    if (this.#calls.size < maxCommands) {
      this.#calls.add(call);
      return null;
    }
    if (waits) return new Promise((resolve) => this.#waiting.set(call, resolve));
    return new VproxyError('too-many-streams', `too many commands running (max ${maxCommands})`);
  }

  /** Ends the wait of a call, with a refusal or by admitting it. */
  #settle(call: ServedCall, refusal: VproxyError | null): void {
    const settle = this.#waiting.get(call);
    if (settle === undefined) return;
    this.#waiting.delete(call);
    if (refusal === null) this.#calls.add(call);
    settle(refusal);
  }

  async #decide(request: ExecRequest, system: ExecSystem): Promise<Decided> {
    for (;;) {
      const rules = this.#rules;
      if (rules === null) throw notAllowed();
      const decision = await decideCommand(request, rules, system);
      // Its file system may have hung for long.
      if (rules === this.#rules) return { ...decision, requireAllowed: () => this.#requireAllowed(rules) };
    }
  }

  #requireAllowed(by: ExecRules): void {
    if (this.#rules === null) throw notAllowed();
    if (this.#rules !== by && this.#rules.commands !== 'any')
      throw new VproxyError('command-denied', 'the allowed commands have changed meanwhile');
  }

  #spawnInTerminal(options: CommandOptions, terminal: TerminalRequest): Promise<RunningCommand> {
    const { spawnInTerminal } = this.#options;
    if (spawnInTerminal === undefined) throw new VproxyError('command-failed', 'no terminals available here');
    return spawnInTerminal(options, terminal);
  }
}

const notAllowed = (): VproxyError => new VproxyError('command-denied', 'commands are no longer allowed');

const stopped = (): VproxyError => new VproxyError('command-failed', 'shutting down');

/** Not an error: they may be installed later. */
async function warnOfMissing({ commands }: ExecRules, log: Log): Promise<void> {
  for (const path of commands === 'any' ? [] : commands) {
    await fs.access(path).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return;
      log(makeEvent('exec-missing', `allowed command ${escapeText(path)}: does not exist`, { path }));
    });
  }
}
