/** The lists of services of both sides (R-SERVICES-1 to R-SERVICES-3). */
import { type AnnouncedPort, decodeServices, encodeServices } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import { suggestWord } from '../util/closest-word.js';

/** The longest list that is taken from a peer (R-SERVICES-2). */
export const MAX_SERVICES = 4096;

/** An {@link OwnServices} as plain data. */
export interface OwnServicesCapture {
  /** As the peer was told, names and ports as one text; null before that. */
  readonly announced: string | null;
  readonly wanted: readonly string[];
  readonly ports: readonly AnnouncedPort[] | null;
}

/** What this side offers; the peer hears of it once and on every change. */
export class OwnServices {
  readonly #send: (payload: Buffer) => void;
  readonly #isBusy: () => boolean;
  readonly #timeOfDay: (() => number) | null;
  #announced: string | null = null;
  #wanted: readonly string[] = [];
  #ports: readonly AnnouncedPort[] | null = null;

  /** `isBusy`: earlier bytes wait to be written, so that a list would only wait behind them. `timeOfDay` is told along, unless it is null. */
  constructor(send: (payload: Buffer) => void, isBusy: () => boolean, timeOfDay: (() => number) | null) {
    this.#send = send;
    this.#isBusy = isBusy;
    this.#timeOfDay = timeOfDay;
  }

  capture(): OwnServicesCapture {
    return { announced: this.#announced, wanted: this.#wanted, ports: this.#ports };
  }

  restore({ announced, wanted, ports }: OwnServicesCapture): void {
    this.#announced = announced;
    this.#wanted = wanted;
    this.#ports = ports;
  }

  /**
   * Sends the list, unless it is the one that the peer knows. Changes while the channel is busy wait for `retry`. `ports` are
   * those of this machine that are announced; null: nothing is said of ports.
   */
  announce(services: Iterable<string>, ports: readonly AnnouncedPort[] | null): void {
    this.#wanted = [...new Set(services)].sort();
    this.#ports = ports;
    if (this.#announced === null) this.#sendWanted();
    else this.retry();
  }

  /** Sends the newest list where it is due; nothing before the first `announce`. */
  retry(): void {
    if (this.#announced === null || this.#text === this.#announced || this.#isBusy()) return;
    this.#sendWanted();
  }

  get #text(): string {
    const names = this.#wanted.join(' ');
    return this.#ports === null ? names : `${names} ${JSON.stringify(this.#ports)}`;
  }

  #sendWanted(): void {
    this.#announced = this.#text;
    const payloads = encodeServices(this.#wanted, this.#timeOfDay?.() ?? null, this.#ports);
    for (const payload of payloads) this.#send(payload);
  }
}

/** A {@link PeerServices} as plain data. */
export interface PeerServicesCapture {
  readonly names: readonly string[];
  /** Of a list that is not complete. */
  readonly partial: readonly string[];
  readonly clockOffsetMs: number | null;
  readonly ports: readonly AnnouncedPort[] | null;
}

/** The number of services that a line names; a peer may have thousands. */
const MAX_NAMED = 20;

/** What a peer offers, for people: `ssh, web`, `nothing`, or the first of many, and how many more. */
export function listServices(names: ReadonlySet<string>): string {
  const named = [...names].slice(0, MAX_NAMED).join(', ') || 'nothing';
  return names.size > MAX_NAMED ? `${named} and ${names.size - MAX_NAMED} more` : named;
}

/** The same for who looks for a service that is not among them, with the one that was likely meant. */
export const listInsteadOf = (service: string, offered: ReadonlySet<string>): string =>
  listServices(offered) + suggestWord(service, [...offered]);

/** What the peer offers. */
export class PeerServices {
  #names: ReadonlySet<string> = new Set();
  #partial: string[] = [];
  #clockOffsetMs: number | null = null;
  #ports: readonly AnnouncedPort[] | null = null;
  readonly #timeOfDay: (() => number) | null;

  /** `timeOfDay` is that of this side; null where it does not matter. */
  constructor(timeOfDay: (() => number) | null = null) {
    this.#timeOfDay = timeOfDay;
  }

  capture(): PeerServicesCapture {
    const [clockOffsetMs, ports] = [this.#clockOffsetMs, this.#ports];
    return { names: [...this.#names], partial: [...this.#partial], clockOffsetMs, ports };
  }

  restore({ names, partial, clockOffsetMs, ports }: PeerServicesCapture): void {
    this.#names = new Set(names);
    this.#partial = [...partial];
    this.#clockOffsetMs = clockOffsetMs;
    this.#ports = ports;
  }

  /** The ports that the peer announces; null where it says nothing of ports (R-SERVICES-3). */
  get ports(): readonly AnnouncedPort[] | null {
    return this.#ports;
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
    const { services, more, timeMs, ports } = decodeServices(payload);
    this.#partial.push(...services);
    if (this.#partial.length > MAX_SERVICES) {
      throw new VproxyError('flood', `the peer lists more than ${MAX_SERVICES} services`);
    }
    if (more) return false;
    this.#names = new Set(this.#partial);
    this.#clockOffsetMs = timeMs === null || this.#timeOfDay === null ? null : timeMs - this.#timeOfDay();
    this.#ports = ports;
    this.#partial = [];
    return true;
  }
}
