/** Where a connection went before the system redirected it here (nftables `redirect` and `dnat`), through the optional package koffi. */
import type net from 'node:net';
import { formatAddress, type HostPort } from '../../util/addresses/host-port.js';
import { type Libc, loadLibc, systemError } from '../libc.js';
import { descriptorOf } from './node-sockets.js';

// Linux, on all architectures that koffi supports. SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST have the same number.
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const SO_ORIGINAL_DST = 80;

/** A sockaddr_in, and a sockaddr_in6: its size, and where the address is. */
const IN = { level: IPPROTO_IP, bytes: 16, from: 4, to: 8 } as const;
const IN6 = { level: IPPROTO_IPV6, bytes: 28, from: 8, to: 24 } as const;

/** Asks the system for the original destination. Throws if the connection was not redirected. */
export type FindOriginalDestination = (socket: net.Socket) => HostPort;

/** Rejects if koffi cannot be loaded. */
export async function loadOriginalDestination(load: () => Promise<Libc> = loadLibc): Promise<FindOriginalDestination> {
  const libc = await load();
  const getsockopt = libc.declare('int getsockopt(int fd, int level, int option, void *value, void *size)');
  return (socket) => {
    const { localAddress = '', localFamily } = socket;
    // A listener on [::] also gets connections of IPv4.
    const { level, bytes, from, to } = localFamily === 'IPv6' && !localAddress.startsWith('::ffff:') ? IN6 : IN;
    const address = Buffer.alloc(bytes);
    const status = getsockopt(descriptorOf(socket) ?? -1, level, SO_ORIGINAL_DST, address, new Uint32Array([bytes]));
    if (status !== 0) throw systemError('getsockopt', libc.errno());
    return { host: formatAddress(address.subarray(from, to)), port: address.readUInt16BE(2) };
  };
}
