/** The kinds of endpoints, by the name that may precede the colon. A new kind is one file and one row here. */
import { VproxyError } from '../errors.js';
import type { EndpointBase, EndpointKind, EndpointKinds } from './endpoint-kind.js';
import { execEndpoint } from './exec-endpoint.js';
import { fileEndpoint } from './file-endpoint.js';
import { tcpEndpoint, unixEndpoint } from './socket-endpoint.js';
import { vsockMuxEndpoint } from './vsock-mux-endpoint.js';

/** Every kind, in the order in which they are listed for people; the last one is what a text without a name is. */
export const ENDPOINT_KINDS = {
  unix: unixEndpoint,
  'vsock-mux': vsockMuxEndpoint,
  file: fileEndpoint,
  exec: execEndpoint,
  tcp: tcpEndpoint,
} as const satisfies EndpointKinds;

type EndpointOf<K> = K extends EndpointKind<infer E> ? E : never;

/** Where a forward listens, or what it leads to: the address of any kind of the table. */
export type Endpoint = EndpointOf<(typeof ENDPOINT_KINDS)[keyof typeof ENDPOINT_KINDS]>;

type Role = 'createTarget' | 'createEntrance';

/** The kind of an endpoint, which has to be able to do what `role` names. Throws `bad-argument`. */
export function kindOf<R extends Role>(
  endpoint: EndpointBase,
  kinds: EndpointKinds,
  role: R,
  forward: string,
): EndpointKind & Required<Pick<EndpointKind, R>> {
  const kind = kinds[endpoint.kind];
  if (kind?.[role] === undefined) {
    throw new VproxyError('bad-argument', `${forward}: an endpoint of the kind ${endpoint.kind} cannot be used there`);
  }
  return kind as EndpointKind & Required<Pick<EndpointKind, R>>;
}
