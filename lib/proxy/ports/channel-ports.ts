/** The ports of a channel that appear by themselves: those of this machine, for the peer, and those of the peer, here. */
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { SessionSource } from '../../forward/session-source.js';
import type { PortStatus } from '../../status/types.js';
import { ListeningPorts } from '../../system/proc/listening-ports.js';
import type { ChannelOptions } from '../channel-options.js';
import type { ForwardEntry } from '../forward-table.js';
import { type OwnPorts, PortAnnouncer } from './port-announcer.js';
import { type PeerPortsState, PortForwarder, type PortForwarderOptions } from './port-forwarder.js';

interface ChannelPortsOptions extends PortForwarderOptions {
  readonly registry: ServiceRegistry;
  readonly source: SessionSource;
}

/** Both; a successor of this process goes on with them. */
export interface ChannelPortsState {
  readonly own: OwnPorts;
  readonly peer: PeerPortsState;
}

/** A port that is announced, with the forward that serves it. */
type ShownPort = PortForwarder['ports'][number];

/** Begins when it is told of a session; `stop` once. */
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
        ...options,
        look: (isWanted) => listening.look(isWanted),
        hasPeer: () => options.source.session !== null,
      },
      state?.own,
    );
    this.#forwarder = new PortForwarder(options, state?.peer);
  }

  /** What the peer is to be told of the ports of this machine; null: nothing. */
  get announced() {
    return this.#announcer.announced;
  }

  /** Puts what these options say in force. */
  adopt({ announcePorts = null, forwardPorts = null }: ChannelOptions): void {
    this.#announcer.setRanges(announcePorts);
    this.#forwarder.setRule(forwardPorts);
  }

  /** The session has begun, goes on, is over, or its peer announces something else. */
  sessionChanged(): void {
    const { session, current } = this.#source;
    if (session !== null) this.#announcer.wake();
    this.#forwarder.update(current?.peerServices.ports ?? null);
  }

  stop(): void {
    this.#announcer.stop();
    this.#forwarder.stop();
  }

  /** Whether a forward is that of a port. */
  has({ id }: ForwardEntry): boolean {
    return [...this.#announcer.ports, ...this.#forwarder.ports].some(({ entry }) => entry?.id === id);
  }

  list(): PortStatus[] {
    const describe = (announcedBy: PortStatus['announcedBy'], { port, program, entry }: ShownPort): PortStatus => {
      const { endpointText: endpoint = null, openCount: streams = 0 } = entry?.forward ?? {};
      return { channel: this.#label, port, program, announcedBy, endpoint, forward: entry?.id ?? null, streams };
    };
    return [
      ...this.#announcer.ports.map((port) => describe('here', port)),
      ...this.#forwarder.ports.map((port) => describe('peer', port)),
    ];
  }

  /** What cannot be handed over now, each as a line for people. */
  obstacles(): string[] {
    return this.#forwarder.obstacles();
  }

  get state(): ChannelPortsState {
    return { own: this.#announcer.state, peer: this.#forwarder.state };
  }
}
