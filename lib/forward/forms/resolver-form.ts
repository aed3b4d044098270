/** `resolver:[EGRESS][,server=ADDR]`. */
import { SERVICE_NAME } from '../../codec/limits.js';
import { badArgument } from '../../errors.js';
import { DNS_PORT, MAX_SERVERS } from '../../system/dns/host-files.js';
import { joinWithCommas, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatHostPort, type HostPort, isIP, isIPv6 } from '../../util/addresses/host-port.js';
import { escapeText } from '../../util/escape.js';
import type { EndpointForm } from './endpoint-form.js';

export interface ResolverEndpoint {
  readonly kind: 'resolver';
  /** The egress whose names are answered; empty: the one named like the service. */
  readonly name: string;
  /** Addresses of the servers to ask, in order. Default: the servers of /etc/resolv.conf. */
  readonly servers?: readonly HostPort[];
}

export const resolverForm: EndpointForm<ResolverEndpoint> = {
  form: { incoming: 'resolver:[EGRESS][,server=ADDR[:PORT]]' },
  parse(text, _direction, sampleOf) {
    const [name = '', ...options] = splitAtCommas(text);
    if (name !== '' && !SERVICE_NAME.test(sampleOf(name)))
      throw badArgument(`"${escapeText(name, 80)}": not a valid egress name`);
    const servers = options.map(parseServer);
    if (servers.length > MAX_SERVERS) throw badArgument(`too many servers: ${servers.length} (max ${MAX_SERVERS})`);
    return { kind: 'resolver', name, ...(servers.length > 0 && { servers }) };
  },
  format: ({ name, servers = [] }) => joinWithCommas([name, ...servers.map(formatServer)]),
};

/** Parses `server=` with an IPv4 or IPv6 address and an optional port (then IPv6 in brackets). Throws `bad-argument`. */
function parseServer(option: string): HostPort {
  const [, text] = /^server=(.+)$/s.exec(option) ?? [];
  if (text === undefined) throw badArgument(`unknown option "${escapeText(option, 80)}"; available: server=ADDR`);
  const [, bracketed, plain = '', digits] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = isIPv6(text) ? text : (bracketed ?? plain);
  const port = digits === undefined ? DNS_PORT : Number(digits);
  const family = isIP(host);
  if (family === 0 || (bracketed !== undefined && family !== 6) || port < 1 || port > 65_535)
    throw badArgument(
      `"${escapeText(text, 80)}": not a valid server address, such as 10.0.0.2, 10.0.0.2:5353 or [2001:db8::1]:53`,
    );
  return { host, port };
}

const formatServer = (server: HostPort): string =>
  `server=${server.port === DNS_PORT ? server.host : formatHostPort(server)}`;
