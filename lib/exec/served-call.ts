/** The runner's end of a call: reads what the caller says, starts the command, and says how it went. */

import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Log } from '../events.js';
import type { Budget } from '../util/bounds.js';
import { encodeRecord, RecordReader } from '../util/bytes/records.js';
import { type CancelTimer, type Clock, settledWithin } from '../util/clock.js';
import type { LoopTurns } from '../util/concurrency.js';
import { type CommandFacts, commandFacts, logEnded, logRefused, logStarted } from './command-log.js';
import { StdinReceiver } from './command-streams.js';
import type { CommandDecision } from './decide-command.js';
import {
  CALLER_RECORD_BYTES,
  decodeEof,
  decodeResize,
  decodeSignal,
  decodeStart,
  EXEC_KIND,
  type ExecRequest,
  type ExecResult,
  encodeCredit,
  encodeExit,
  type TerminalSize,
} from './exec-messages.js';
import { DEFAULT_KILL_AFTER_MS, Execution } from './execution.js';
import type { RecordingRule, TerminalRecorder } from './recording/terminal-recorder.js';
import type { TerminalRecording } from './recording/terminal-recording.js';
import type { RunningCommand } from './running-command.js';

/** Who records terminals, and by which rule. */
export interface TerminalRecorders {
  readonly recorder: TerminalRecorder;
  readonly rule: RecordingRule;
}

/** A stream that somebody has opened to the service. */
export type CallStream = Duplex & { readonly from?: string | null };

/** What all calls of a channel share. */
export interface CallHost {
  readonly clock: Clock;
  readonly log: Log;
  /** Counts the bytes of each START from its header until its command runs, or does not. */
  readonly startBudget: Budget;
  /** Takes a place for the command of a call; null, or why no place is free. */
  readonly admit: (call: ServedCall) => VproxyError | null;
  readonly decide: (request: ExecRequest) => Promise<CommandDecision>;
  readonly spawn: (decision: CommandDecision, request: ExecRequest) => Promise<RunningCommand>;
  /** Who records the terminal of a command that begins; null: nobody. */
  readonly findRecorder: () => Promise<TerminalRecorders | null>;
  /** When a turn is over, the rest of what came waits. */
  readonly turns: LoopTurns;
  /** The command is over, or was not run: its place is free. */
  readonly onOver: (call: ServedCall) => void;
}

/** The time after which a stream whose START is not whole is reset. */
const START_MS = 10_000;

/** At a stop, a command that has not begun after this time is ended when it begins: looking for it may hang on a file system. */
const START_AT_STOP_MS = 100;

export class ServedCall {
  readonly #stream: CallStream;
  readonly #host: CallHost;
  readonly #reader: RecordReader;
  /** Whether a part of what came is left to another turn; the stream is paused meanwhile. */
  #hasRest = false;
  /** Whether the caller has ended its direction. */
  #hasEnded = false;
  readonly #input: StdinReceiver;
  readonly #cancelDeadline: CancelTimer;
  /** What this call has of the budget for STARTs. */
  #startBytes = 0;
  /** `opened`, until START is whole: `started`; `answered` when EXIT is written, and nothing that comes matters any more. */
  #state: 'opened' | 'started' | 'answered' = 'opened';
  #starting: Promise<void> = Promise.resolve();
  #hasInput = true;
  #hasCallerGone = false;
  #stopReason: VproxyError | null = null;
  #command: RunningCommand | null = null;
  #execution: Execution | null = null;
  #recording: TerminalRecording | null = null;
  /** What came before the command was there. */
  readonly #earlyClosed = new Set<1 | 2>();
  readonly #earlySignals = new Set<NodeJS.Signals>();
  #earlySize: TerminalSize | null = null;

  /** Owns the stream. */
  constructor(stream: CallStream, host: CallHost) {
    this.#stream = stream;
    this.#host = host;
    this.#input = new StdinReceiver((bytes) => this.#write(encodeCredit(bytes)));
    this.#reader = new RecordReader({
      pieces: new Set([EXEC_KIND.STDIN]),
      onHeader: (kind, payloadBytes) => this.#judge(kind, payloadBytes),
      onRecord: (kind, payload) => this.#take(kind, payload),
      onPiece: (_kind, bytes) => this.#takeInput(bytes),
      isFull: () => host.turns.isOver,
    });
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => this.#guard(() => this.#read(chunk)));
    stream.once('end', () => {
      this.#hasEnded = true;
      if (!this.#hasRest) this.#guard(() => this.#callerEnded());
    });
    stream.once('close', () => this.#callerGone());
    // A caller that reads no more cannot learn how it ended.
    stream.once('stop', (reason: VproxyError) => stream.destroy(reason));
    this.#cancelDeadline = host.clock.schedule(START_MS, () => this.#expire());
  }

  /** Ends the command soon; resolves when it is over. */
  async stop(reason: VproxyError): Promise<void> {
    this.#stopReason = reason;
    await settledWithin(this.#host.clock, START_AT_STOP_MS, this.#starting);
    await this.#execution?.stop();
  }

  /** START is late, unless it came and waits for its turn. */
  #expire(): void {
    if (this.#state !== 'opened') return;
    if (this.#hasRest) this.#host.turns.later(() => this.#expire());
    else this.#reset(unfinished());
  }

  /** Reads what the turn has time for. */
  #read(chunk: Buffer): void {
    const readBytes = this.#reader.push(chunk);
    if (readBytes === chunk.length) return;
    this.#hasRest = true;
    this.#stream.pause();
    this.#host.turns.later(() => {
      this.#hasRest = false;
      if (!this.#stream.destroyed) this.#guard(() => this.#read(chunk.subarray(readBytes)));
      this.#goOn();
    });
  }

  #goOn(): void {
    if (this.#hasRest) return;
    if (this.#hasEnded) this.#guard(() => this.#callerEnded());
    this.#stream.resume();
  }

  /** What the caller does wrong ends its stream, and its command with it. */
  #guard(read: () => void): void {
    if (this.#state === 'answered') return;
    try {
      read();
    } catch (error) {
      this.#reset(toVproxyError(error));
    }
  }

  /** EXIT may have answered what came before in the same chunk; then the rest of it does not matter. */
  #reset(reason: VproxyError): void {
    if (this.#state !== 'answered') this.#stream.destroy(reason);
  }

  /** Refuses a record before anything of it is kept. */
  #judge(kind: number, payloadBytes: number): void {
    const isStart = kind === EXEC_KIND.START;
    if (!isStart && this.#state === 'opened') throw wrong(`${nameOf(kind)} before START`);
    if (isStart && this.#state !== 'opened') throw wrong('a second START');
    if (kind === EXEC_KIND.STDIN) return;
    const mostBytes = CALLER_RECORD_BYTES.get(kind);
    if (mostBytes === undefined) throw wrong(`a record of the unknown kind ${kind}`);
    if (payloadBytes > mostBytes) {
      throw wrong(`${nameOf(kind)} of ${payloadBytes} bytes, expected ${mostBytes} at most`);
    }
    if (isStart) this.#reserve(payloadBytes);
  }

  #reserve(bytes: number): void {
    const { startBudget } = this.#host;
    if (!startBudget.reserve(bytes)) {
      throw new VproxyError(
        'too-many-streams',
        `exec: START of ${bytes} bytes, and others hold ${startBudget.usedBytes} of ${startBudget.limitBytes}`,
      );
    }
    this.#startBytes = bytes;
  }

  /** Gives the budget back what this call has of it. */
  #letGo(): void {
    this.#host.startBudget.release(this.#startBytes);
    this.#startBytes = 0;
  }

  #take(kind: number, payload: Buffer): void {
    if (this.#state === 'answered') return;
    switch (kind) {
      case EXEC_KIND.START: {
        const request = decodeStart(payload);
        this.#state = 'started';
        this.#cancelDeadline();
        this.#starting = this.#start(request).finally(() => this.#letGo());
        break;
      }
      case EXEC_KIND.SIGNAL:
        this.#signal(decodeSignal(payload));
        break;
      case EXEC_KIND.RESIZE:
        this.#resize(decodeResize(payload));
        break;
      case EXEC_KIND.EOF:
        this.#close(decodeEof(payload));
        break;
    }
  }

  /** The end of the input, or of who reads an output. */
  #close(fd: 0 | 1 | 2): void {
    if (fd === 0) this.#input.end();
    else if (this.#execution === null) this.#earlyClosed.add(fd);
    else this.#execution.closeOutput(fd);
  }

  #takeInput(bytes: Buffer): void {
    if (this.#state === 'answered') return;
    if (!this.#hasInput) throw wrong('STDIN for a command without input');
    this.#recording?.input(bytes);
    this.#input.push(bytes);
  }

  #signal(name: string): void {
    if (!isSignal(name)) throw wrong(`there is no signal ${name}`);
    if (this.#command === null) this.#earlySignals.add(name);
    else this.#command.signal(name);
  }

  #resize(size: TerminalSize): void {
    this.#recording?.resize(size);
    if (this.#command === null) this.#earlySize = size;
    else this.#command.resize(size);
  }

  /** FIN: nothing can come any more, but the caller still listens. */
  #callerEnded(): void {
    if (this.#state === 'opened') throw wrong('the stream ended before START');
    if (this.#reader.isWithinRecord) throw wrong('the stream ended within a record');
    if (!this.#input.isEnded) this.#input.end();
  }

  #callerGone(): void {
    this.#hasCallerGone = true;
    this.#cancelDeadline();
    if (this.#state === 'opened') this.#letGo();
    this.#input.drop();
    if (this.#state !== 'answered') this.#execution?.vanish();
  }

  async #start(request: ExecRequest): Promise<void> {
    const { admit, decide, findRecorder, spawn, onOver } = this.#host;
    const from = this.#stream.from ?? null;
    const { argv, user = null, cwd = null } = request;
    const asked = commandFacts({ argv, user, cwd, from });
    this.#hasInput = request.hasInput ?? true;
    const full = admit(this);
    if (full !== null) {
      this.#refuse(full, asked);
      return;
    }
    try {
      const decision = await decide(request);
      const recorder = request.terminal === undefined ? null : await findRecorder();
      if (this.#stopReason !== null) throw this.#stopReason;
      if (this.#hasCallerGone) throw new VproxyError('command-failed', 'the caller has gone');
      const command = await spawn(decision, request);
      const facts = commandFacts({ argv, user: decision.user, cwd: decision.options.cwd, from });
      this.#record(recorder, request, facts);
      this.#run(command, request, facts);
    } catch (error) {
      onOver(this);
      this.#refuse(toVproxyError(error, 'command-failed'), asked);
    }
  }

  #record(by: TerminalRecorders | null, { terminal }: ExecRequest, facts: CommandFacts): void {
    if (by === null || terminal === undefined) return;
    this.#recording = by.recorder.begin(by.rule, facts, { ...terminal, ...this.#earlySize });
  }

  #run(command: RunningCommand, { timeoutMs = 0, killAfterMs }: ExecRequest, facts: CommandFacts): void {
    const { clock, log, onOver } = this.#host;
    const { pid } = command;
    const recording = this.#recording;
    const recordedAt = recording?.path ?? null;
    this.#command = command;
    logStarted(log, facts, pid, recordedAt);
    this.#write(encodeRecord(EXEC_KIND.STARTED, JSON.stringify({ pid })));
    const execution = new Execution({
      command,
      stream: this.#stream,
      clock,
      timeoutMs: timeoutMs === 0 ? null : timeoutMs,
      killAfterMs: killAfterMs ?? DEFAULT_KILL_AFTER_MS,
      onOutput: recording === null ? null : (bytes) => recording.output(bytes),
      onEnd: (result) => {
        const { sentBytes: outputBytes } = execution;
        const amounts = { inputBytes: this.#input.receivedBytes, outputBytes };
        recording?.end();
        logEnded(log, facts, pid, recordedAt, result, amounts);
        this.#exit(result);
      },
      onOver: () => onOver(this),
    });
    this.#execution = execution;
    if (this.#earlySize !== null) command.resize(this.#earlySize);
    for (const name of this.#earlySignals) command.signal(name);
    for (const fd of this.#earlyClosed) execution.closeOutput(fd);
    if (command.stdin === null) this.#input.drop();
    else this.#input.attach(command.stdin);
    if (this.#stopReason !== null) void execution.stop();
    else if (this.#hasCallerGone) execution.vanish();
  }

  #refuse(error: VproxyError, facts: CommandFacts): void {
    logRefused(this.#host.log, facts, error);
    const { code, message } = error;
    this.#exit({ status: null, signal: null, timedOut: false, durationMs: 0, error: { code, message } });
  }

  #exit(result: ExecResult): void {
    this.#input.drop();
    this.#write(encodeExit(result));
    this.#state = 'answered';
    this.#stream.end();
  }

  #write(record: Buffer): void {
    if (this.#state !== 'answered' && !this.#stream.destroyed) this.#stream.write(record);
  }
}

const isSignal = (name: string): name is NodeJS.Signals => Object.hasOwn(constants.signals, name);

const unfinished = (): VproxyError =>
  new VproxyError('stalled', `exec: START is not complete after ${START_MS / 1000} s`);

const nameOf = (kind: number): string =>
  Object.entries(EXEC_KIND).find(([, value]) => value === kind)?.[0] ?? `a record of kind ${kind}`;

const wrong = (what: string): VproxyError => new VproxyError('protocol-error', `exec: ${what}`);
