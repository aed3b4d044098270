/** Which virtio-serial port of a domain is the channel. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { DomainPort } from './libvirt-domain.js';

/** A port of this name is vproxy's where no other is asked for. */
const OWN_PREFIX = 'org.vproxy.';

/**
 * The port of that name; where it is null, the only one whose name begins with `org.vproxy.`. Throws `channel-missing` where
 * there is none, `channel-unusable` where there are several.
 */
export function choosePort(ports: readonly DomainPort[], name: string | null): DomainPort {
  const fitting = ports.filter((port) => (name === null ? port.name.startsWith(OWN_PREFIX) : port.name === name));
  const [port] = fitting;
  if (port !== undefined && fitting.length === 1) return port;
  const wanted = name === null ? `whose name begins with ${OWN_PREFIX}` : `named ${escapeText(name, 80)}`;
  const there = ports.length === 0 ? 'none' : list(port === undefined ? ports : fitting);
  if (port === undefined) {
    throw new VproxyError('channel-missing', `the domain has no virtio port ${wanted}; there are: ${there}`);
  }
  throw new VproxyError('channel-unusable', `the domain has several virtio ports ${wanted}; say which: ${there}`);
}

function list(ports: readonly DomainPort[]): string {
  const names = ports.slice(0, MAX_LISTED).map((port) => escapeText(port.name, 80));
  return [...names, ...(ports.length > MAX_LISTED ? ['…'] : [])].join(', ');
}

const MAX_LISTED = 16;
