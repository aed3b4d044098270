/** One side of the model: a process with a clock, a link and services, which can be killed, frozen and cut off. */

import type { ByteSink } from '../../lib/codec/frame-writer.js';
import type { Integrity } from '../../lib/codec/header.js';
import type { Limits } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { Budget } from '../../lib/util/bounds.js';
import { seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
import type { TrafficSide } from '../helpers/traffic.js';
import type { SimulatedDirection } from './simulated-direction.js';

/** The settings of a side. */
export interface SideOptions {
  readonly limits: Limits;
  readonly integrity: Integrity;
  readonly budgetBytes: number;
  readonly deadAfterMs: number | null;
}

/** Watches what a side writes: whole frames, and how much waited before them. */
export type WriteWatcher = (bytes: Buffer, unwrittenBytes: number) => void;

/** The link as one process has it: what the process writes after its death, or after the cut, is lost. */
class WatchedSink implements ByteSink {
  readonly #direction: SimulatedDirection;
  readonly #watch: WriteWatcher;
  #isGone = false;
  #leftBytes = 0;

  constructor(direction: SimulatedDirection, watch: WriteWatcher) {
    this.#direction = direction;
    this.#watch = watch;
  }

  get unwrittenBytes(): number {
    return this.#isGone ? this.#leftBytes : this.#direction.unwrittenBytes;
  }

  /** The link is gone; as with a socket, what it had not written still counts. */
  cut(): void {
    this.#leftBytes = this.#direction.unwrittenBytes;
    this.#isGone = true;
  }

  write(bytes: Buffer): boolean {
    if (this.#isGone) return true;
    this.#watch(bytes, this.#direction.unwrittenBytes);
    return this.#direction.write(bytes);
  }

  writeParts(parts: readonly Buffer[]): boolean {
    if (this.#isGone) return true;
    this.#watch(Buffer.concat(parts), this.#direction.unwrittenBytes);
    return this.#direction.writeParts(parts);
  }
}

/** How a session of a side ended. */
export interface Ending {
  readonly session: Session;
  readonly reason: VproxyError;
  /** How long the process had then run since something came. */
  readonly silentMs: number;
}

export class ModelSide implements TrafficSide {
  readonly name: 'a' | 'b';
  readonly options: SideOptions;
  readonly endings: Ending[] = [];
  /** The number of endings that were judged already. */
  judgedEndings = 0;
  readonly watch: WriteWatcher;
  readonly #nextIdentity: () => number;
  services: string[] = [];
  settings: SessionSettings;
  clock: ManualClock;
  outbound: SimulatedDirection;
  loop: SessionLoop;
  /** The time since which the process is stopped; null while it runs. */
  frozenAtMs: number | null = null;
  /** Whether the channel has written all while the process was stopped: it is told when it runs again. */
  isDrainOwed = false;
  /** How long the process has run since something came. */
  silentMs = 0;
  onSession: (session: Session) => void = () => undefined;
  #sink: WatchedSink;

  constructor(
    name: 'a' | 'b',
    options: SideOptions,
    context: {
      readonly outbound: SimulatedDirection;
      readonly watch: WriteWatcher;
      readonly nextIdentity: () => number;
    },
  ) {
    this.name = name;
    this.options = options;
    this.watch = context.watch;
    this.#nextIdentity = context.nextIdentity;
    this.outbound = context.outbound;
    this.clock = new ManualClock();
    this.settings = this.#newSettings();
    this.#sink = new WatchedSink(this.outbound, this.watch);
    this.loop = this.#newLoop();
  }

  get isFrozen(): boolean {
    return this.frozenAtMs !== null;
  }

  /** The link is gone: the process learns of it. */
  disconnect(reason: VproxyError): void {
    this.#sink.cut();
    this.loop.handleClosed(reason);
  }

  /** The same process has a new link. */
  connect(outbound: SimulatedDirection): void {
    this.outbound = outbound;
    this.isDrainOwed = false;
    this.silentMs = 0;
    this.#sink = new WatchedSink(outbound, this.watch);
    this.loop = this.#newLoop();
    this.loop.start();
  }

  /** The process is killed, perhaps in the middle of a frame. Returns what it left undone, which must be nothing. */
  kill(): string[] {
    this.disconnect(new VproxyError('shutdown', 'killed'));
    this.outbound.dropUnwritten();
    const faults: string[] = [];
    if (this.clock.pending > 0) faults.push(`${this.clock.pending} timers outlive the process of ${this.name}`);
    const { usedBytes } = this.settings.receiveBudget;
    if (usedBytes !== 0) faults.push(`${usedBytes} bytes stay reserved at ${this.name}`);
    return faults;
  }

  /** A new process in place of one that was killed, on the link that the old one had or on another. */
  spawn(outbound: SimulatedDirection): void {
    this.frozenAtMs = null;
    this.clock = new ManualClock();
    this.settings = this.#newSettings();
    this.connect(outbound);
  }

  #newSettings(): SessionSettings {
    const { budgetBytes, ...options } = this.options;
    const identity = seededIdentity(this.name, this.#nextIdentity());
    return sessionSettings({ ...identity, ...options, receiveBudget: new Budget(budgetBytes) });
  }

  #newLoop(): SessionLoop {
    const loop = new SessionLoop(this.#sink, this.clock, this.settings);
    loop.on('session', (session) => {
      this.onSession(session);
      session.start(this.services);
    });
    loop.on('ended', (session, reason) => this.endings.push({ session, reason, silentMs: this.silentMs }));
    return loop;
  }
}
