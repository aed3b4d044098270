/** An incoming forward (`-i`): connects each stream that the peer opens to the service to its target. */
import { VproxyError } from '../errors.js';
import { type MessageCounts, SessionStream } from '../session/stream.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import type { IndexOfStream, KnownStream } from './connection.js';
import type { EgressRules } from './egress/rules.js';
import type { Target } from './endpoint-kind.js';
import { targetKindOf } from './endpoint-kinds.js';
import { ForwardLog, type ForwardOptions } from './forward-log.js';
import { ResolvedNames } from './redirect/resolved-names.js';
import type { ServiceRegistry } from './service-registry.js';
import { type Forward, type ForwardSpec, type ForwardState, formatEndpoint, type Predecessor } from './spec.js';

/** Whether the local end of a stream is still in use. */
const IS_SERVED = (): boolean => true;
const IS_DONE_WITH = (): boolean => false;

export interface IncomingOptions extends ForwardOptions {
  /** Where the service is offered. */
  readonly registry: ServiceRegistry;
  /** Streams served at once, those being closed included. */
  readonly maxStreams: number;
  /** What a socket target is sent before the stream's first byte. Default null: nothing. */
  readonly preamble?: ((stream: SessionStream) => Buffer) | null;
  /** The current rules of the egress of that name. Default: none. */
  readonly egress?: (name: string) => EgressRules | null;
  /** The names that the resolvers of the channel have answered. Default: its own. */
  readonly names?: ResolvedNames;
}

export class IncomingForward implements Forward {
  readonly spec: ForwardSpec;
  readonly #options: IncomingOptions;
  readonly endpointText: string;
  readonly #log: ForwardLog;
  readonly #target: Target;
  streamCount = 0;
  #isStarted = false;

  /** Throws `bad-argument` for an endpoint that cannot be a target. With a predecessor the service is offered at once. */
  constructor(spec: ForwardSpec, options: IncomingOptions, predecessor: Predecessor | null = null) {
    const { clock, maxStreams, filters } = options;
    this.spec = spec;
    this.#options = options;
    this.endpointText = formatEndpoint(spec.endpoint);
    this.#log = new ForwardLog(spec, options, () => this.endpointText);
    this.#target = targetKindOf(spec.endpoint, spec.service).createTarget(spec.endpoint, {
      endpoint: this.endpointText,
      name: this.#log.nameOf(),
      service: spec.service,
      clock,
      maxStreams,
      preamble: options.preamble ?? null,
      egress: options.egress ?? (() => null),
      names: options.names ?? new ResolvedNames(clock),
      filters,
      onClosed: (stream, reason) => this.#closed(stream, reason),
      onLeft: () => {
        if (this.openCount === 0) options.onIdle?.();
      },
      log: this.#log,
    });
    if (predecessor !== null) this.#succeed(predecessor);
  }

  get messages(): MessageCounts | null {
    return this.#target.messages ?? null;
  }

  get openCount(): number {
    return this.#target.openCount;
  }

  get isServing(): boolean {
    return this.openCount > 0;
  }

  /** Offers the service. Rejects with `bad-argument` if already offered, `address-unavailable` if the target cannot serve. */
  async start(): Promise<void> {
    const preparing = this.#target.prepare?.();
    // Without preparation the service is offered in the same turn.
    if (preparing !== undefined) await preparing;
    this.#offer();
  }

  #offer(): void {
    this.#options.registry.add(this.spec.service, this.#serve, this.#target.takes);
    this.#isStarted = true;
  }

  pause(): void {
    this.#isStarted = false;
    this.#options.registry.remove(this.spec.service, this.#serve);
    this.#target.pause?.();
  }

  letWait(isLast: boolean): boolean {
    return this.#target.letWait?.(isLast) ?? false;
  }

  async stop(): Promise<void> {
    this.pause();
    await this.#target.stop();
  }

  revoke(egress: string, rules: ReadonlySet<string> | null): number {
    return this.#target.revoke?.(egress, rules) ?? 0;
  }

  obstacles(): string[] {
    const { connections, obstacles = [] } = this.#target;
    return [...obstacles, ...(connections?.obstacles(this.#log.nameOf()) ?? [])];
  }

  endedByPeer(): number[] {
    return this.#target.endedByPeer?.() ?? [];
  }

  cut(): string[] {
    return this.#target.cut?.() ?? [];
  }

  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ForwardState {
    const [obstacle] = this.obstacles();
    if (obstacle !== undefined) throw new VproxyError('upgrade-failed', obstacle);
    const { connections, unansweredCount = connections?.unansweredCount ?? 0 } = this.#target;
    return {
      isStarted: this.#isStarted,
      streamCount: this.streamCount - unansweredCount,
      connections: connections?.capture(keep, indexOf) ?? [],
    };
  }

  #succeed({ state: { connections, isStarted, streamCount }, ...inheritance }: Predecessor): void {
    this.streamCount = streamCount;
    for (const { stream: index } of connections) {
      const stream = typeof index === 'number' ? inheritance.streams[index] : index;
      if (stream === undefined) continue;
      if (!(stream instanceof SessionStream)) {
        stream.isServed = IS_SERVED;
        this.#options.registry.keepPlace(stream);
        continue;
      }
      this.#own(stream);
      if (stream.isAnswered) this.#log.tally.follow(stream);
    }
    this.#target.connections?.restore(connections, inheritance);
    if (isStarted) this.#offer();
  }

  async goOn(): Promise<void> {
    this.#target.connections?.goOn();
    // The service is already offered. A target that cannot serve refuses each stream with the reason.
    await this.#target.prepare?.().catch(() => undefined);
  }

  /** Accepts a stream if the target works, else refuses it with the reason. */
  readonly #serve = (stream: SessionStream): void => {
    this.streamCount += 1;
    this.#own(stream);
    this.#target.serve(stream);
    if (!stream.isAttached) stream.isServed = IS_DONE_WITH;
  };

  #own(stream: SessionStream): void {
    stream.owner = this.#options.id ?? null;
    stream.isServed = IS_SERVED;
  }

  #closed(stream: KnownStream, reason: VproxyError | null): void {
    stream.isServed = IS_DONE_WITH;
    this.#log.closed(stream, reason);
  }
}
