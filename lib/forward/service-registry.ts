/** The services that this side offers, and who serves their streams. */
import { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { SessionStream } from '../session/session-stream.js';

/** Serves a stream that the peer opened: attaches a sink to it at once, or refuses it. */
export type ServiceHandler = (stream: SessionStream, session: Session) => void;

/** The services of a channel. `onChange` is called whenever what is offered has changed. */
export class ServiceRegistry {
  readonly #onChange: () => void;
  readonly #handlers = new Map<string, ServiceHandler>();

  constructor(onChange: () => void = () => undefined) {
    this.#onChange = onChange;
  }

  /** Offers a service. Throws `bad-argument` for a name that is taken. */
  add(service: string, handler: ServiceHandler): void {
    if (this.#handlers.has(service)) {
      throw new VproxyError('bad-argument', `service ${service} is offered twice; each service has one -i`);
    }
    this.#handlers.set(service, handler);
    this.#onChange();
  }

  /** Offers a service no more, if `handler` is who serves it. */
  remove(service: string, handler: ServiceHandler): void {
    if (this.#handlers.get(service) !== handler) return;
    this.#handlers.delete(service);
    this.#onChange();
  }

  has(service: string): boolean {
    return this.#handlers.has(service);
  }

  list(): string[] {
    return [...this.#handlers.keys()];
  }

  /** Hands a stream to its service, or refuses it with `unknown-service`. */
  serve(stream: SessionStream, session: Session): void {
    const handler = this.#handlers.get(stream.service);
    if (handler === undefined) stream.refuse('unknown-service', `service ${stream.service} is not offered`);
    else handler(stream, session);
  }
}
