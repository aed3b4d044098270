/** The names that the resolvers of a channel answered with an address: redirected programs connect to addresses (docs/egress.md). */
import type { Clock } from '../../util/clock.js';
import type { Destination } from '../egress/rules.js';

/** Limit on addresses per channel; the one that was not used for the longest time is forgotten. */
const MAX_ADDRESSES = 4096;

/** A name is kept for its TTL, but at least this long: many programs resolve once and connect later. */
const LEAST_MS = 600_000;

/** A name of an egress, the address that it was answered with, and until when it is kept, by the clock. */
export type ResolvedName = readonly [egress: string, address: string, name: string, untilMs: number];

export class ResolvedNames {
  readonly #clock: Clock;
  /** By egress and address, least recently used first. */
  readonly #names = new Map<string, ResolvedName>();

  constructor(clock: Clock, state: readonly ResolvedName[] = []) {
    this.#clock = clock;
    this.inherit(state);
  }

  /** Takes over what a predecessor, or the replaced channel, knows. */
  inherit(state: readonly ResolvedName[]): void {
    for (const known of state) this.#put(known);
  }

  /** All of them, for a successor. */
  get state(): readonly ResolvedName[] {
    return [...this.#names.values()];
  }

  /** The resolver of an egress has answered with these addresses; another name of the same address is replaced. */
  learn(egress: string, name: string, addresses: readonly string[], ttl: number): void {
    const untilMs = this.#clock.now() + Math.max(ttl * 1000, LEAST_MS);
    for (const address of addresses) this.#put([egress, address, name, untilMs]);
  }

  /** The destination by the name that was answered with its address; unchanged if there is none. */
  nameOf(egress: string, destination: Destination): Destination {
    const { host, port } = destination;
    const known = this.#names.get(keyOf(egress, host));
    if (known === undefined || destination.family === 0) return destination;
    const [, , name, untilMs] = known;
    if (this.#clock.now() >= untilMs) return destination;
    this.#put(known);
    return { host: name, family: 0, port, redirectedFrom: host };
  }

  #put(known: ResolvedName): void {
    const [egress, address] = known;
    const key = keyOf(egress, address);
    this.#names.delete(key);
    this.#names.set(key, known);
    const [oldest] = this.#names.keys();
    if (oldest !== undefined && this.#names.size > MAX_ADDRESSES) this.#names.delete(oldest);
  }
}

const keyOf = (egress: string, address: string): string => `${egress} ${address}`;
