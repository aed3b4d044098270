/** Automatic port forwarding on a channel: announces local ports to the peer, and listens for the peer's ports here. */
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { SessionSource } from '../../forward/session-source.js';
import type { PortStatus } from '../../status/types.js';
import { ListeningPorts } from '../../system/proc/listening-ports.js';
import { processorMs } from '../../system/proc/proc.js';
import type { ChannelOptions } from '../channel/channel-options.js';
import type { ForwardEntry } from '../forward-table.js';
import { type OwnPorts, PortAnnouncer } from './port-announcer.js';
import { type PeerPortsState, PortForwarder, type PortForwarderOptions } from './port-forwarder.js';
import { portService } from './port-rules.js';

interface ChannelPortsOptions extends PortForwarderOptions {
  readonly registry: ServiceRegistry;
  readonly source: SessionSource;
}

/** State of both, for a successor process. */
export interface ChannelPortsState {
  readonly own: OwnPorts;
  readonly peer: PeerPortsState;
}

/** An announced port, with the forward that serves it. */
type ShownPort = PortForwarder['ports'][number];

/** Starts with the first `sessionChanged`; call `stop` once. */
export class ChannelPorts {
  readonly #label: string;
  readonly #source: SessionSource;
  readonly #announcer: PortAnnouncer;
  readonly #forwarder: PortForwarder;

  constructor(options: ChannelPortsOptions, state?: ChannelPortsState) {
    const listening = new ListeningPorts();
    this.#label = options.label;
    this.#source = options.source;
    this.#announcer = new PortAnnouncer(
      {
        look: (isWanted, onlyKnown) => listening.look(isWanted, onlyKnown),
        processorMs,
        hasPeer: () => options.source.session !== null,
        ...options,
      },
      state?.own,
    );
    this.#forwarder = new PortForwarder(options, state?.peer);
  }

  /** The ports to announce to the peer; null to announce nothing. */
  get announced() {
    return this.#announcer.announced;
  }

  adopt({ announcePorts = null, forwardPorts = null }: ChannelOptions): void {
    this.#announcer.setRanges(announcePorts);
    this.#forwarder.setRule(forwardPorts);
  }

  /** Call this when the session was established, resumed or ended, or when its peer changed its announcement. */
  sessionChanged(): void {
    const { session, current } = this.#source;
    if (session !== null) this.#announcer.wake();
    this.#forwarder.update(current?.peerServices.ports ?? null);
  }

  stop(): void {
    this.#announcer.stop();
    this.#forwarder.stop();
  }

  /** Whether a forward belongs to a port. */
  has({ id }: ForwardEntry): boolean {
    return [...this.#announcer.ports, ...this.#forwarder.ports].some(({ entry }) => entry?.id === id);
  }

  list(): PortStatus[] {
    // Also streams of programs and of `--http-ports`, which belong to no forward.
    const open = { here: new Map<string, number>(), peer: new Map<string, number>() };
    for (const { isIncoming, service } of this.#source.current?.streams.list() ?? []) {
      const counts = isIncoming ? open.here : open.peer;
      counts.set(service, (counts.get(service) ?? 0) + 1);
    }
    const describe = (announcedBy: PortStatus['announcedBy'], { port, program, entry }: ShownPort): PortStatus => {
      const { endpointText: endpoint = null } = entry?.forward ?? {};
      const streams = open[announcedBy].get(portService(port)) ?? 0;
      return { channel: this.#label, port, program, announcedBy, endpoint, forward: entry?.id ?? null, streams };
    };
    return [
      ...this.#announcer.ports.map((port) => describe('here', port)),
      ...this.#forwarder.ports.map((port) => describe('peer', port)),
    ];
  }

  /** What cannot be handed over now, as human-readable lines. */
  obstacles(): string[] {
    return this.#forwarder.obstacles();
  }

  get state(): ChannelPortsState {
    return { own: this.#announcer.state, peer: this.#forwarder.state };
  }
}
