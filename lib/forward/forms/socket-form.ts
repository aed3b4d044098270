/** Sockets to listen on or to dial: TCP (`ADDR:PORT`, `PORT`) and unix sockets (`/path`, `unix:/path`). */
import { badArgument } from '../../errors.js';
import {
  ACCESS_OPTIONS,
  formatSocketAccess,
  parseSocketAccess,
  type SocketAccess,
} from '../../system/sockets/listen-address.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatHostPort, type HostPort, isHost } from '../../util/addresses/host-port.js';
import { formatPath, parseSocketPath } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';
import type { NameSample } from '../template.js';
import type { Direction, EndpointForm } from './endpoint-form.js';

/** A name or an address (IPv6 without brackets), and a port; 0 lets the system pick one to listen on. */
export interface TcpEndpoint extends HostPort {
  readonly kind: 'tcp';
}

const LOOPBACK = '127.0.0.1';

export const tcpForm: EndpointForm<TcpEndpoint> = {
  form: { outgoing: 'tcp:ADDR:PORT', incoming: 'tcp:ADDR:PORT' },
  parse: (text, direction, sampleOf) => ({ kind: 'tcp', ...parseAddress(text, direction, sampleOf) }),
  format: formatHostPort,
};

/** Parses `ADDR:PORT`, or `PORT` on 127.0.0.1. Throws `bad-argument`. */
export function parseAddress(text: string, direction: Direction, sampleOf: NameSample): HostPort {
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? LOOPBACK;
  if (digits === undefined || !isHost(sampleOf(host), bracketed !== undefined))
    throw badArgument('not a valid ADDR:PORT (an IPv6 address goes in brackets)');
  const port = Number(digits);
  if (port > 65_535) throw badArgument(`port ${escapeText(digits, 20)} is not from 0 to 65535`);
  if (port === 0 && direction === 'incoming') throw badArgument('port 0 is not from 1 to 65535');
  return { host, port };
}

/** The file of a unix socket. */
export interface SocketFile {
  readonly path: string;
  /** The permissions of a socket that is created. Default: only the owner may connect. */
  readonly access?: SocketAccess;
}

export interface UnixEndpoint extends SocketFile {
  readonly kind: 'unix';
}

/** The form of a socket file to create. */
export const PATH_FORM = '/path[,mode=0660][,user=NAME][,group=NAME]';

/** Parses a path, with options if a socket is created. Throws `bad-argument`. */
export function parseSocketFile(text: string, direction: Direction, parsePath = parseSocketPath): SocketFile {
  const [path = '', ...options] = splitAtCommas(text);
  const values = parseKeyValues(options);
  requireKnown(values, direction === 'outgoing' ? ACCESS_OPTIONS : []);
  const access = parseSocketAccess(values);
  return { path: parsePath(path), ...(access === null ? {} : { access }) };
}

/** The text of a socket's file; `parseSocketFile` reads it back. */
export function formatSocketFile({ path, access = {} }: SocketFile): string {
  return joinWithCommas([formatPath(path), ...formatSocketAccess(access)]);
}

export const unixForm: EndpointForm<UnixEndpoint> = {
  form: { outgoing: `unix:${PATH_FORM}`, incoming: 'unix:/path' },
  recognizes: (text) => text.startsWith('/'),
  parse: (text, direction) => ({ kind: 'unix', ...parseSocketFile(text, direction) }),
  format: formatSocketFile,
};
