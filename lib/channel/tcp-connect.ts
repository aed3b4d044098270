/** `tcp-connect:HOST:PORT`: a TCP port that the other vproxy, or QEMU, listens on. */
import { formatHostPort, type HostPort, isLoopback, parseHostPort } from '../util/host-port.js';
import { dialSocket } from './dial-socket.js';
import type { DialKind } from './kind.js';
import { TCP_TRAITS } from './traits.js';

/** The kind `tcp-connect`. */
export const tcpConnect: DialKind<HostPort> = {
  mode: 'dial',
  traits: TCP_TRAITS,
  parse: (text) => parseHostPort(text),
  format: formatHostPort,
  strangers: ({ host }) => (isLoopback(host) ? null : 'anybody on the network'),
  dial: (address, { signal }) => dialSocket(`tcp-connect:${formatHostPort(address)}`, { ...address }, signal),
};
