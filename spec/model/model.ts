/**
 * The model: two sides, the link between them, the time, and the observer. It moves bytes and the clocks, and causes
 * faults.
 */

import { type SideName, WireObserver } from '../../conformance/wire-observer.js';
import type { Integrity } from '../../lib/codec/header.js';
import type { Limits } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { Budget } from '../../lib/util/bounds.js';
import { MemoryPipe, Side, type SideOptions } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
import { Traffic } from '../helpers/traffic.js';
import type { Scenario } from './scenario.js';

export interface ModelSideOptions {
  readonly limits: Limits;
  readonly integrity: Integrity;
  readonly budgetBytes: number;
  readonly deadAfterMs: number | null;
}

/** How many written bytes are remembered, to be delivered late as stale bytes. */
const HISTORY_BYTES = 65_536;

/** One side of the model: a process that can be killed and frozen, and how long it has heard nothing. */
export class ModelSide extends Side {
  declare readonly name: SideName;
  readonly options: ModelSideOptions;
  /** At each end of a session: how long the process had run without hearing anything. */
  readonly silencesMs: number[] = [];
  /** The number of ends that were already judged. */
  judgedEndings = 0;
  /** The time since which the process is stopped; null while it runs. */
  frozenAtMs: number | null = null;
  /** Whether the channel drained while the process was stopped: reported when it runs again. */
  isDrainOwed = false;
  /** How long the process has run since bytes last came. */
  silentMs = 0;
  readonly #history: Buffer[] = [];
  #historyBytes = 0;

  constructor(name: SideName, options: ModelSideOptions, context: Omit<SideOptions, 'settings'>) {
    const { budgetBytes, ...settings } = options;
    super(name, new ManualClock(), {
      ...context,
      settings: () => ({ ...settings, receiveBudget: new Budget(budgetBytes) }),
    });
    this.options = options;
  }

  get isFrozen(): boolean {
    return this.frozenAtMs !== null;
  }

  get history(): Buffer {
    return Buffer.concat(this.#history);
  }

  remember(bytes: Buffer): void {
    this.#history.push(Buffer.from(bytes));
    this.#historyBytes += bytes.length;
    while (this.#historyBytes > HISTORY_BYTES) this.#historyBytes -= (this.#history.shift() as Buffer).length;
  }

  override connect(outbound: MemoryPipe): void {
    super.connect(outbound);
    this.isDrainOwed = false;
    this.silentMs = 0;
  }

  override replace(): void {
    super.replace();
    this.frozenAtMs = null;
  }

  /** The unfinished work of a killed process, which must be none. */
  leftovers(): string[] {
    const { pending } = this.processClock;
    const { usedBytes } = this.settings.receiveBudget;
    return [
      ...(pending > 0 ? [`${pending} timers outlive the process of ${this.name}`] : []),
      ...(usedBytes > 0 ? [`${usedBytes} bytes stay reserved at ${this.name}`] : []),
    ];
  }

  protected override noteEnd(reason: VproxyError): void {
    super.noteEnd(reason);
    this.silencesMs.push(this.silentMs);
  }
}

/** The longest step of the clock while time passes. */
const SLICE_MS = 1000;

export class Model {
  readonly a: ModelSide;
  readonly b: ModelSide;
  readonly traffic: Traffic;
  readonly observer: WireObserver;
  /** Faults found here, in addition to those of observer and traffic. */
  readonly faults: string[] = [];
  /** The events that may end a session. */
  readonly happened = new Set<'restart' | 'mangle' | 'cut' | 'drain'>();
  readonly #scenario: Scenario;
  #nowMs = 0;
  #identities = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.observer = new WireObserver({ a: scenario.a.limits.frame, b: scenario.b.limits.frame });
    this.a = this.#newSide('a');
    this.b = this.#newSide('b');
    this.traffic = new Traffic(this);
    this.a.loop.start();
    this.b.loop.start();
  }

  get sides(): readonly [ModelSide, ModelSide] {
    return [this.a, this.b];
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /**
   * Whether the bytes in flight from a side may be changed. In `frame` only once: two changes within a frame may keep its
   * length, so that only checksums would show them (R-INTEGRITY-2).
   */
  canMangle(side: ModelSide): boolean {
    const isFull = this.sides.some(({ options }) => options.integrity === 'full');
    return isFull || !this.observer.isDoubtful(side.name);
  }

  /** Whether nothing is in flight, and no process is stopped. */
  get isQuiet(): boolean {
    return this.sides.every(({ outbound, isFrozen }) => !isFrozen && !outbound.isStalled && outbound.totalBytes === 0);
  }

  side(index: number): ModelSide {
    return index % 2 === 0 ? this.a : this.b;
  }

  /** Carries one piece each way. Returns false when nothing could be carried now. */
  step(pieceBytes: number = this.#scenario.pieceBytes): boolean {
    const forth = this.#carry(this.a, this.b, pieceBytes);
    const back = this.#carry(this.b, this.a, pieceBytes);
    return forth || back;
  }

  /** Carries until nothing moves, without time passing. */
  settle(pieceBytes: number = this.#scenario.pieceBytes): void {
    while (this.step(pieceBytes));
  }

  /** Lets time pass, and carries meanwhile. */
  wait(ms: number, pieceBytes: number = this.#scenario.pieceBytes): void {
    const untilMs = this.#nowMs + ms;
    this.settle(pieceBytes);
    while (this.#nowMs < untilMs) {
      const readyAtMs = Math.min(
        this.b.isFrozen ? Number.POSITIVE_INFINITY : this.a.outbound.readyAtMs,
        this.a.isFrozen ? Number.POSITIVE_INFINITY : this.b.outbound.readyAtMs,
      );
      const nextMs = Math.min(untilMs, this.#nowMs + SLICE_MS, Math.max(readyAtMs, this.#nowMs + 1));
      this.late(nextMs - this.#nowMs);
      this.settle(pieceBytes);
    }
  }

  /** Lets time pass in which nothing is carried. */
  late(ms: number): void {
    this.#nowMs += ms;
    for (const side of this.sides) if (!side.isFrozen) this.#advance(side, ms);
  }

  /** The whole machine, or the VM of one side, was stopped; the process finds that time has passed. */
  jump(ms: number, sides: readonly ModelSide[]): void {
    this.#nowMs += ms;
    for (const side of this.sides) {
      if (side.isFrozen) continue;
      if (sides.includes(side)) side.clock.jump(ms);
      else this.#advance(side, ms);
    }
  }

  /** The process is stopped: it reads nothing, and no time passes for it. */
  freeze(side: ModelSide): void {
    side.frozenAtMs ??= this.#nowMs;
  }

  /** The process continues after it was stopped. */
  thaw(side: ModelSide): void {
    if (side.frozenAtMs === null) return;
    const ms = this.#nowMs - side.frozenAtMs;
    side.frozenAtMs = null;
    side.clock.jump(ms);
    if (!side.isDrainOwed) return;
    side.isDrainOwed = false;
    if (side.outbound.unwrittenBytes === 0) side.loop.handleDrain();
  }

  /** The process dies and another one takes its place, on the same link. */
  restart(side: ModelSide): void {
    this.happened.add('restart');
    this.#kill(side);
    side.spawn();
  }

  /** This many more bytes arrive each way, then the link closes, and both processes open another. */
  cut(bytes: number): void {
    this.happened.add('cut');
    for (let left = bytes; left > 0 && this.step(Math.min(left, this.#scenario.pieceBytes)); )
      left -= Math.min(left, this.#scenario.pieceBytes);
    for (const side of this.sides) {
      this.thaw(side);
      side.disconnect();
    }
    this.observer.relink();
    for (const side of this.sides) this.#connect(side);
  }

  /** The process of one side dies, and the link with it; a new one comes with a new link. */
  replace(side: ModelSide): void {
    this.happened.add('cut');
    this.#kill(side);
    const other = side === this.a ? this.b : this.a;
    this.thaw(other);
    other.disconnect(new VproxyError('channel-closed', 'the other end is gone'));
    this.observer.relink();
    this.#connect(other);
    side.spawn(this.#newPipe());
  }

  /** A side that declared its peer dead closes the link, as the supervisor of a channel does. */
  cutIfSilent(): void {
    for (const side of this.sides) {
      const unseen = side.endings.slice(side.judgedEndings);
      side.judgedEndings = side.endings.length;
      if (unseen.some(({ code }) => code === 'channel-silent')) this.cut(0);
    }
  }

  drain(side: ModelSide): void {
    this.happened.add('drain');
    side.loop.session?.drain('at random');
  }

  /** Other services are offered; many of them fill several frames. */
  setServices(side: ModelSide, amount: number): void {
    const count = amount % 5 === 0 ? amount % 500 : amount % 4;
    side.services = Array.from({ length: count }, (_, index) => `service-${amount % 7}-${index}`);
    side.loop.session?.setServices(side.services);
  }

  mangle(side: ModelSide, change: (pipe: MemoryPipe) => void): void {
    this.happened.add('mangle');
    this.observer.mangle(side.name);
    change(side.outbound);
  }

  #kill(side: ModelSide): void {
    const { unwrittenBytes } = side.outbound;
    side.kill();
    this.faults.push(...side.leftovers());
    this.observer.cutUnwritten(side.name, unwrittenBytes);
    this.observer.restart(side.name);
  }

  #connect(side: ModelSide): void {
    side.connect(this.#newPipe());
    side.loop.start();
  }

  #advance(side: ModelSide, ms: number): void {
    side.silentMs += ms;
    side.clock.advance(ms);
  }

  #carry(from: ModelSide, to: ModelSide, pieceBytes: number): boolean {
    const { outbound } = from;
    const { bytes, drained } = outbound.take(to.isFrozen ? 0 : pieceBytes);
    if (bytes.length > 0) {
      this.observer.arrive(from.name, outbound.takenTo);
      to.silentMs = 0;
      to.deliver(bytes);
    }
    if (drained) {
      if (from.isFrozen) from.isDrainOwed = true;
      else from.loop.handleDrain();
    }
    return drained || bytes.length > 0;
  }

  #newPipe(): MemoryPipe {
    const { capacityBytes, latencyMs } = this.#scenario.link;
    return new MemoryPipe(capacityBytes, latencyMs, () => this.#nowMs);
  }

  #newSide(name: SideName): ModelSide {
    const side: ModelSide = new ModelSide(name, this.#scenario[name], {
      outbound: this.#newPipe(),
      watch: (bytes, unwrittenBytes) => {
        this.observer.write(name, bytes, unwrittenBytes);
        side.remember(bytes);
      },
      nextIdentity: () => {
        this.#identities += 1;
        return this.#scenario.identity * 8 + this.#identities;
      },
    });
    return side;
  }
}
