/** The text of a forward: `SERVICE:ADDR:PORT`, `SERVICE:PORT`, `SERVICE:/path:-` and `SERVICE:unix:/path`. */
import { SERVICE_NAME } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** Where a forward listens, or what it dials. */
export type Endpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** A forward as it was asked for. */
export interface ForwardSpec {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) dials here. */
  readonly direction: 'outgoing' | 'incoming';
  readonly service: string;
  readonly endpoint: Endpoint;
}

/** The longest path of a unix socket, in bytes: sun_path of unix(7) without its final NUL. */
const MAX_UNIX_PATH_BYTES = 107;

const LOOPBACK = '127.0.0.1';

/** A forward from its text. Throws `bad-argument` with what would be right. */
export function parseForwardSpec(direction: ForwardSpec['direction'], text: string): ForwardSpec {
  const option = direction === 'outgoing' ? '-o' : '-i';
  const fail = (what: string): VproxyError =>
    new VproxyError(
      'bad-argument',
      `${option} ${escapeText(text)}: ${what}; expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path`,
    );
  const colon = text.indexOf(':');
  if (colon === -1) throw fail('there is no colon behind the service');
  const service = text.slice(0, colon);
  if (!SERVICE_NAME.test(service)) {
    throw fail('a service is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit');
  }
  const endpoint = parseEndpoint(text.slice(colon + 1), fail);
  if (direction === 'incoming' && endpoint.kind === 'tcp' && endpoint.port === 0) {
    throw fail('port 0 cannot be dialled');
  }
  return { direction, service, endpoint };
}

function parseEndpoint(text: string, fail: (what: string) => VproxyError): Endpoint {
  if (text.startsWith('unix:')) return unixEndpoint(text.slice('unix:'.length), fail);
  if (text.startsWith('/')) return unixEndpoint(text.endsWith(':-') ? text.slice(0, -2) : text, fail);
  if (/^\d+$/.test(text)) return { kind: 'tcp', host: LOOPBACK, port: parsePort(text, fail) };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d+)$/.exec(text);
  if (match === null) throw fail('the address is not ADDR:PORT (an IPv6 address stands in brackets)');
  const host = match[1] ?? match[2] ?? '';
  return { kind: 'tcp', host, port: parsePort(match[3] ?? '', fail) };
}

function unixEndpoint(path: string, fail: (what: string) => VproxyError): Endpoint {
  if (!path.startsWith('/')) throw fail('the path of a unix socket is absolute');
  if (path.includes('\0')) throw fail('a path cannot contain a NUL');
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_UNIX_PATH_BYTES) throw fail(`a path of ${bytes} bytes exceeds ${MAX_UNIX_PATH_BYTES}`);
  return { kind: 'unix', path };
}

function parsePort(text: string, fail: (what: string) => VproxyError): number {
  const port = Number(text);
  if (port > 65_535) throw fail(`port ${escapeText(text, 20)} is not in 0 to 65535`);
  return port;
}

/** An endpoint as people write it: `127.0.0.1:22`, `[::1]:22`, `/run/x.sock`. */
export function formatEndpoint(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return endpoint.path;
  return `${endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`;
}

/** The text of a forward, such that parsing it gives the same. */
export function formatForwardSpec({ service, endpoint }: ForwardSpec): string {
  return `${service}:${endpoint.kind === 'unix' ? 'unix:' : ''}${formatEndpoint(endpoint)}`;
}
