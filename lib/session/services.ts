/** The lists of services of both sides (R-SERVICES-1 to R-SERVICES-2). */
import { decodeServices, encodeServices } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';

/** The longest list that is taken from a peer (R-SERVICES-2). */
export const MAX_SERVICES = 4096;

/** What this side offers; the peer hears of it once and on every change. */
export class OwnServices {
  readonly #send: (payload: Buffer) => void;
  #announced: string | null = null;

  constructor(send: (payload: Buffer) => void) {
    this.#send = send;
  }

  /** Sends the list, unless it is the one that the peer knows. */
  announce(services: Iterable<string>): void {
    const sorted = [...new Set(services)].sort();
    const key = sorted.join(' ');
    if (key === this.#announced) return;
    this.#announced = key;
    for (const payload of encodeServices(sorted)) this.#send(payload);
  }
}

/** What the peer offers. */
export class PeerServices {
  #names: ReadonlySet<string> = new Set();
  #partial: string[] = [];

  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Takes a SERVICES frame. True when the list is complete. Throws `protocol-error` and `flood`. */
  receive(payload: Buffer): boolean {
    const { services, more } = decodeServices(payload);
    this.#partial.push(...services);
    if (this.#partial.length > MAX_SERVICES) {
      throw new VproxyError('flood', `the peer lists more than ${MAX_SERVICES} services`);
    }
    if (more) return false;
    this.#names = new Set(this.#partial);
    this.#partial = [];
    return true;
  }
}
