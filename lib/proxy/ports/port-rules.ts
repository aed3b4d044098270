/** What is said of ports that appear by themselves: ranges, and where the peer's ports are listened for. */
import net from 'node:net';
import { VproxyError } from '../../errors.js';
import { parseUnixPath } from '../../forward/endpoints/socket-endpoint.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { fillTemplate } from '../../forward/template.js';
import {
  formatPortRanges,
  joinWithCommas,
  type PortRange,
  parseKeyValues,
  requireKnown,
  splitAtCommas,
  withoutFinalSlashes,
} from '../../util/addresses.js';
import { escapeText } from '../../util/escape.js';

/** Where the peer's ports are listened for. */
export interface PortForwarding {
  /** The ports of the peer that are listened for here. */
  readonly ranges: readonly PortRange[];
  /** An address of this machine. Default 127.0.0.1. */
  readonly host?: string;
  /** A folder for a unix socket of each port, with `{channel}` for the label of the channel; null: TCP ports. Default null. */
  readonly folder?: string | null;
}

/** Ports below are privileged: none of them is announced, or listened on. */
const LOWEST_PORT = 1024;
const HIGHEST_PORT = 65_535;

const MAX_RANGES = 64;

export const DEFAULT_PORT_HOST = '127.0.0.1';

/** Ranges of a text such as `3000-9999,18080`, from 1,024 to 65,535; `formatPortRanges` writes it back. Throws `bad-argument`. */
export function parsePortRanges(text: string): PortRange[] {
  return parseRanges(splitAtCommas(text));
}

/** Of a text such as `3000-9999,dir=/run/vproxy/{channel}/ports`. Throws `bad-argument`. */
export function parsePortForwarding(text: string): PortForwarding {
  const parts = splitAtCommas(text);
  const options = parseKeyValues(parts.filter((part) => part.includes('=')));
  requireKnown(options, ['address', 'dir']);
  const [host, folder] = [options.get('address'), options.get('dir')];
  if (host !== undefined && folder !== undefined) throw bad('address= and dir= cannot stand together');
  if (host !== undefined && net.isIP(host) === 0) {
    throw bad(`address=${escapeText(host, 80)} is not an IP address, such as 127.0.0.1`);
  }
  if (folder !== undefined) socketPathOf(folder, 'a', HIGHEST_PORT);
  return {
    ranges: parseRanges(parts.filter((part) => !part.includes('='))),
    ...(host === undefined ? {} : { host }),
    ...(folder === undefined ? {} : { folder: withoutFinalSlashes(folder) }),
  };
}

/** The text of it; `parsePortForwarding` reads it back. */
export function formatPortForwarding({ ranges, host = DEFAULT_PORT_HOST, folder = null }: PortForwarding): string {
  const options = [
    ...(host === DEFAULT_PORT_HOST ? [] : [`address=${host}`]),
    ...(folder === null ? [] : [`dir=${folder}`]),
  ];
  return [formatPortRanges(ranges), ...(options.length === 0 ? [] : [joinWithCommas(options)])].join(',');
}

/** The path of the unix socket for a port of the peer. Throws `bad-argument` where the system does not allow it. */
export function socketPathOf(folder: string, label: string, port: number): string {
  return parseUnixPath(`${fillTemplate(folder, label)}/${port}.sock`);
}

// The service that leads to a port.

/** What the service of an announced port is called: `port.3000`. */
export const portService = (port: number): string => `port.${port}`;

const PORT_SERVICE = /^port\.\d+$/;

/** Throws `bad-argument` where a side that announces ports offers a service of such a name itself. */
export function requireNoPortService(forwards: readonly ForwardSpec[]): void {
  const found = forwards.find(({ direction, service }) => direction === 'incoming' && PORT_SERVICE.test(service));
  if (found === undefined) return;
  throw bad(
    `-i ${found.service}: with --announce-ports, port.NUMBER is what the services of announced ports are called`,
  );
}

function parseRanges(parts: readonly string[]): PortRange[] {
  if (parts.length > MAX_RANGES) throw bad(`${parts.length} ranges of ports exceed ${MAX_RANGES}`);
  const ranges = parts.map(parseRange).sort(([one], [other]) => one - other);
  if (ranges.length === 0) throw bad('there are no ports, such as 3000-9999');
  return ranges;
}

function parseRange(text: string): PortRange {
  const [, from = '', to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (from !== '' && first >= LOWEST_PORT && first <= last && last <= HIGHEST_PORT) return [first, last];
  throw bad(`"${escapeText(text, 64)}" is not a port, or two with a hyphen, from ${LOWEST_PORT} to ${HIGHEST_PORT}`);
}

const bad = (what: string): VproxyError => new VproxyError('bad-argument', what);
