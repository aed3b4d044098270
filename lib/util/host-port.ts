/** The text form of a TCP address: `HOST:PORT`, with an IPv6 address in brackets. */
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { escapeText } from './escape.js';

/** A host, by name or address (IPv6 without brackets), and a port. */
export interface HostPort {
  /** A name or an address. */
  readonly host: string;
  /** 1 to 65,535; 0 where the system may pick one. */
  readonly port: number;
}

/**
 * The address of a text. `lowestPort` is 0 where the system may pick a port, otherwise 1 (the default). Throws
 * `bad-argument`.
 */
export function parseHostPort(text: string, lowestPort: 0 | 1 = 1): HostPort {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  if (!isHost(host, bracketed !== undefined) || !(port >= lowestPort && port <= 65535)) {
    throw new VproxyError(
      'bad-argument',
      `"${escapeText(text)}" is not HOST:PORT with a port from ${lowestPort} to 65535 (an IPv6 address in brackets: [::1]:9000)`,
    );
  }
  return { host, port };
}

/** Whether a text can be a host: a name or an IPv4 address, or in brackets an IPv6 address. */
export function isHost(text: string, isBracketed: boolean): boolean {
  return isBracketed ? net.isIPv6(text) : HOST.test(text);
}

/** The text of an address; `parseHostPort` reads it back. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only processes of this machine can connect to a listener at `host`: 127.0.0.0/8, ::1, localhost. */
export function isLoopback(host: string): boolean {
  if (net.isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, net.isIPv6(host) ? 'ipv6' : 'ipv4');
}

/**
 * Whether a listener at one address keeps another one from listening at the other: the port is the same, and so is the
 * host, or one of them stands for all. A name may be any host.
 */
export function addressesOverlap(a: HostPort, b: HostPort): boolean {
  const isAny = ({ host }: HostPort) => host === '0.0.0.0' || net.isIP(host) === 0 || /^[0:]+$/.test(host);
  return a.port === b.port && (isAny(a) || isAny(b) || canonical(a.host) === canonical(b.host));
}

/** One text for each address. */
const canonical = (host: string): string =>
  net.isIPv6(host) ? new URL(`http://[${host.replace(/%.*/, '')}]`).hostname.slice(1, -1) : host;

const HOST = /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$/;

const LOOPBACK = new net.BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
