/** An outgoing forward (`-o`) of datagrams: binds a socket here and opens a flow to the peer's service per source address. */
import { toVproxyError, type VproxyError } from '../../errors.js';
import type {
  BoundDatagrams,
  BoundDatagramsEvents,
  DatagramEntrance,
  DatagramSource,
} from '../../system/datagrams/datagrams.js';
import type { KeepDescriptor } from '../../system/descriptors.js';
import { describeError } from '../../util/escape.js';
import { datagramEntranceOf } from '../endpoint-kinds.js';
import type { Endpoint } from '../forms/endpoint-forms.js';
import { ForwardLog } from '../forward-log.js';
import type { OutgoingOptions } from '../outgoing.js';
import { type Forward, type ForwardSpec, type ForwardState, formatEndpoint, type Predecessor } from '../spec.js';
import { DatagramFlow } from './datagram-flow.js';
import { FlowBook } from './flow-book.js';
import type { OpenedFlow, OpenedFlows } from './opened-flows.js';

/** After a refused flow, messages without a flow are dropped for this time. */
const REFUSED_MS = 1000;

export interface OutgoingDatagramsOptions extends OutgoingOptions {
  /** The flows of all outgoing forwards of the channel. */
  readonly flows: OpenedFlows;
}

export class OutgoingDatagrams implements Forward {
  readonly spec: ForwardSpec;
  readonly messages: FlowBook;
  readonly #options: OutgoingDatagramsOptions;
  readonly #log: ForwardLog;
  bound: Endpoint;
  #entrance: DatagramEntrance;
  endpointText: string;
  #socket: BoundDatagrams | null = null;
  /** Replaced by each `start` and `pause`: a socket bound for an earlier attempt is closed. */
  #attempt: object | null = null;
  /** The flow of each source address. */
  readonly #sources = new Map<string, OpenedFlow>();
  #refusedUntilMs = Number.NEGATIVE_INFINITY;
  streamCount = 0;
  /** Restores the socket of the previous process in `goOn`; null if it had none. */
  #bindAgain: (() => Promise<BoundDatagrams>) | null = null;

  /** Throws `bad-argument` for an endpoint that no datagram socket can be bound to, and for unknown owners. */
  constructor(spec: ForwardSpec, options: OutgoingDatagramsOptions, predecessor: Predecessor | null = null) {
    this.spec = spec;
    this.#options = options;
    this.bound = spec.endpoint;
    this.#entrance = datagramEntranceOf(spec.endpoint, spec.service);
    this.endpointText = formatEndpoint(spec.endpoint);
    this.#log = new ForwardLog(spec, options, () => this.endpointText);
    this.messages = new FlowBook({
      clock: options.clock,
      onDropped: (counts) => this.#log.dropped(counts),
    });
    if (predecessor !== null) this.#succeed(predecessor);
  }

  get openCount(): number {
    return this.messages.openCount;
  }

  /** Its messages are sent at once, or lost. */
  get isServing(): boolean {
    return false;
  }

  /** Binds the socket. Rejects with `address-…` codes. */
  async start(): Promise<void> {
    await this.#listen(this.#entrance.bind(this.#events));
    this.#log.listening();
  }

  async #listen(binding: Promise<BoundDatagrams>): Promise<void> {
    const attempt = {};
    this.#attempt = attempt;
    const socket = await binding;
    if (this.#attempt !== attempt) {
      socket.close();
      return;
    }
    this.#socket = socket;
    // Keep the port over pause and start, even if any port was asked for.
    if (socket.port !== null) this.#usePort(socket.port);
  }

  #usePort(port: number): void {
    this.bound = { ...this.spec.endpoint, port } as Endpoint;
    this.#entrance = datagramEntranceOf(this.bound, this.spec.service);
    this.endpointText = formatEndpoint(this.bound);
  }

  /** Closes the socket and ends the flows, whose answers could no longer be delivered. */
  pause(): void {
    this.#attempt = null;
    this.#socket?.close();
    this.#socket = null;
    for (const flow of this.messages.list()) flow.end();
  }

  stop(): Promise<void> {
    this.pause();
    this.messages.stop();
    return Promise.resolve();
  }

  // ---- messages -------------------------------------------------------------------------------------------------

  readonly #events: BoundDatagramsEvents = {
    onMessage: (message, source) => this.#send(message, source),
    onError: (error) => this.#log.failed(`cannot receive: ${describeError(error)}`),
    onDropped: (count) => this.messages.dropBySystem(count),
  };

  #send(message: Buffer, source: DatagramSource): void {
    const known = this.#sources.get(source.key);
    const opened = known === undefined || known.flow.isEnded ? this.#open(source) : known;
    if (opened === null) {
      this.messages.drop();
      return;
    }
    this.#options.flows.touch(opened);
    opened.flow.send(message);
  }

  /** Opens a flow for a source address; returns null if that is not possible now. */
  #open(source: DatagramSource): OpenedFlow | null {
    const { key, name } = source;
    const { clock, flows, id = null, source: sessions } = this.#options;
    const { session } = sessions;
    if (session === null || clock.now() < this.#refusedUntilMs) return null;
    flows.makeRoom(session);
    let opened: OpenedFlow | null = null;
    let seat = -1;
    let isAccepted = false;
    let reason: VproxyError | null | undefined;
    const close = (why: VproxyError | null): void => {
      reason = why;
      if (opened === null) return;
      if (this.#sources.get(key) === opened) this.#sources.delete(key);
      flows.remove(opened);
      this.messages.remove(seat, opened.flow);
      this.#closed(opened.flow, why, isAccepted);
    };
    try {
      const flow = DatagramFlow.open(session, this.spec.service, name, {
        onMessage: (message) => {
          if (opened !== null) this.#answer(opened, message, source);
        },
        onDropped: () => this.messages.handleDropped(),
        onAccepted: () => {
          isAccepted = true;
          this.#log.opened(flow.stream);
        },
        onClosed: close,
      });
      flow.stream.owner = id;
      this.streamCount += 1;
      seat = this.messages.add(flow);
      opened = flows.add(flow);
      this.#sources.set(key, opened);
      // It may already have ended.
      if (reason !== undefined) close(reason);
      return opened;
    } catch (error) {
      this.#refused(toVproxyError(error));
      return null;
    }
  }

  #answer(opened: OpenedFlow, message: Buffer, source: DatagramSource): void {
    this.#options.flows.touch(opened);
    source.answer(message, () => opened.flow.markUndelivered());
  }

  #refused({ code, message }: VproxyError): void {
    this.#backOff();
    this.#log.refused(`datagrams to ${this.#log.nameOf()} are dropped: ${message} (${code})`, code);
  }

  #backOff(): void {
    this.#refusedUntilMs = this.#options.clock.now() + REFUSED_MS;
  }

  #closed(flow: DatagramFlow, reason: VproxyError | null, wasAccepted: boolean): void {
    // A flow that this side ended before the answer tells nothing about the peer.
    if (!wasAccepted && !flow.wasGivenUp) this.#backOff();
    this.#log.closed(flow.stream, reason, wasAccepted, 'datagram flow');
    if (this.openCount === 0) this.#options.onIdle?.();
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  /** Flows are not an obstacle: they end, and the next message opens a new one. */
  obstacles(): string[] {
    return [];
  }

  capture(keep: KeepDescriptor): ForwardState {
    const socket = this.#socket;
    const fd = socket?.descriptor ?? null;
    return {
      isStarted: socket !== null,
      streamCount: this.streamCount,
      connections: [],
      listener: fd === null ? null : keep(fd),
      port: 'port' in this.bound ? this.bound.port : null,
      family: socket?.family ?? null,
      dropped: socket?.dropped ?? 0,
    };
  }

  #succeed({ state, take }: Predecessor): void {
    const { dropped = 0, family = null, isStarted, listener = null, port = null, streamCount } = state;
    this.streamCount = streamCount;
    if (port !== null) this.#usePort(port);
    if (!isStarted) return;
    const fd = listener === null ? null : take(listener);
    this.#bindAgain = () =>
      fd === null ? this.#entrance.bind(this.#events) : this.#entrance.adopt(fd, family, this.#events, dropped);
  }

  async goOn(): Promise<void> {
    const bindAgain = this.#bindAgain;
    this.#bindAgain = null;
    if (bindAgain !== null) await this.#listen(bindAgain());
  }
}
