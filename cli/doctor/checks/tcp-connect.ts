/** A TCP address to connect to: a channel's, or a target. */

import net from 'node:net';
import { systemCode } from '../../../lib/errors.js';
import type { ListedSocket } from '../../../lib/system/proc-net.js';
import { addressesOverlap, formatHostPort, type HostPort } from '../../../lib/util/addresses.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';
import { formatHolders, type ProcessList } from '../process-list.js';
import { resolveName } from '../resolve-name.js';

/** An address. `isExclusive`: a QEMU may listen there. `isOurs`: a vproxy that runs is connected. */
export interface ConnectAddress {
  readonly address: HostPort;
  readonly isExclusive: boolean;
  readonly isOurs: boolean;
}

/** The part of a check's time for finding the host, and for the connection. */
const PART = 0.75;

/** Whether somebody answers there, by a connection that is closed at once; none is made where a QEMU serves somebody. */
export async function checkTcpConnect(
  machine: Machine,
  { address, isExclusive, isOurs }: ConnectAddress,
): Promise<Finding[]> {
  const shown = formatHostPort(address);
  const resolved = await resolveHost(address, machine.timeFor(PART));
  if ('id' in resolved) return [resolved];
  if (isOurs) return [];
  const place = resolved.host === address.host ? shown : `${shown} (${resolved.host})`;
  const processes = await machine.processes();
  const sockets = await machine.sockets();
  const listener = sockets.find((socket) => socket.state === 'listening' && isAt(socket, resolved));
  const holders = listener === undefined ? [] : processes.holdersOfSocket(listener.inode);
  const who = holders.length === 0 ? '' : `: ${formatHolders(holders, processes.isPartial)}`;
  const servesOne = isExclusive && holders.some(({ program }) => program.startsWith('qemu'));
  const taken = servesOne ? findClient(processes, sockets, resolved) : null;
  if (taken !== null) return [finding('tcp-taken', `${taken} is connected to ${place}${who}`)];
  return [await connect(resolved, { place, who, timeoutMs: machine.timeFor(PART) })];
}

async function resolveHost({ host, port }: HostPort, timeoutMs: number): Promise<HostPort | Finding> {
  if (net.isIP(host) !== 0) return { host, port };
  try {
    return { host: await resolveName(host, timeoutMs), port };
  } catch (error) {
    return finding('tcp-unknown-name', `${escapeText(host)} is not known: ${describeError(error)}`);
  }
}

const isAt = ({ address }: ListedSocket, wanted: HostPort): boolean =>
  address !== null && addressesOverlap(address, wanted);

/** Who of this machine has a connection to it, as text; null where nobody has. */
function findClient(processes: ProcessList, sockets: readonly ListedSocket[], address: HostPort): string | null {
  const served = sockets.find((socket) => socket.state === 'connected' && isAt(socket, address));
  if (served === undefined || served.remote === null) return null;
  const { remote } = served;
  const other = sockets.find((socket) => socket.state === 'connected' && isAt(socket, remote));
  return other === undefined
    ? formatHostPort(remote)
    : formatHolders(processes.holdersOfSocket(other.inode), processes.isPartial);
}

/** How an attempt is shown, and how long it may take, in milliseconds. */
interface Attempt {
  readonly place: string;
  readonly who: string;
  readonly timeoutMs: number;
}

function connect(address: HostPort, { place, who, timeoutMs }: Attempt): Promise<Finding> {
  return new Promise((resolve) => {
    const socket = net.connect({ ...address, timeout: timeoutMs });
    const done = (found: Finding) => {
      socket.destroy();
      resolve(found);
    };
    socket.once('connect', () =>
      done(finding('tcp-answers', `${place} answers (it was connected to for a moment)${who}`)),
    );
    socket.once('timeout', () => done(finding('tcp-silent', `${place} did not answer within ${timeoutMs} ms`)));
    socket.once('error', (error) => {
      const id = systemCode(error) === 'ECONNREFUSED' ? 'tcp-refused' : 'tcp-unreachable';
      done(finding(id, id === 'tcp-refused' ? `nobody listens on ${place}` : `${place}: ${describeError(error)}`));
    });
  });
}
