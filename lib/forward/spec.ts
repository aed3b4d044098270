/** A forward: its text, `SERVICE:` and an endpoint such as `ADDR:PORT`, `/path` or `KIND:…` (docs/forwards.md), and what it is while it exists. */
import { SERVICE_NAME } from '../codec/limits.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { Direction, EndpointBase, EndpointKinds } from './endpoint-kind.js';
import { ENDPOINT_KINDS, type Endpoint } from './endpoint-kinds.js';

/** A forward as it was asked for. */
export interface ForwardSpec {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  /** `*` where who connects names the service. */
  readonly service: string;
  /** Where it listens, or what it serves with. */
  readonly endpoint: Endpoint;
}

/** The service of an `-o` whose callers name it. */
export const ANY_SERVICE = '*';

/** A forward from its text. Throws `bad-argument` with what would be right. `kinds` is for tests. */
export function parseForwardSpec(
  direction: Direction,
  text: string,
  kinds: EndpointKinds = ENDPOINT_KINDS,
): ForwardSpec {
  const fail = (what: string, expected = 'SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path'): VproxyError =>
    new VproxyError(
      'bad-argument',
      `${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text)}: ${what}; expected ${expected}`,
    );
  const colon = text.indexOf(':');
  if (colon === -1) throw fail('there is no colon behind the service');
  const service = text.slice(0, colon);
  const { name, isNamed, rest } = findKind(text.slice(colon + 1), kinds);
  const kind = kinds[name];
  if (service !== ANY_SERVICE && !SERVICE_NAME.test(service)) {
    throw fail('a service is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit');
  }
  const form = kind?.form[direction];
  if (kind === undefined || form === undefined) {
    throw fail(`${name} is nothing ${direction === 'outgoing' ? 'to listen on' : 'to serve streams with'}`);
  }
  const isAny = kind.namesService === true && direction === 'outgoing';
  const expected = isNamed ? `${isAny ? ANY_SERVICE : 'SERVICE'}:${form}` : undefined;
  if (isAny !== (service === ANY_SERVICE)) {
    throw fail(isAny ? 'who connects there names the service, so it is *' : 'the service * has no meaning', expected);
  }
  try {
    // The tables of kinds and of endpoints go together; a kind of a test's own is not in the type.
    return { direction, service, endpoint: kind.parse(rest, direction) as Endpoint };
  } catch (error) {
    throw fail(toVproxyError(error).message, expected);
  }
}

/** The kind that a text names, or that recognizes it, or the last one. */
function findKind(text: string, kinds: EndpointKinds): { name: string; isNamed: boolean; rest: string } {
  const [, prefix = ''] = /^([a-z][a-z0-9-]*):/.exec(text) ?? [];
  if (Object.hasOwn(kinds, prefix)) return { name: prefix, isNamed: true, rest: text.slice(prefix.length + 1) };
  const name = Object.keys(kinds).find((key) => kinds[key]?.recognizes?.(text) === true) ?? lastOf(kinds);
  return { name, isNamed: false, rest: text };
}

/** An endpoint as people write it: `127.0.0.1:22`, `[::1]:22`, `/run/x.sock`, `exec:uptime`. `kinds` is for tests. */
export function formatEndpoint(endpoint: EndpointBase, kinds: EndpointKinds = ENDPOINT_KINDS): string {
  const text = kinds[endpoint.kind]?.format(endpoint) ?? '';
  const found = findKind(text, kinds);
  return !found.isNamed && found.name === endpoint.kind ? text : `${endpoint.kind}:${text}`;
}

/** The text of a forward, such that parsing it gives the same. `kinds` is for tests. */
export function formatForwardSpec({ service, endpoint }: ForwardSpec, kinds: EndpointKinds = ENDPOINT_KINDS): string {
  const isPlain = endpoint.kind === lastOf(kinds);
  return `${service}:${isPlain ? formatEndpoint(endpoint, kinds) : `${endpoint.kind}:${kinds[endpoint.kind]?.format(endpoint) ?? ''}`}`;
}

function lastOf(kinds: EndpointKinds): string {
  return Object.keys(kinds).at(-1) ?? '';
}

/** What outgoing and incoming forwards have in common. One is made without effect; `start` puts it in force. */
export interface Forward {
  readonly spec: ForwardSpec;
  /** The address in force, with the port that was picked where 0 was asked for. */
  readonly endpointText: string;
  /** Connections open now, those that wait and those being closed included. */
  readonly openCount: number;
  /** Streams that it ever had. */
  readonly streamCount: number;

  /** Takes new streams from now on. Rejects with `address-…` codes, or `bad-argument` for a service that is taken. */
  start(): Promise<void>;

  /** Takes no new streams; those that are open go on. `start` puts it in force again. */
  pause(): void;

  /** Takes no new streams, and resets what is open. For good. */
  stop(): Promise<void>;
}
