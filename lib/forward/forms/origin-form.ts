/** `origin:https://HOST[:PORT],allow=METHODS:PATH…`. */
import { badArgument } from '../../errors.js';
import { joinWithCommas, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatHostPort, isHost, isIPv6 } from '../../util/addresses/host-port.js';
import { formatPath, parsePath } from '../../util/addresses/paths.js';
import { suggestOrList } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';
import { isEndToEnd, isField, isToken } from '../egress/head.js';
import { readTarget } from '../origin/request-target.js';
import type { NameSample } from '../template.js';
import type { Direction, EndpointForm } from './endpoint-form.js';

/** Requests that pass. */
export interface AllowedRequests {
  /** Upper-case, unless the origin server's are not; null: every one. */
  readonly methods: readonly string[] | null;
  /** A decoded path, or its beginning. */
  readonly path: string;
  readonly isBeginning: boolean;
  /** Its text, `POST:/v1/*`. */
  readonly text: string;
}

/** A field that replaces those of its name in a request. */
export interface SetField {
  readonly name: string;
  /** The value, or what precedes the contents of the file in it. */
  readonly value: string;
  /** The absolute path of a file with the secret that ends the value; null: none. */
  readonly file: string | null;
}

export interface OriginEndpoint {
  readonly kind: 'origin';
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
  /** At least one. */
  readonly allow: readonly AllowedRequests[];
  readonly headers: readonly SetField[];
  /** The path of the certificates that sign the origin server's. Default: those that Node trusts. */
  readonly ca?: string;
  /** The protocol that a request may ask to switch to. Default: none. */
  readonly upgrade?: string;
  /** Whether the log has the query of a request. Default false. */
  readonly logsQuery?: boolean;
}

const FORM =
  'origin:https://HOST[:PORT],allow=METHOD[+METHOD…]:/PATH[*]…[,header=NAME:[TEXT ]@/FILE…][,ca=/FILE][,upgrade=websocket][,log=query]';

const OPTIONS = ['allow', 'header', 'ca', 'upgrade', 'log'] as const;

export const originForm: EndpointForm<OriginEndpoint> = { form: { incoming: FORM }, parse, format };

function parse(text: string, _direction: Direction, sampleOf: NameSample): OriginEndpoint {
  const [url = '', ...options] = splitAtCommas(text);
  const values: Record<(typeof OPTIONS)[number], string[]> = { allow: [], header: [], ca: [], upgrade: [], log: [] };
  for (const option of options) {
    const [, key = '', value = ''] = /^([^=]+)=(.+)$/s.exec(option) ?? [];
    const known = OPTIONS.find((one) => one === key);
    if (known !== undefined) values[known].push(value);
    else throw badArgument(`unknown option "${escapeText(option, 80)}"; ${suggestOrList(key, OPTIONS)}`);
  }
  for (const key of ['ca', 'upgrade', 'log'] as const)
    if (values[key].length > 1) throw badArgument(`option ${key} given twice`);
  if (values.allow.length === 0) throw badArgument('missing allow=; allow=*:/* lets every request pass');
  const [ca, upgrade, log] = [values.ca[0], values.upgrade[0], values.log[0]];
  if (upgrade !== undefined && !isToken(upgrade)) throw badArgument('upgrade= is not the name of a protocol');
  if (log !== undefined && log !== 'query') throw badArgument(`log=${escapeText(log, 80)} is not log=query`);
  const headers = values.header.map(parseHeader);
  const twice = headers.find(({ name }, at) => headers.findIndex((one) => isSameName(one.name, name)) !== at);
  if (twice !== undefined) throw badArgument(`header ${twice.name} given twice`);
  return {
    kind: 'origin',
    ...parseUrl(url, sampleOf),
    allow: values.allow.map(parseAllowed),
    headers,
    ...(ca !== undefined && { ca: parsePath(ca) }),
    ...(upgrade !== undefined && { upgrade: upgrade.toLowerCase() }),
    ...(log !== undefined && { logsQuery: true }),
  };
}

function format(endpoint: OriginEndpoint): string {
  const { allow, ca, headers, logsQuery = false, upgrade } = endpoint;
  return joinWithCommas([
    formatOrigin(endpoint),
    ...allow.map((one) => `allow=${one.text}`),
    ...headers.map(({ file, name, value }) => `header=${name}:${value}${file === null ? '' : `@${formatPath(file)}`}`),
    ...(ca === undefined ? [] : [`ca=${formatPath(ca)}`]),
    ...(upgrade === undefined ? [] : [`upgrade=${upgrade}`]),
    ...(logsQuery ? ['log=query'] : []),
  ]);
}

const DEFAULT_PORTS = { https: 443, http: 80 };

/** The origin, as in RFC 6454: `https://api.example`, with its port unless it is the default one. */
export const formatOrigin = (endpoint: OriginEndpoint): string =>
  `${endpoint.isTls ? 'https' : 'http'}://${formatAuthority(endpoint)}`;

/** The value of the Host field. */
export function formatAuthority({ host, isTls, port }: OriginEndpoint): string {
  const text = formatHostPort({ host, port });
  return port === DEFAULT_PORTS[isTls ? 'https' : 'http'] ? text.slice(0, text.lastIndexOf(':')) : text;
}

function parseUrl(text: string, sampleOf: NameSample): Pick<OriginEndpoint, 'isTls' | 'host' | 'port'> {
  const [, scheme, bracketed, plain = '', digits] =
    /^(https?):\/\/(?:\[([^\]]*)\]|([^:[\]/?#@]+))(?::(\d{1,5}))?\/?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const isTls = scheme === 'https';
  const port = digits === undefined ? DEFAULT_PORTS[isTls ? 'https' : 'http'] : Number(digits);
  const isValid = bracketed === undefined ? isHost(sampleOf(host), false) : isIPv6(bracketed);
  if (scheme === undefined || !isValid || port < 1 || port > 65_535)
    throw badArgument(`"${escapeText(text, 80)}" is not an origin such as https://api.example, without a path`);
  return { isTls, host, port };
}

/** Whether `allow=` can name a decoded path. */
export const isPlainPath = (path: string): boolean => /^[!"$&-)+->@-~]*$/.test(path);

function parseAllowed(text: string): AllowedRequests {
  const bad = (why: string) =>
    badArgument(`allow=${escapeText(text, 80)}: ${why}; expected METHOD:/PATH, such as POST:/v1/*`);
  const [, methods = '', path = ''] = /^([^:]*):(.*)$/s.exec(text) ?? [];
  const isBeginning = path.endsWith('*');
  const plain = isBeginning ? path.slice(0, -1) : path;
  const words = methods.split('+');
  if (methods !== '*' && !words.every((word) => isToken(word) && word !== '*')) throw bad('not a method');
  if (!isPlainPath(plain)) throw bad('the path has other characters than those of a decoded path, or * within');
  try {
    readTarget(plain);
  } catch (error) {
    throw bad(error instanceof Error ? error.message : '');
  }
  return { methods: methods === '*' ? null : words, path: plain, isBeginning, text };
}

/** Names that some servers take for each other, as for CGI: in upper or lower case, with `_` or `.` in place of `-`. */
export const isSameName = (a: string, b: string): boolean => plainName(a) === plainName(b);

export const plainName = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '-');

function parseHeader(text: string): SetField {
  const bad = (why: string) => badArgument(`header=${escapeText(text.split(':', 1)[0] ?? '', 80)}: ${why}`);
  const [, name = '', after = ''] = /^([^:]*):(.*)$/s.exec(text) ?? [];
  if (!isToken(name)) throw bad('not NAME:VALUE or NAME:@/FILE');
  if (!isEndToEnd(name) || ['host', 'via', 'expect'].includes(plainName(name)))
    throw bad('vproxy sets this field itself');
  const [, value = '', file] = /^((?:.* )?)@(\/.*)$/s.exec(after) ?? [];
  if (file !== undefined) {
    if (!isField(`${name}: ${value}x`)) throw bad('not a valid value');
    return { name, value, file: parsePath(file) };
  }
  if (after.startsWith('@')) throw bad('the path of the file is not absolute');
  if (after.trim() === '' || !isField(`${name}: ${after}`)) throw bad('not a valid value');
  return { name, value: after, file: null };
}
