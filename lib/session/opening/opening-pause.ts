/** The pause before the next handshake: its length, and the newest HELLO that comes meanwhile (R-OPEN-12, R-OPEN-13). */
import { type Hello, HelloScanner } from '../../codec/hello.js';
import { Backoff, type CancelTimer, type Clock } from '../../util/clock.js';
import type { SessionSettings } from '../settings.js';

/** A session that lasted less than this counts as failed: the next handshake waits. */
export const SHORT_SESSION_MS = 10_000;

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5000;

/** Failures with these codes need human help, so retries may wait longer. */
const HOPELESS_CODES: ReadonlySet<string> = new Set(['version-mismatch', 'auth-failed']);
const MAX_HOPELESS_PAUSE_MS = 60_000;

/** The pauses of one channel. */
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

  /** Bytes of this pause that did not belong to a HELLO. */
  get skippedBytes(): number {
    return this.#scanner?.skippedBytes ?? 0;
  }

  /** Starts looking for a HELLO in what comes. */
  listen(): void {
    this.#scanner ??= new HelloScanner();
  }

  /** Calls back after a session of this age that ended with `code`: at once, or after a delay. */
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

  /** Takes bytes of the channel. */
  receive(piece: Buffer): void {
    let bytes = piece;
    for (let found = this.#scanner?.scan(bytes); found; found = this.#scanner?.scan(bytes)) {
      // Our own HELLO echoed back tells us nothing about the peer (R-OPEN-6).
      if (found.hello.instance !== this.#instance) this.#newestHello = found.hello;
      bytes = found.rest;
    }
  }

  /** Ends the pause. Returns the newest HELLO that came, or null. */
  end(): Hello | null {
    this.stop();
    const hello = this.#newestHello;
    this.#scanner = null;
    this.#newestHello = null;
    return hello;
  }

  /** Stops for good: no handshake follows. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }
}
