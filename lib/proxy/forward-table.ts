/** The forwards of one channel, added and removed while streams are open. */
import { toVproxyError, VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import { OpenedFlows } from '../forward/datagram/opened-flows.js';
import { OutgoingDatagrams } from '../forward/datagram/outgoing-datagrams.js';
import type { TargetContext } from '../forward/endpoint-kind.js';
import { takesDatagrams } from '../forward/endpoint-kinds.js';
import type { Direction } from '../forward/forms/endpoint-form.js';
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
import type { StreamTally } from '../forward/stream-tally.js';
import { listInsteadOf, listServices } from '../session/services.js';
import type { SessionStream } from '../session/stream.js';
import { describeMessages } from '../status/describe.js';
import type { DatagramCounts, ForwardStatus } from '../status/types.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { addressesOverlap, type HostPort } from '../util/addresses/host-port.js';
import { Backoff, type CancelTimer, type Clock } from '../util/clock.js';
import { type Deferred, deferred } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { DEFAULT_LABEL } from './channel/channel-options.js';

/** Back-off between attempts to resume a forward. */
const RESUMING = { firstMs: 100, maxMs: 5000 } as const;

interface ForwardTableOptions extends Pick<TargetContext, 'preamble' | 'egress' | 'names'> {
  /** The label of the channel. */
  readonly channel: string;
  readonly source: SessionSource;
  readonly registry: ServiceRegistry;
  readonly log: Log;
  readonly clock: Clock;
  /** How long a local connection waits for a session, in milliseconds. */
  readonly waitMs: number;
  /** Limit on the streams of each incoming forward. */
  readonly maxStreams: number;
  /** Filters between the peer and the local ends. */
  readonly filters: InputFilters;
  /** Returns the services that the peer offers; null while not known. */
  readonly offered: () => ReadonlySet<string> | null;
  readonly tallyOf: (direction: Direction, service: string) => StreamTally;
  /** Returns ids that are unique in the process. */
  readonly nextId: () => string;
  /** The addresses of all forwards of the process. */
  readonly addresses: ForwardAddresses;
  readonly onListening: (forward: ForwardStatus) => void;
}

export interface ForwardEntry {
  readonly id: string;
  /** The forward as `-o` or `-i` takes it. */
  readonly text: string;
  readonly forward: Forward;
  /** Whether it was configured from the start, or by `Proxy.apply`. */
  isDeclared: boolean;
  /** Takes no new streams; removed when the open ones have ended. */
  isDraining: boolean;
  /** Resolves when it has drained or is stopped. */
  readonly over: Deferred<void>;
}

export interface ForwardEntryState extends Pick<ForwardEntry, 'id' | 'isDeclared' | 'isDraining'> {
  readonly spec: ForwardSpec;
  readonly forward: ForwardState;
}

export class ForwardTable {
  readonly #options: ForwardTableOptions;
  /** The datagram flows opened at the peer, of all forwards. */
  readonly #flows: OpenedFlows;
  readonly #entries = new Map<string, ForwardEntry>();
  /** Forwards that could not be resumed, with the timers of their retries. */
  readonly #resuming = new Map<ForwardEntry, CancelTimer>();

  constructor(options: ForwardTableOptions) {
    this.#options = options;
    this.#flows = new OpenedFlows(options.clock);
  }

  /** Creates a forward without starting it, or from a predecessor's state. Throws `bad-argument`. */
  create(spec: ForwardSpec, isDeclared = true, id = this.#options.nextId(), predecessor?: Predecessor): ForwardEntry {
    const { registry, source, log, clock, waitMs, maxStreams, filters, preamble, egress, names } = this.#options;
    const tally = this.#options.tallyOf(spec.direction, spec.service);
    const onIdle = () => {
      if (entry.isDraining) entry.over.resolve();
    };
    const forward =
      spec.direction === 'outgoing'
        ? this.#createOutgoing(spec, { id, source, log, clock, tally, waitMs, filters, onIdle }, predecessor)
        : new IncomingForward(
            spec,
            { id, registry, log, clock, tally, maxStreams, filters, preamble, egress, names, onIdle },
            predecessor,
          );
    const text = formatForwardSpec(spec);
    const entry: ForwardEntry = { id, text, forward, isDeclared, isDraining: false, over: deferred() };
    return entry;
  }

  #createOutgoing(spec: ForwardSpec, options: OutgoingOptions, predecessor?: Predecessor): Forward {
    if (!takesDatagrams(spec.endpoint)) return new OutgoingForward(spec, options, predecessor);
    return new OutgoingDatagrams(spec, { ...options, flows: this.#flows }, predecessor);
  }

  /** Starts a forward and adds it to the table. Rejects with `address-…` codes or `bad-argument` without changing anything. */
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
    // It may have begun to listen after `stop` or `remove` had run.
    if (this.#entries.get(entry.id) !== entry) await this.#stop(entry);
  }

  /** Stops a forward from taking new streams until `resume`. */
  pause(entry: ForwardEntry): void {
    this.#cancelResuming(entry);
    entry.forward.pause();
  }

  /**
   * Resumes a paused forward. Resolves with null, or with the reason why it cannot resume (`address-…` codes or
   * `bad-argument`): then it retries with a back-off, until it succeeds or the forward is removed.
   */
  resume(entry: ForwardEntry): Promise<VproxyError | null> {
    return this.#resume(entry, new Backoff(RESUMING));
  }

  /** Removes a forward: with `isDraining` once its open streams have ended, else at once, resetting them. */
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

  /** See `Forward.revoke`. */
  revoke(egress: string, rules: ReadonlySet<string> | null): number {
    return [...this.#entries.values()].reduce((sum, { forward }) => sum + (forward.revoke?.(egress, rules) ?? 0), 0);
  }

  /** What cannot be handed over to a successor now, as human-readable lines. */
  obstacles(): string[] {
    const [resuming] = this.#resuming.keys();
    const found = [...this.#entries.values()].flatMap(({ forward }) => forward.obstacles());
    return resuming === undefined ? found : [...found, `forward ${resuming.id}, which is retrying to listen`];
  }

  /** Returns the ids of those streams among the obstacles that only the peer can end. */
  endedByPeer(): number[] {
    return [...this.#entries.values()].flatMap(({ forward }) => forward.endedByPeer?.() ?? []);
  }

  /** See `Target.letWait`. */
  letWait(isLast: boolean): boolean {
    return [...this.#entries.values()].filter(({ forward }) => forward.letWait?.(isLast)).length > 0;
  }

  /** Ends what outlives its stream without a limit, and returns a line for each. */
  cut(): string[] {
    return [...this.#entries.values()].flatMap(({ forward }) => forward.cut?.() ?? []);
  }

  /** See `Forward.isServing`. */
  get isServing(): boolean {
    return [...this.#entries.values()].some(({ forward }) => forward.isServing);
  }

  /** Captures the forwards for a successor. `indexOf` numbers the streams of the session. */
  capture(keep: KeepDescriptor, indexOf: (stream: SessionStream) => number): ForwardEntryState[] {
    return [...this.#entries.values()].map(({ id, forward, isDeclared, isDraining }) => {
      return { id, isDeclared, isDraining, spec: forward.spec, forward: forward.capture(keep, indexOf) };
    });
  }

  /** Restores a predecessor's forwards, with their streams by number; used instead of `start`, before `goOn`. */
  restore(captured: readonly ForwardEntryState[], take: TakeDescriptor, streams: readonly SessionStream[]): void {
    for (const { id, spec, isDeclared, isDraining, forward: state } of captured) {
      const entry = this.create(spec, isDeclared, id, { state, take, streams });
      this.#entries.set(id, entry);
      entry.isDraining = isDraining;
      this.#options.addresses.add(entry, this.#options.channel);
    }
  }

  /** Continues after `restore`, with the session. A forward that cannot listen keeps retrying. */
  goOn(): void {
    for (const entry of this.#entries.values()) {
      entry.forward.goOn().catch(() => this.resume(entry));
      if (entry.isDraining) void this.remove(entry, true);
    }
  }

  /** Logs a warning for each forward to a service that the peer does not offer. */
  warnOfMissing(entries: Iterable<ForwardEntry>): void {
    const offered = this.#options.offered();
    for (const { id, forward, text } of entries) {
      if (offered === null || isOffered(forward, offered) !== false) continue;
      const { service } = forward.spec;
      const message = `-o ${text}: the peer offers no service ${service}; it offers: ${listInsteadOf(service, offered)}`;
      this.#options.log(
        makeEvent('service-missing', message, { service, forward: id, services: listServices(offered) }),
      );
    }
  }

  find(id: string): ForwardEntry | null {
    return this.#entries.get(id) ?? null;
  }

  /** The forwards that are not draining. */
  get active(): ForwardEntry[] {
    return [...this.#entries.values()].filter(({ isDraining }) => !isDraining);
  }

  /** The ids of the forwards that serve a local service. */
  serving(service: string): string[] {
    return this.active
      .filter(({ forward: { spec } }) => spec.direction === 'incoming' && spec.service === service)
      .map(({ id }) => id);
  }

  get count(): number {
    return this.#entries.size;
  }

  /** The messages of the forwards that carry datagrams. */
  listMessages(): { readonly id: string; readonly messages: DatagramCounts }[] {
    return [...this.#entries.values()].flatMap(({ id, forward }) => {
      const messages = describeMessages(forward.messages);
      return messages === null ? [] : [{ id, messages }];
    });
  }

  list(): ForwardStatus[] {
    return [...this.#entries.values()].map((entry) => this.describe(entry));
  }

  describe({ id, text, forward, isDraining }: ForwardEntry): ForwardStatus {
    return {
      id,
      channel: this.#options.channel,
      direction: forward.spec.direction,
      service: forward.spec.service,
      endpoint: forward.endpointText,
      spec: text,
      state: isDraining ? 'draining' : 'active',
      offered: isOffered(forward, this.#options.offered()),
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
      // It may have begun to listen after `stop` or `remove` had run.
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

/** The addresses on which the forwards of a process listen, so that an error can name the one that uses an address. */
export class ForwardAddresses {
  /** The started outgoing forwards, with the labels of their channels. */
  readonly #labels = new Map<ForwardEntry, string>();

  add(entry: ForwardEntry, label: string): void {
    if (entry.forward.spec.direction === 'outgoing') this.#labels.set(entry, label);
  }

  remove(entry: ForwardEntry): void {
    this.#labels.delete(entry);
  }

  /** Whether a forward, even a paused one, has an address. */
  has(address: HostPort): boolean {
    return [...this.#labels.keys()].some(({ forward, isDraining }) => {
      const other = addressOf(forward);
      return !isDraining && typeof other !== 'string' && addressesOverlap(other, address);
    });
  }

  /** Returns the error with which a forward failed to start, or one that names the forward that uses its address. */
  explain(error: unknown, { forward }: ForwardEntry): unknown {
    if (!(error instanceof VproxyError) || error.code !== 'address-in-use') return error;
    const found = [...this.#labels].find(([other]) => !other.isDraining && isSameAddress(other.forward, forward));
    if (found === undefined) return error;
    const [{ id, text }, label] = found;
    const place = label === DEFAULT_LABEL ? '' : `${label}/`;
    const holder = escapeText(`-o ${place}${text}`, 512);
    const message = `cannot listen on ${escapeText(forward.endpointText)}: already in use by forward ${id}, ${holder}`;
    return new VproxyError('address-in-use', message, { cause: error });
  }
}

function isSameAddress(a: Forward, b: Forward): boolean {
  const [one, other] = [addressOf(a), addressOf(b)];
  if (typeof one === 'string' || typeof other === 'string') return one === other;
  // The same port number of TCP and of UDP are different addresses.
  return takesDatagrams(a.spec.endpoint) === takesDatagrams(b.spec.endpoint) && addressesOverlap(one, other);
}

/** The bound TCP or UDP address, or the path of a unix socket. */
function addressOf({ spec, bound = spec.endpoint, endpointText }: Forward): HostPort | string {
  if ('port' in bound && 'host' in bound) return { host: bound.host, port: bound.port };
  return 'path' in bound ? bound.path : endpointText;
}

/** Whether the peer offers the service of a forward; null while not known, for an incoming one, and where callers name it. */
function isOffered({ spec }: Forward, offered: ReadonlySet<string> | null): boolean | null {
  if (offered === null || spec.direction === 'incoming' || spec.service === ANY_SERVICE) return null;
  return offered.has(spec.service);
}
