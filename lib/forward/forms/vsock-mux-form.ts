/** `vsock-mux:/path:PORT`, and `*:vsock-mux:/path` with services instead of ports. */
import { MAX_VSOCK_PORT, parseVsockPort } from '../../channel/vsock-mux.js';
import { SERVICE_NAME } from '../../codec/limits.js';
import { badArgument } from '../../errors.js';
import {
  ACCESS_OPTIONS,
  formatSocketAccess,
  parseSocketAccess,
  type SocketAccess,
} from '../../system/sockets/listen-address.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatPath, parseSocketPath } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';
import type { NameSample } from '../template.js';
import type { EndpointForm } from './endpoint-form.js';

export interface VsockMuxEndpoint {
  readonly kind: 'vsock-mux';
  readonly path: string;
  /** The port to ask for; targets only. */
  readonly port?: number;
  /** The services by port; listeners only. */
  readonly services?: Readonly<Record<number, string>>;
  readonly access?: SocketAccess;
}

export const vsockMuxForm: EndpointForm<VsockMuxEndpoint> = {
  form: {
    outgoing: 'vsock-mux:/path[,PORT=SERVICE…][,mode=0660][,user=NAME][,group=NAME]',
    incoming: 'vsock-mux:/path:PORT',
  },
  namesService: true,
  parse(text, direction, sampleOf) {
    const [address = '', ...options] = splitAtCommas(text);
    const values = parseKeyValues(options);
    return direction === 'incoming' ? parseTarget(address, values) : parseListener(address, values, sampleOf);
  },
  format({ path, port, services = {}, access = {} }) {
    if (port !== undefined) return joinWithCommas([`${formatPath(path)}:${port}`]);
    const ports = Object.entries(services).map(([number, service]) => `${number}=${service}`);
    return joinWithCommas([formatPath(path), ...ports, ...formatSocketAccess(access)]);
  },
};

function parseTarget(text: string, values: ReadonlyMap<string, string>): VsockMuxEndpoint {
  requireKnown(values, []);
  const [, path = '', digits = ''] = /^(.*):(\d+)$/s.exec(text) ?? [];
  const port = parseVsockPort(digits);
  if (port === null) throw badArgument(`the path must be followed by a port from 0 to ${MAX_VSOCK_PORT}`);
  return { kind: 'vsock-mux', path: parseSocketPath(path), port };
}

function parseListener(text: string, values: ReadonlyMap<string, string>, sampleOf: NameSample): VsockMuxEndpoint {
  const ports = [...values].filter(([key]) => /^\d+$/.test(key));
  requireKnown(new Map([...values].filter(([key]) => !/^\d+$/.test(key))), ['PORT', ...ACCESS_OPTIONS]);
  const services = Object.fromEntries(ports.map(([key, value]) => parsePortService(`${key}=${value}`, sampleOf)));
  const access = parseSocketAccess(values);
  return {
    kind: 'vsock-mux',
    path: parseSocketPath(text),
    ...(ports.length === 0 ? {} : { services }),
    ...(access === null ? {} : { access }),
  };
}

/** Parses `PORT=SERVICE`. Throws `bad-argument`. */
function parsePortService(text: string, sampleOf: NameSample): readonly [port: number, service: string] {
  const [, digits = '', service = ''] = /^(\d+)=(.*)$/s.exec(text) ?? [];
  const port = parseVsockPort(digits);
  if (port !== null && SERVICE_NAME.test(sampleOf(service))) return [port, service];
  throw badArgument(`"${escapeText(text, 100)}" is not PORT=SERVICE, such as 1234=ssh`);
}
