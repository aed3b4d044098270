/** A forward: its text, `SERVICE:` and an endpoint such as `ADDR:PORT`, `/path` or `KIND:…` (docs/forwards.md), and what it is while it exists. */
import { SERVICE_NAME } from '../codec/limits.js';
import { badArgument, toVproxyError, type VproxyError } from '../errors.js';
import type { MessageCounts } from '../session/stream.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { closestWord } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import type { ConnectionState, IndexOfStream, Inheritance } from './connection.js';
import type { Direction } from './endpoint-kind.js';
import {
  datagramEntranceOf,
  ENDPOINT_KINDS,
  type Endpoint,
  type EndpointKindName,
  entranceKindOf,
  findEndpointKind,
  isEndpointKind,
  PLAIN_KIND,
  takesDatagrams,
  targetKindOf,
} from './endpoint-kinds.js';
import { type NameSample, sampleOfName, sampleOfTemplate } from './template.js';

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

/** A forward from its text. Throws `bad-argument` with what would be right. */
export function parseForwardSpec(direction: Direction, text: string): ForwardSpec {
  return parse(direction, text, sampleOfName);
}

/** A forward of a group from its text, with `{channel}` where the label of each channel will be. Throws `bad-argument` likewise. */
export function parseForwardTemplate(direction: Direction, text: string): ForwardSpec {
  return parse(direction, text, sampleOfTemplate);
}

function parse(direction: Direction, text: string, sampleOf: NameSample): ForwardSpec {
  const fail = (what: string, expected = 'SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path'): VproxyError =>
    badArgument(`${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text)}: ${what}; expected ${expected}`);
  const order = SSH_ORDER.exec(text)?.groups;
  if (order !== undefined)
    throw fail('begins with a port, as in ssh, instead of a service', inOurOrder(direction, order));
  const colon = text.indexOf(':');
  if (colon === -1) throw fail('no colon after the service');
  const service = text.slice(0, colon);
  const { name, isNamed, rest } = findKind(text.slice(colon + 1));
  const meant = isNamed ? undefined : closestKind(text.slice(colon + 1), direction);
  const kind = ENDPOINT_KINDS[name];
  if (service !== ANY_SERVICE && !SERVICE_NAME.test(sampleOf(service))) {
    throw fail(
      'not a valid service name (1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit)',
    );
  }
  const form = kind.form[direction];
  if (form === undefined) {
    throw fail(`cannot ${direction === 'outgoing' ? 'listen on' : 'serve streams with'} ${name}`);
  }
  const isAny = kind.namesService === true && direction === 'outgoing';
  const expected = isNamed ? `${isAny ? ANY_SERVICE : 'SERVICE'}:${form}` : undefined;
  if (isAny !== (service === ANY_SERVICE)) {
    throw fail(isAny ? 'clients name the service, so it must be *' : 'the service cannot be *', expected);
  }
  try {
    return { direction, service, endpoint: kind.parse(rest, direction, sampleOf) };
  } catch (error) {
    const { message } = toVproxyError(error);
    if (meant === undefined) throw fail(message, expected);
    const forms: Readonly<Partial<Record<Direction, string>>> = ENDPOINT_KINDS[meant.kind].form;
    throw fail(`unknown kind "${meant.typed}"; did you mean ${meant.kind}:?`, `SERVICE:${forms[direction] ?? ''}`);
  }
}

/** `[ADDR:]PORT:HOST:PORT`, as ssh has it, or `PORT:PORT`: ports are no services. */
const SSH_ORDER =
  /^(?:(?<address>localhost|\*|\d+\.\d+\.\d+\.\d+|\[[^\]]*\]|):)?(?<port>\d+):(?<target>(?:(?:[^:[\]]+|\[[^\]]+\]):)?\d+)$/;

/** How that is written here: with a name, which both sides know. */
function inOurOrder(direction: Direction, { address = '', port = '', target = '' }: Record<string, string>): string {
  const listener = `-o NAME:${address === '' ? '' : `${address === '*' ? '0.0.0.0' : address}:`}${port}`;
  const texts = [listener, `-i NAME:${target}`].map((each) => escapeText(each));
  const [here, there] = direction === 'outgoing' ? texts : texts.reverse();
  return `${here} here, and ${there} at the peer, with a NAME such as ${/(?:^|:)22$/.test(target) ? 'ssh' : 'web'}`;
}

/** The kind that a text names, or that recognizes it, or the plain one. */
function findKind(text: string): { name: EndpointKindName; isNamed: boolean; rest: string } {
  const [, prefix = ''] = /^([a-z][a-z0-9-]*):/.exec(text) ?? [];
  if (isEndpointKind(prefix)) return { name: prefix, isNamed: true, rest: text.slice(prefix.length + 1) };
  const names = Object.keys(ENDPOINT_KINDS).filter(isEndpointKind);
  const name = names.find((each) => ENDPOINT_KINDS[each].recognizes?.(text) === true) ?? PLAIN_KIND;
  return { name, isNamed: false, rest: text };
}

/** The kind that a word before a colon may have meant, which is none, nor the name of a machine. */
function closestKind(text: string, direction: Direction): { typed: string; kind: EndpointKindName } | undefined {
  const [, typed = ''] = /^([a-z][a-z0-9-]*):/.exec(text) ?? [];
  const names = Object.keys(ENDPOINT_KINDS)
    .filter(isEndpointKind)
    .filter((name) => direction in ENDPOINT_KINDS[name].form);
  const close = typed === '' ? undefined : closestWord(typed, names);
  return close !== undefined && isEndpointKind(close) ? { typed, kind: close } : undefined;
}

/** An endpoint as people write it: `127.0.0.1:22`, `[::1]:22`, `/run/x.sock`, `exec:uptime`. */
export function formatEndpoint(endpoint: Endpoint): string {
  const text = formatAddress(endpoint);
  const found = findKind(text);
  return !found.isNamed && found.name === endpoint.kind ? text : `${endpoint.kind}:${text}`;
}

/** The text of a forward, such that parsing it gives the same. */
export function formatForwardSpec({ service, endpoint }: ForwardSpec): string {
  const plain = `${service}:${formatEndpoint(endpoint)}`;
  // Where the service is a number, the kind says that it is none of ssh's forwards.
  const isPlain = endpoint.kind === PLAIN_KIND && !SSH_ORDER.test(plain);
  return isPlain ? plain : `${service}:${endpoint.kind}:${formatAddress(endpoint)}`;
}

/** The text of an endpoint without the name of its kind. */
function formatAddress(endpoint: Endpoint): string {
  return findEndpointKind(endpoint.kind)?.format(endpoint) ?? '';
}

/** Throws `bad-argument` where the endpoint is of no use in its direction, or a user or a group in it is not known. */
export function checkForward({ direction, service, endpoint }: ForwardSpec): void {
  if (direction === 'incoming') targetKindOf(endpoint, service);
  else if (takesDatagrams(endpoint)) datagramEntranceOf(endpoint, service);
  else entranceKindOf(endpoint, service).listenAddress(endpoint);
}

/**
 * What outgoing and incoming forwards have in common. One is made without effect; `start` puts it in force. One that is made with a
 * {@link Predecessor} takes the place of a forward of the same spec in an earlier process: nothing is read, written or told before
 * `goOn`. Making it throws where something is missing.
 */
export interface Forward {
  readonly spec: ForwardSpec;
  /** The address in force, with the port that was picked where 0 was asked for. */
  readonly endpointText: string;
  /** Connections open now, those that wait and those being closed included. */
  readonly openCount: number;
  /** Streams that it ever had. */
  readonly streamCount: number;
  /** What its flows of datagrams carried; null where it has streams only. Default null. */
  readonly messages?: MessageCounts | null;

  /** Takes new streams from now on. Rejects with `address-…` codes, or `bad-argument` for a service that is taken. */
  start(): Promise<void>;

  /** Takes no new streams; those that are open go on. `start` puts it in force again. */
  pause(): void;

  /** Takes no new streams, and resets what is open. For good. */
  stop(): Promise<void>;

  /** What cannot be handed over to a successor now: a text for people for each. It passes by itself, as a rule soon. */
  obstacles(): string[];

  /** Ids of streams that cannot be handed over and that only the peer can end. Default: none. */
  endedByPeer?(): number[];

  /**
   * What a successor needs to go on with it; changes nothing. Throws `upgrade-failed` where something is an obstacle. To be called
   * from a timer: what was closed before in the same turn has been told by then.
   */
  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ForwardState;

  /**
   * Reads, writes and tells in the place of its predecessor, when its sessions go on: all in the same turn. Resolves when it listens;
   * rejects with `address-unavailable` where it cannot.
   */
  goOn(): Promise<void>;
}

/**
 * What was in the place of a forward in an earlier process. The streams that were open there are attached; those that were not
 * accepted yet are to be offered to the service again.
 */
export interface Predecessor extends Inheritance {
  readonly state: ForwardState;
}

/** What lives on of a forward, without its spec. */
export interface ForwardState {
  /** Whether it takes new streams: it is not paused. */
  readonly isStarted: boolean;
  readonly streamCount: number;
  readonly connections: readonly ConnectionState[];
  /** The number of the descriptor that it listens on; where there is none null, and missing in an incoming forward. */
  readonly listener?: number | null;
  /** The port in force, of TCP or UDP, and the family of the address where it is one of UDP. */
  readonly port?: number | null;
  readonly family?: 4 | 6 | null;
  /** The numbers of connections that nothing was read of and that have no stream yet. */
  readonly early?: readonly number[];
}
