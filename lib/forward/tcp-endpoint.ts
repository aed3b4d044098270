/** `ADDR:PORT` and `PORT`: a TCP address, to listen on or to dial. */
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { formatHostPort, isHost } from '../util/host-port.js';
import type { EndpointKind } from './endpoint-kind.js';
import { socketEntrance } from './socket-entrance.js';
import { SocketTarget } from './socket-target.js';

/** A name or an address (IPv6 without brackets), and a port; 0 lets the system pick one to listen on. */
export interface TcpEndpoint {
  readonly kind: 'tcp';
  readonly host: string;
  readonly port: number;
}

const LOOPBACK = '127.0.0.1';

/** The kind `tcp`. */
export const tcpEndpoint: EndpointKind<TcpEndpoint> = {
  form: { outgoing: 'tcp:ADDR:PORT', incoming: 'tcp:ADDR:PORT' },
  parse(text, direction) {
    const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d+)$/.exec(text) ?? [];
    const host = bracketed ?? plain ?? LOOPBACK;
    if (digits === undefined || !isHost(host, bracketed !== undefined))
      throw bad('the address is not ADDR:PORT (an IPv6 address stands in brackets)');
    const port = Number(digits);
    if (port > 65_535) throw bad(`port ${escapeText(digits, 20)} is not in 0 to 65535`);
    if (port === 0 && direction === 'incoming') throw bad('port 0 cannot be dialled');
    return { kind: 'tcp', host, port };
  },
  format: formatHostPort,
  createTarget({ host, port }, context) {
    const dial = { host, port, allowHalfOpen: true, noDelay: true };
    return new SocketTarget(
      (onread, { answered }) => net.connect({ ...dial, onread }).once('connect', answered),
      context,
    );
  },
  createEntrance: ({ host, port }, context) => socketEntrance({ host, port }, false, context),
};

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
