/** The lists of services of both sides (R-SERVICES-1 to R-SERVICES-3). */
import { type AnnouncedPort, decodeServices, encodeServices } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import { suggestWord } from '../util/closest-word.js';

/** The longest list that is taken from a peer (R-SERVICES-2). */
export const MAX_SERVICES = 4096;

/** What an {@link OwnServices} has said, and has to say. */
export interface OwnServicesState {
  /** As the peer was told, names and ports as one text; null before that. */
  announced: string | null;
  wanted: readonly string[];
  ports: readonly AnnouncedPort[] | null;
}

/** What this side offers; the peer hears of it once and on every change. */
export class OwnServices {
  readonly state: OwnServicesState;
  readonly #send: (payload: Buffer) => void;
  readonly #isBusy: () => boolean;
  readonly #timeOfDay: (() => number) | null;

  /** `isBusy`: earlier bytes wait to be written, so that a list would only wait behind them. `timeOfDay` is told along, unless it is null. */
  constructor(
    send: (payload: Buffer) => void,
    isBusy: () => boolean,
    timeOfDay: (() => number) | null,
    state: OwnServicesState = { announced: null, wanted: [], ports: null },
  ) {
    this.state = state;
    this.#send = send;
    this.#isBusy = isBusy;
    this.#timeOfDay = timeOfDay;
  }

  /**
   * Sends the list, unless it is the one that the peer knows. Changes while the channel is busy wait for `retry`. `ports` are
   * those of this machine that are announced; null: nothing is said of ports.
   */
  announce(services: Iterable<string>, ports: readonly AnnouncedPort[] | null): void {
    this.state.wanted = [...new Set(services)].sort();
    this.state.ports = ports;
    if (this.state.announced === null) this.#sendWanted();
    else this.retry();
  }

  /** Sends the newest list where it is due; nothing before the first `announce`. */
  retry(): void {
    if (this.state.announced === null || this.#text === this.state.announced || this.#isBusy()) return;
    this.#sendWanted();
  }

  get #text(): string {
    const names = this.state.wanted.join(' ');
    return this.state.ports === null ? names : `${names} ${JSON.stringify(this.state.ports)}`;
  }

  #sendWanted(): void {
    this.state.announced = this.#text;
    const payloads = encodeServices(this.state.wanted, this.#timeOfDay?.() ?? null, this.state.ports);
    for (const payload of payloads) this.#send(payload);
  }
}

/** What a {@link PeerServices} has heard. */
export interface PeerServicesState {
  names: ReadonlySet<string>;
  /** Of a list that is not complete. */
  partial: string[];
  /** By how much the peer's time of day was ahead when its list came, in milliseconds; null where either is not known. */
  clockOffsetMs: number | null;
  /** The ports that the peer announces; null where it says nothing of ports (R-SERVICES-3). */
  ports: readonly AnnouncedPort[] | null;
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
  readonly state: PeerServicesState;
  readonly #timeOfDay: (() => number) | null;

  /** `timeOfDay` is that of this side; null where it does not matter. */
  constructor(
    timeOfDay: (() => number) | null = null,
    state: PeerServicesState = { names: new Set(), partial: [], clockOffsetMs: null, ports: null },
  ) {
    this.state = state;
    this.#timeOfDay = timeOfDay;
  }

  /** Takes a SERVICES frame. True when the list is complete. Throws `protocol-error` and `flood`. */
  receive(payload: Buffer): boolean {
    const { services, more, timeMs, ports } = decodeServices(payload);
    const { state } = this;
    state.partial.push(...services);
    if (state.partial.length > MAX_SERVICES) {
      throw new VproxyError('flood', `the peer lists more than ${MAX_SERVICES} services`);
    }
    if (more) return false;
    state.names = new Set(state.partial);
    state.clockOffsetMs = timeMs === null || this.#timeOfDay === null ? null : timeMs - this.#timeOfDay();
    state.ports = ports;
    state.partial = [];
    return true;
  }
}
