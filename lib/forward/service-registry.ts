/** The services that this side offers, and who serves their streams. */
import { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { SessionStream } from '../session/session-stream.js';
import type { ServiceGate } from './service-policy.js';

/** Serves a stream that the peer opened: attaches a sink to it at once, or refuses it. */
export type ServiceHandler = (stream: SessionStream, session: Session) => void;

export interface ServiceRegistryOptions {
  /** What is offered has changed. */
  readonly onChange?: () => void;
  /** A stream was refused by the rule of its service, for this reason. */
  readonly onDenied?: (stream: SessionStream, why: string) => void;
  /** A stream was refused because nobody serves its service. */
  readonly onUnknown?: (stream: SessionStream) => void;
}

const nothing = (): void => undefined;

/** The services of a channel. */
export class ServiceRegistry {
  readonly #onChange: () => void;
  readonly #handlers = new Map<string, ServiceHandler>();

  readonly #gates = new Map<string, ServiceGate>();
  readonly #onDenied: (stream: SessionStream, why: string) => void;
  readonly #onUnknown: (stream: SessionStream) => void;

  constructor({ onChange = nothing, onDenied = nothing, onUnknown = nothing }: ServiceRegistryOptions = {}) {
    this.#onChange = onChange;
    this.#onDenied = onDenied;
    this.#onUnknown = onUnknown;
  }

  /** Offers a service. Throws `bad-argument` for a name that is taken. */
  add(service: string, handler: ServiceHandler): void {
    this.requireFree(service);
    this.#handlers.set(service, handler);
    this.#onChange();
  }

  /** Throws `bad-argument` for a name that is taken. */
  requireFree(service: string): void {
    if (!this.#handlers.has(service)) return;
    throw new VproxyError('bad-argument', `service ${service} is offered twice; each service has one -i`);
  }

  /** Offers a service no more, if `handler` is who serves it. */
  remove(service: string, handler: ServiceHandler): void {
    if (this.#handlers.get(service) !== handler) return;
    this.#handlers.delete(service);
    this.#onChange();
  }

  /** Puts a gate before a service, also one that nobody serves yet, for the streams opened from now on; null: none. */
  setGate(service: string, gate: ServiceGate | null): void {
    const before = this.#gates.get(service);
    if (before !== undefined) gate?.takeOver(before);
    if (gate === null) this.#gates.delete(service);
    else this.#gates.set(service, gate);
  }

  has(service: string): boolean {
    return this.#handlers.has(service);
  }

  list(): string[] {
    return [...this.#handlers.keys()];
  }

  /** Hands a stream to its service, or refuses it with `denied`, without a word why, or `unknown-service`. */
  serve(stream: SessionStream, session: Session): void {
    const why = this.#gates.get(stream.service)?.admit(stream, session) ?? null;
    if (why !== null) {
      stream.refuse('denied', 'not allowed');
      this.#onDenied(stream, why);
      return;
    }
    const handler = this.#handlers.get(stream.service);
    if (handler !== undefined) {
      handler(stream, session);
      return;
    }
    stream.refuse('unknown-service', `service ${stream.service} is not offered`);
    this.#onUnknown(stream);
  }
}
