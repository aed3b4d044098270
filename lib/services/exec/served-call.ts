/** The runner's end of a call: reads the request, starts the command and reports its result. */
import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { ExecResult } from '../../status/types.js';
import type { Budget } from '../../util/bounds.js';
import { encodeRecord } from '../../util/bytes/records.js';
import { type CancelTimer, type Clock, settledWithin } from '../../util/clock.js';
import { RecordFlow } from '../record-flow.js';
import { type CommandFacts, commandFacts, logEnded, logRefused, logStarted, logWriter } from './command-log.js';
import { StdinReceiver } from './command-streams.js';
import type { CommandDecision } from './decide-command.js';
import {
  CALLER_RECORD_BYTES,
  DEFAULT_KILL_AFTER_MS,
  type Detachment,
  decodeEof,
  decodeResize,
  decodeSignal,
  decodeStart,
  EXEC_KIND,
  type ExecRequest,
  encodeCredit,
  encodeExit,
  notRun,
  type TerminalSize,
} from './exec-messages.js';
import { type Controls, EarlyRequests, Execution } from './execution.js';
import { answerJobRequest, type JobHost } from './jobs/answer-job-request.js';
import type { Job } from './jobs/job.js';
import type { JobRequest } from './jobs/job-messages.js';
import type { RecordingRule, TerminalRecorder } from './recording/terminal-recorder.js';
import type { TerminalRecording } from './recording/terminal-recording.js';
import type { CommandOptions, RunningCommand } from './running-command.js';

export interface TerminalRecorders {
  readonly recorder: TerminalRecorder;
  readonly rule: RecordingRule;
}

/** A stream that a caller has opened to the service. */
export type CallStream = Duplex & { readonly from?: string | null; readonly hasFin?: boolean };

export interface Decided extends CommandDecision {
  /** Throws if the rules are others by now, as long as not everything is allowed. */
  readonly requireAllowed: () => void;
}

/** What all calls on a channel share. */
export interface CallHost extends JobHost {
  readonly clock: Clock;
  readonly log: Log;
  /** The calls that started the jobs. */
  readonly jobCalls: WeakMap<Job, ServedCall>;
  /** Counts the bytes of each START from its header until its command has started or failed to. */
  readonly startBudget: Budget;
  /** Reserves a slot for the command of a call, and may wait for one; resolves with null, or the reason for a refusal. */
  readonly admit: (call: ServedCall, waits: boolean) => Promise<VproxyError | null>;
  /** Ends the wait of a call that is no longer wanted. */
  readonly leave: (call: ServedCall, reason: VproxyError) => void;
  /** When a START was last complete, or its command started or refused. */
  lastStartAtMs: number;
  readonly decide: (request: ExecRequest) => Promise<Decided>;
  /** Throws `denied` if the service is no longer allowed. */
  readonly requireService: () => void;
  readonly spawn: (command: CommandOptions, request: ExecRequest) => Promise<RunningCommand>;
  /** Finds the recorder for the terminal of a starting command; null: not recorded. */
  readonly findRecorder: () => Promise<TerminalRecorders | null>;
  /** The command is over, or was not run: frees its slot. */
  readonly onOver: (call: ServedCall) => void;
}

/**
 * A stream without a complete START is reset after START_MS. The time begins again when another START was complete, started or
 * refused, behind which this one may wait in the channel, and when this process was held up for more than HELD_UP_MS.
 */
const START_MS = 10_000;
const HELD_UP_MS = 1000;

/** The records that a caller may begin with. */
const FIRST_KINDS: ReadonlySet<number> = new Set([EXEC_KIND.START, EXEC_KIND.LIST, EXEC_KIND.ATTACH, EXEC_KIND.STOP]);

/** On shutdown, wait this long for a command to start, then end it when it does: its lookup may hang on a file system. */
const START_AT_STOP_MS = 100;

export class ServedCall {
  readonly #stream: CallStream;
  readonly #host: CallHost;
  readonly #flow: RecordFlow;
  readonly #input: StdinReceiver;
  #cancelDeadline: CancelTimer;
  /** This call's share of the START budget. */
  #startBytes = 0;
  /** `started` once START is complete, or it writes to a job; `answered` once further input is ignored. */
  #state: 'opened' | 'started' | 'answered' = 'opened';
  #starting: Promise<void> = Promise.resolve();
  #hasInput = true;
  #hasCallerGone = false;
  #stopReason: VproxyError | null = null;
  #execution: Execution | null = null;
  /** Requests that arrived before the command had started. */
  readonly #early = new EarlyRequests();
  #recording: TerminalRecording | null = null;
  #job: Job | null = null;
  /** Whether its command is a job, even before it runs. */
  #isDetached = false;
  /** The call whose command gets the input of this one: another one if this is the writer of a job. */
  #target: ServedCall = this;
  /** The writer of this call's job. */
  #writer: ServedCall | null = null;
  /** Calls that are to write to it once the writer, which is leaving, has left: what it sent before comes first. */
  readonly #nextWriters: (() => void)[] = [];
  /** Whether it is one of them. */
  #isNextWriter = false;
  /** Whether its stream ends with a list of jobs, which takes turns. */
  #isListing = false;
  #writtenBytes = 0;

  /** Takes over the stream. */
  constructor(stream: CallStream, host: CallHost) {
    this.#stream = stream;
    this.#host = host;
    this.#input = new StdinReceiver((bytes) => (this.#writer ?? this).#write(encodeCredit(bytes)));
    const handler = {
      pieces: new Set([EXEC_KIND.STDIN]),
      onHeader: (kind: number, payloadBytes: number) => this.#check(kind, payloadBytes),
      onRecord: (kind: number, payload: Buffer) => this.#handle(kind, payload),
      onPiece: (_kind: number, bytes: Buffer) => this.#handleInput(bytes),
      onEnd: () => this.#callerEnded(),
      onError: (error: unknown) => this.#fail(toVproxyError(error)),
      isFull: () => this.#isNextWriter,
    };
    this.#flow = new RecordFlow(stream, handler, host.turns);
    stream.on('error', () => undefined);
    stream.once('close', () => this.#callerGone());
    // A caller that stopped reading cannot receive the result.
    stream.once('stop', (reason: VproxyError) => stream.destroy(reason));
    this.#cancelDeadline = this.#expireIn(START_MS);
  }

  /** A command that has outlived its stream and is not a running job, human-readable; otherwise null. */
  get unfinished(): string | null {
    if (!this.#hasCallerGone || (this.#job !== null && this.#host.jobs.running.includes(this.#job))) return null;
    return this.#execution === null ? 'a command that starts' : `command ${this.#execution.pid}, which is to end`;
  }

  /** Ends the command soon; resolves when it is over. */
  async stop(reason: VproxyError): Promise<void> {
    this.#stopReason = reason;
    await settledWithin(this.#host.clock, START_AT_STOP_MS, this.#starting);
    await this.#execution?.stop();
  }

  #expireIn(ms: number): CancelTimer {
    const { clock } = this.#host;
    const dueMs = clock.now() + ms;
    return clock.schedule(ms, () => this.#expire(clock.now() - dueMs));
  }

  /** Resets the stream if START is late, unless it has arrived and waits for a turn, or this process has been busy. */
  #expire(lateMs: number): void {
    const { clock, lastStartAtMs, turns } = this.#host;
    if (this.#state !== 'opened') return;
    const leftMs = lateMs > HELD_UP_MS ? START_MS : lastStartAtMs + START_MS - clock.now();
    if (leftMs > 0) this.#cancelDeadline = this.#expireIn(leftMs);
    else if (this.#flow.hasRest) turns.later(() => this.#expire(0));
    else this.#reset(unfinished());
  }

  /** Answers an invalid first record (R-EXEC-1); on any other error of the caller, resets the stream, which ends its command. */
  #fail(failure: VproxyError): void {
    if (this.#state !== 'opened' || !ANSWERED.has(failure.code)) this.#reset(failure);
    else {
      this.#letGo();
      this.#exitWith(failure);
    }
  }

  /** No effect after EXIT, which may have answered earlier records of the same chunk. */
  #reset(reason: VproxyError): void {
    if (this.#state !== 'answered') this.#stream.destroy(reason);
  }

  /** Rejects a record by its header, before its payload is buffered. */
  #check(kind: number, payloadBytes: number): void {
    const isFirst = FIRST_KINDS.has(kind);
    if (!isFirst && this.#state === 'opened') throw wrong(`${nameOf(kind)} before START`);
    if (isFirst && this.#state !== 'opened')
      throw wrong(kind === EXEC_KIND.START ? 'a second START' : `${nameOf(kind)} after START`);
    if (kind === EXEC_KIND.STDIN) return;
    const mostBytes = CALLER_RECORD_BYTES.get(kind);
    if (mostBytes === undefined) throw wrong(`unknown record kind ${kind}`);
    if (payloadBytes > mostBytes) {
      const what = `${nameOf(kind)} too long: ${payloadBytes} bytes (max ${mostBytes})`;
      throw isFirst ? badArgument(what) : wrong(what);
    }
    if (kind === EXEC_KIND.START) this.#reserve(payloadBytes);
  }

  #reserve(bytes: number): void {
    const { startBudget } = this.#host;
    if (!startBudget.reserve(bytes)) {
      throw new VproxyError(
        'too-many-streams',
        `no room for a START of ${bytes} bytes: others use ${startBudget.usedBytes} of ${startBudget.limitBytes}`,
      );
    }
    this.#startBytes = bytes;
  }

  /** Releases this call's share of the budget. */
  #letGo(): void {
    this.#host.startBudget.release(this.#startBytes);
    this.#startBytes = 0;
  }

  #handle(kind: number, payload: Buffer): void {
    switch (kind) {
      case EXEC_KIND.START: {
        const request = decodeStart(payload);
        this.#state = 'started';
        this.#isDetached = request.detach !== undefined;
        if (this.#isDetached) this.#flow.stop();
        this.#cancelDeadline();
        this.#host.lastStartAtMs = this.#host.clock.now();
        this.#starting = this.#start(request).finally(() => {
          this.#host.lastStartAtMs = this.#host.clock.now();
          this.#letGo();
        });
        break;
      }
      case EXEC_KIND.LIST:
      case EXEC_KIND.ATTACH:
      case EXEC_KIND.STOP:
        this.#answer(kind, payload);
        this.#cancelDeadline();
        break;
      case EXEC_KIND.SIGNAL:
        this.#target.#signal(decodeSignal(payload));
        break;
      case EXEC_KIND.RESIZE:
        this.#target.#resize(decodeResize(payload));
        break;
      case EXEC_KIND.EOF:
        this.#close(decodeEof(payload));
        break;
    }
  }

  /** Ends the input, or closes an output that the caller no longer reads. */
  #close(fd: 0 | 1 | 2): void {
    if (fd === 0) this.#target.#input.end();
    else if (this.#target === this) this.#controls.closeOutput(fd);
  }

  #answer(kind: number, payload: Buffer): void {
    this.#host.requireService();
    const again = (): void => {
      if (this.#stream.destroyed) return;
      this.#isNextWriter = false;
      try {
        this.#answer(kind, payload);
      } catch (error) {
        this.#fail(toVproxyError(error));
      }
      this.#flow.resume();
      if (this.#stream.readableEnded) this.#flow.after(() => this.#callerEnded());
    };
    const takeInput = (job: Job, request: JobRequest) => this.#takeInput(job, request, again);
    this.#isListing = kind === EXEC_KIND.LIST;
    answerJobRequest(this.#stream, this.#host, kind, payload, takeInput);
    if (this.#target === this && !this.#isNextWriter) this.#markAnswered();
  }

  /** Makes this call the writer of a job, and returns its credit; null: it calls `again` when another one has left. */
  #takeInput(job: Job, { steal, columns, rows }: JobRequest, again: () => void): number | null {
    const target = this.#host.jobCalls.get(job);
    if (target === undefined || job.input === null) throw badArgument('ATTACH: input: the job was started without one');
    const former = target.#writer;
    if (former !== null && former.#isLeaving) {
      target.#nextWriters.push(again);
      this.#isNextWriter = true;
      return null;
    }
    if (former !== null) {
      if (steal !== true) throw new VproxyError('input-taken', `another caller writes to job ${job.id}`);
      former.#exitWith(new VproxyError('input-taken', `another caller took over the input of job ${job.id}`));
      former.#leaveJob();
    }
    this.#target = target;
    this.#state = 'started';
    target.#writer = this;
    job.hasWriter = true;
    if (columns !== undefined && rows !== undefined) target.#resize({ columns, rows });
    logWriter(this.#host.log, job.id, this.#stream.from ?? null, null);
    return target.#input.reopen();
  }

  /** Leaves the job that it is the writer of, if any. */
  #leaveJob(): void {
    const job = this.#target.#job;
    if (job === null || this.#target.#writer !== this) return;
    this.#target.#writer = null;
    job.hasWriter = false;
    logWriter(this.#host.log, job.id, this.#stream.from ?? null, this.#writtenBytes);
    for (const again of this.#target.#nextWriters.splice(0)) again();
  }

  /** Whether the caller sends nothing more, although not all that it sent may have been read. */
  get #isLeaving(): boolean {
    const { destroyed, hasFin = false, readableEnded } = this.#stream;
    return destroyed || hasFin || readableEnded;
  }

  #handleInput(bytes: Buffer): void {
    if (!this.#hasInput) throw wrong('STDIN for a command without input');
    const target = this.#target;
    this.#writtenBytes += bytes.length;
    target.#recording?.input(bytes);
    target.#execution?.hurry();
    target.#input.push(bytes);
  }

  #signal(name: string): void {
    if (!isSignal(name)) throw wrong(`unknown signal ${name}`);
    this.#controls.signal(name);
  }

  #resize(size: TerminalSize | null): void {
    if (size === null) return;
    this.#recording?.resize(size);
    this.#controls.resize(size);
  }

  get #controls(): Controls {
    return this.#execution ?? this.#early;
  }

  /** The caller has half-closed: it sends no more, but still reads. */
  #callerEnded(): void {
    this.#leaveJob();
    if (this.#isNextWriter) return;
    const isDone = this.#state === 'answered' || this.#target !== this;
    // Only now: a clean end tells the caller that all it sent was read.
    if (isDone && !this.#isListing) this.#stream.end();
    if (isDone || this.#stream.destroyed || this.#isDetached) return;
    if (this.#state === 'opened') throw wrong('the stream ended before START');
    if (this.#flow.isWithinRecord) throw wrong('the stream ended within a record');
    if (!this.#input.isEnded) this.#input.end();
  }

  #callerGone(): void {
    this.#hasCallerGone = true;
    if (this.#target === this) this.#flow.stop();
    else this.#flow.after(() => this.#leaveJob());
    this.#host.leave(this, gone());
    this.#cancelDeadline();
    if (this.#state === 'opened') this.#letGo();
    if (!this.#isDetached) this.#input.drop();
    if (this.#state !== 'answered') this.#execution?.vanish();
  }

  async #start(request: ExecRequest): Promise<void> {
    const { admit, leave, clock, decide, findRecorder, spawn, jobs, onOver } = this.#host;
    const from = this.#stream.from ?? null;
    const { argv, user = null, cwd = null, wait = false, timeoutMs = 0 } = request;
    const asked = commandFacts({ argv, user, cwd, from });
    this.#hasInput = request.hasInput ?? true;
    if (wait && !this.#isDetached) this.#input.withhold();
    // The time of a command that waits begins now.
    const dueMs = wait && timeoutMs > 0 ? clock.now() + timeoutMs : Number.POSITIVE_INFINITY;
    const cancelWait = dueMs < Number.POSITIVE_INFINITY ? clock.schedule(timeoutMs, () => leave(this, late())) : null;
    const full = await admit(this, wait);
    cancelWait?.();
    if (full !== null) {
      this.#refuse(full, asked);
      return;
    }
    let job: Job | null = null;
    try {
      if (request.detach !== undefined) job = this.#addJob(request, request.detach);
      const decision = await decide(request);
      const recorder = request.terminal === undefined ? null : await findRecorder();
      const requireWanted = (): void => {
        if (this.#stopReason !== null) throw this.#stopReason;
        if (this.#hasCallerGone) throw gone();
        if (clock.now() >= dueMs) throw late();
        decision.requireAllowed();
      };
      const command = await spawn({ ...decision.options, requireWanted }, request);
      const facts = commandFacts({ argv, user: decision.user, cwd: decision.options.cwd, from });
      this.#record(recorder, request, facts);
      const leftMs = Math.min(timeoutMs, Math.max(1, dueMs - clock.now()));
      this.#run(command, { ...request, timeoutMs: leftMs }, facts, job);
    } catch (error) {
      if (job !== null) jobs.remove(job);
      onOver(this);
      this.#refuse(toVproxyError(error, 'command-failed'), asked);
    }
  }

  #addJob({ terminal }: ExecRequest, detach: Detachment): Job {
    const job = this.#host.jobs.add(detach);
    this.#job = job;
    job.hasTerminal = terminal !== undefined;
    if (this.#hasInput) job.input = this.#input;
    this.#host.jobCalls.set(job, this);
    return job;
  }

  #record(by: TerminalRecorders | null, { terminal }: ExecRequest, facts: CommandFacts): void {
    if (by === null || terminal === undefined) return;
    this.#recording = by.recorder.begin(by.rule, facts, { ...terminal, ...this.#early.size });
    for (const bytes of this.#input.early) this.#recording?.input(bytes);
  }

  #run(command: RunningCommand, request: ExecRequest, asked: CommandFacts, job: Job | null): void {
    const { clock, log, jobs, onOver } = this.#host;
    const { timeoutMs = 0, killAfterMs } = request;
    const named = { pid: command.pid, ...(job !== null && { job: job.id }) };
    const recording = this.#recording;
    const keepers = [recording, job].filter((keeper) => keeper !== null);
    const facts = { ...asked, ...named, ...(recording !== null && { recording: recording.path }) };
    logStarted(log, facts);
    this.#write(encodeRecord(EXEC_KIND.STARTED, JSON.stringify(named)));
    const execution = new Execution({
      command,
      stream: job?.sink ?? this.#stream,
      clock,
      timeoutMs: timeoutMs === 0 ? null : timeoutMs,
      killAfterMs: killAfterMs ?? DEFAULT_KILL_AFTER_MS,
      onOutput: keepers.length === 0 ? null : (bytes) => keepers.forEach((keeper) => keeper.output(bytes)),
      onEnd: (result) => {
        const { sentBytes: outputBytes } = execution;
        const amounts = { inputBytes: this.#input.receivedBytes, outputBytes };
        recording?.end();
        logEnded(log, facts, result, amounts);
        if (job === null) this.#exit(result);
        else jobs.end(job, result);
      },
      onOver: () => onOver(this),
    });
    this.#execution = execution;
    this.#early.askOf(execution);
    if (command.stdin === null) this.#input.drop();
    else this.#input.attach(command.stdin);
    if (job !== null) {
      job.begin(facts, execution);
      jobs.makeRoom();
      // It continues without the stream.
      this.#markAnswered();
      this.#stream.end();
    }
    if (this.#stopReason !== null) void execution.stop();
    else if (this.#hasCallerGone && job === null) execution.vanish();
  }

  #refuse(error: VproxyError, facts: CommandFacts): void {
    logRefused(this.#host.log, facts, error);
    this.#exitWith(error);
  }

  #exitWith(error: VproxyError): void {
    this.#exit(notRun(error));
  }

  #exit(result: ExecResult): void {
    this.#input.drop();
    this.#write(encodeExit(result));
    this.#markAnswered();
    this.#stream.end();
  }

  #markAnswered(): void {
    this.#state = 'answered';
    this.#flow.stop();
  }

  #write(record: Buffer): void {
    if (this.#state !== 'answered' && this.#stream.writable) this.#stream.write(record);
  }
}

const isSignal = (name: string): name is NodeJS.Signals => Object.hasOwn(constants.signals, name);

const gone = (): VproxyError => new VproxyError('command-failed', 'the caller has disconnected');

const late = (): VproxyError =>
  new VproxyError('too-many-streams', 'too many commands running until its time was over');

const unfinished = (): VproxyError => new VproxyError('stalled', `exec: no complete START within ${START_MS / 1000} s`);

const nameOf = (kind: number): string =>
  Object.entries(EXEC_KIND).find(([, value]) => value === kind)?.[0] ?? `a record of kind ${kind}`;

/** The errors that EXIT reports, instead of a reset of the stream. */
const ANSWERED: ReadonlySet<string> = new Set(['bad-argument', 'input-taken', 'too-many-streams']);

const wrong = (what: string): VproxyError => new VproxyError('protocol-error', `exec: ${what}`);
