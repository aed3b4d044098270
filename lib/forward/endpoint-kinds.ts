/** What runs the kinds of endpoints. A new kind needs one file, a row here, and one in `forms/endpoint-forms.ts`. */
import type { DatagramEntrance } from '../system/datagrams/datagrams.js';
import { udpEndpoint } from './datagram/udp-endpoint.js';
import { unixgramEndpoint } from './datagram/unixgram-endpoint.js';
import { egressEndpoint } from './egress/egress-target.js';
import type { EndpointKind } from './endpoint-kind.js';
import { execEndpoint } from './endpoints/exec-endpoint.js';
import { fileEndpoint } from './endpoints/file-endpoint.js';
import { tcpEndpoint, unixEndpoint } from './endpoints/socket-endpoint.js';
import { vsockMuxEndpoint } from './endpoints/vsock-mux-endpoint.js';
import { type Endpoint, type EndpointKindName, isEndpointKind, requireUsable } from './forms/endpoint-forms.js';
import { originEndpoint } from './origin/origin-target.js';
import { redirectEndpoint } from './redirect/redirect-endpoint.js';
import { resolverEndpoint } from './resolver/resolver-endpoint.js';

export const ENDPOINT_KINDS: { readonly [K in EndpointKindName]: EndpointKind<Extract<Endpoint, { kind: K }>> } = {
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
};

type KindWith<M extends keyof EndpointKind> = EndpointKind & Required<Pick<EndpointKind, M>>;

/** The kind that an `-o` listens on. Throws `bad-argument` for a kind that can only be a target. */
export function entranceKindOf(endpoint: Endpoint, service: string): KindWith<'listenAddress' | 'createEntrance'> {
  requireUsable('outgoing', service, endpoint);
  return ENDPOINT_KINDS[endpoint.kind] as KindWith<'listenAddress' | 'createEntrance'>;
}

export const takesDatagrams = ({ kind }: Endpoint): boolean =>
  isEndpointKind(kind) && ENDPOINT_KINDS[kind].datagramEntrance !== undefined;

/** The source of datagrams for an `-o` that takes them. Throws `bad-argument` for a kind that can only be a target. */
export function datagramEntranceOf(endpoint: Endpoint, service: string): DatagramEntrance {
  requireUsable('outgoing', service, endpoint);
  return (ENDPOINT_KINDS[endpoint.kind] as KindWith<'datagramEntrance'>).datagramEntrance(endpoint);
}

/** The kind of an `-i`'s target. Throws `bad-argument` for a kind that can only be a listener. */
export function targetKindOf(endpoint: Endpoint, service: string): KindWith<'createTarget'> {
  requireUsable('incoming', service, endpoint);
  return ENDPOINT_KINDS[endpoint.kind] as KindWith<'createTarget'>;
}
