/** `--announce-ports`: offers the local listening ports to the peer as services, and announces them (R-SERVICES-3). */

import { MAX_ANNOUNCED_PORTS, MAX_PROGRAM_LENGTH } from '../../codec/limits.js';
import { type AnnouncedPort } from '../../codec/payloads.js';
import { type Log, makeEvent } from '../../events.js';
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { ListeningPort } from '../../system/proc/listening-ports.js';
import { isInRanges, type PortRange } from '../../util/addresses/host-port.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ForwardEntry, ForwardTable } from '../forward-table.js';
import { portService } from './port-rules.js';

/** The interval between looks, in milliseconds; for new ports, at least 100 times the processor time that the last look took. */
const PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;
const PAUSE_FACTOR = 100;

interface PortAnnouncerOptions {
  readonly forwards: ForwardTable;
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
  /** Lists the listening ports of this machine that are wanted, with `onlyKnown` only those listed before; never rejects. */
  readonly look: (isWanted: (port: number) => boolean, onlyKnown: boolean) => Promise<readonly ListeningPort[]>;
  /** The processor time that this process has used, in milliseconds: on a busy machine, a look takes long without being expensive. */
  readonly processorMs: () => number;
  /** Whether there is a session on a link, so that the peer can be informed. */
  readonly hasPeer: () => boolean;
}

interface OwnPort extends ListeningPort {
  /** The id of the incoming forward that dials it. */
  readonly forward: string;
}

/** The announced ports, by number; null if ports were never announced. */
export type OwnPorts = ReadonlyMap<number, OwnPort> | null;

/** Announces ports while there is a peer. `wake` starts the scans; call `stop` once. */
export class PortAnnouncer {
  readonly #options: PortAnnouncerOptions;
  #ranges: readonly PortRange[] | null = null;
  /** Null before the first scan. */
  #ports: OwnPorts;
  #cancelPause: CancelTimer | null = null;
  /** When to look for new ports again, by the clock. */
  #newAtMs = 0;
  #isLooking = false;
  #isStopped = false;

  constructor(options: PortAnnouncerOptions, ports: OwnPorts = null) {
    this.#options = options;
    this.#ports = ports;
  }

  /** The ports to announce to the peer; null to announce nothing. */
  get announced(): AnnouncedPort[] | null {
    return this.#ports === null ? null : this.ports.map(({ port, program }) => ({ port, program }));
  }

  /** The announced ports, with the forwards that dial them. */
  get ports(): readonly (OwnPort & { readonly entry: ForwardEntry })[] {
    return [...(this.#ports?.values() ?? [])].flatMap((own) => {
      const entry = this.#options.forwards.find(own.forward);
      // A user may have removed the forward.
      return entry === null || entry.isDraining ? [] : [{ ...own, entry }];
    });
  }

  /** Applies new ranges; null for none. Withdraws announced ports outside of them at once. */
  setRanges(ranges: readonly PortRange[] | null): void {
    this.#ranges = ranges;
    const ports = this.ports.filter(({ port }) => isInRanges(ranges ?? [], port));
    if (ports.length < this.ports.length) this.#announce(ports);
    this.#cancelPause?.();
    this.#cancelPause = null;
    this.#newAtMs = 0;
    this.wake();
  }

  /** Scans if none is scheduled or running: there is a peer, or the ranges have changed. */
  wake(): void {
    if (this.#cancelPause === null && !this.#isLooking) void this.#lookOn();
  }

  /** Stops scanning. The table of forwards stops the forwards. */
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
    const { clock, look, processorMs } = this.#options;
    const ranges = this.#ranges;
    if (ranges === null || !this.#mayLook()) return;
    this.#isLooking = true;
    const onlyKnown = clock.now() < this.#newAtMs;
    const beforeMs = processorMs();
    const found = await look((port) => isInRanges(ranges, port), onlyKnown);
    const costMs = processorMs() - beforeMs;
    this.#isLooking = false;
    if (!this.#mayLook()) return;
    if (this.#ranges !== ranges) return this.#lookOn();
    this.#announce(this.#choose(found));
    if (!onlyKnown) this.#newAtMs = clock.now() + Math.min(LONGEST_PAUSE_MS, PAUSE_FACTOR * costMs);
    this.#cancelPause = clock.schedule(PAUSE_MS, () => {
      this.#cancelPause = null;
      this.wake();
    });
  }

  #mayLook(): boolean {
    return !this.#isStopped && this.#options.hasPeer();
  }

  /** Chooses the ports to announce: at most 64, already announced ones first, and none whose service name is taken. */
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

  /** Announces these ports instead of the current ones, as one change for the peer. */
  #announce(wanted: readonly ListeningPort[]): void {
    const before = this.#ports ?? new Map<number, OwnPort>();
    const numbers = new Set(wanted.map(({ port }) => port));
    this.#options.registry.together(() => {
      for (const own of before.values()) if (!numbers.has(own.port)) this.#withdraw(own);
      this.#ports = new Map(wanted.map((port) => [port.port, this.#keepOrAdd(port, before.get(port.port) ?? null)]));
    });
  }

  #keepOrAdd(port: ListeningPort, before: OwnPort | null): OwnPort {
    // Another program may listen there by now, at another address.
    if (before?.host === port.host) return { ...port, forward: before.forward };
    if (before !== null) this.#close(before);
    const { forwards, log } = this.#options;
    const endpoint = { kind: 'tcp', host: port.host, port: port.port } as const;
    const entry = forwards.create({ direction: 'incoming', service: portService(port.port), endpoint }, false);
    // If a forward of that name was added meanwhile, it keeps the service.
    forwards.start(entry).catch(() => undefined);
    if (before === null) {
      const message = `announcing port ${describePort(port)} to the peer`;
      log(makeEvent('port-announced', message, { port: port.port, program: port.program }));
    }
    return { ...port, forward: entry.id };
  }

  #withdraw(own: OwnPort): void {
    this.#close(own);
    const message = `no longer announcing port ${describePort(own)}`;
    this.#options.log(makeEvent('port-withdrawn', message, { port: own.port, program: own.program }));
  }

  /** Open streams continue. */
  #close({ forward }: OwnPort): void {
    const { forwards } = this.#options;
    const entry = forwards.find(forward);
    if (entry !== null) void forwards.remove(entry, true);
  }
}

/** Formats a port with its program: `3000 (node)`. */
export function describePort({ port, program }: AnnouncedPort): string {
  return program === null ? String(port) : `${port} (${escapeText(program, MAX_PROGRAM_LENGTH)})`;
}
