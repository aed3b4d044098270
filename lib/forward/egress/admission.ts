/** Decides whether the rules of an egress allow a destination. */

import { readHostName } from '../../util/addresses/host-names.js';
import { formatAddress, isInRanges, parseAddress } from '../../util/addresses/host-port.js';
import { escapeText } from '../../util/escape.js';
import { contains, embeddedAddress, type FoundRange, isWide, specialRangeOf } from './networks.js';
import { Refusal } from './refusal.js';
import {
  allowedBy,
  type Destination,
  type EgressEntry,
  type EgressHost,
  type EgressRules,
  type Verdict,
} from './rules.js';

/**
 * Parses a destination as a guest spelled it, an IPv6 address without its brackets. Throws a `Refusal` (`bad-destination`)
 * for a spelling that is not plain: two programs could read it differently.
 */
export function parseDestination(host: string, port: number): Destination {
  const bad = (what: string): Refusal => new Refusal('bad-destination', what);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw bad(`port ${port} is not from 1 to 65535`);
  const bytes = parseAddress(host);
  if (bytes !== null) return { host: formatAddress(bytes), family: bytes.length === 4 ? 4 : 6, port };
  const reading = readHostName(host);
  if ('name' in reading) return { host: reading.name, family: 0, port };
  throw bad(`"${escapeText(host, 100)}" is not a plain name or address: ${reading.problem}`);
}

/**
 * The verdict before a name is resolved: whether it may be reached at any address. `deny` wins. A name needs an entry for
 * names: if only networks are allowed, no name is looked up. For an address this verdict is final, unless it is one of this
 * machine's.
 */
export function judgeDestination(rules: EgressRules, destination: Destination): Verdict {
  const { host: name, family, port } = destination;
  if (family !== 0) return judgeAddress(rules, destination, name, () => false);
  const isMeant = (entry: EgressEntry): boolean => meansName(entry.host, name);
  const denying = rules.deny.find((entry) => isMeant(entry) && isInRanges(entry.ports, port));
  if (denying !== undefined) return denied(denying);
  const allowing = rules.allow.find((entry) => isMeant(entry) && isInRanges(entry.ports, port));
  return allowing === undefined ? unmentioned(rules, port, isMeant) : allowed(allowing, 'the entry matches this name');
}

/**
 * Whether a destination may be reached at this address: its own, or one of its name. `isOwn`: whether an address is one of
 * this machine's.
 *
 * `deny` wins, also for an IPv4 address embedded in an IPv6 address. A special address (`SPECIAL_RANGES`) needs an entry of
 * `allow` for its range or a part of it; one of this machine's needs an entry for a network no wider than such ranges. If a
 * name leads there, this is in addition to the entry for the name.
 */
export function judgeAddress(
  rules: EgressRules,
  destination: Destination,
  address: string,
  isOwn: (address: string) => boolean,
): Verdict {
  const { family, port } = destination;
  const bytes = parseAddress(address);
  if (bytes === null) return refused(null, `"${escapeText(address, 100)}" is not a plain address`);
  const byName = family === 0 ? judgeDestination(rules, destination) : null;
  if (byName?.isAllowed === false) return byName;
  const text = formatAddress(bytes);
  const embedded = embeddedAddress(bytes);
  const denying = rules.deny.find(
    (entry) => isInRanges(entry.ports, port) && coversAddress(entry.host, bytes, embedded),
  );
  if (denying !== undefined) return denied(denying);
  const range = specialRangeOf(bytes);
  const isHere = isOwn(text);
  const isMeant = ({ host }: EgressEntry): boolean => letsAddress(host, bytes, range, isHere);
  const allowing = rules.allow.find((entry) => isMeant(entry) && isInRanges(entry.ports, port));
  if (byName !== null && range === null && !isHere) return byName;
  // The connection ends with the entry that was added, which may be the one for the name.
  if (allowing !== undefined)
    return byName?.isAdded === true ? byName : allowed(allowing, 'the entry matches this address');
  if (range !== null)
    return refused(null, `${text} is ${range.what} (${range.network}), and no entry allows it explicitly`);
  if (isHere) return refused(null, `${text} is an address of this machine, and no entry allows it explicitly`);
  return unmentioned(rules, port, isMeant);
}

/**
 * Whether a name may be resolved for the peer: it may if some port is allowed. The name is as in a DNS question: in upper or
 * lower case, with or without a final dot.
 */
export function judgeName(rules: EgressRules, name: string): Verdict {
  const reading = readHostName(name);
  if ('problem' in reading) return refused(null, `"${escapeText(name, 100)}" is not a plain name: ${reading.problem}`);
  let verdict: Verdict | null = null;
  for (const port of decidingPorts(rules)) {
    const found = judgeDestination(rules, { host: reading.name, family: 0, port });
    if (found.isAllowed) return found;
    if (verdict === null || found.rule !== null) verdict = found;
  }
  if (verdict === null || verdict.rule === null) return refused(null, NO_ENTRY);
  return verdict;
}

/**
 * The ports to try: if anything is allowed at all, it is at one of these. The lowest port that `deny` leaves is the first of an
 * allowed range, or the one after a denied range.
 */
export function decidingPorts({ allow, deny }: EgressRules): ReadonlySet<number> {
  return new Set([
    ...allow.flatMap((entry) => entry.ports.map(([first]) => first)),
    ...deny.flatMap((entry) => entry.ports.map(([, last]) => last + 1)),
  ]);
}

function meansName(host: EgressHost, name: string): boolean {
  switch (host.kind) {
    case 'any':
      return true;
    case 'name':
      return host.name === name;
    case 'below':
      return name.endsWith(`.${host.suffix}`);
    case 'network':
      return false;
  }
}

/** The verdict on a destination that no entry names, if such ones are asked about; otherwise null. */
export function isAsked(rules: EgressRules | null, destination: Destination): Verdict | null {
  if (rules === null || rules.askMs === null) return null;
  const verdict = judgeDestination(rules, destination);
  return verdict.isAllowed || verdict.rule !== null ? null : verdict;
}

/** Whether an entry of `deny` covers an address, or the IPv4 address in it. */
function coversAddress(host: EgressHost, bytes: Uint8Array, embedded: Uint8Array | null): boolean {
  if (host.kind !== 'network') return host.kind === 'any';
  return contains(host, bytes) || (embedded !== null && contains(host, embedded));
}

/** Whether an entry of `allow` lets an address out. */
function letsAddress(host: EgressHost, bytes: Uint8Array, range: FoundRange | null, isHere: boolean): boolean {
  if (host.kind === 'any') return range === null && !isHere;
  if (host.kind !== 'network' || !contains(host, bytes)) return false;
  return range === null ? !isHere || !isWide(host) : host.prefix >= range.prefix;
}

const NO_ENTRY = 'no entry allows it';

const allowed = ({ text, isAdded = false }: EgressEntry, why: string): Verdict => {
  return { isAllowed: true, rule: allowedBy(text), isAdded, why };
};
const denied = (entry: EgressEntry): Verdict => refused(`deny "${entry.text}"`, 'the entry denies it');
const refused = (rule: string | null, why: string): Verdict => ({ isAllowed: false, rule, why });

/** The verdict if no entry decided; names an entry that matches on other ports, as those are easily overlooked. */
function unmentioned(rules: EgressRules, port: number, isMeant: (entry: EgressEntry) => boolean): Verdict {
  const near = rules.allow.find(isMeant);
  return refused(null, near === undefined ? NO_ENTRY : `allow "${near.text}" does not cover port ${port}`);
}
