/** The kinds of endpoints, by the name before the colon. A new kind needs one file and one row here. */
import { badArgument, type VproxyError } from '../errors.js';
import type { DatagramEntrance } from '../system/datagrams/datagrams.js';
import { udpEndpoint } from './datagram/udp-endpoint.js';
import { unixgramEndpoint } from './datagram/unixgram-endpoint.js';
import { egressEndpoint } from './egress/egress-target.js';
import type { EndpointKind } from './endpoint-kind.js';
import { execEndpoint } from './endpoints/exec-endpoint.js';
import { fileEndpoint } from './endpoints/file-endpoint.js';
import { tcpEndpoint, unixEndpoint } from './endpoints/socket-endpoint.js';
import { vsockMuxEndpoint } from './endpoints/vsock-mux-endpoint.js';
import { originEndpoint } from './origin/origin-target.js';
import { redirectEndpoint } from './redirect/redirect-endpoint.js';
import { resolverEndpoint } from './resolver/resolver-endpoint.js';

/** Every kind, in the order in which users see them listed. */
export const ENDPOINT_KINDS = {
  unix: unixEndpoint,
  'vsock-mux': vsockMuxEndpoint,
  file: fileEndpoint,
  exec: execEndpoint,
  egress: egressEndpoint,
  origin: originEndpoint,
  udp: udpEndpoint,
  unixgram: unixgramEndpoint,
  resolver: resolverEndpoint,
  redirect: redirectEndpoint,
  tcp: tcpEndpoint,
} as const satisfies Readonly<Record<string, EndpointKind>>;

export type EndpointKindName = keyof typeof ENDPOINT_KINDS;

/** The kind of a text that neither names a kind nor is recognized by one. */
export const PLAIN_KIND: EndpointKindName = 'tcp';

type EndpointOf<K> = K extends EndpointKind<infer E> ? E : never;

/** Where a forward listens or connects: the address of any kind in the table. */
export type Endpoint = EndpointOf<(typeof ENDPOINT_KINDS)[keyof typeof ENDPOINT_KINDS]>;

export function isEndpointKind(name: string): name is EndpointKindName {
  return Object.hasOwn(ENDPOINT_KINDS, name);
}

/** The kind of that name; null for a name that is not in the table, which may come from a program. */
export function findEndpointKind(name: string): EndpointKind | null {
  return isEndpointKind(name) ? ENDPOINT_KINDS[name] : null;
}

type KindWith<M extends keyof EndpointKind> = EndpointKind & Required<Pick<EndpointKind, M>>;

/** The kind that an `-o` listens on. Throws `bad-argument` for a kind that can only be a target. */
export function entranceKindOf(endpoint: Endpoint, service: string): KindWith<'listenAddress' | 'createEntrance'> {
  const kind = findEndpointKind(endpoint.kind);
  if (kind?.createEntrance === undefined) throw misused(`-o ${service}`, endpoint);
  return kind as KindWith<'listenAddress' | 'createEntrance'>;
}

export const takesDatagrams = ({ kind }: Endpoint): boolean => findEndpointKind(kind)?.datagramEntrance !== undefined;

/** The source of datagrams for an `-o`. Throws `bad-argument` for an endpoint without datagrams. */
export function datagramEntranceOf(endpoint: Endpoint, service: string): DatagramEntrance {
  const entrance = findEndpointKind(endpoint.kind)?.datagramEntrance?.(endpoint);
  if (entrance === undefined) throw misused(`-o ${service}`, endpoint);
  return entrance;
}

/** The kind of an `-i`'s target. Throws `bad-argument` for a kind that can only be a listener. */
export function targetKindOf(endpoint: Endpoint, service: string): KindWith<'createTarget'> {
  const kind = findEndpointKind(endpoint.kind);
  if (kind?.createTarget === undefined) throw misused(`-i ${service}`, endpoint);
  return kind as KindWith<'createTarget'>;
}

const misused = (forward: string, { kind }: Endpoint): VproxyError =>
  badArgument(`${forward}: cannot use an endpoint of kind ${kind}`);
