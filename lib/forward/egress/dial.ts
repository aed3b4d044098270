/**
 * Reaches a destination that the rules allow: resolves it once, checks each address, and connects to a checked one.
 */
import type net from 'node:net';
import { systemCode } from '../../errors.js';
import { lookUpName } from '../../system/dns/lookup.js';
import { connectTcp, connectToFirst, type RaceOptions, type RaceWinner } from '../../system/sockets/race.js';
import { formatAddress, formatHostPort, type HostPort, parseAddress } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';
import { deferred, Turns } from '../../util/concurrency.js';
import { describeError, quoteWord } from '../../util/escape.js';
import type { EgressReached } from '../connection.js';
import { isAsked, judgeAddress, judgeDestination, parseDestination } from './admission.js';
import { OwnAddresses } from './networks.js';
import { Refusal, type RefusalOptions, type RefusalReason } from './refusal.js';
import type { Destination, EgressRules, Verdict } from './rules.js';
import { askForTunnel } from './upstream.js';

export interface EgressConnection extends Pick<EgressReached, 'address' | 'rule' | 'isAdded'> {
  /** Paused, with `allowHalfOpen` and `noDelay`; bytes that it holds are from the destination. */
  readonly socket: net.Socket;
  /** The rules that allowed it. */
  readonly rules: EgressRules | null;
}

/** A connection to a destination for a conversation. */
export interface Reached extends EgressConnection {
  readonly destination: Destination;
  /** When it was reached, by the clock of the target. */
  readonly atMs: number;
}

/** A verdict on a destination without connecting to it. */
export interface EgressReport {
  readonly destination: Destination;
  /** Also refused if all of its addresses are, or none is found for its name. */
  readonly verdict: Verdict;
  /** Empty if its name is not looked up: it is refused, or the upstream resolves it. */
  readonly addresses: readonly { readonly address: string; readonly verdict: Verdict }[];
}

export interface EgressDialerOptions {
  /** The name of the egress, for messages. */
  readonly name: string;
  /** The current rules; null if there is no such egress: everything is refused. */
  readonly rules: () => EgressRules | null;
  readonly clock: Clock;
  /** Time limit for a whole dial, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
  /** Looks up the addresses of exactly this name, in order. Default: this machine's hosts file and name servers. */
  readonly lookup?: (name: string, signal: AbortSignal) => Promise<readonly string[]>;
  /** Whether an address is one of this machine's. Default: asks the system. */
  readonly isOwn?: (address: string) => boolean;
  /** Starts connecting a socket to an allowed address. Default: TCP. */
  readonly connect?: Required<RaceOptions>['connect'];
}

/** Limit on addresses used per name. */
const MAX_ADDRESSES = 16;

/** Limit on concurrent lookups per channel, each with a socket; the rest wait, without holding up other channels. */
const MAX_LOOKUPS = 32;

const UNREACHABLE = ' cannot be reached from the host';

/** An address of a destination, and the verdict of the rules. */
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
    const isOwn = (address: string): boolean => own.has(address);
    this.#options = { timeoutMs: 10_000, lookup: lookUpName, isOwn, connect: connectTcp, ...options };
  }

  /**
   * Rejects with a `Refusal`, or on abort with `signal.reason`; leaves nothing open then. Once `left` is aborted, nobody is asked
   * about the destination, or if it `isPatient` only as long as no others need its place.
   */
  async dial(
    destination: Destination,
    signal: AbortSignal,
    left = signal,
    isPatient = false,
  ): Promise<EgressConnection> {
    await this.#askAbout(destination, isPatient ? signal : left, left).finally(() => signal.throwIfAborted());
    return this.#withinTime(destination, signal, async (bounded) => {
      const rules = this.#options.rules();
      const verdict = this.#judge(rules, destination);
      if (rules === null || !verdict.isAllowed)
        throw this.#denied(
          destination,
          verdict,
          rules === null ? verdict.why : (verdict.rule ?? this.#wayOut('no entry allows it', destination)),
        );
      if (rules.upstream !== null)
        return { rules, ...(await this.#dialBehind(rules.upstream, destination, verdict, bounded)) };
      const addresses = await this.#asRedirected(rules, destination, this.#resolve(destination, bounded));
      const judged = this.#judgeAll(rules, destination, addresses);
      const admitted = judged.filter((one) => one.verdict.isAllowed);
      if (admitted.length === 0) {
        const hint = `none of its addresses is allowed; on the host: vproxy egress test ${this.#place} ${formatHostPort(destination)}`;
        throw this.#denied(destination, judged[0]?.verdict ?? verdict, hint);
      }
      return { rules, ...(await this.#connect(admitted, destination, bounded)) };
    });
  }

  /** Waits for an answer, within its own time, as long as the rules ask about the destination. */
  async #askAbout(destination: Destination, signal: AbortSignal, left: AbortSignal): Promise<void> {
    for (;;) {
      const rules = this.#options.rules();
      const verdict = isAsked(rules, destination);
      if (rules?.ask === undefined || verdict === null) return;
      const { ask } = rules;
      const asked = async () => ask(destination, verdict.why, signal, left);
      const why = await asked().catch((error: unknown) => describeError(error));
      if (why !== null) throw this.#denied(destination, { ...verdict, why }, this.#wayOut(why, destination));
    }
  }

  /** Judges a destination as `dial` would, without connecting. Never rejects with a `Refusal`. */
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

  /** The verdict on a name before it is resolved, or the full verdict on an address. */
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

  /**
   * The address that a redirected program connected to comes first. If its name no longer leads there, or is not found here, it is
   * the only one as long as the rules allow it: the owner of a name must not draw connections to the addresses of others.
   */
  async #asRedirected(rules: EgressRules, destination: Destination, found: Promise<readonly string[]>) {
    const { port, redirectedFrom } = destination;
    if (redirectedFrom === undefined) return found;
    const isAllowed = (): boolean => this.#judge(rules, parseDestination(redirectedFrom, port)).isAllowed;
    const addresses = await found.catch((error: unknown): readonly string[] => {
      if (isAllowed()) return [];
      throw error;
    });
    if (addresses.includes(redirectedFrom)) return [...new Set([redirectedFrom, ...addresses])];
    return isAllowed() ? [redirectedFrom] : addresses;
  }

  /** Hides from the guest the addresses of a name, and the rules about them. */
  #denied(destination: Destination, verdict: Verdict, hint: string): Refusal {
    const what = ` is not allowed by egress "${this.#options.name}" on the host`;
    return refusal(destination, 'denied', what, { verdict, hint });
  }

  /** Why a destination is refused, and what an operator can do about it. */
  #wayOut(why: string, destination: Destination): string {
    return `${why}; on the host: vproxy egress allow ${this.#place} ${quoteWord(formatHostPort(destination))}`;
  }

  get #place(): string {
    return this.#options.rules()?.place ?? this.#options.name;
  }

  async #connect(
    admitted: readonly Judged[],
    destination: Destination,
    signal: AbortSignal,
  ): Promise<Omit<EgressConnection, 'rules'>> {
    const { port } = destination;
    const addresses = admitted.map(({ address }) => address);
    const { socket, address } = await this.#race(addresses, port, signal).catch((error: unknown) => {
      throw signal.aborted ? error : unreached(destination, error);
    });
    const { rule = '', isAdded = false } = admitted.find((one) => one.address === address)?.verdict ?? {};
    return { socket, address: formatHostPort({ host: address, port }), rule: rule ?? '', isAdded };
  }

  /** The operator chose the proxy, so its own address is not judged. */
  async #dialBehind(
    upstream: HostPort,
    destination: Destination,
    { rule, isAdded = false }: Verdict,
    signal: AbortSignal,
  ): Promise<Omit<EgressConnection, 'rules'>> {
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
    return { socket, address: formatHostPort({ host: address, port: upstream.port }), rule: rule ?? '', isAdded };
  }

  async #race(addresses: readonly string[], port: number, signal: AbortSignal): Promise<RaceWinner> {
    const { clock, connect } = this.#options;
    const winner = await connectToFirst(addresses, port, { clock, connect, signal });
    if (!signal.aborted) return winner;
    winner.socket.destroy();
    throw signal.reason as Error;
  }

  /** The addresses of a destination: itself, or those of its name, which is resolved only here. */
  async #resolve(destination: Destination, signal: AbortSignal): Promise<readonly string[]> {
    if (destination.family !== 0) return [destination.host];
    return this.#addressesOf(destination.host, signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      const message = `no address found for ${destination.host}`;
      throw new Refusal('not-found', message, { destination: formatHostPort(destination), cause: error });
    });
  }

  /** At least one address, without duplicates. */
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

  /** Runs `work` with a signal that is aborted with the caller's, or on timeout. */
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
      // This machine's addresses are unknown, and without them nothing is allowed.
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
  options: Pick<RefusalOptions, 'cause' | 'hint' | 'verdict'> = {},
): Refusal {
  const text = formatHostPort(destination);
  return new Refusal(reason, `${text}${what}`, { destination: text, ...options });
}

/** The canonical text of an address; anything else is returned as is, and judged like that. */
function canonical(address: string): string {
  const bytes = parseAddress(address);
  return bytes === null ? address : formatAddress(bytes);
}

/** Resolves with the result of `work`; rejects with `signal.reason` on abort, while the work may continue. */
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

/** Sums up failed attempts: a refused connection says more than a timeout. */
function unreached(destination: Destination, error: unknown): Refusal {
  const codes = (error instanceof AggregateError ? error.errors : [error]).map(systemCode);
  const [reason, what]: [RefusalReason, string] = codes.includes('ECONNREFUSED')
    ? ['refused', ' refused the connection']
    : codes.includes('ETIMEDOUT')
      ? ['timeout', ' did not answer']
      : ['unreachable', UNREACHABLE];
  return refusal(destination, reason, what, { cause: error });
}
