/** The error for an address that cannot be listened on: in use, and by whom; denied; not available. */
import { systemCode, VproxyError } from '../../errors.js';
import { REMEDIES } from '../../remedies.js';
import { meaningOf } from '../../system-errors.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import { describeError, escapeText } from '../../util/escape.js';
import { findAddressOwner } from '../proc/proc-net.js';
import type { ListenAddress } from './listen-address.js';

/** Lower ports need a privilege; see ip_unprivileged_port_start in ip(7). */
const FIRST_FREE_PORT = 1024;
const PRIVILEGED = `; ports below ${FIRST_FREE_PORT} need root or a capability; ${REMEDIES['tcp-listener']['address-denied']}`;

/** The error for a failed listen: `address-in-use`, naming the owner if known, `address-denied` or `address-unavailable`. */
export async function listenFailure(
  error: unknown,
  address: ListenAddress,
  protocol: 'tcp' | 'udp',
): Promise<VproxyError> {
  if (error instanceof VproxyError) return error;
  const where = 'path' in address ? escapeText(address.path) : formatHostPort(address);
  const code = meaningOf(systemCode(error)).listen ?? 'address-unavailable';
  const owner = code === 'address-in-use' ? await findAddressOwner(address, { protocol }) : null;
  const hint = code === 'address-denied' && 'port' in address && address.port < FIRST_FREE_PORT ? PRIVILEGED : '';
  const what = owner === null ? `${describeError(error, where)}${hint}` : `already in use by ${owner}`;
  return new VproxyError(code, `cannot listen on ${where}: ${what}`, { cause: error });
}
