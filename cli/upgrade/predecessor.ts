/** Handing over: a running process starts its successor and passes it all its state (docs/decisions/0026-handing-over.md). */

import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { serialize } from 'node:v8';
import type { UpgradeRequest } from '../../lib/control/context/context.js';
import { systemCode, toVproxyError, VproxyError } from '../../lib/errors.js';
import { type Log, makeEvent } from '../../lib/events.js';
import type { WrittenOptions } from '../../lib/proxy/channel/channel-options.js';
import type { UpgradeAnswer } from '../../lib/status/types.js';
import type { KeepDescriptor } from '../../lib/system/descriptors.js';
import { encodeParcel, HandoverPipe, loadHandoverCalls, receiveNextMessage } from '../../lib/system/handover-pipe.js';
import { loadLibc } from '../../lib/system/libc.js';
import { availableMemory } from '../../lib/system/proc/available-memory.js';
import { PendingSignals } from '../../lib/system/processes/pending-signals.js';
import type { MessageCalls } from '../../lib/system/unix-messages.js';
import { LoopTurns } from '../../lib/util/concurrency.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatBytes } from '../ui/print.js';
import { type EncodedDocument, encodeDocument, type HandoverCounts, type HandoverDocument } from './document.js';
import { HANDOVER_FORM } from './form.js';
import { type SuccessorCommand, successorCommand } from './program.js';
import { requireDescriptors, type StartedProcess, startChild, startOrphan } from './start.js';
import { HANDOVER_VARIABLE } from './starting.js';

/** How long a successor may take to load, in milliseconds: many seconds on an emulated processor. This process keeps working. */
const LOAD_MS = 30_000;

/** How long the takeover may take, in milliseconds: this process is blocked meanwhile. */
const TAKE_UP_MS = 10_000;

/** How long commands may take to end after their streams were cut, in milliseconds: they are killed after 5 s. */
const CUT_MS = 6000;

/** Minimum interval between two checks for obstacles, in milliseconds. */
const LOOK_MS = 20;

/** Each check visits all streams: checks take at most this share of the time, but run at least once a second. */
const LOOK_SHARE = 1 / 50;
const MAX_PAUSE_MS = 1000;

/** Memory that a successor needs: objects, per byte of the document, and blocks that are not full, per buffered byte. */
const OBJECTS_FACTOR = 8;
const BLOCKS_FACTOR = 9 / 8;

export interface Predecessor {
  readonly log: Log;
  /** Returns what cannot be handed over now, as human-readable lines. */
  obstacles(): string[];
  /** Ends those that begin again by themselves, and if it `isForced` those that only a guest can end; returns a line for each. */
  cutObstacles(isForced: boolean): string[];
  /** The options of its channels, which the successor checks before the hand-over. */
  prepare(): readonly WrittenOptions[];
  /** Captures idle channels, one a step, so that the hand-over does not run cold code. */
  rehearse(): Iterator<void>;
  /** Captures the whole state for a successor, without changing anything. */
  capture(keep: KeepDescriptor): HandoverDocument;
  /** Environment variables of the successor besides those of this process. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether a service manager started this process, and must be notified. */
  readonly isService: boolean;
  /** Announces the new main process to the service manager. Throws if that fails. */
  announce(pid: number, calls: MessageCalls): void;
}

export interface HandOverOptions extends UpgradeRequest {
  /** Aborted, with the reason, when this process shuts down. */
  readonly signal: AbortSignal;
}

/**
 * Hands over to a successor, which then owns everything; `exit` must end this process before it returns. If it rejects
 * (`upgrade-failed`), nothing has changed.
 */
export async function handOver(
  predecessor: Predecessor,
  { program, signal, ...options }: HandOverOptions,
  exit: (answer: UpgradeAnswer) => never,
): Promise<never> {
  if (process.pid === 1)
    throw new VproxyError('upgrade-failed', 'process 1 cannot be replaced: the container would end with it');
  // Without descriptors, koffi would seem to be missing.
  requireDescriptors(predecessor.isService ? 'orphan' : 'child');
  const calls = await loadHandoverCalls();
  const exitNow = (await loadLibc()).declare('void _exit(int status)');
  let answer: UpgradeAnswer;
  let signals: ReturnType<typeof PendingSignals.find>;
  let successor: Successor | null = null;
  try {
    signals = PendingSignals.find(calls);
    successor = new Successor(await successorCommand(program), predecessor);
    const ended = AbortSignal.any([signal, successor.ended]);
    const version = await Promise.race([successor.loaded(), aborted(ended)]);
    const checked = Promise.race([successor.check(predecessor.prepare()), aborted(ended)]);
    await Promise.all([checked, rehearse(predecessor.rehearse(), ended)]);
    const cut = await obstaclesEnd(predecessor, options, ended);
    // The rest happens in the same turn as the last look, which found no obstacle.
    const startedMs = performance.now();
    const counts = giveAll(predecessor, calls, successor);
    answer = { pid: successor.pid, version, ...counts, cut, durationMs: Math.round(performance.now() - startedMs) };
  } catch (error) {
    await successor?.kill();
    const { code, message } = toVproxyError(error);
    throw code === 'upgrade-failed' ? error : new VproxyError('upgrade-failed', message, { cause: error });
  }
  const { pid } = successor;
  // As late as possible: signals that arrived in this turn are for the successor. More would be lost in the 10 ms that Node takes
  // to exit.
  process.once('exit', (status) => {
    for (const name of signals?.take() ?? []) process.kill(pid, name);
    exitNow(status);
  });
  return exit(answer);
}

/** Rejects with the reason as soon as `signal` is aborted. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = () => reject(toVproxyError(signal.reason));
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}

/** Takes the steps in slices of turns, in between which this process works on, until `signal` is aborted. */
async function rehearse(steps: Iterator<void>, signal: AbortSignal): Promise<void> {
  const turns = new LoopTurns();
  while (!signal.aborted && steps.next().done !== true) {
    const turn = turns.nextTurn();
    if (turn !== null) await turn;
  }
}

/** Sends everything to the successor and waits until it has taken over. When this returns, the successor is in charge. */
function giveAll(predecessor: Predecessor, calls: MessageCalls, successor: Successor): HandoverCounts {
  const pipe = HandoverPipe.ofStream(calls, successor.pipe);
  const descriptors: number[] = [];
  const document = predecessor.capture((fd) => descriptors.push(fd) - 1);
  const encoded = encodeDocument(document);
  requireMemory(encoded);
  pipe.sendAll(encoded.bytes, descriptors, TAKE_UP_MS);
  pipe.sendPieces(encoded.pieces, TAKE_UP_MS);
  successor.requireNoFailure(pipe.receiveMessage(TAKE_UP_MS));
  predecessor.announce(successor.pid, calls);
  try {
    pipe.sendMessage({ go: true }, TAKE_UP_MS);
  } catch (error) {
    predecessor.announce(process.pid, calls);
    throw error;
  }
  return document.counts;
}

/** Throws `upgrade-failed` if there is not enough memory for the successor: the system would kill one of the two. */
export function requireMemory({ bytes, pieces }: EncodedDocument, available = availableMemory()): void {
  const waitingBytes = pieces.reduce((sum, { length }) => sum + length, 0);
  const neededBytes = waitingBytes * BLOCKS_FACTOR + bytes.length * OBJECTS_FACTOR;
  if (available === null || neededBytes <= available.bytes) return;
  const left = `${available.boundBy} leaves ${formatBytes(available.bytes)}`;
  const needed = `a successor needs ${formatBytes(neededBytes)} (${formatBytes(waitingBytes)} buffered)`;
  throw new VproxyError('upgrade-failed', `not enough memory: ${needed}, but ${left}; retry when less is buffered`);
}

/**
 * Waits until everything can be handed over; resolves in that turn with what was cut for that. Rejects with the remaining
 * obstacles after `waitMs`, and when `signal` is aborted.
 */
async function obstaclesEnd(
  predecessor: Predecessor,
  { waitMs, isForced }: Pick<HandOverOptions, 'waitMs' | 'isForced'>,
  signal: AbortSignal,
): Promise<string[]> {
  const untilMs = performance.now() + waitMs;
  const cut = new Set<string>();
  let lookMs = 0;
  for (let isFirst = true; ; isFirst = false) {
    // After a timer, all earlier `close` events have been delivered.
    const pauseMs = Math.min(lookMs / LOOK_SHARE, MAX_PAUSE_MS, untilMs - performance.now());
    await delay(Math.max(LOOK_MS, pauseMs), undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
    const startedMs = performance.now();
    // Every time: others may have been opened, and jobs are named until they have ended.
    for (const what of predecessor.cutObstacles(isForced && startedMs >= untilMs)) cut.add(what);
    const cutMs = performance.now();
    await delay(0);
    const resumedMs = performance.now();
    const [first, ...others] = predecessor.obstacles();
    // Not what others took in between: it would make looks rare while this process is busy.
    lookMs = performance.now() - resumedMs + cutMs - startedMs;
    signal.throwIfAborted();
    if (first === undefined) return [...cut];
    const more = others.length === 0 ? '' : `, and ${others.length} more`;
    if (isFirst) predecessor.log(makeEvent('upgrade-waits', `the upgrade waits for: ${first}${more}`, {}));
    // Not at the first look: what it has ended is gone at the next.
    if (isFirst || performance.now() < untilMs + (isForced ? CUT_MS : 0)) continue;
    throw new VproxyError('upgrade-failed', `still cannot be handed over after ${waitMs / 1000} s: ${first}${more}`);
  }
}

class Successor {
  readonly #process: StartedProcess;
  readonly #file: string;
  readonly #ended = new AbortController();
  #pid = 0;

  constructor(command: SuccessorCommand, { isService, environment }: Predecessor) {
    this.#file = command.file;
    const env = { ...process.env, ...environment, [HANDOVER_VARIABLE]: '3' };
    try {
      this.#process = isService ? startOrphan(command, env) : startChild(command, env);
    } finally {
      if (command.descriptor !== null) closeSync(command.descriptor);
    }
    void this.#process.ended.then((how) => this.#ended.abort(this.failure(how)));
  }

  /** Aborted with `upgrade-failed` when it has exited. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** 0 until it has loaded. */
  get pid(): number {
    return this.#pid;
  }

  get pipe(): net.Socket {
    return this.#process.pipe;
  }

  /** Resolves with its version when it is ready to take over. Rejects with `upgrade-failed`. */
  async loaded(): Promise<string> {
    const { form, version } = await this.#answer();
    this.#pid = (await this.#process.pid) ?? 0;
    const program = escapeText(String(version), 80);
    if (form === HANDOVER_FORM) return program;
    const forms = `${escapeText(String(form), 16)} (here ${HANDOVER_FORM})`;
    throw this.failure(`is ${program}, which has another state format: ${forms}`);
  }

  /** Has it check the options of all channels while this process works on. Rejects with `upgrade-failed`. */
  async check(channels: readonly WrittenOptions[]): Promise<void> {
    this.pipe.write(encodeParcel(serialize(channels)));
    this.requireNoFailure(await this.#answer());
  }

  /** Throws the failure that it answered, if any. */
  requireNoFailure({ failure }: { readonly failure?: unknown }): void {
    if (typeof failure === 'string') throw this.failure(`cannot take over: ${escapeText(failure, 1024)}`);
  }

  #answer(): ReturnType<typeof receiveNextMessage> {
    const timeout = AbortSignal.timeout(LOAD_MS);
    const failed = Promise.race([
      this.#process.ended.then((how) => this.failure(how)),
      once(timeout, 'abort').then(() => this.failure(`did not answer within ${LOAD_MS / 1000} s`)),
    ]);
    return receiveNextMessage(this.pipe, timeout).catch(async (error: unknown) => {
      // How the process exited tells more than that it closed its end of the pipe.
      const isSilent = ['EPIPE', 'ETIMEDOUT'].includes(systemCode((error as Error).cause));
      throw isSilent ? await failed : this.failure(toVproxyError(error).message);
    });
  }

  /** Makes an error about it. */
  failure(what: string): VproxyError {
    return new VproxyError('upgrade-failed', `successor ${escapeText(this.#file)} ${what}`);
  }

  /** Kills it: it has taken over nothing. */
  async kill(): Promise<void> {
    await this.#process.kill();
    this.pipe.destroy();
  }
}
