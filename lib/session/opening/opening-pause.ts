/** The wait before a channel is opened again: for how long, and the newest HELLO that comes meanwhile (R-OPEN-12, R-OPEN-13). */
import { type Hello, HelloScanner } from '../../codec/hello.js';
import { Backoff, type CancelTimer, type Clock } from '../../util/clock.js';
import type { SessionSettings } from '../settings.js';

/** A session that lasted less than this counts as failed: the next opening waits. */
export const SHORT_SESSION_MS = 10_000;

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5000;

/** These need somebody's help, so trying again may wait longer. */
const HOPELESS_CODES: ReadonlySet<string> = new Set(['version-mismatch', 'auth-failed']);
const MAX_HOPELESS_PAUSE_MS = 60_000;

/** One channel's, from one session to the next. */
export class OpeningPause {
  readonly #clock: Clock;
  readonly #instance: string;
  readonly #pauses: Backoff;
  #scanner: HelloScanner | null = null;
  #newestHello: Hello | null = null;
  #cancel: CancelTimer | null = null;

  constructor(clock: Clock, { instance, randomBytes }: SessionSettings) {
    this.#clock = clock;
    this.#instance = instance;
    this.#pauses = new Backoff({
      firstMs: FIRST_PAUSE_MS,
      maxMs: MAX_PAUSE_MS,
      random: () => randomBytes(4).readUInt32BE(0) / 2 ** 32,
    });
  }

  /** Bytes of this pause that belonged to no HELLO. */
  get skippedBytes(): number {
    return this.#scanner?.skippedBytes ?? 0;
  }

  /** What comes from now on may have a HELLO in it. */
  listen(): void {
    this.#scanner ??= new HelloScanner();
  }

  /** Behind a session of this age, which ended with `code`, calls back: at once, or when it is time. */
  begin(ageMs: number, code: string, onOver: () => void): void {
    const isHopeless = HOPELESS_CODES.has(code);
    if (ageMs >= SHORT_SESSION_MS && !isHopeless) {
      this.#pauses.reset();
      onOver();
      return;
    }
    this.listen();
    this.#cancel = this.#clock.schedule(this.#pauses.next(isHopeless ? MAX_HOPELESS_PAUSE_MS : MAX_PAUSE_MS), onOver);
  }

  /** Bytes came. */
  receive(piece: Buffer): void {
    let bytes = piece;
    for (let found = this.#scanner?.scan(bytes); found; found = this.#scanner?.scan(bytes)) {
      // This side's own that comes back says nothing of the peer (R-OPEN-6).
      if (found.hello.instance !== this.#instance) this.#newestHello = found.hello;
      bytes = found.rest;
    }
  }

  /** The pause is over: the newest HELLO that came, or null. */
  end(): Hello | null {
    this.stop();
    const hello = this.#newestHello;
    this.#scanner = null;
    this.#newestHello = null;
    return hello;
  }

  /** The channel is not opened again. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }
}
