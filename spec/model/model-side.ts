/** One side of the model: a process that can be killed and frozen, and how long it has heard nothing. */
import type { Integrity } from '../../lib/codec/header.js';
import type { Limits } from '../../lib/codec/limits.js';
import type { VproxyError } from '../../lib/errors.js';
import { Budget } from '../../lib/util/bounds.js';
import { type MemoryPipe, Side, type SideOptions } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
import type { SideName } from './wire-observer.js';

export interface ModelSideOptions {
  readonly limits: Limits;
  readonly integrity: Integrity;
  readonly budgetBytes: number;
  readonly deadAfterMs: number | null;
}

/** How much of what was written is remembered, to be delivered late as stale bytes. */
const HISTORY_BYTES = 65_536;

export class ModelSide extends Side {
  declare readonly name: SideName;
  readonly options: ModelSideOptions;
  /** For how long the process had run without hearing anything at each of its endings. */
  readonly silencesMs: number[] = [];
  /** The number of endings that were judged already. */
  judgedEndings = 0;
  /** The time since which the process is stopped; null while it runs. */
  frozenAtMs: number | null = null;
  /** Whether the channel has written all while the process was stopped: it is told when it runs again. */
  isDrainOwed = false;
  /** How long the process has run since something came. */
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

  /** What a process that was killed left undone, which must be nothing. */
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
