/**
 * The service `clock` of a machine that follows its host's clock: after a pause, a restore or a clone it sets the time, takes
 * random numbers from the host, and runs hooks (docs/restore.md).
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { writesAllowed } from '../../system/files/frozen-writes.js';
import { type MachineClock, machineClock } from '../../system/machine-clock.js';
import type { Clock } from '../../util/clock.js';
import { describeError } from '../../util/escape.js';
import { formatElapsed } from '../../util/units.js';
import { machineHistory } from '../machine-history.js';
import { readRecords } from '../read-records.js';
import { Hooks } from '../run-hooks.js';
import { type ClockCause, type ClockSample, causeOf } from './cause.js';
import {
  CLOCK_KIND,
  type ClockAnswer,
  decodeClockAnswer,
  encodeClockRequest,
  MAX_CLOCK_BYTES,
} from './clock-messages.js';
import { type ClockPermission, DEFAULT_THRESHOLD_MS } from './permission.js';

interface ClockServiceOptions {
  readonly permission: ClockPermission;
  readonly clock: Clock;
  readonly log: Log;
  /** Default: this machine. */
  readonly machine?: MachineClock;
  /** Milliseconds since 1970. Default: the system's. */
  readonly timeOfDay?: () => number;
  /** The folder of programs to run after a restore. Default: /etc/vproxy/restored.d. */
  readonly hooks?: string;
  /** Default: that of this process. */
  readonly history?: typeof machineHistory;
}

/** Measurements if the clocks differ: the fastest one counts. */
const SAMPLES = 5;

/** Not counted, since a clock that runs too fast is set back again and again: the most that NTP corrects as well. */
const BACK_DRIFT = 500e-6;

/** The most changes, whatever the host says, and the time in which they count, in milliseconds. */
const MAX_CHANGES = 3;
const CHANGES_MS = 30_000;

const CHANGING: ReadonlySet<ClockCause> = new Set(['restored', 'new-host', 'start']);

export class ClockService {
  #options: Required<ClockServiceOptions>;
  /** Identifies this process, and counts its requests. */
  readonly #run = randomBytes(16).toString('hex');
  #seq = 0;
  #stream: Duplex | null = null;
  /** The last measurement: two at once could both set the clock. Never rejects. */
  #measured: Promise<unknown> = Promise.resolve();
  #before: ClockSample | null = null;
  /** When the last changes were made, the oldest first. */
  readonly #changedAtMs: number[] = [];
  /** A restore is still to be acted on: a host knows a request from before only once. */
  #isRestored = false;
  readonly #hooks: Hooks;
  /** Their last run; never rejects. */
  #hooksRun: Promise<unknown> = Promise.resolve();
  /** Measurements that are being acted on. */
  #followed = 0;
  /** The last failure that was logged: it may come with each measurement. */
  #failure = '';

  constructor(options: ClockServiceOptions) {
    const defaults = {
      machine: machineClock,
      timeOfDay: Date.now,
      hooks: '/etc/vproxy/restored.d',
      history: machineHistory,
    };
    this.#options = { ...defaults, ...options };
    this.#hooks = new Hooks(this.#options.hooks, options);
  }

  /**
   * Replaces the permission. The next measurement is the first one: the last may be long ago. Null ends a measurement that the
   * host has not answered.
   */
  allow(permission: ClockPermission | null): void {
    this.#before = null;
    if (permission === null) this.#stream?.destroy(new VproxyError('cancelled', 'clock: no longer followed'));
    else this.#options = { ...this.#options, permission };
  }

  /** Measures the clock over a stream of the host, and owns it. Another one ends it. */
  serve(stream: Duplex): void {
    this.#stream?.destroy(new VproxyError('cancelled', 'clock: another stream follows'));
    this.#stream = stream;
    stream.on('error', () => undefined);
    const measured = this.#measured.then(() => this.#measure(stream));
    this.#measured = measured.then(
      // Only EOF is still expected.
      () => void stream.resume().end(),
      (error: unknown) => stream.destroy(toVproxyError(error)),
    );
  }

  get unfinished(): string[] {
    return [...(this.#followed > 0 ? ['a step of the clock'] : []), ...this.#hooks.unfinished];
  }

  endUnfinished(): void {
    this.#hooks.end();
  }

  async stop(): Promise<void> {
    this.#stream?.destroy(new VproxyError('shutdown', 'shutting down'));
    this.#hooks.stop();
    await this.#hooksRun;
  }

  async #measure(stream: Duplex): Promise<void> {
    const records = readRecords(stream, { what: 'clock', maxBytes: MAX_CLOCK_BYTES });
    await this.#compare(stream, records);
    await records.return();
  }

  async #compare(stream: Duplex, records: ReturnType<typeof readRecords>): Promise<void> {
    const { permission, clock } = this.#options;
    const before = this.#before;
    const thresholdMs = permission.following?.thresholdMs ?? DEFAULT_THRESHOLD_MS;
    const isDue = clock.now() - (this.#changedAtMs.at(-MAX_CHANGES) ?? Number.NEGATIVE_INFINITY) >= CHANGES_MS;
    const { sample: first, answer } = await this.#ask(stream, records, isDue);
    let sample = first;
    const cause = this.#isRestored ? 'restored' : causeOf(before, first, thresholdMs);
    if (isDue || cause === 'none') this.#before = first;
    this.#isRestored = cause === 'restored';
    if (!isDue || (cause === 'none' && Math.abs(first.offsetMs) <= thresholdMs)) return;
    for (let count = 1; count < SAMPLES; count += 1) {
      const { sample: next } = await this.#ask(stream, records, false);
      if (next.uncertaintyMs < sample.uncertaintyMs) sample = next;
    }
    this.#followed += 1;
    await this.#follow(cause, sample, answer.entropy).finally(() => (this.#followed -= 1));
  }

  async #ask(
    stream: Duplex,
    records: ReturnType<typeof readRecords>,
    entropy: boolean,
  ): Promise<{ sample: ClockSample; answer: ClockAnswer }> {
    const { clock, timeOfDay } = this.#options;
    const [sentAtMs, sentAt] = [clock.now(), timeOfDay()];
    this.#seq += 1;
    const seq = this.#seq;
    stream.write(encodeClockRequest({ run: this.#run, seq, entropy }));
    for (;;) {
      const next = await records.next();
      if (next.done === true)
        throw new VproxyError('protocol-error', 'clock: the host ended the stream without an answer');
      if (next.value.kind !== CLOCK_KIND.TOLD) continue;
      const answer = decodeClockAnswer(next.value.payload);
      const uncertaintyMs = (clock.now() - sentAtMs) / 2;
      const { timeMs, upMs: hostUpMs, host, seen } = answer;
      const upMs = sentAtMs + uncertaintyMs;
      return {
        answer,
        sample: { offsetMs: timeMs - sentAt - uncertaintyMs, uncertaintyMs, hostUpMs, upMs, host, seen, seq },
      };
    }
  }

  /** Acts on a measurement: random numbers first, since what the new time lets run may need them. */
  async #follow(cause: ClockCause, sample: ClockSample, entropy: Buffer | null): Promise<void> {
    const { permission, clock, timeOfDay, log, machine, history } = this.#options;
    const { offsetMs, uncertaintyMs } = sample;
    const { thresholdMs = Number.POSITIVE_INFINITY, maxBackMs = 0 } = permission.following ?? {};
    this.#changedAtMs.splice(0, this.#changedAtMs.length - MAX_CHANGES + 1);
    this.#changedAtMs.push(clock.now());
    if (entropy !== null && CHANGING.has(cause))
      await this.#attempt('random numbers', 'CAP_SYS_ADMIN', () => machine.reseed(entropy));
    const isOff = Math.abs(offsetMs) > thresholdMs + uncertaintyMs;
    let steppedMs = 0;
    const backMs = Math.max(0, history.clockBackMs - (clock.now() - history.clockBackAtMs) * BACK_DRIFT) - offsetMs;
    if (isOff && offsetMs < 0 && backMs > maxBackMs) {
      this.#warn(
        `the clock is ${formatElapsed(-offsetMs)} ahead of the host's, and may be set back by at most ${formatElapsed(maxBackMs)} in all`,
      );
    } else if (isOff && (await this.#attempt('the clock', 'CAP_SYS_TIME', () => machine.step(offsetMs)))) {
      steppedMs = offsetMs;
      history.clockSteps += 1;
      history.clockSteppedAtMs = timeOfDay();
      history.clockSteppedByMs = Math.round(offsetMs);
      history.clockBackMs = Math.max(0, backMs);
      history.clockBackAtMs = clock.now();
      this.#before = { ...sample, offsetMs: 0 };
      const message = `set the clock ${formatElapsed(Math.abs(offsetMs))} ${offsetMs < 0 ? 'back' : 'forward'} (${cause})`;
      log(makeEvent('clock-stepped', message, { offsetMs: Math.round(offsetMs), cause }));
    }
    if (cause !== 'restored') return;
    this.#isRestored = false;
    history.restores += 1;
    history.restoredAtMs = timeOfDay();
    const env = { VPROXY_REASON: cause, VPROXY_OFFSET_MS: String(Math.round(steppedMs)) };
    // A stream does not last as long as they may take, and the snapshot may be of a frozen machine.
    this.#hooksRun = this.#hooks.run({ env }, Promise.all([this.#hooksRun, writesAllowed()]));
  }

  /** Returns whether it worked; logs why not. */
  async #attempt(what: string, capability: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      this.#failure = '';
      return true;
    } catch (error) {
      const isForbidden = (error as NodeJS.ErrnoException).code === 'EPERM';
      this.#warn(`cannot set ${what}: ${isForbidden ? `needs ${capability} (docs/restore.md)` : describeError(error)}`);
      return false;
    }
  }

  #warn(message: string): void {
    if (message === this.#failure) return;
    this.#failure = message;
    this.#options.log(makeEvent('clock-failed', message, {}));
  }
}
