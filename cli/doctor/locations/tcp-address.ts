/** A TCP address to connect to: of a channel, or of a target. */

import { lookup } from 'node:dns/promises';
import net from 'node:net';
import type { LocationOf } from '../../../lib/channel/kind.js';
import { systemCode } from '../../../lib/errors.js';
import type { ListedSocket } from '../../../lib/system/proc/proc-net.js';
import { runTool } from '../../../lib/system/processes/run-tool.js';
import { addressesOverlap, formatHostPort, type HostPort, isIP } from '../../../lib/util/addresses/host-port.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
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
  const hosts = await resolveHost(address.host, machine.timeFor(PART));
  if ('id' in hosts) return [hosts];
  if (isOurs) return [];
  const shown = formatHostPort(address);
  const attempts = hosts.map((host) => {
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
  const processes = await machine.processes();
  const sockets = await machine.sockets();
  const listener = sockets.find((socket) => socket.state === 'listening' && isAt(socket, address));
  const holders = listener === undefined ? [] : processes.holdersOfSocket(listener.inode);
  const who = holders.length === 0 ? '' : `: ${formatHolders(holders, processes.isPartial)}`;
  const servesOne = mayServeOne && holders.some(({ program }) => program.startsWith('qemu'));
  const taken = servesOne ? findClient(processes, sockets, address) : null;
  if (taken !== null) return finding('tcp-taken', `${taken} is connected to ${place}${who}`);
  return connect(address, { place, who, timeoutMs: machine.timeFor(PART), isChannel: mayServeOne });
}

/** Resolves with the first addresses of a host, or with the reason why it has none. */
async function resolveHost(host: string, timeoutMs: number): Promise<string[] | Finding> {
  if (isIP(host) !== 0) return [host];
  try {
    return (await resolveName(host, timeoutMs)).slice(0, MAX_ADDRESSES);
  } catch (error) {
    return finding('tcp-unknown-name', `cannot resolve ${escapeText(host)}: ${describeError(error)}`);
  }
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
    const answered = (stranger: string | null) =>
      stranger === null
        ? done(finding('tcp-answers', `${place} answers (connected for a moment)${who}`))
        : done(finding('not-vproxy', `${place} is not answered by a vproxy: ${stranger}${who}`));
    socket.once('connect', () => {
      if (isChannel) void readGreeting(socket, timeoutMs).then(answered);
      else answered(null);
    });
    socket.once('timeout', () => done(finding('tcp-silent', `no answer from ${place} within ${timeoutMs} ms`)));
    socket.once('error', (error) => {
      const id = systemCode(error) === 'ECONNREFUSED' ? 'tcp-refused' : 'tcp-unreachable';
      done(finding(id, id === 'tcp-refused' ? `nothing listens on ${place}` : `${place}: ${describeError(error)}`));
    });
  });
}

/**
 * Resolves a host name as the system does. Rejects if the name has no address, or if no answer comes within `timeoutMs`: a silent
 * name server would keep this process from exiting.
 */
async function resolveName(host: string, timeoutMs: number): Promise<string[]> {
  const text = await askSystem(host, timeoutMs);
  if (text === null) return (await lookup(host, { all: true })).map(({ address }) => address);
  const words = text.split('\n').map((line) => /^\S+/.exec(line)?.[0] ?? '');
  const addresses = [...new Set(words)].filter((word) => isIP(word) !== 0);
  if (addresses.length === 0) throw new Error('unknown name, or no answer from the name server');
  return addresses;
}

/** Resolves with the output of getent(1), which can be killed; null if the program is missing. */
async function askSystem(host: string, timeoutMs: number): Promise<string | null> {
  try {
    return (await runTool(['getent', 'ahosts', host], { timeoutMs })).stdout;
  } catch (error) {
    return systemCode(error) === 'ENOENT' ? null : '';
  }
}
