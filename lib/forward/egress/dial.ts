/**
 * Reaches a destination that the rules allow: resolves it once, checks each address, and connects to one that was
 * checked.
 */
import type net from 'node:net';
import { systemCode } from '../../errors.js';
import { lookUpName } from '../../system/dns/lookup.js';
import { connectToFirst, type RaceWinner } from '../../system/sockets/race.js';
import { formatAddress, formatHostPort, type HostPort, parseAddress } from '../../util/addresses.js';
import type { Clock } from '../../util/clock.js';
import { deferred, Turns } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import { type Destination, judgeAddress, judgeDestination } from './admission.js';
import { OwnAddresses } from './networks.js';
import { Refusal, type RefusalOptions, type RefusalReason } from './refusal.js';
import type { EgressRules, Verdict } from './rules.js';
import { askForTunnel } from './upstream.js';

/** A destination that is connected. */
export interface EgressConnection {
  /** Paused, with `allowHalfOpen` and `noDelay`; what it holds is the destination's. */
  readonly socket: net.Socket;
  /** What was connected to, as `ADDRESS:PORT`: the destination, or the upstream proxy. */
  readonly address: string;
  /** The entry that let it out. */
  readonly rule: string;
}

/** A destination that was connected to for a conversation. */
export interface Reached extends EgressConnection {
  readonly destination: Destination;
  /** When, by the clock of the target. */
  readonly atMs: number;
  /** The rules that let it out. */
  readonly rules: EgressRules | null;
}

/** What is known of a destination without connecting to it. */
export interface EgressReport {
  readonly destination: Destination;
  /** Refused, too, where each of its addresses is, or none is found for its name. */
  readonly verdict: Verdict;
  /** Empty where its name is not looked up: it is refused, or the upstream does that. */
  readonly addresses: readonly { readonly address: string; readonly verdict: Verdict }[];
}

export interface EgressDialerOptions {
  /** The name of the egress, for messages. */
  readonly name: string;
  /** The rules of the moment; null: there is no such egress, and everything is refused. */
  readonly rules: () => EgressRules | null;
  readonly clock: Clock;
  /** For the whole of it, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
  /** Addresses of exactly this name, in order. Default: the hosts file and the name servers of this machine. */
  readonly lookup?: (name: string, signal: AbortSignal) => Promise<readonly string[]>;
  /** Whether an address is one of this machine's. Default: asked of the system. */
  readonly isOwn?: (address: string) => boolean;
}

/** Addresses of one name that count. */
const MAX_ADDRESSES = 16;

/** Names that one channel looks up at once, each with a socket; the rest waits, and other channels do not. */
const MAX_LOOKUPS = 32;

const UNREACHABLE = ' cannot be reached from the host';

/** An address of a destination, and what the rules say of it. */
interface Judged {
  readonly address: string;
  readonly verdict: Verdict;
}

/** Dials for the peer of one channel. */
export class EgressDialer {
  readonly #options: Required<EgressDialerOptions>;
  readonly #lookups = new Turns(MAX_LOOKUPS);

  constructor(options: EgressDialerOptions) {
    const own = new OwnAddresses(options.clock);
    this.#options = { timeoutMs: 10_000, lookup: lookUpName, isOwn: (address) => own.has(address), ...options };
  }

  /** Rejects with a `Refusal`; with `signal.reason` where it is aborted, with nothing left open. */
  dial(destination: Destination, signal: AbortSignal): Promise<EgressConnection> {
    return this.#withinTime(destination, signal, async (bounded) => {
      const rules = this.#options.rules();
      const verdict = this.#judge(rules, destination);
      if (rules === null || !verdict.isAllowed) throw this.#denied(destination, verdict);
      if (rules.upstream !== null) return this.#dialBehind(rules.upstream, destination, verdict, bounded);
      const addresses = await this.#resolve(destination, bounded);
      const judged = this.#judgeAll(rules, destination, addresses);
      const admitted = judged.filter((one) => one.verdict.isAllowed);
      if (admitted.length === 0) throw this.#denied(destination, judged[0]?.verdict ?? verdict);
      return this.#connect(admitted, destination, bounded);
    });
  }

  /** What would become of it, without connecting. Never rejects with a `Refusal`. */
  test(destination: Destination, signal: AbortSignal): Promise<EgressReport> {
    return this.#withinTime(destination, signal, async (bounded) => {
      const rules = this.#options.rules();
      const verdict = this.#judge(rules, destination);
      const known = { destination, verdict, addresses: [] };
      const isLeftToUpstream = destination.family === 0 && rules?.upstream !== null;
      if (rules === null || !verdict.isAllowed || isLeftToUpstream) return known;
      const addresses = this.#judgeAll(rules, destination, await this.#resolve(destination, bounded));
      const deciding = addresses.find((one) => one.verdict.isAllowed) ?? addresses[0];
      return { destination, verdict: deciding?.verdict ?? verdict, addresses };
    }).catch((error: unknown) => {
      if (!(error instanceof Refusal)) throw error;
      const said = error.cause === undefined ? '' : `: ${describeError(error.cause)}`;
      const verdict = { isAllowed: false, rule: null, why: `${error.message}${said}` };
      return { destination, verdict, addresses: [] };
    });
  }

  /** Of a name what is to be said before it is resolved, of an address everything. */
  #judge(rules: EgressRules | null, destination: Destination): Verdict {
    const { name, isOwn } = this.#options;
    if (rules === null) return { isAllowed: false, rule: null, why: `no egress "${name}" is defined` };
    return destination.family === 0
      ? judgeDestination(rules, destination)
      : judgeAddress(rules, destination, destination.host, isOwn);
  }

  #judgeAll(rules: EgressRules, destination: Destination, addresses: readonly string[]): Judged[] {
    return addresses.map((address) => ({
      address,
      verdict: judgeAddress(rules, destination, address, this.#options.isOwn),
    }));
  }

  /** Which addresses a name has, or which rule keeps it in, is not for the guest. */
  #denied(destination: Destination, verdict: Verdict): Refusal {
    return refusal(destination, 'denied', ` is not allowed by egress "${this.#options.name}" on the host`, { verdict });
  }

  async #connect(
    admitted: readonly Judged[],
    destination: Destination,
    signal: AbortSignal,
  ): Promise<EgressConnection> {
    const { port } = destination;
    const addresses = admitted.map(({ address }) => address);
    const { socket, address } = await this.#race(addresses, port, signal).catch((error: unknown) => {
      throw signal.aborted ? error : unreached(destination, error);
    });
    const rule = admitted.find((one) => one.address === address)?.verdict.rule ?? '';
    return { socket, address: formatHostPort({ host: address, port }), rule };
  }

  /** The proxy is the operator's choice: its own address is not judged. */
  async #dialBehind(
    upstream: HostPort,
    destination: Destination,
    { rule }: Verdict,
    signal: AbortSignal,
  ): Promise<EgressConnection> {
    const failed = (what: string, cause?: unknown): Refusal =>
      refusal(destination, 'upstream', `: the upstream proxy of egress "${this.#options.name}" ${what}`, { cause });
    const reach = async (): Promise<RaceWinner> =>
      this.#race(await this.#addressesOf(upstream.host, signal), upstream.port, signal);
    const { socket, address } = await reach().catch((error: unknown) => {
      throw signal.aborted ? error : failed('cannot be reached', error);
    });
    try {
      const status = await askForTunnel(socket, destination, signal);
      if (status === null) throw failed('did not answer with HTTP');
      if (status > 299) throw failed(`answered with status ${status}`);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return { socket, address: formatHostPort({ host: address, port: upstream.port }), rule: rule ?? '' };
  }

  async #race(addresses: readonly string[], port: number, signal: AbortSignal): Promise<RaceWinner> {
    const winner = await connectToFirst(addresses, port, { clock: this.#options.clock, signal });
    if (!signal.aborted) return winner;
    winner.socket.destroy();
    throw signal.reason as Error;
  }

  /** The addresses of a destination: what it is, or what its name is resolved to, now and never again. */
  async #resolve(destination: Destination, signal: AbortSignal): Promise<readonly string[]> {
    if (destination.family !== 0) return [destination.host];
    return this.#addressesOf(destination.host, signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      const message = `no address found for ${destination.host}`;
      throw new Refusal('not-found', message, { destination: formatHostPort(destination), cause: error });
    });
  }

  /** At least one, each of them once. */
  async #addressesOf(host: string, signal: AbortSignal): Promise<readonly string[]> {
    if (parseAddress(host) !== null) return [host];
    const look = async (): Promise<readonly string[]> => {
      signal.throwIfAborted();
      return this.#options.lookup(host, signal);
    };
    const found = await unlessAborted(signal, this.#lookups.run(signal, look));
    const addresses = [...new Set(found.map(canonical))].slice(0, MAX_ADDRESSES);
    if (addresses.length === 0) throw new Error(`the resolver has no address for ${host}`);
    return addresses;
  }

  /** Runs work whose signal is aborted with the caller's, and when the time is up. */
  async #withinTime<T>(
    destination: Destination,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const { clock, timeoutMs } = this.#options;
    const bounded = new AbortController();
    const abort = (): void => bounded.abort(signal.reason);
    signal.addEventListener('abort', abort);
    const cancelTimeout = clock.schedule(timeoutMs, () => {
      bounded.abort(refusal(destination, 'timeout', ` did not answer within ${timeoutMs / 1000} s`));
    });
    try {
      return await work(bounded.signal);
    } catch (error) {
      if (error instanceof Refusal || signal.aborted) throw error;
      // The addresses of this machine could not be asked for: without them nothing is let out.
      throw refusal(destination, 'unreachable', UNREACHABLE, { cause: error });
    } finally {
      cancelTimeout();
      signal.removeEventListener('abort', abort);
    }
  }
}

/** `what` follows the destination in the message. */
function refusal(
  destination: Destination,
  reason: RefusalReason,
  what: string,
  options: Pick<RefusalOptions, 'cause' | 'verdict'> = {},
): Refusal {
  const text = formatHostPort(destination);
  return new Refusal(reason, `${text}${what}`, { destination: text, ...options });
}

/** One text for each address; what is none stays as it is, and is judged so. */
function canonical(address: string): string {
  const bytes = parseAddress(address);
  return bytes === null ? address : formatAddress(bytes);
}

/** What `work` gives; a rejection with `signal.reason` when that is aborted before, while the work may go on. */
async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** What the attempts came to: that somebody is there and refuses says more than that others are silent. */
function unreached(destination: Destination, error: unknown): Refusal {
  const codes = (error instanceof AggregateError ? error.errors : [error]).map(systemCode);
  const [reason, what]: [RefusalReason, string] = codes.includes('ECONNREFUSED')
    ? ['refused', ' refused the connection']
    : codes.includes('ETIMEDOUT')
      ? ['timeout', ' did not answer']
      : ['unreachable', UNREACHABLE];
  return refusal(destination, reason, what, { cause: error });
}
