/** The lists of services of both sides (R-SERVICES-1 to R-SERVICES-2). */
import { decodeServices, encodeServices } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';

/** The longest list that is taken from a peer (R-SERVICES-2). */
export const MAX_SERVICES = 4096;

/** An {@link OwnServices} as plain data. */
export interface OwnServicesCapture {
  /** As the peer was told, joined by spaces; null before that. */
  readonly announced: string | null;
  readonly wanted: readonly string[];
}

/** What this side offers; the peer hears of it once and on every change. */
export class OwnServices {
  readonly #send: (payload: Buffer) => void;
  readonly #isBusy: () => boolean;
  readonly #timeOfDay: (() => number) | null;
  #announced: string | null = null;
  #wanted: readonly string[] = [];

  /** `isBusy`: earlier bytes wait to be written, so that a list would only wait behind them. `timeOfDay` is told along, unless it is null. */
  constructor(send: (payload: Buffer) => void, isBusy: () => boolean, timeOfDay: (() => number) | null) {
    this.#send = send;
    this.#isBusy = isBusy;
    this.#timeOfDay = timeOfDay;
  }

  capture(): OwnServicesCapture {
    return { announced: this.#announced, wanted: this.#wanted };
  }

  restore({ announced, wanted }: OwnServicesCapture): void {
    this.#announced = announced;
    this.#wanted = wanted;
  }

  /** Sends the list, unless it is the one that the peer knows. Changes while the channel is busy wait for `retry`. */
  announce(services: Iterable<string>): void {
    this.#wanted = [...new Set(services)].sort();
    if (this.#announced === null) this.#sendWanted();
    else this.retry();
  }

  /** Sends the newest list where it is due; nothing before the first `announce`. */
  retry(): void {
    if (this.#announced === null || this.#wanted.join(' ') === this.#announced || this.#isBusy()) return;
    this.#sendWanted();
  }

  #sendWanted(): void {
    this.#announced = this.#wanted.join(' ');
    for (const payload of encodeServices(this.#wanted, this.#timeOfDay?.() ?? null)) this.#send(payload);
  }
}

/** A {@link PeerServices} as plain data. */
export interface PeerServicesCapture {
  readonly names: readonly string[];
  /** Of a list that is not complete. */
  readonly partial: readonly string[];
  readonly clockOffsetMs: number | null;
}

/** What the peer offers. */
export class PeerServices {
  #names: ReadonlySet<string> = new Set();
  #partial: string[] = [];
  #clockOffsetMs: number | null = null;
  readonly #timeOfDay: (() => number) | null;

  /** `timeOfDay` is that of this side; null where it does not matter. */
  constructor(timeOfDay: (() => number) | null = null) {
    this.#timeOfDay = timeOfDay;
  }

  capture(): PeerServicesCapture {
    return { names: [...this.#names], partial: [...this.#partial], clockOffsetMs: this.#clockOffsetMs };
  }

  restore({ names, partial, clockOffsetMs }: PeerServicesCapture): void {
    this.#names = new Set(names);
    this.#partial = [...partial];
    this.#clockOffsetMs = clockOffsetMs;
  }

  /** By how much the peer's time of day was ahead when its list came, in milliseconds; null where either is not known. */
  get clockOffsetMs(): number | null {
    return this.#clockOffsetMs;
  }

  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Takes a SERVICES frame. True when the list is complete. Throws `protocol-error` and `flood`. */
  receive(payload: Buffer): boolean {
    const { services, more, timeMs } = decodeServices(payload);
    this.#partial.push(...services);
    if (this.#partial.length > MAX_SERVICES) {
      throw new VproxyError('flood', `the peer lists more than ${MAX_SERVICES} services`);
    }
    if (more) return false;
    this.#names = new Set(this.#partial);
    this.#clockOffsetMs = timeMs === null || this.#timeOfDay === null ? null : timeMs - this.#timeOfDay();
    this.#partial = [];
    return true;
  }
}
