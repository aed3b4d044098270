/** The lists of services of both sides (R-SERVICES-1 to R-SERVICES-3). */
import { FRAME_TYPE } from '../codec/header.js';
import { type AnnouncedPort, decodeServices, encodeServices } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import { suggestWord } from '../util/closest-word.js';
import type { Scheduler } from './scheduler.js';

/** The longest list accepted from a peer (R-SERVICES-2). */
export const MAX_SERVICES = 4096;

export interface OwnServicesState {
  /** Names and ports as last sent to the peer, as one text; null before the first list. */
  announced: string | null;
  wanted: readonly string[];
  ports: readonly AnnouncedPort[] | null;
}

/** The services of this side, sent to the peer once and on every change. */
export class OwnServices {
  readonly state: OwnServicesState;
  readonly #scheduler: Scheduler;
  readonly #timeOfDay: (() => number) | null;

  /** `timeOfDay`, if given, is sent along. */
  constructor(
    scheduler: Scheduler,
    timeOfDay: (() => number) | null,
    state: OwnServicesState = { announced: null, wanted: [], ports: null },
  ) {
    this.state = state;
    this.#scheduler = scheduler;
    this.#timeOfDay = timeOfDay;
  }

  /**
   * Sends the list, unless the peer has it already. Changes while the channel is busy wait for `retry`. `ports` are
   * the announced ports of this machine; null: none are announced, not even an empty list.
   */
  announce(services: Iterable<string>, ports: readonly AnnouncedPort[] | null): void {
    this.state.wanted = [...new Set(services)].sort();
    this.state.ports = ports;
    if (this.state.announced === null) this.#sendWanted();
    else this.retry();
  }

  /** Sends the newest list if it is due, unless it would only queue; nothing before the first `announce`. */
  retry(): void {
    const { announced } = this.state;
    if (announced !== null && this.#text !== announced && this.#scheduler.unwrittenBytes === 0) this.#sendWanted();
  }

  get #text(): string {
    const names = this.state.wanted.join(' ');
    return this.state.ports === null ? names : `${names} ${JSON.stringify(this.state.ports)}`;
  }

  #sendWanted(): void {
    this.state.announced = this.#text;
    const payloads = encodeServices(this.state.wanted, this.#timeOfDay?.() ?? null, this.state.ports);
    for (const payload of payloads) this.#scheduler.control(FRAME_TYPE.SERVICES, 0, payload);
  }
}

export interface PeerServicesState {
  names: ReadonlySet<string>;
  /** Names of a list that is not complete. */
  partial: string[];
  /** How far the peer's time of day was ahead when its list came, in milliseconds; null if either is unknown. */
  clockOffsetMs: number | null;
  /** The ports that the peer announces; null if it announces no list (R-SERVICES-3). */
  ports: readonly AnnouncedPort[] | null;
}

/** The number of services named in one line; a peer may have thousands. */
const MAX_NAMED = 20;

/** The services of a peer, human-readable: `ssh, web`, `nothing`, or the first of many and how many more. */
export function listServices(names: ReadonlySet<string>): string {
  const named = [...names].slice(0, MAX_NAMED).join(', ') || 'nothing';
  return names.size > MAX_NAMED ? `${named} and ${names.size - MAX_NAMED} more` : named;
}

/** The same after a failed lookup of `service`, with a suggestion. */
export const listInsteadOf = (service: string, offered: ReadonlySet<string>): string =>
  listServices(offered) + suggestWord(service, [...offered]);

export class PeerServices {
  readonly state: PeerServicesState;
  readonly #timeOfDay: (() => number) | null;

  /** `timeOfDay` of this side; null if it does not matter. */
  constructor(
    timeOfDay: (() => number) | null = null,
    state: PeerServicesState = { names: new Set(), partial: [], clockOffsetMs: null, ports: null },
  ) {
    this.state = state;
    this.#timeOfDay = timeOfDay;
  }

  /** Takes a SERVICES frame. Returns true when the list is complete. Throws `protocol-error` and `flood`. */
  receive(payload: Buffer): boolean {
    const { services, more, timeMs, ports } = decodeServices(payload);
    const { state } = this;
    state.partial.push(...services);
    if (state.partial.length > MAX_SERVICES) {
      throw new VproxyError('flood', `the peer offers too many services (max ${MAX_SERVICES})`);
    }
    if (more) return false;
    state.names = new Set(state.partial);
    state.clockOffsetMs = timeMs === null || this.#timeOfDay === null ? null : timeMs - this.#timeOfDay();
    state.ports = ports;
    state.partial = [];
    return true;
  }
}
