/** The forwards of one channel: which there are, and how they come and go while streams are open. */
import { toVproxyError, VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import { OpenedFlows } from '../forward/datagram/opened-flows.js';
import { OutgoingDatagrams } from '../forward/datagram/outgoing-datagrams.js';
import type { EgressRules } from '../forward/egress/rules.js';
import { takesDatagrams } from '../forward/endpoint-kinds.js';
import { IncomingForward } from '../forward/incoming.js';
import type { InputFilters } from '../forward/input-filter.js';
import { OutgoingForward, type OutgoingOptions } from '../forward/outgoing.js';
import type { ServiceRegistry } from '../forward/service-registry.js';
import type { SessionSource } from '../forward/session-source.js';
import {
  ANY_SERVICE,
  type Forward,
  type ForwardSpec,
  type ForwardState,
  formatForwardSpec,
  type Predecessor,
} from '../forward/spec.js';
import { listInsteadOf, listServices } from '../session/services.js';
import type { SessionStream } from '../session/stream.js';
import { describeMessages } from '../status/describe.js';
import type { ForwardStatus } from '../status/types.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { addressesOverlap, type HostPort } from '../util/addresses.js';
import { Backoff, type CancelTimer, type Clock } from '../util/clock.js';
import { type Deferred, deferred } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { DEFAULT_LABEL } from './channel-options.js';

/** Between attempts to put a forward in force again. */
const RESUMING = { firstMs: 100, maxMs: 5000 } as const;

interface ForwardTableOptions {
  /** The label of the channel. */
  readonly channel: string;
  readonly source: SessionSource;
  readonly registry: ServiceRegistry;
  readonly log: Log;
  readonly clock: Clock;
  /** How long a local connection waits for a session, in milliseconds. */
  readonly waitMs: number;
  /** Streams that each incoming forward serves at once. */
  readonly maxStreams: number;
  /** What targets that are sockets are given before a stream's first byte; null: nothing. */
  readonly preamble: ((stream: SessionStream) => Buffer) | null;
  /** The rules of the moment of the egress of that name; null where there is none. */
  readonly egress: (name: string) => EgressRules | null;
  /** What comes between the peer and the local ends. */
  readonly filters: InputFilters;
  /** Gives ids that are unique in the process. */
  readonly nextId: () => string;
  /** The addresses of all forwards of the process. */
  readonly addresses: ForwardAddresses;
  /** An outgoing forward listens. */
  readonly onListening: (forward: ForwardStatus) => void;
}

/** A forward with the name by which it can be removed. */
export interface ForwardEntry {
  readonly id: string;
  readonly forward: Forward;
  /** Whether it is one of those that were asked for from the start, or by `Proxy.apply`. */
  isDeclared: boolean;
  /** No new streams; removed when the open ones have ended. */
  isDraining: boolean;
  /** Resolved when it has drained, or is stopped. */
  readonly over: Deferred<void>;
}

/** A forward, for a successor of this process. */
export interface ForwardEntryState extends Pick<ForwardEntry, 'id' | 'isDeclared' | 'isDraining'> {
  readonly spec: ForwardSpec;
  readonly forward: ForwardState;
}

export class ForwardTable {
  readonly #options: ForwardTableOptions;
  /** The flows of datagrams that the peer was asked for, of all forwards. */
  readonly #flows: OpenedFlows;
  readonly #entries = new Map<string, ForwardEntry>();
  /** Those that are to be resumed once more, after a while. */
  readonly #resuming = new Map<ForwardEntry, CancelTimer>();

  constructor(options: ForwardTableOptions) {
    this.#options = options;
    this.#flows = new OpenedFlows(options.clock);
  }

  /** Makes a forward without effect, or one in the place of another one. Throws `bad-argument`. */
  create(spec: ForwardSpec, isDeclared = true, id = this.#options.nextId(), predecessor?: Predecessor): ForwardEntry {
    const { registry, source, log, clock, waitMs, maxStreams, filters, preamble, egress } = this.#options;
    const onIdle = () => {
      if (entry.isDraining) entry.over.resolve();
    };
    const forward =
      spec.direction === 'outgoing'
        ? this.#createOutgoing(spec, { id, source, log, clock, waitMs, filters, onIdle }, predecessor)
        : new IncomingForward(
            spec,
            { id, registry, log, clock, maxStreams, filters, preamble, egress, onIdle },
            predecessor,
          );
    const entry: ForwardEntry = { id, forward, isDeclared, isDraining: false, over: deferred() };
    return entry;
  }

  #createOutgoing(spec: ForwardSpec, options: OutgoingOptions, predecessor?: Predecessor): Forward {
    if (!takesDatagrams(spec.endpoint)) return new OutgoingForward(spec, options, predecessor);
    return new OutgoingDatagrams(spec, { ...options, flows: this.#flows }, predecessor);
  }

  /** Puts a forward in force and in the table. Rejects with `address-…` codes or `bad-argument`, and changes nothing then. */
  async start(entry: ForwardEntry): Promise<void> {
    this.#entries.set(entry.id, entry);
    try {
      await entry.forward.start();
    } catch (error) {
      this.#entries.delete(entry.id);
      await entry.forward.stop();
      throw this.#options.addresses.explain(error, entry);
    }
    this.#options.addresses.add(entry, this.#options.channel);
    if (entry.forward.spec.direction === 'outgoing') this.#options.onListening(this.describe(entry));
    // What began to listen after `stop` or `remove` had looked at it.
    if (this.#entries.get(entry.id) !== entry) await this.#stop(entry);
  }

  /** Takes no new streams for a forward, until `resume`. */
  pause(entry: ForwardEntry): void {
    this.#cancelResuming(entry);
    entry.forward.pause();
  }

  /**
   * Puts a forward that was paused in force again. Resolved with null, or with why that cannot be (`address-…` codes or
   * `bad-argument`): it is tried again then, with a back-off, until it can be or the forward goes.
   */
  resume(entry: ForwardEntry): Promise<VproxyError | null> {
    return this.#resume(entry, new Backoff(RESUMING));
  }

  /** Takes a forward out: with `isDraining` when its open streams have ended, else at once, with a reset of what is open. */
  async remove(entry: ForwardEntry, isDraining: boolean): Promise<void> {
    if (isDraining) {
      entry.isDraining = true;
      this.pause(entry);
      if (entry.forward.openCount > 0) await entry.over.promise;
    }
    if (this.#entries.delete(entry.id)) await this.#stop(entry);
  }

  /** Stops all forwards, for good. */
  async stop(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(entries.map((entry) => this.#stop(entry)));
  }

  /** What cannot be handed over to a successor of this process now, each as a line for people. */
  obstacles(): string[] {
    const [resuming] = this.#resuming.keys();
    const found = [...this.#entries.values()].flatMap(({ forward }) => forward.obstacles());
    return resuming === undefined ? found : [...found, `forward ${resuming.id}, which cannot listen at the moment`];
  }

  /** The ids of the streams among them that only the peer can end. */
  endedByPeer(): number[] {
    return [...this.#entries.values()].flatMap(({ forward }) => forward.endedByPeer?.() ?? []);
  }

  /** What a successor goes on with. `indexOf` numbers the streams of the session. */
  capture(keep: KeepDescriptor, indexOf: (stream: SessionStream) => number): ForwardEntryState[] {
    return [...this.#entries.values()].map(({ id, forward, isDeclared, isDraining }) => {
      return { id, isDeclared, isDraining, spec: forward.spec, forward: forward.capture(keep, indexOf) };
    });
  }

  /** In the place of `start`, up to `goOn`: the forwards that a predecessor of this process had, with their streams by number. */
  restore(captured: readonly ForwardEntryState[], take: TakeDescriptor, streams: readonly SessionStream[]): void {
    for (const { id, spec, isDeclared, isDraining, forward: state } of captured) {
      const entry = this.create(spec, isDeclared, id, { state, take, streams });
      this.#entries.set(id, entry);
      entry.isDraining = isDraining;
      this.#options.addresses.add(entry, this.#options.channel);
    }
  }

  /** Behind `restore`, when the session goes on. One that cannot listen tries it again and again. */
  goOn(): void {
    for (const entry of this.#entries.values()) {
      entry.forward.goOn().catch(() => this.resume(entry));
      if (entry.isDraining) void this.remove(entry, true);
    }
  }

  /** Warns of those forwards that lead to no service of the peer. */
  warnOfMissing(entries: Iterable<ForwardEntry>, offered: ReadonlySet<string>): void {
    for (const { id, forward } of entries) {
      const { direction, service } = forward.spec;
      if (direction === 'incoming' || service === ANY_SERVICE || offered.has(service)) continue;
      const form = formatForwardSpec(forward.spec);
      const message = `-o ${form}: the peer offers no service ${service}; it offers: ${listInsteadOf(service, offered)}`;
      this.#options.log(
        makeEvent('service-missing', message, { service, forward: id, services: listServices(offered) }),
      );
    }
  }

  find(id: string): ForwardEntry | null {
    return this.#entries.get(id) ?? null;
  }

  /** Those in force, not those that drain. */
  get active(): ForwardEntry[] {
    return [...this.#entries.values()].filter(({ isDraining }) => !isDraining);
  }

  /** The forwards that serve a service of this side. */
  serving(service: string): string[] {
    return this.active
      .filter(({ forward: { spec } }) => spec.direction === 'incoming' && spec.service === service)
      .map(({ id }) => id);
  }

  list(): ForwardStatus[] {
    return [...this.#entries.values()].map((entry) => this.describe(entry));
  }

  /** What is said of a forward. */
  describe({ id, forward, isDraining }: ForwardEntry): ForwardStatus {
    return {
      id,
      channel: this.#options.channel,
      direction: forward.spec.direction,
      service: forward.spec.service,
      endpoint: forward.endpointText,
      spec: formatForwardSpec(forward.spec),
      state: isDraining ? 'draining' : 'active',
      streams: forward.openCount,
      opened: forward.streamCount,
      datagrams: describeMessages(forward.messages),
    };
  }

  async #resume(entry: ForwardEntry, backoff: Backoff): Promise<VproxyError | null> {
    const isWanted = () => this.#entries.get(entry.id) === entry && !entry.isDraining;
    if (!isWanted()) return null;
    try {
      await entry.forward.start();
      // What began to listen after `stop` or `remove` had looked at it.
      if (!isWanted()) entry.forward.pause();
      return null;
    } catch (error) {
      if (isWanted()) {
        const again = () => void this.#resume(entry, backoff);
        this.#resuming.set(entry, this.#options.clock.schedule(backoff.next(), again));
      }
      return toVproxyError(this.#options.addresses.explain(error, entry));
    }
  }

  #cancelResuming(entry: ForwardEntry): void {
    this.#resuming.get(entry)?.();
    this.#resuming.delete(entry);
  }

  async #stop(entry: ForwardEntry): Promise<void> {
    this.#cancelResuming(entry);
    entry.over.resolve();
    this.#options.addresses.remove(entry);
    await entry.forward.stop();
  }
}

/** Where the forwards of a process listen, so that an error can say which one has an address that is taken. */
export class ForwardAddresses {
  /** The outgoing forwards that were started, with the labels of their channels. */
  readonly #labels = new Map<ForwardEntry, string>();

  add(entry: ForwardEntry, label: string): void {
    if (entry.forward.spec.direction === 'outgoing') this.#labels.set(entry, label);
  }

  remove(entry: ForwardEntry): void {
    this.#labels.delete(entry);
  }

  /** Whether a forward has an address, also one that is paused. */
  has(address: HostPort): boolean {
    return [...this.#labels.keys()].some(({ forward, isDraining }) => {
      const other = addressOf(forward);
      return !isDraining && typeof other !== 'string' && addressesOverlap(other, address);
    });
  }

  /** What a forward failed to start with; where another forward has its address, an error that names it. */
  explain(error: unknown, { forward }: ForwardEntry): unknown {
    if (!(error instanceof VproxyError) || error.code !== 'address-in-use') return error;
    const found = [...this.#labels].find(([other]) => !other.isDraining && isSameAddress(other.forward, forward));
    if (found === undefined) return error;
    const [{ id, forward: holder }, label] = found;
    const place = label === DEFAULT_LABEL ? '' : `${label}/`;
    const text = escapeText(`-o ${place}${formatForwardSpec(holder.spec)}`, 512);
    const message = `cannot listen on ${escapeText(forward.endpointText)}: already in use by forward ${id}, ${text}`;
    return new VproxyError('address-in-use', message, { cause: error });
  }
}

function isSameAddress(a: Forward, b: Forward): boolean {
  const [one, other] = [addressOf(a), addressOf(b)];
  if (typeof one === 'string' || typeof other === 'string') return one === other;
  // A port of TCP and the same one of UDP are two.
  return takesDatagrams(a.spec.endpoint) === takesDatagrams(b.spec.endpoint) && addressesOverlap(one, other);
}

/** The address of TCP or UDP in force, or the path of a unix socket. */
function addressOf({ spec: { endpoint }, endpointText }: Forward): HostPort | string {
  if (!('port' in endpoint && 'host' in endpoint)) return 'path' in endpoint ? endpoint.path : endpointText;
  return { host: endpoint.host, port: Number(/(?<!\d)\d+$/.exec(endpointText)?.[0]) };
}
