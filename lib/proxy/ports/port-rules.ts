/** The options of automatic port forwarding: ranges, and where to listen for the peer's ports. */
import { PORT_SERVICE } from '../../codec/limits.js';
import { badArgument, type VproxyError } from '../../errors.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { fillTemplate } from '../../forward/template.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatPortRanges, isIP, type PortRange } from '../../util/addresses/host-port.js';
import { parseSocketPath, withoutFinalSlashes } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';

/** Where to listen for the peer's ports. */
export interface PortForwarding {
  /** The ports of the peer to listen for. */
  readonly ranges: readonly PortRange[];
  /** An address of this machine. Default 127.0.0.1. */
  readonly host?: string;
  /** A folder for a unix socket per port, with `{channel}` for the label of the channel; null for TCP ports. Default null. */
  readonly folder?: string | null;
}

/** Lower ports are privileged: they are neither announced nor listened on. */
const LOWEST_PORT = 1024;
const HIGHEST_PORT = 65_535;

const MAX_RANGES = 64;

export const DEFAULT_PORT_HOST = '127.0.0.1';

/** Parses ranges such as `3000-9999,18080`, from 1,024 to 65,535; the inverse of `formatPortRanges`. Throws `bad-argument`. */
export function parsePortRanges(text: string): PortRange[] {
  return parseRanges(splitAtCommas(text));
}

/** Parses a text such as `3000-9999,dir=/run/vproxy/{channel}/ports`. Throws `bad-argument`. */
export function parsePortForwarding(text: string): PortForwarding {
  const parts = splitAtCommas(text);
  const options = parseKeyValues(parts.filter((part) => part.includes('=')));
  requireKnown(options, ['address', 'dir']);
  const [host, folder] = [options.get('address'), options.get('dir')];
  if (host !== undefined && folder !== undefined) throw bad('address= is not allowed with dir=');
  if (host !== undefined && isIP(host) === 0) {
    throw bad(`address=${escapeText(host, 80)} is not an IP address, such as 127.0.0.1`);
  }
  if (folder !== undefined) socketPathOf(folder, 'a', HIGHEST_PORT);
  return {
    ranges: parseRanges(parts.filter((part) => !part.includes('='))),
    ...(host === undefined ? {} : { host }),
    ...(folder === undefined ? {} : { folder: withoutFinalSlashes(folder) }),
  };
}

/** The inverse of `parsePortForwarding`. */
export function formatPortForwarding({ ranges, host = DEFAULT_PORT_HOST, folder = null }: PortForwarding): string {
  const options = [
    ...(host === DEFAULT_PORT_HOST ? [] : [`address=${host}`]),
    ...(folder === null ? [] : [`dir=${folder}`]),
  ];
  return [formatPortRanges(ranges), ...(options.length === 0 ? [] : [joinWithCommas(options)])].join(',');
}

/** The path of the unix socket for a port of the peer. Throws `bad-argument` if the system does not allow it. */
export function socketPathOf(folder: string, label: string, port: number): string {
  return parseSocketPath(`${fillTemplate(folder, label)}/${port}.sock`);
}

/** The service name of an announced port: `port.3000`. */
export const portService = (port: number): string => `port.${port}`;

/** Throws `bad-argument` if a side that announces ports has a forward with such a service name. */
export function requireNoPortService(forwards: readonly ForwardSpec[]): void {
  const found = forwards.find(({ direction, service }) => direction === 'incoming' && PORT_SERVICE.test(service));
  if (found === undefined) return;
  throw bad(`-i ${found.service}: not allowed with --announce-ports, which names its services port.NUMBER`);
}

function parseRanges(parts: readonly string[]): PortRange[] {
  if (parts.length > MAX_RANGES) throw bad(`too many port ranges: ${parts.length} (max ${MAX_RANGES})`);
  const ranges = parts.map(parseRange).sort(([one], [other]) => one - other);
  if (ranges.length === 0) throw bad('missing ports, such as 3000-9999');
  return ranges;
}

function parseRange(text: string): PortRange {
  const [, from = '', to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (from !== '' && first >= LOWEST_PORT && first <= last && last <= HIGHEST_PORT) return [first, last];
  throw bad(`"${escapeText(text, 64)}": not a port or a range FROM-TO, from ${LOWEST_PORT} to ${HIGHEST_PORT}`);
}

const bad = (what: string): VproxyError => badArgument(what);
