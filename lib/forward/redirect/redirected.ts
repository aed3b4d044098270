/** How the peer of an egress asks for the destination of a redirected connection: CONNECT, with a field that says so. */
import { formatHostPort, type HostPort } from '../../util/addresses/host-port.js';
import { type Field, formatHead, type RequestHead, valuesOf } from '../egress/head.js';

const REDIRECTED: Field = { name: 'Vproxy-Redirect', value: '1' };

/** Whether a program asked for an address, and may have resolved a name before. */
export const isRedirected = ({ fields }: RequestHead): boolean => valuesOf(fields, 'vproxy-redirect').includes('1');

export function redirectedRequest(destination: HostPort): Buffer {
  const target = formatHostPort(destination);
  return formatHead(`CONNECT ${target} HTTP/1.1`, [{ name: 'Host', value: target }, REDIRECTED]);
}
