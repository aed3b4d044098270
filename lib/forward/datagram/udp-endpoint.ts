/** `udp:ADDR:PORT` and `udp:PORT`: UDP datagrams received or sent there; one socket per flow, which hears only its target. */
import { SendTurns, UdpSocket } from '../../system/datagrams/udp.js';
import type { EndpointKind } from '../endpoint-kind.js';
import type { UdpEndpoint } from '../forms/endpoint-forms.js';
import { DatagramTarget } from './datagram-target.js';

export const udpEndpoint: EndpointKind<UdpEndpoint> = {
  createTarget({ host, port }, context) {
    const turns = new SendTurns();
    return new DatagramTarget((events) => UdpSocket.connect({ host, port }, events, turns), context);
  },
  datagramEntrance: ({ host, port }) => ({
    bind: (events) => UdpSocket.bind({ host, port }, events),
    adopt: (fd, family, events, dropped) => UdpSocket.adopt(fd, family ?? 4, events, dropped),
  }),
};
