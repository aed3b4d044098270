/** Ends the whole process group of a command: told to first, killed after a while. */
import type { CancelTimer, Clock } from '../util/clock.js';
import { isGroupAlive } from './process-group.js';
import type { RunningCommand } from './running-command.js';

/** How often it is looked whether a group whose first process has ended has gone. */
const LOOK_MS = 50;

export class GroupEnder {
  readonly #command: RunningCommand;
  readonly #clock: Clock;
  readonly #onGone: () => void;
  #killAtMs = Number.POSITIVE_INFINITY;
  #cancelKill: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;
  #hasFirstEnded = false;
  #isOver = false;

  /** `onGone` is called once, when the first process has ended, and the rest has gone or was killed. */
  constructor(command: RunningCommand, clock: Clock, onGone: () => void) {
    this.#command = command;
    this.#clock = clock;
    this.#onGone = onGone;
    void command.ended.then(() => {
      this.#hasFirstEnded = true;
      if (this.isEnding) this.#look();
    });
  }

  /** Whether it was told to end. */
  get isEnding(): boolean {
    return this.#killAtMs !== Number.POSITIVE_INFINITY;
  }

  /** Whether `onGone` was called. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether it was killed. */
  get wasKilled(): boolean {
    return this.isEnding && this.#cancelKill === null;
  }

  /** Sends these signals now, and KILL after `killAfterMs`, or sooner where that was said before. */
  end(signals: readonly NodeJS.Signals[], killAfterMs: number): void {
    if (this.#isOver) return;
    for (const name of signals) this.#command.signal(name);
    // A stopped process gets a signal when it goes on, except for KILL.
    this.#command.signal('SIGCONT');
    const killAtMs = this.#clock.now() + killAfterMs;
    if (this.wasKilled || killAtMs >= this.#killAtMs) return;
    this.#killAtMs = killAtMs;
    this.#cancelKill?.();
    this.#cancelKill = this.#clock.schedule(killAfterMs, () => {
      this.#cancelKill = null;
      this.#command.signal('SIGKILL');
      this.#look();
    });
    this.#look();
  }

  /** Looks again and again, as nothing tells it; others than the first process are not this one's children. */
  #look(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (!this.#hasFirstEnded || this.#isOver) return;
    if (!this.wasKilled && isGroupAlive(this.#command.pid)) {
      this.#cancelLook = this.#clock.schedule(LOOK_MS, () => this.#look());
      return;
    }
    this.#isOver = true;
    this.#cancelKill?.();
    this.#cancelKill = null;
    this.#onGone();
  }
}
