/** `udp:ADDR:PORT` and `udp:PORT`: UDP datagrams received or sent there; one socket per flow, which hears only its target. */
import { SendTurns, UdpSocket } from '../../system/datagrams/udp.js';
import { formatHostPort, type HostPort } from '../../util/addresses/host-port.js';
import type { EndpointKind } from '../endpoint-kind.js';
import { parseAddress } from '../endpoints/socket-endpoint.js';
import { DatagramTarget } from './datagram-target.js';

/** A name or an address (IPv6 without brackets), and a port; 0 lets the system pick one to listen on. */
export interface UdpEndpoint extends HostPort {
  readonly kind: 'udp';
}

export const udpEndpoint: EndpointKind<UdpEndpoint> = {
  form: { outgoing: 'udp:ADDR:PORT', incoming: 'udp:ADDR:PORT' },
  parse: (text, direction, sampleOf) => ({ kind: 'udp', ...parseAddress(text, direction, sampleOf) }),
  format: formatHostPort,
  createTarget({ host, port }, context) {
    const turns = new SendTurns();
    return new DatagramTarget((events) => UdpSocket.connect({ host, port }, events, turns), context);
  },
  datagramEntrance: ({ host, port }) => ({
    bind: (events) => UdpSocket.bind({ host, port }, events),
    adopt: (fd, family, events, dropped) => UdpSocket.adopt(fd, family ?? 4, events, dropped),
  }),
};
