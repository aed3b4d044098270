/** Where the forwards of a process listen, so that it can be said which one has an address that is taken. */
import { VproxyError } from '../errors.js';
import type { Forward } from '../forward/forward.js';
import { formatForwardSpec } from '../forward/spec.js';
import { escapeText } from '../util/escape.js';
import { addressesOverlap, type HostPort } from '../util/host-port.js';
import { DEFAULT_LABEL } from './channel-options.js';
import type { ForwardEntry } from './forward-table.js';

export class ForwardAddresses {
  /** The outgoing forwards that were started, with the labels of their channels. */
  readonly #labels = new Map<ForwardEntry, string>();

  /** A forward was started. */
  add(entry: ForwardEntry, label: string): void {
    if (entry.forward.spec.direction === 'outgoing') this.#labels.set(entry, label);
  }

  /** A forward is no more. */
  remove(entry: ForwardEntry): void {
    this.#labels.delete(entry);
  }

  /** What a forward failed to start with; where another forward has its address, an error that names it. */
  explain(error: unknown, { forward }: ForwardEntry): unknown {
    if (!(error instanceof VproxyError) || error.code !== 'address-in-use') return error;
    const found = [...this.#labels].find(([other]) => !other.isDraining && isSameAddress(other.forward, forward));
    if (found === undefined) return error;
    const [{ id, forward: holder }, label] = found;
    const place = label === DEFAULT_LABEL ? '' : `${label}/`;
    const text = escapeText(`-o ${place}${formatForwardSpec(holder.spec)}`, 512);
    const message = `cannot listen on ${escapeText(forward.endpointText)}: it is taken by forward ${id}, ${text}`;
    return new VproxyError('address-in-use', message, { cause: error });
  }
}

function isSameAddress(a: Forward, b: Forward): boolean {
  const [one, other] = [addressOf(a), addressOf(b)];
  if (typeof one === 'string' || typeof other === 'string') return one === other;
  return addressesOverlap(one, other);
}

/** The TCP address in force, or the path of a unix socket. */
function addressOf({ spec: { endpoint }, endpointText }: Forward): HostPort | string {
  if (endpoint.kind !== 'tcp') return 'path' in endpoint ? endpoint.path : endpointText;
  return { host: endpoint.host, port: Number(/\d+$/.exec(endpointText)?.[0]) };
}
