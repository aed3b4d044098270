/** Describes the rules of an egress, and tests a destination against them. */
import { badArgument, VproxyError } from '../../errors.js';
import { isAsked, parseDestination } from '../../forward/egress/admission.js';
import { EgressDialer } from '../../forward/egress/dial.js';
import { Refusal } from '../../forward/egress/refusal.js';
import type { Destination } from '../../forward/egress/rules.js';
import { type EgressRules, formatEgressRules, type Verdict } from '../../forward/egress/rules.js';
import type { EgressStatus, EgressTest } from '../../status/types.js';
import { formatHostPort, isIPv6 } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';
import { suggestOrList } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';

interface EgressesOf {
  /** The label of the channel. */
  readonly channel: string;
  readonly egresses: ReadonlyMap<string, EgressRules>;
}

/** The rules of an egress, in the form of a status; null if it is not defined. */
export const describeEgressRules = (rules: EgressRules | null): EgressStatus['rules'] =>
  rules === null ? null : formatEgressRules(rules);

/** The rules of an egress. Throws `not-found`. */
export function rulesOf({ channel, egresses }: EgressesOf, name: string): EgressRules {
  const rules = egresses.get(name);
  if (rules !== undefined) return rules;
  const rest = suggestOrList(name, [...egresses.keys()]);
  throw new VproxyError('not-found', `no egress "${escapeText(name, 80)}" on channel ${channel}; ${rest}`);
}

/** Parses `HOST:PORT`, with an IPv6 address in brackets. Throws `bad-argument`. */
export function parseEgressDestination(text: string): Destination {
  const [, bracketed, plain = '', digits] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/s.exec(text) ?? [];
  if (digits === undefined || (bracketed !== undefined && !isIPv6(bracketed))) throw noDestination(text);
  try {
    return parseDestination(bracketed ?? plain, Number(digits));
  } catch (error) {
    if (error instanceof Refusal) throw badArgument(error.message, { cause: error });
    throw error;
  }
}

const noDestination = (text: string): VproxyError =>
  badArgument(
    `"${escapeText(text, 120)}" is not DESTINATION:PORT, such as example.org:443 (an IPv6 address in brackets)`,
  );

/**
 * Tests a destination on a channel without connecting to it. Rejects with `not-found` if the egress is not defined, and with
 * the reason of `signal`.
 */
export async function testEgress(
  { channel, egresses }: EgressesOf,
  name: string,
  destination: Destination,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<EgressTest> {
  const rules = rulesOf({ channel, egresses }, name);
  const dialer = new EgressDialer({ name, rules: () => rules, clock });
  const { verdict, addresses, destination: judged } = await dialer.test(destination, signal);
  const plain = ({ isAllowed, rule, why }: Verdict) => ({ isAllowed, rule, why });
  return {
    channel,
    name,
    destination: formatHostPort(judged),
    ...plain(verdict),
    isAsked: isAsked(rules, judged) !== null,
    addresses: addresses.map((one) => ({ address: one.address, ...plain(one.verdict) })),
  };
}
