/** The request to a proxy: for a tunnel to a destination, or for an origin server's answer (RFC 9112 section 3.2). */
import { parseDestination } from './admission.js';
import { BadMessage, CLOSE, endToEnd, type Field, formatHead, isClosing, type RequestHead, valuesOf } from './head.js';
import { type Framing, requestFraming } from './message.js';
import { Refusal } from './refusal.js';
import type { Destination } from './rules.js';

/** A request with a valid head. */
export interface ProxyRequest {
  readonly head: RequestHead;
  readonly destination: Destination;
  /** The target for the origin server; null for CONNECT. */
  readonly originTarget: string | null;
  readonly framing: Framing;
  /** Whether another request may follow on the connection. */
  readonly isPersistent: boolean;
  /** The protocol that the origin server may switch to. Default: none. */
  readonly upgrade?: string | null;
}

/** How requests of programs are read, and sent to origin servers. */
export interface RequestForm {
  /** Parses the request of a head. Throws {@link BadMessage} or {@link Refusal}. */
  parse(head: RequestHead): ProxyRequest;
  /** The head for the origin server. Throws {@link Refusal}. */
  format(request: ProxyRequest): Buffer;
}

export function parseProxyRequest(head: RequestHead): ProxyRequest {
  const framing = requestFraming(head);
  const { authority, defaultPort, originTarget } = targetOf(head);
  const destination = parseAuthority(authority, defaultPort);
  checkHost(head, destination);
  requireForwardable(head);
  return { head, destination, originTarget, framing, isPersistent: isPersistent(head) };
}

/** Whether another request may follow that one. */
export const isPersistent = ({ fields, minor }: RequestHead): boolean =>
  minor === 1 && !isClosing(fields) && !isClosing(fields, 'proxy-connection');

/** Throws {@link Refusal} for TRACE, and IIS's TRACK, whose answers repeat the fields of the request. */
export function requireForwardable({ method }: RequestHead): void {
  if (/^tra(?:ce|ck)$/i.test(method)) throw new Refusal('not-supported', 'TRACE is not forwarded');
}

interface RequestTarget {
  readonly authority: string;
  /** Null: the port is mandatory. */
  readonly defaultPort: number | null;
  readonly originTarget: string | null;
}

function targetOf({ method, target }: RequestHead): RequestTarget {
  if (method === 'CONNECT') return { authority: target, defaultPort: null, originTarget: null };
  if (target.startsWith('/') || target === '*')
    throw new BadMessage('this is a proxy, not a web server; set it as the HTTP proxy of a program');
  const [, scheme = '', authority, rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)((?:[/?#].*)?)$/i.exec(target) ?? [];
  if (authority === undefined) throw new BadMessage('the request target is not a URL');
  if (scheme.toLowerCase() === 'https') throw new BadMessage('https URLs need CONNECT');
  if (scheme.toLowerCase() !== 'http')
    throw new BadMessage('only http URLs are fetched; use CONNECT for anything else');
  if (rest.includes('#')) throw new BadMessage('the request target has a fragment');
  return { authority, defaultPort: 80, originTarget: originFormOf(rest, method) };
}

/** RFC 9112 sections 3.2.1 and 3.2.4. */
function originFormOf(rest: string, method: string): string {
  if (rest === '' && method === 'OPTIONS') return '*';
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** Parses `HOST`, `HOST:PORT` or `[V6]:PORT`. Throws `Refusal` (`bad-destination`). */
function parseAuthority(authority: string, defaultPort: number | null): Destination {
  const [, bracketed, plain = '', digits = ''] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{0,5}))?$/.exec(authority) ?? [];
  if (authority.includes('@')) throw bad('the destination cannot have a user name');
  const port = digits === '' ? defaultPort : Number(digits);
  if (port === null) throw bad('the destination of CONNECT must be HOST:PORT');
  if (bracketed === undefined ? plain === '' : !bracketed.includes(':')) throw bad('the destination is not HOST:PORT');
  return parseDestination(bracketed ?? plain, port);
}

const bad = (what: string): Refusal => new Refusal('bad-destination', what);

/** RFC 9112 section 3.2; in addition Host must match the target, since other readers may rely on it. */
function checkHost(head: RequestHead, { host, port }: Destination): void {
  const text = readHost(head);
  if (text === null) return;
  const named = parseAuthority(text, head.method === 'CONNECT' ? port : 80);
  if (named.host !== host || named.port !== port)
    throw new BadMessage('the Host field differs from the request target');
}

/** The value of the Host field; null in HTTP/1.0 without one. Throws {@link BadMessage}. */
export function readHost({ fields, minor }: RequestHead): string | null {
  const [text = null, ...more] = valuesOf(fields, 'host');
  if (more.length > 0) throw new BadMessage('more than one Host field');
  if (text === null && minor === 1) throw new BadMessage('missing Host field');
  return text;
}

export function originRequestHead({ head, destination, framing, isPersistent, originTarget }: ProxyRequest): Buffer {
  const { fields, method, minor } = head;
  const kept = endToEnd(fields).filter(({ name }) => name.toLowerCase() !== 'host');
  return formatHead(`${method} ${originTarget ?? '/'} HTTP/1.1`, [
    { name: 'Host', value: hostOf(destination) },
    ...kept.map((field) => lessenForwards(field, method)),
    ...framingFields(framing),
    { name: 'Via', value: `1.${minor} vproxy` },
    ...(isPersistent ? [] : [CLOSE]),
  ]);
}

/** The fields that ask to switch to a protocol, or say so. */
export const upgradeFields = (protocol: string): Field[] => [
  { name: 'Upgrade', value: protocol },
  { name: 'Connection', value: 'Upgrade' },
];

/** The field that states the framing, if any. */
export function framingFields(framing: Framing): Field[] {
  if (framing.kind === 'length') return [{ name: 'Content-Length', value: String(framing.bytes) }];
  return framing.kind === 'chunked' ? [{ name: 'Transfer-Encoding', value: 'chunked' }] : [];
}

function hostOf({ family, host, port }: Destination): string {
  const name = family === 6 ? `[${host}]` : host;
  return port === 80 ? name : `${name}:${port}`;
}

/** Decrements Max-Forwards of an OPTIONS (RFC 9110 section 7.6.2). Throws {@link Refusal} if it is 0. */
function lessenForwards(field: Field, method: string): Field {
  if (method !== 'OPTIONS' || field.name.toLowerCase() !== 'max-forwards' || !/^\d{1,5}$/.test(field.value))
    return field;
  if (Number(field.value) === 0) throw new Refusal('not-supported', 'Max-Forwards is 0');
  return { name: field.name, value: String(Number(field.value) - 1) };
}

/** Requests to a proxy. */
export const PROXY_REQUESTS: RequestForm = { parse: parseProxyRequest, format: originRequestHead };
