/** Networks, special-purpose ranges, and the addresses of this machine. */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { formatAddress, parseAddress } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';

// Networks: an address and a prefix length.

export interface Network {
  /** The first address, as `formatAddress` writes it. */
  readonly address: string;
  readonly family: 4 | 6;
  /** 0 to 32, or to 128. */
  readonly prefix: number;
}

/** Whether the first `prefix` bits of an address are those of `network`; false for different families. */
export function isWithin(bytes: Uint8Array, network: Uint8Array, prefix: number): boolean {
  if (bytes.length !== network.length) return false;
  const whole = prefix >> 3;
  for (let index = 0; index < whole; index += 1) if (bytes[index] !== network[index]) return false;
  const mask = 0xff00 >> (prefix & 7);
  return (((bytes[whole] ?? 0) ^ (network[whole] ?? 0)) & mask & 0xff) === 0;
}

/** The network with a prefix of `prefix` bits that contains an address. */
export function networkAround(bytes: Uint8Array, prefix: number): Network {
  const first = bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * index))));
  return { address: formatAddress(first), family: bytes.length === 4 ? 4 : 6, prefix };
}

export function contains(network: Network, bytes: Uint8Array): boolean {
  if (bytes.length !== (network.family === 4 ? 4 : 16)) return false;
  const first = firstOf(network);
  return first !== null && isWithin(bytes, first, network.prefix);
}

/** Cache of first addresses: entries are checked again and again. */
const FIRSTS = new WeakMap<Network, Uint8Array>();

function firstOf(network: Network): Uint8Array | null {
  const known = FIRSTS.get(network);
  if (known !== undefined) return known;
  const first = parseAddress(network.address);
  if (first !== null) FIRSTS.set(network, first);
  return first;
}

// Ranges that are not public Internet addresses.

export interface SpecialRange {
  /** `ADDRESS/PREFIX`. */
  readonly network: string;
  /** Completes "this address is …". */
  readonly what: string;
  /** The defining document. */
  readonly source: string;
  /** The index of the first byte of the embedded IPv4 address, if its addresses have one. */
  readonly ipv4At?: number;
}

/**
 * The special-purpose registries of IANA (RFC 6890), and IPv6 ranges that may hide an IPv4 address. The narrowest range that
 * contains an address counts. `docs/egress-reference.md` is compared with it.
 */
export const SPECIAL_RANGES: readonly SpecialRange[] = [
  { network: '0.0.0.0/32', what: 'unspecified', source: 'RFC 1122' },
  { network: '0.0.0.0/8', what: 'in "this network"', source: 'RFC 791' },
  { network: '10.0.0.0/8', what: 'private', source: 'RFC 1918' },
  { network: '100.64.0.0/10', what: 'carrier-grade NAT', source: 'RFC 6598' },
  { network: '127.0.0.0/8', what: 'loopback', source: 'RFC 1122' },
  { network: '168.63.129.16/32', what: 'the Azure platform', source: 'Microsoft' },
  { network: '169.254.0.0/16', what: 'link-local', source: 'RFC 3927' },
  { network: '172.16.0.0/12', what: 'private', source: 'RFC 1918' },
  { network: '192.0.0.0/24', what: 'for IETF protocols', source: 'RFC 6890' },
  { network: '192.0.2.0/24', what: 'for documentation', source: 'RFC 5737' },
  { network: '192.88.99.0/24', what: 'a 6to4 relay', source: 'RFC 7526' },
  { network: '192.168.0.0/16', what: 'private', source: 'RFC 1918' },
  { network: '198.18.0.0/15', what: 'for benchmarks', source: 'RFC 2544' },
  { network: '198.51.100.0/24', what: 'for documentation', source: 'RFC 5737' },
  { network: '203.0.113.0/24', what: 'for documentation', source: 'RFC 5737' },
  { network: '224.0.0.0/4', what: 'multicast', source: 'RFC 5771' },
  { network: '240.0.0.0/4', what: 'reserved', source: 'RFC 1112' },
  { network: '255.255.255.255/32', what: 'broadcast', source: 'RFC 919' },
  { network: '::/128', what: 'unspecified', source: 'RFC 4291' },
  { network: '::1/128', what: 'loopback', source: 'RFC 4291' },
  { network: '::/96', what: 'IPv4-compatible', source: 'RFC 4291', ipv4At: 12 },
  { network: '::ffff:0.0.0.0/96', what: 'IPv4-mapped', source: 'RFC 4291', ipv4At: 12 },
  { network: '::ffff:0:0:0/96', what: 'IPv4-translated', source: 'RFC 2765', ipv4At: 12 },
  { network: '::/3', what: 'not global unicast', source: 'RFC 4291' },
  { network: '64:ff9b::/96', what: 'IPv4 behind NAT64', source: 'RFC 6052', ipv4At: 12 },
  { network: '64:ff9b:1::/48', what: 'IPv4 behind a local NAT64', source: 'RFC 8215', ipv4At: 12 },
  { network: '100::/64', what: 'discard-only', source: 'RFC 6666' },
  { network: '2001::/23', what: 'for IETF protocols', source: 'RFC 2928' },
  { network: '2001::/32', what: 'IPv4 by Teredo', source: 'RFC 4380' },
  { network: '2001:2::/48', what: 'for benchmarks', source: 'RFC 5180' },
  { network: '2001:db8::/32', what: 'for documentation', source: 'RFC 3849' },
  { network: '2002::/16', what: 'IPv4 by 6to4', source: 'RFC 3056', ipv4At: 2 },
  { network: '3fff::/20', what: 'for documentation', source: 'RFC 9637' },
  { network: '4000::/2', what: 'not global unicast', source: 'RFC 4291' },
  { network: '8000::/1', what: 'not global unicast', source: 'RFC 4291' },
  { network: 'fc00::/7', what: 'private', source: 'RFC 4193' },
  { network: 'fe80::/10', what: 'link-local', source: 'RFC 4291' },
  { network: 'fec0::/10', what: 'site-local', source: 'RFC 3879' },
  { network: 'ff00::/8', what: 'multicast', source: 'RFC 4291' },
];

/** In any network: bytes 8 to 11 of the address announce an IPv4 address, whose scope is unknown. */
const ISATAP = { what: 'IPv4 by ISATAP', source: 'RFC 5214', ipv4At: 12, prefix: 96 } as const;

const isIsatap = (bytes: Uint8Array): boolean =>
  bytes.length === 16 && ((bytes[8] ?? 0) & ~2) === 0 && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;

/** The rows with their first address as bytes, narrowest first; null until they are needed. */
let ranges: readonly (FoundRange & { readonly first: Uint8Array })[] | null = null;

function rangesByPrefix() {
  ranges ??= SPECIAL_RANGES.map((range) => {
    const [address = '', prefix] = range.network.split('/');
    return { ...range, first: parseAddress(address) ?? new Uint8Array(), prefix: Number(prefix) };
  }).sort((a, b) => b.prefix - a.prefix);
  return ranges;
}

/** A range that contains an address. */
export interface FoundRange extends SpecialRange {
  readonly prefix: number;
}

/** The narrowest special range of an address; null for a public one. */
export function specialRangeOf(bytes: Uint8Array): FoundRange | null {
  const range = rangesByPrefix().find(({ first, prefix }) => isWithin(bytes, first, prefix));
  if (range !== undefined) return range;
  return isIsatap(bytes)
    ? { ...ISATAP, network: `${networkAround(bytes, ISATAP.prefix).address}/${ISATAP.prefix}` }
    : null;
}

/** Whether a network contains a special range and more. */
export function isWide(network: Network): boolean {
  return rangesByPrefix().some(({ first, prefix }) => prefix > network.prefix && contains(network, first));
}

/** The IPv4 address embedded in an IPv6 address, as far as the table knows; null if there is none. */
export function embeddedAddress(bytes: Uint8Array): Uint8Array | null {
  const at = isIsatap(bytes) ? ISATAP.ipv4At : specialRangeOf(bytes)?.ipv4At;
  return at === undefined ? null : bytes.subarray(at, at + 4);
}

// The addresses of this machine.

/** How long a list from the system is reused. */
const OWN_ADDRESSES_MS = 1_000;

/** The addresses of this machine's interfaces, at most a second old. */
export class OwnAddresses {
  readonly #clock: Clock;
  #known = new Set<string>();
  #askedAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether an address, as `formatAddress` writes it, is one of them. Throws if the system cannot list them. */
  has(address: string): boolean {
    return this.list().has(address);
  }

  /** All of them; the same set until they change. Throws if the system cannot list them. */
  list(): ReadonlySet<string> {
    const nowMs = this.#clock.now();
    if (nowMs - this.#askedAtMs >= OWN_ADDRESSES_MS) {
      const found = new Set(listOwnAddresses());
      if (!isDeepStrictEqual(found, this.#known)) this.#known = found;
      this.#askedAtMs = nowMs;
    }
    return this.#known;
  }
}

function listOwnAddresses(): string[] {
  return askInterfaces().flatMap(({ address }) => {
    const bytes = parseAddress(address);
    return bytes === null ? [] : [formatAddress(bytes)];
  });
}

function askInterfaces(): NetworkInterfaceInfo[] {
  try {
    return Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  } catch (error) {
    const hint = 'a systemd unit with RestrictAddressFamilies= needs AF_NETLINK';
    throw new Error(`cannot list the addresses of this machine (${hint})`, { cause: error });
  }
}
