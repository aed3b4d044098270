/** The rules of an egress, and the syntax of its entries (docs/egress.md). */
import { badArgument, VproxyError } from '../../errors.js';
import { readHostName } from '../../util/addresses/host-names.js';
import {
  formatAddress,
  formatHostPort,
  formatPortRanges,
  type HostPort,
  type PortRange,
  parseAddress,
  parseHostPort,
} from '../../util/addresses/host-port.js';
import { escapeText } from '../../util/escape.js';
import { type Network, networkAround } from './networks.js';

/** Limit on entries added to an egress at run time. */
export const MAX_ADDED = 256;

/** Limit on their time, in seconds: 30 days. */
export const MAX_FOR_S = 30 * 24 * 3600;

/** Limit on the wait for an answer, in seconds: the patience of programs. */
export const MAX_ASK_S = 600;

/** The rule of a verdict that an entry of `allow` decided. */
export const allowedBy = (entry: string): string => `allow "${entry}"`;

/** The destination of a guest's request, in its only canonical spelling. */
export interface Destination {
  /** A name in lower case without a final dot, or an address as RFC 5952 writes it, without brackets. */
  readonly host: string;
  /** 0 for a name. */
  readonly family: 0 | 4 | 6;
  readonly port: number;
  /** The address that a redirected program connected to, if a name was found for it. */
  readonly redirectedFrom?: string;
}

/** The verdict of the rules on a destination, or on one of its addresses. */
export interface Verdict {
  readonly isAllowed: boolean;
  /** The deciding entry, with its list: `allow "*.ubuntu.com:443"`; null if no entry decided. */
  readonly rule: string | null;
  /** Whether that was added at run time. Default false. */
  readonly isAdded?: boolean;
  /** The reason, human-readable: `no entry allows it`, `169.254.169.254 is link-local`. */
  readonly why: string;
}

/**
 * The hosts that an entry covers: all, a name, all names below one, or the addresses of a network. A single address is a
 * network of its own.
 */
export type EgressHost =
  | { readonly kind: 'any' }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'below'; readonly suffix: string }
  | ({ readonly kind: 'network' } & Network);

/** One entry of `allow` or `deny`. */
export interface EgressEntry {
  /** Its canonical text; `parseEgressEntry` reads it back. */
  readonly text: string;
  readonly host: EgressHost;
  readonly ports: readonly PortRange[];
  /** Whether it was added at run time. Default: it is configured. */
  readonly isAdded?: boolean;
}

/** An egress allows what an entry of `allow` covers and none of `deny`. */
export interface EgressRules {
  readonly allow: readonly EgressEntry[];
  readonly deny: readonly EgressEntry[];
  /** The upstream HTTP proxy through which everything is reached; null: none. */
  readonly upstream: HostPort | null;
  /** How long a destination that no entry names waits for an answer, in milliseconds; null: it is refused at once. */
  readonly askMs: number | null;
  /** The egress as commands name it, `vm1/internet`. Default: its name. */
  readonly place?: string | undefined;
  /** Waits for that answer. Default: everything is refused at once. */
  readonly ask?: Ask | undefined;
}

/** Returns a wait for an answer. Throws `bad-argument` if it is out of its bounds. */
export function checkAskMs(askMs: number): number {
  if (askMs >= 1000 && askMs <= MAX_ASK_S * 1000) return askMs;
  throw badArgument(`the wait for an answer must be from 1 s to ${MAX_ASK_S} s`);
}

/**
 * Asks about a destination that no entry names, and why. Resolves with null when the rules decide now, or with the
 * reason for a refusal. Rejects with the reason of `signal`. Once `left` is aborted, it gives its place to others.
 */
export type Ask = (
  destination: Destination,
  why: string,
  signal: AbortSignal,
  left: AbortSignal,
) => Promise<string | null>;

/** The rules of one egress as texts. In the name of an entry `{channel}` stands for the label of the channel. */
export interface EgressTexts {
  /** Allowed: `NAME:PORTS`, `*.NAME:PORTS`, `ADDRESS:PORTS`, `NETWORK/PREFIX:PORTS`. Default: nothing. */
  readonly allow?: readonly string[];
  /** Denied, whatever `allow` contains. Default: nothing. */
  readonly deny?: readonly string[];
  /** The upstream HTTP proxy through which everything is reached, `HOST:PORT` or `http://HOST:PORT`. Default: none. */
  readonly upstream?: string;
  /** How long a destination that no entry names waits for an operator's answer, in milliseconds. Default: it is refused at once. */
  readonly askMs?: number;
}

/**
 * Parses rules, with `entryOf` for the entries. `place` is where they are defined, such as `egress.internet`; a `bad-argument`
 * error begins with it.
 */
export function readEgressRules(
  { allow = [], deny = [], upstream, askMs }: EgressTexts,
  place: string,
  entryOf: (text: string) => EgressEntry,
): EgressRules {
  const entries = (key: string, of: readonly string[]): EgressEntry[] =>
    of.map((text) => inPlace(`${place}.${key}`, () => entryOf(text)));
  return {
    allow: entries('allow', allow),
    deny: entries('deny', deny),
    upstream: upstream === undefined ? null : inPlace(`${place}.upstream`, () => parseUpstream(upstream)),
    askMs: askMs === undefined ? null : inPlace(`${place}.askMs`, () => checkAskMs(askMs)),
  };
}

function inPlace<T>(place: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    throw new VproxyError(error.code, `${place}: ${error.message}`, { cause: error });
  }
}

/** The rules as a status shows them. */
export const formatEgressRules = ({ allow, deny, upstream, askMs }: EgressRules) => ({
  allow: allow.map(({ text }) => text),
  deny: deny.map(({ text }) => text),
  upstream: upstream === null ? null : formatHostPort(upstream),
  askS: askMs === null ? null : askMs / 1000,
});

/**
 * Parses an entry: `NAME:PORTS`, `*.NAME:PORTS`, `*:PORTS`, `ADDRESS:PORTS`, `NETWORK/PREFIX:PORTS`, and
 * `[ADDRESS6]:PORTS`, `[NETWORK6/PREFIX]:PORTS`. PORTS are numbers and ranges between commas, or `*`. Throws
 * `bad-argument`.
 */
export function parseEgressEntry(text: string): EgressEntry {
  const bad = (what: string): VproxyError => badArgument(`entry "${escapeText(text, 300)}": ${what}`);
  if (text.includes('://')) throw bad('expected a name or an address with ports, such as example.org:443, not a URL');
  const [, bracketed, plain = '', portsText] = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:[\]]*)$/.exec(text) ?? [];
  if (portsText === undefined) throw bad(describeShape(text));
  const ports = parsePorts(portsText, bad);
  const host = bracketed === undefined ? parseHost(plain, bad) : parseNetwork(bracketed, 6, bad);
  return { text: `${formatHost(host)}:${formatPorts(ports)}`, host, ports };
}

type Complain = (what: string) => VproxyError;

/** Why a text does not have the form of an entry. */
function describeShape(text: string): string {
  const [address = ''] = text.split('/');
  const shown = escapeText(text, 100);
  if (address.includes(':') && parseAddress(address) !== null)
    return `an IPv6 address goes in brackets, followed by ports: [${shown}]:443, or [${shown}]:* for all ports`;
  const [, within = '', prefix] = /^\[([^\]]*)\](\/\d+)/.exec(text) ?? [];
  if (prefix !== undefined) return `the prefix goes inside the brackets: [${escapeText(within, 100)}${prefix}]`;
  if (!/:[^:\]]*$/.test(text)) return `missing ports; for all ports use ${shown}:*`;
  return 'expected NAME:PORTS, *.NAME:PORTS, ADDRESS:PORTS or NETWORK/PREFIX:PORTS, an IPv6 address in brackets';
}

function parseHost(text: string, bad: Complain): EgressHost {
  if (text === '*') return { kind: 'any' };
  if (text.includes('/') || parseAddress(text) !== null) return parseNetwork(text, 4, bad);
  const isBelow = text.startsWith('*.');
  const name = isBelow ? text.slice(2) : text;
  if (name.includes('*')) throw bad('"*" must stand alone or before the first dot of a name, as in *.example.org');
  const reading = readHostName(name);
  if ('problem' in reading) throw bad(reading.problem);
  return isBelow ? { kind: 'below', suffix: reading.name } : { kind: 'name', name: reading.name };
}

const BYTE_COUNT = { 4: 4, 6: 16 } as const;

/** `ADDRESS` or `ADDRESS/PREFIX`. */
function parseNetwork(text: string, family: 4 | 6, bad: Complain): EgressHost {
  const [address = '', prefixText, ...rest] = text.split('/');
  const bytes = parseAddress(address);
  if (bytes?.length !== BYTE_COUNT[family]) throw bad(describeAddress(address, family));
  const bitCount = 8 * bytes.length;
  const prefix = prefixText === undefined ? bitCount : readNumber(prefixText, 0, bitCount);
  if (prefix === null || rest.length > 0)
    throw bad(`the prefix of an IPv${family} network must be from 0 to ${bitCount}`);
  const network = networkAround(bytes, prefix);
  const right = formatNetwork(network);
  if (network.address !== formatAddress(bytes))
    throw bad(`the address has bits set after the prefix; the network is ${right}`);
  return { kind: 'network', ...network };
}

function describeAddress(address: string, family: 4 | 6): string {
  if (family === 6) {
    if (address.includes('%')) return 'an address cannot have a zone';
    return 'brackets must contain an IPv6 address or a network such as 2001:db8::/32';
  }
  const reading = readHostName(address);
  return 'problem' in reading ? reading.problem : 'only an address can have a prefix, such as 10.0.0.0/8';
}

/** Parses a decimal number without leading zeros, within bounds; null for any other text. */
function readNumber(text: string, lowest: number, highest: number): number | null {
  const value = /^(?:0|[1-9]\d{0,4})$/.test(text) ? Number(text) : Number.NaN;
  return value >= lowest && value <= highest ? value : null;
}

const ALL_PORTS: PortRange = [1, 65_535];

function parsePorts(text: string, bad: Complain): PortRange[] {
  if (text === '*') return [ALL_PORTS];
  if (text === '') throw bad('missing ports after the colon; use * for all ports');
  return text.split(',').map((part) => {
    const [, from = '', to = from] = /^([^-]*)(?:-(.*))?$/.exec(part) ?? [];
    const first = readNumber(from, ...ALL_PORTS);
    const last = readNumber(to, ...ALL_PORTS);
    if (first === null || last === null)
      throw bad(`"${escapeText(part, 40)}" is neither a port from 1 to 65535 nor a range such as 8000-8999`);
    if (first > last) throw bad(`the range ${part} ends before it begins`);
    return [first, last];
  });
}

function formatHost(host: EgressHost): string {
  switch (host.kind) {
    case 'any':
      return '*';
    case 'name':
      return host.name;
    case 'below':
      return `*.${host.suffix}`;
    case 'network':
      return formatNetwork(host);
  }
}

/** As in an entry: a single address without its prefix, and IPv6 in brackets. */
function formatNetwork({ address, family, prefix }: Network): string {
  const text = prefix === 8 * BYTE_COUNT[family] ? address : `${address}/${prefix}`;
  return family === 6 ? `[${text}]` : text;
}

function formatPorts(ports: readonly PortRange[]): string {
  return ports.some(([first, last]) => first === ALL_PORTS[0] && last === ALL_PORTS[1]) ? '*' : formatPortRanges(ports);
}

/** Parses the upstream proxy, `HOST:PORT` or `http://HOST:PORT`. Throws `bad-argument`. */
export function parseUpstream(text: string): HostPort {
  const [, scheme, rest = ''] = /^(?:([^/]*):\/\/)?(.*?)\/?$/s.exec(text) ?? [];
  // Never show a password.
  const shown = escapeText(text.replace(/^([^/]*\/\/)?.*@/s, '$1…@'), 300);
  const bad = (what: string): VproxyError => badArgument(`upstream "${shown}": ${what}`);
  if (scheme !== undefined && scheme.toLowerCase() !== 'http') throw bad('expected an HTTP proxy, http://HOST:PORT');
  if (rest.includes('@')) throw bad('a user name or password is not supported');
  try {
    return parseHostPort(rest);
  } catch {
    throw bad('expected http://HOST:PORT with a port from 1 to 65535 (an IPv6 address in brackets)');
  }
}
