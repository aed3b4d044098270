/** Addresses: hosts with ports, whose text is `HOST:PORT` with IPv6 in brackets, ranges of ports, and the bytes of an address. */
import net from 'node:net';
import { badArgument } from '../../errors.js';
import { escapeText } from '../escape.js';

/** A host, by name or address (IPv6 without brackets), and a port. */
export interface HostPort {
  /** A name or an address. */
  readonly host: string;
  /** 1 to 65,535; 0 where the system may pick one. */
  readonly port: number;
}

/** Parses an address. `lowestPort` is 0 where the system may pick a port, otherwise 1 (the default). Throws `bad-argument`. */
export function parseHostPort(text: string, lowestPort: 0 | 1 = 1): HostPort {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  if (!isHost(host, bracketed !== undefined) || !(port >= lowestPort && port <= 65535)) {
    throw badArgument(
      `"${escapeText(text)}" is not HOST:PORT with a port from ${lowestPort} to 65535 (an IPv6 address in brackets: [::1]:9000)`,
    );
  }
  return { host, port };
}

/** Whether a text is an IPv6 address, with or without a zone. Node's own check takes 10 ms when it is first called. */
export const isIPv6 = (text: string): boolean => text.includes(':') && net.isIPv6(text);

/** The family of an address; 0 for any other text. */
export const isIP = (text: string): 0 | 4 | 6 => (net.isIPv4(text) ? 4 : isIPv6(text) ? 6 : 0);

/** Whether a text can be a host: a name or an IPv4 address, or in brackets an IPv6 address. */
export function isHost(text: string, isBracketed: boolean): boolean {
  return isBracketed ? isIPv6(text) : HOST.test(text);
}

/** Formats an address; `parseHostPort` reads it back. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only processes of this machine can connect to a listener at `host`: 127.0.0.0/8, ::1, localhost. */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  if (family === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4');
}

/** Whether a listener at `host` is on every address of the machine. */
export function isEveryAddress(host: string): boolean {
  return host === '' || host === '0.0.0.0' || /^[0:]+$/.test(host);
}

/** Throws `bad-argument` if a program names no host: Node would then listen on every address. */
export function requireHost(host: unknown): void {
  if (typeof host === 'string' && host !== '') return;
  throw badArgument('host: expected a name or an address to listen on; 0.0.0.0 or :: stand for every address');
}

/** The host to dial for a listener on this machine: the loopback address if it listens on every address. */
export function dialableHost(host: string, isOnly6 = false): string {
  if (!isEveryAddress(host)) return host;
  return isOnly6 || host.includes(':') ? '::1' : '127.0.0.1';
}

/**
 * Whether a listener at one address prevents one at the other: same port, and same host unless one of them means every address. A
 * name may be any host.
 */
export function addressesOverlap(a: HostPort, b: HostPort): boolean {
  const isAny = ({ host }: HostPort) => isEveryAddress(host) || isIP(host) === 0;
  return a.port === b.port && (isAny(a) || isAny(b) || canonicalHost(a.host) === canonicalHost(b.host));
}

/** One text per address; a name in lower case, and `localhost` as 127.0.0.1. */
export function canonicalHost(host: string): string {
  if (isIPv6(host)) return hostOfUrl(host.replace(/%.*/, ''));
  const name = host.toLowerCase();
  return name === 'localhost' ? '127.0.0.1' : name;
}

const HOST = /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/;

const LOOPBACK = new net.BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** A range of ports, both ends included. */
export type PortRange = readonly [first: number, last: number];

export const isInRanges = (ranges: readonly PortRange[], port: number): boolean =>
  ranges.some(([first, last]) => first <= port && port <= last);

/** Formats ranges, such as `3000-9999,18080`. */
export const formatPortRanges = (ranges: readonly PortRange[]): string =>
  ranges.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join(',');

// The bytes of addresses: 4 or 16, in network order.

/**
 * The bytes of an address; null for any other text. Strict: IPv4 is four decimal numbers without leading zeros, unlike
 * inet_aton(3); IPv6 is as in RFC 4291, section 2.2, without a zone.
 */
export function parseAddress(text: string): Uint8Array | null {
  if (net.isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return null;
  // The host of a URL is hexadecimal throughout.
  const [head = '', tail] = hostOfUrl(text).split('::');
  const first = groupsOf(head);
  const last = groupsOf(tail ?? '');
  const groups = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

const groupsOf = (text: string): number[] =>
  text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));

/** The canonical text of an address (RFC 5952); IPv4-mapped addresses end in four decimal numbers (its section 5). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const digits = Buffer.from(bytes).toString('hex');
  if (MAPPED.test(digits)) return `::ffff:${bytes.subarray(12).join('.')}`;
  return hostOfUrl(digits.replace(/....(?!$)/g, '$&:'));
}

const MAPPED = /^0{20}ffff/;

/** An IPv6 address as in a URL: RFC 5952, without decimal numbers. */
const hostOfUrl = (address: string): string => new URL(`http://[${address}]`).hostname.slice(1, -1);
