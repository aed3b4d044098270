/** A TCP address to connect to: of a channel, or of a target. */

import net from 'node:net';
import type { LocationOf } from '../../../lib/channel/kind.js';
import { type ErrorCode, systemCode } from '../../../lib/errors.js';
import type { ListedSocket } from '../../../lib/system/proc/proc-net.js';
import { addressesOverlap, formatHostPort, type HostPort, isIP } from '../../../lib/util/addresses/host-port.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { formatHolders, type ProcessList } from '../process-list.js';
import { readGreeting } from './greeting.js';

/** Share of a check's time for resolving the host, and for the connection. */
const PART = 0.75;

/** Maximum number of addresses of a name to try. */
const MAX_ADDRESSES = 8;

/**
 * Checks whether the address answers, by connections that are closed at once; makes none to a QEMU that already has a client.
 * Tries each address of a name, as vproxy does: one answer is enough.
 */
export async function checkTcpConnect(
  machine: Machine,
  { address, servesOne }: Pick<LocationOf<'tcp-port'>, 'address' | 'servesOne'>,
  isOurs: boolean,
): Promise<Finding[]> {
  const { host } = address;
  let hosts: readonly string[] = [host];
  try {
    if (isIP(host) === 0) hosts = await machine.options.lookUpHost(host, AbortSignal.timeout(machine.timeFor(PART)));
  } catch (error) {
    return [failure('tcp-port', 'channel-missing', `cannot resolve ${escapeText(host)}: ${describeError(error)}`)];
  }
  if (isOurs) return [];
  const shown = formatHostPort(address);
  const attempts = hosts.slice(0, MAX_ADDRESSES).map((host) => {
    const place = host === address.host ? shown : `${shown} (${host})`;
    return checkAddress(machine, { host, port: address.port }, place, servesOne);
  });
  const found = await Promise.all(attempts);
  const used = found.filter(({ id }) => ['tcp-answers', 'tcp-taken', 'not-vproxy'].includes(id));
  return [...used, ...found].slice(0, 1);
}

async function checkAddress(
  machine: Machine,
  address: HostPort,
  place: string,
  mayServeOne: boolean,
): Promise<Finding> {
  const listener = await machine.listenerAt((socket) => isAt(socket, address));
  const who = listener === null || listener.holders.length === 0 ? '' : `: ${listener.who}`;
  const servesOne = mayServeOne && listener?.holders.some(({ program }) => program.startsWith('qemu')) === true;
  const taken = servesOne ? findClient(await machine.processes(), await machine.sockets(), address) : null;
  if (taken !== null) return finding('tcp-taken', `${taken} is connected to ${place}${who}`);
  return connect(address, { place, who, timeoutMs: machine.timeFor(PART), isChannel: mayServeOne });
}

const isAt = ({ address }: ListedSocket, wanted: HostPort): boolean =>
  address !== null && addressesOverlap(address, wanted);

/** Describes the local process connected to it; null if none is. */
function findClient(processes: ProcessList, sockets: readonly ListedSocket[], address: HostPort): string | null {
  const served = sockets.find((socket) => socket.state === 'connected' && isAt(socket, address));
  if (served === undefined || served.remote === null) return null;
  const { remote } = served;
  // One local port may be used by several connections, each to another server.
  const leadsHere = (socket: ListedSocket) => socket.remote !== null && addressesOverlap(socket.remote, address);
  const other = sockets.find((socket) => socket.state === 'connected' && isAt(socket, remote) && leadsHere(socket));
  return other === undefined
    ? formatHostPort(remote)
    : formatHolders(processes.holdersOfSocket(other.inode), processes.isPartial);
}

/** The texts of an attempt, and its timeout in milliseconds. */
interface Attempt {
  readonly place: string;
  readonly who: string;
  readonly timeoutMs: number;
  /** Whether a vproxy should answer there. */
  readonly isChannel: boolean;
}

function connect(address: HostPort, { place, who, timeoutMs, isChannel }: Attempt): Promise<Finding> {
  return new Promise((resolve) => {
    const socket = net.connect({ ...address, timeout: timeoutMs });
    const done = (found: Finding) => {
      socket.destroy();
      resolve(found);
    };
    const fail = (code: ErrorCode, message: string): void => done(failure('tcp-port', code, message));
    const answered = (stranger: string | null) =>
      stranger === null
        ? done(finding('tcp-answers', `${place} answers (connected for a moment)${who}`))
        : done(finding('not-vproxy', `${place} is not answered by a vproxy: ${stranger}${who}`));
    socket.once('connect', () => {
      if (isChannel) void readGreeting(socket, timeoutMs).then(answered);
      else answered(null);
    });
    socket.once('timeout', () => fail('channel-failed', `no answer from ${place} within ${timeoutMs} ms`));
    socket.once('error', (error) => {
      if (systemCode(error) === 'ECONNREFUSED') fail('channel-refused', `nothing listens on ${place}`);
      else fail('channel-failed', `${place}: ${describeError(error)}`);
    });
  });
}
