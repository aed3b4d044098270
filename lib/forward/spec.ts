/** A forward: its interface, and its text `SERVICE:ENDPOINT`, such as `ADDR:PORT`, `/path` or `KIND:…` (docs/forwards.md). */
import { SERVICE_NAME } from '../codec/limits.js';
import { badArgument, toVproxyError, type VproxyError } from '../errors.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { type FileAccess, resolveSocketAccess } from '../system/sockets/listen-address.js';
import { isIP } from '../util/addresses/host-port.js';
import { closestWord } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import type { ConnectionState, IndexOfStream, Inheritance } from './connection.js';
import type { Target } from './endpoint-kind.js';
import type { Direction } from './forms/endpoint-form.js';
import {
  ENDPOINT_FORMS,
  type Endpoint,
  type EndpointKindName,
  findEndpointForm,
  isEndpointKind,
  PLAIN_KIND,
} from './forms/endpoint-forms.js';
import { type NameSample, sampleOfName, sampleOfTemplate } from './template.js';

/** A forward as configured. */
export interface ForwardSpec {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  /** `*` if each client names the service. */
  readonly service: string;
  /** The address it listens on, or the target of its streams. */
  readonly endpoint: Endpoint;
}

/** The service of an `-o` whose clients name it. */
export const ANY_SERVICE = '*';

/** Parses a forward. Throws `bad-argument` with the expected form. */
export function parseForwardSpec(direction: Direction, text: string): ForwardSpec {
  return parse(direction, text, sampleOfName);
}

/** Parses a forward of a group, in which `{channel}` stands for the label of each channel. Throws `bad-argument`. */
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
  // A port is unlikely to be a service, unlike a word that follows it.
  const [, port = '', word = ''] = /^(\d{1,5}):([a-z][a-z0-9_-]*)$/.exec(text) ?? [];
  if (port !== '' && !isEndpointKind(word)) throw fail('begins with a port', `${word}:${port}`);
  if (isIP(service) !== 0) throw fail('begins with an address instead of a service');
  const { name, isNamed, rest } = findKind(text.slice(colon + 1));
  const forgotten =
    !isNamed &&
    UNLIKELY_SERVICES.includes(service) &&
    isEndpointKind(service) &&
    ENDPOINT_FORMS[service].form[direction];
  if (forgotten) throw fail(`begins with the kind ${service} instead of a service`, `SERVICE:${forgotten}`);
  const meant = isNamed ? undefined : closestKind(text.slice(colon + 1), direction);
  const kind = ENDPOINT_FORMS[name];
  if (service !== ANY_SERVICE && !SERVICE_NAME.test(sampleOf(service))) {
    throw fail(
      'not a valid service name (1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit)',
    );
  }
  const form = kind.form[direction];
  if (form === undefined) throw fail(`cannot ${direction === 'outgoing' ? 'listen on' : 'serve streams with'} ${name}`);
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
    const forms: Readonly<Partial<Record<Direction, string>>> = ENDPOINT_FORMS[meant.kind].form;
    throw fail(`unknown kind "${meant.typed}"; did you mean ${meant.kind}:?`, `SERVICE:${forms[direction] ?? ''}`);
  }
}

/** Kinds that are refused as names of services without a kind, because the service was more likely forgotten; `udp:tcp:53` is accepted. */
const UNLIKELY_SERVICES = ['exec', 'file', 'udp', 'unixgram'];

/** ssh's order, `[ADDR:]PORT:HOST:PORT`, or `PORT:PORT`: a port is not a service. */
const SSH_ORDER =
  /^(?:(?<address>localhost|\*|\d+\.\d+\.\d+\.\d+|\[[^\]]*\]|):)?(?<port>\d+):(?<target>(?:(?:[^:[\]]+|\[[^\]]+\]):)?\d+)$/;

/** Rewrites ssh's order as the two forwards that share a service name. */
function inOurOrder(direction: Direction, { address = '', port = '', target = '' }: Record<string, string>): string {
  const listener = `-o NAME:${address === '' ? '' : `${address === '*' ? '0.0.0.0' : address}:`}${port}`;
  const texts = [listener, `-i NAME:${target}`].map((each) => escapeText(each));
  const [here, there] = direction === 'outgoing' ? texts : texts.reverse();
  return `${here} here, and ${there} at the peer, with a NAME such as ${/(?:^|:)22$/.test(target) ? 'ssh' : 'web'}`;
}

/** The kind that a text names, else the one that recognizes it, else the plain one. */
function findKind(text: string): { name: EndpointKindName; isNamed: boolean; rest: string } {
  const [, prefix = ''] = /^([a-z][a-z0-9-]*):/.exec(text) ?? [];
  if (isEndpointKind(prefix)) return { name: prefix, isNamed: true, rest: text.slice(prefix.length + 1) };
  const names = Object.keys(ENDPOINT_FORMS).filter(isEndpointKind);
  const name = names.find((each) => ENDPOINT_FORMS[each].recognizes?.(text) === true) ?? PLAIN_KIND;
  return { name, isNamed: false, rest: text };
}

/** Suggests a kind for an unknown prefix that is not a plausible host name. */
function closestKind(text: string, direction: Direction): { typed: string; kind: EndpointKindName } | undefined {
  const [, typed = ''] = /^([a-z][a-z0-9-]*):/.exec(text) ?? [];
  const names = Object.keys(ENDPOINT_FORMS)
    .filter(isEndpointKind)
    .filter((name) => direction in ENDPOINT_FORMS[name].form);
  const close = typed === '' ? undefined : closestWord(typed, names);
  return close !== undefined && isEndpointKind(close) ? { typed, kind: close } : undefined;
}

/** An endpoint in its usual spelling: `127.0.0.1:22`, `[::1]:22`, `/run/x.sock`, `exec:uptime`. */
export function formatEndpoint(endpoint: Endpoint): string {
  const text = formatAddress(endpoint);
  const found = findKind(text);
  return !found.isNamed && found.name === endpoint.kind ? text : `${endpoint.kind}:${text}`;
}

/** The text of a forward; `parseForwardSpec` reads it back. */
export function formatForwardSpec({ service, endpoint }: ForwardSpec): string {
  const plain = `${service}:${formatEndpoint(endpoint)}`;
  // For a numeric service, name the kind: the plain text would be taken for ssh's order.
  const isPlain = endpoint.kind === PLAIN_KIND && !SSH_ORDER.test(plain);
  return isPlain ? plain : `${service}:${endpoint.kind}:${formatAddress(endpoint)}`;
}

/** A forward as an option: `-o` or `-i`, and its text. */
export interface ForwardText {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  readonly text: string;
}

export const describeForward = (spec: ForwardSpec): ForwardText => ({
  direction: spec.direction,
  text: formatForwardSpec(spec),
});

/** The text of an endpoint without the name of its kind. */
function formatAddress(endpoint: Endpoint): string {
  return findEndpointForm(endpoint.kind)?.format(endpoint) ?? '';
}

/** Rejects with `bad-argument` if the endpoint names an unknown user or group, as starting the forward would. */
export async function checkAccess({ endpoint }: ForwardSpec): Promise<void> {
  if ('access' in endpoint) await resolveSocketAccess(endpoint.access);
}

/**
 * The interface of outgoing and incoming forwards. Creating one has no effect; `start` activates it. One created with a
 * {@link Predecessor} replaces a forward of the same spec in the previous process: it neither reads, writes nor reports anything
 * before `goOn`. The constructor throws if something is missing.
 */
export interface Forward extends Pick<Target, 'messages' | 'revoke' | 'letWait' | 'endedByPeer' | 'cut'> {
  readonly spec: ForwardSpec;
  /** The current address, with the port that the system picked for port 0. */
  readonly endpointText: string;
  /** Where an outgoing one listens: its endpoint, with the port that the system picked for port 0. */
  readonly bound?: Endpoint;
  /** Connections open now, including waiting and closing ones. */
  readonly openCount: number;
  /** Whether bytes of a stream, or what outlives it, are still on this side. Connections that wait for a stream do not count. */
  readonly isServing: boolean;
  /** All streams so far. */
  readonly streamCount: number;

  /** Starts taking new streams. Rejects with `address-…` codes, or `bad-argument` if the service is already offered. */
  start(): Promise<void>;

  /** Stops taking new streams; open ones continue. `start` activates it again. */
  pause(): void;

  /** Stops taking new streams for good, and resets the open ones. */
  stop(): Promise<void>;

  /** What cannot be handed over to a successor now, each as a human-readable text. Usually goes away by itself, soon. */
  obstacles(): string[];

  /**
   * The state that a successor needs to continue; changes nothing. Throws `upgrade-failed` if there is an obstacle. Call it from
   * a timer: by then everything that closed earlier in the same turn has been reported.
   */
  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ForwardState;

  /**
   * Takes over from the predecessor: reads, writes and reports from now on. Call it in the turn in which the sessions continue.
   * Resolves when it listens; rejects with `address-unavailable` if it cannot.
   */
  goOn(): Promise<void>;
}

/**
 * The same forward in the previous process. Streams that were open there are attached; offer those not accepted yet to the
 * service again.
 */
export interface Predecessor extends Inheritance {
  readonly state: ForwardState;
}

/** State of a forward that is handed over, without its spec. */
export interface ForwardState {
  /** Whether it takes new streams (it is not paused). */
  readonly isStarted: boolean;
  readonly streamCount: number;
  readonly connections: readonly ConnectionState[];
  /** The index of the listener's descriptor; null if it does not listen, missing for an incoming forward. */
  readonly listener?: number | null;
  /** The current TCP or UDP port, and for UDP the address family. */
  readonly port?: number | null;
  readonly family?: 4 | 6 | null;
  /** What the system had dropped of the messages to a UDP address. */
  readonly dropped?: number;
  /** The access of the unix socket that it listens on, in numbers. */
  readonly access?: FileAccess | null;
  /** The indexes of connections that have no stream yet and from which nothing was read. */
  readonly early?: readonly number[];
}
