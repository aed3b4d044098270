/** The forms of all kinds of endpoints, by the name before the colon. */
import { SERVICE_NAME } from '../../codec/limits.js';
import { badArgument } from '../../errors.js';
import { formatHostPort, type HostPort } from '../../util/addresses/host-port.js';
import type { Direction, EndpointForm } from './endpoint-form.js';
import { fileForm } from './file-form.js';
import { originForm } from './origin-form.js';
import { resolverForm } from './resolver-form.js';
import {
  formatSocketFile,
  PATH_FORM,
  parseAddress,
  parseSocketFile,
  type SocketFile,
  tcpForm,
  unixForm,
} from './socket-form.js';
import { vsockMuxForm } from './vsock-mux-form.js';

export interface ExecEndpoint {
  readonly kind: 'exec';
  /** For `/bin/sh -c`. */
  readonly command: string;
}

const execForm: EndpointForm<ExecEndpoint> = {
  form: { incoming: 'exec:COMMAND' },
  parse(command) {
    if (command.trim() === '') throw badArgument('missing command');
    if (command.includes('\0')) throw badArgument('a command cannot contain a NUL');
    return { kind: 'exec', command };
  },
  format: ({ command }) => command,
};

export interface EgressEndpoint {
  readonly kind: 'egress';
  /** The name of the egress; empty: the one named like the service. */
  readonly name: string;
}

const egressForm: EndpointForm<EgressEndpoint> = {
  form: { incoming: 'egress:[NAME]' },
  parse(text, _direction, sampleOf) {
    if (text === '' || SERVICE_NAME.test(sampleOf(text))) return { kind: 'egress', name: text };
    throw badArgument('not a valid egress name; spell it like a service name or leave it out');
  },
  format: ({ name }) => name,
};

/** A name or an address (IPv6 without brackets), and a port; 0 lets the system pick one to listen on. */
export interface UdpEndpoint extends HostPort {
  readonly kind: 'udp';
}

const udpForm: EndpointForm<UdpEndpoint> = {
  form: { outgoing: 'udp:ADDR:PORT', incoming: 'udp:ADDR:PORT' },
  parse: (text, direction, sampleOf) => ({ kind: 'udp', ...parseAddress(text, direction, sampleOf) }),
  format: formatHostPort,
};

export interface UnixgramEndpoint extends SocketFile {
  readonly kind: 'unixgram';
}

const unixgramForm: EndpointForm<UnixgramEndpoint> = {
  form: { outgoing: `unixgram:${PATH_FORM}`, incoming: 'unixgram:/path' },
  parse: (text, direction) => ({ kind: 'unixgram', ...parseSocketFile(text, direction) }),
  format: formatSocketFile,
};

export interface RedirectEndpoint extends HostPort {
  readonly kind: 'redirect';
}

const redirectForm: EndpointForm<RedirectEndpoint> = {
  form: { outgoing: 'redirect:ADDR:PORT' },
  parse: (text, direction, sampleOf) => ({ kind: 'redirect', ...parseAddress(text, direction, sampleOf) }),
  format: formatHostPort,
};

/** All kinds, in the order of help and messages. */
export const ENDPOINT_FORMS = {
  unix: unixForm,
  'vsock-mux': vsockMuxForm,
  file: fileForm,
  exec: execForm,
  egress: egressForm,
  origin: originForm,
  udp: udpForm,
  unixgram: unixgramForm,
  resolver: resolverForm,
  redirect: redirectForm,
  tcp: tcpForm,
} as const satisfies Readonly<Record<string, EndpointForm>>;

export type EndpointKindName = keyof typeof ENDPOINT_FORMS;

/** The kind of a text that neither names a kind nor is recognized by one. */
export const PLAIN_KIND: EndpointKindName = 'tcp';

type EndpointOf<F> = F extends EndpointForm<infer E> ? E : never;

/** Where a forward listens or connects: the address of any kind in the table. */
export type Endpoint = EndpointOf<(typeof ENDPOINT_FORMS)[keyof typeof ENDPOINT_FORMS]>;

export function isEndpointKind(name: string): name is EndpointKindName {
  return Object.hasOwn(ENDPOINT_FORMS, name);
}

/** The form of the kind of that name; null for a name that is not in the table, which may come from a program. */
export function findEndpointForm(name: string): EndpointForm | null {
  return isEndpointKind(name) ? ENDPOINT_FORMS[name] : null;
}

/** Throws `bad-argument` for an endpoint that cannot be used in the direction. */
export function requireUsable(direction: Direction, service: string, { kind }: Endpoint): void {
  if (findEndpointForm(kind)?.form[direction] !== undefined) return;
  throw badArgument(`${direction === 'outgoing' ? '-o' : '-i'} ${service}: cannot use an endpoint of kind ${kind}`);
}
