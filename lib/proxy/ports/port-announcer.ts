/** `--announce-ports`: what listens here, as services for the peer and in the list that it is told (R-SERVICES-3). */

import { MAX_ANNOUNCED_PORTS, MAX_PROGRAM_LENGTH } from '../../codec/limits.js';
import { type AnnouncedPort } from '../../codec/payloads.js';
import { type Log, makeEvent } from '../../events.js';
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { ListeningPort } from '../../system/proc/listening-ports.js';
import { isInRanges, type PortRange } from '../../util/addresses.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ForwardEntry, ForwardTable } from '../forward-table.js';
import { portService } from './port-rules.js';

/** The time from one look to the next, in milliseconds: a look may take a hundredth of it. */
const PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;
const PAUSE_FACTOR = 100;

interface PortAnnouncerOptions {
  readonly forwards: ForwardTable;
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
  /** What listens on this machine at ports for which `isWanted`; never rejects. */
  readonly look: (isWanted: (port: number) => boolean) => Promise<readonly ListeningPort[]>;
  /** Whether somebody can be told: there is a session, on a link. */
  readonly hasPeer: () => boolean;
}

/** A port that is announced. */
interface OwnPort extends ListeningPort {
  /** The id of the incoming forward that dials it. */
  readonly forward: string;
}

/** What is announced, by port; null: nothing was said of ports. */
export type OwnPorts = ReadonlyMap<number, OwnPort> | null;

/** Announces ports while there is a peer. `look` begins when it is told to `wake`; `stop` once. */
export class PortAnnouncer {
  readonly #options: PortAnnouncerOptions;
  #ranges: readonly PortRange[] | null = null;
  /** Null before the first look. */
  #ports: OwnPorts;
  #cancelPause: CancelTimer | null = null;
  #isLooking = false;
  #isStopped = false;

  constructor(options: PortAnnouncerOptions, ports: OwnPorts = null) {
    this.#options = options;
    this.#ports = ports;
  }

  /** What the peer is to be told; null: nothing of ports. */
  get announced(): AnnouncedPort[] | null {
    return this.#ports === null ? null : this.ports.map(({ port, program }) => ({ port, program }));
  }

  /** What is announced, with the forwards that dial it. */
  get ports(): readonly (OwnPort & { readonly entry: ForwardEntry })[] {
    return [...(this.#ports?.values() ?? [])].flatMap((own) => {
      const entry = this.#options.forwards.find(own.forward);
      // People may have removed one.
      return entry === null || entry.isDraining ? [] : [{ ...own, entry }];
    });
  }

  /** Puts other ranges in force; null: none. What is announced and not in them goes at once. */
  setRanges(ranges: readonly PortRange[] | null): void {
    this.#ranges = ranges;
    const ports = this.ports.filter(({ port }) => isInRanges(ranges ?? [], port));
    if (ports.length < this.ports.length) this.#announce(ports);
    this.#cancelPause?.();
    this.#cancelPause = null;
    this.wake();
  }

  /** There is a peer, or something else to look for. */
  wake(): void {
    if (this.#cancelPause === null && !this.#isLooking) void this.#lookOn();
  }

  /** Looks no more. The forwards go with their table. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelPause?.();
    this.#cancelPause = null;
  }

  /** For a successor of this process. */
  get state(): OwnPorts {
    return this.#ports;
  }

  async #lookOn(): Promise<void> {
    const { clock, look } = this.#options;
    const ranges = this.#ranges;
    if (ranges === null || !this.#mayLook()) return;
    this.#isLooking = true;
    const beganAtMs = clock.now();
    const found = await look((port) => isInRanges(ranges, port));
    this.#isLooking = false;
    if (!this.#mayLook()) return;
    if (this.#ranges !== ranges) return this.#lookOn();
    this.#announce(this.#choose(found));
    const pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(PAUSE_MS, PAUSE_FACTOR * (clock.now() - beganAtMs)));
    this.#cancelPause = clock.schedule(pauseMs, () => {
      this.#cancelPause = null;
      this.wake();
    });
  }

  #mayLook(): boolean {
    return !this.#isStopped && this.#options.hasPeer();
  }

  /** Those that may be announced: at most 64, of which those that are announced already come first; none that a service stands for. */
  #choose(found: readonly ListeningPort[]): readonly ListeningPort[] {
    const { registry } = this.#options;
    const isKnown = ({ port }: ListeningPort): boolean => this.#ports?.has(port) === true;
    const possible = found.filter((one) => isKnown(one) || !registry.has(portService(one.port)));
    const kept = [...possible.filter(isKnown), ...possible.filter((one) => !isKnown(one))].slice(
      0,
      MAX_ANNOUNCED_PORTS,
    );
    return kept.sort((one, other) => one.port - other.port);
  }

  /** Makes these the announced ones: the peer hears of all changes together. */
  #announce(wanted: readonly ListeningPort[]): void {
    const before = this.#ports ?? new Map<number, OwnPort>();
    const numbers = new Set(wanted.map(({ port }) => port));
    this.#options.registry.together(() => {
      for (const own of before.values()) if (!numbers.has(own.port)) this.#withdraw(own);
      this.#ports = new Map(wanted.map((port) => [port.port, this.#keepOrAdd(port, before.get(port.port) ?? null)]));
    });
  }

  #keepOrAdd(port: ListeningPort, before: OwnPort | null): OwnPort {
    // Whoever listens there may be another program by now, at another address.
    if (before?.host === port.host) return { ...port, forward: before.forward };
    if (before !== null) this.#close(before);
    const { forwards, log } = this.#options;
    const endpoint = { kind: 'tcp', host: port.host, port: port.port } as const;
    const entry = forwards.create({ direction: 'incoming', service: portService(port.port), endpoint }, false);
    // Where a forward of that name was added meanwhile, the service is that one's.
    forwards.start(entry).catch(() => undefined);
    if (before === null) {
      const message = `port ${describePort(port)} is announced to the peer`;
      log(makeEvent('port-announced', message, { port: port.port, program: port.program }));
    }
    return { ...port, forward: entry.id };
  }

  #withdraw(own: OwnPort): void {
    this.#close(own);
    const message = `port ${describePort(own)} is announced no more`;
    this.#options.log(makeEvent('port-withdrawn', message, { port: own.port, program: own.program }));
  }

  /** Streams that are open go on. */
  #close({ forward }: OwnPort): void {
    const { forwards } = this.#options;
    const entry = forwards.find(forward);
    if (entry !== null) void forwards.remove(entry, true);
  }
}

/** A port with its program, for people: `3000 (node)`. */
export function describePort({ port, program }: AnnouncedPort): string {
  return program === null ? String(port) : `${port} (${escapeText(program, MAX_PROGRAM_LENGTH)})`;
}
