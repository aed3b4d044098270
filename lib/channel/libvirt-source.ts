/** The host's end of a domain's port, as one of the kinds that this side opens. */
import os from 'node:os';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { isLoopback, parseHostPort } from '../util/host-port.js';
import { formatPath, parseSocketPath } from '../util/unix-path.js';
import type { DialContext } from './kind.js';
import type { DomainPort } from './libvirt-domain.js';
import type { Link } from './link.js';
import { pipeOpen } from './pipe-open.js';
import { tcpConnect } from './tcp-connect.js';
import { ttyOpen } from './tty-open.js';
import { unixConnect } from './unix-connect.js';

/** Opens the host's end of a port. */
export type DialPort = (context: DialContext) => Promise<Link>;

/**
 * How the host's end of a port is opened. Throws `channel-unusable` where it cannot be: QEMU connects by itself, it is no byte
 * pipe, or it is on another machine.
 */
export function dialPort(port: DomainPort): DialPort {
  const open = SOURCES[port.type];
  if (open === undefined || !Object.hasOwn(SOURCES, port.type)) {
    throw unusable(port, `is of type ${escapeText(port.type, 40)}; vproxy takes ${Object.keys(SOURCES).join(', ')}`);
  }
  return open(port);
}

const SOURCES: Readonly<Record<string, (port: DomainPort) => DialPort>> = {
  unix(port) {
    const path = read(port, 'path');
    requireBind(port, `unix-listen:${path}`);
    const parsed = parseFor(port, () => parseSocketPath(formatPath(path)));
    return (context) => unixConnect.dial(parsed, context);
  },
  tcp(port) {
    const service = read(port, 'service');
    const given = port.source.get('host') ?? '';
    requireBind(port, `tcp-listen:${bracket(given)}:${service}`);
    const protocol = port.source.get('tls') === 'yes' ? 'tls' : port.protocol;
    if (protocol !== 'raw') throw unusable(port, `speaks ${escapeText(protocol, 40)}, which vproxy does not`);
    const host = EVERY_ADDRESS.get(given) ?? given;
    const parsed = parseFor(port, () => parseHostPort(`${bracket(host)}:${service}`));
    // It is QEMU on this machine whom this side means to reach, and nobody else.
    if (!isOwn(host)) throw unusable(port, `is at ${escapeText(host, 80)}, which is no address of this machine`);
    return (context) => tcpConnect.dial(parsed, context);
  },
  pty(port) {
    const path = read(port, 'path');
    return (context) => ttyOpen.dial({ path, baud: null }, context);
  },
  pipe(port) {
    const path = read(port, 'path');
    return (context) => pipeOpen.dial(path, context);
  },
};

/** What listens at these is reached by the loopback device. */
const EVERY_ADDRESS: ReadonlyMap<string, string> = new Map([
  ['', '127.0.0.1'],
  ['0.0.0.0', '127.0.0.1'],
  ['::', '::1'],
]);

const bracket = (host: string): string => (host.includes(':') ? `[${host}]` : host);

function isOwn(host: string): boolean {
  const own = Object.values(os.networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  return isLoopback(host) || own.includes(host);
}

function read(port: DomainPort, attribute: string): string {
  const value = port.source.get(attribute) ?? '';
  if (value === '' || value.includes('\0')) throw unusable(port, `of type ${port.type} has no ${attribute}`);
  return value;
}

function requireBind(port: DomainPort, instead: string): void {
  if (port.source.get('mode') === 'bind') return;
  const what = `-c ${escapeText(instead)} is what it needs`;
  throw unusable(port, `has mode='connect', so that QEMU connects and this side listens: ${what}`);
}

function parseFor<T>(port: DomainPort, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw unusable(port, `of type ${port.type}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function unusable({ name }: DomainPort, what: string): VproxyError {
  return new VproxyError('channel-unusable', `its port ${escapeText(name, 80)} ${what}`);
}
