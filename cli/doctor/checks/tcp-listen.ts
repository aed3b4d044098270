/** A TCP address that vproxy listens on. */
import net from 'node:net';
import os from 'node:os';
import { addressesOverlap, formatHostPort, type HostPort } from '../../../lib/util/addresses.js';
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';
import { formatHolders } from '../process-list.js';

/** An address. `isOurs`: a vproxy that runs listens there. */
export interface ListenAddress {
  readonly address: HostPort;
  readonly isOurs: boolean;
}

/** Whether it is free, as /proc tells: nothing listens there for the look. */
export async function checkTcpListen(machine: Machine, { address, isOurs }: ListenAddress): Promise<Finding[]> {
  const { host, port } = address;
  const shown = formatHostPort(address);
  if (isOurs || port === 0) return isOurs ? [] : [finding('listen-free', `${shown}: the system picks a port`)];
  if (net.isIP(host) !== 0 && !isOwnAddress(host))
    return [finding('listen-address', `${host} is no address of this machine`)];
  const lowest = Number(machine.readProc('sys/net/ipv4/ip_unprivileged_port_start') || 1024);
  if (port < lowest && machine.options.userId !== 0) {
    return [finding('listen-low-port', `${shown}: ports below ${lowest} are for root`)];
  }
  const listener = (await machine.sockets()).find(
    (socket) => socket.state === 'listening' && socket.address !== null && addressesOverlap(socket.address, address),
  );
  if (listener === undefined) return [finding('listen-free', `${shown} is free`)];
  const processes = await machine.processes();
  const holders = processes.holdersOfSocket(listener.inode);
  const who =
    holders.length === 0 && listener.userId !== null
      ? `a process of user ${listener.userId}`
      : formatHolders(holders, processes.isPartial);
  return [finding('listen-taken', `${who} listens on ${shown}`)];
}

/** All of 127.0.0.0/8 is this machine's, and so is what stands for every address. */
function isOwnAddress(host: string): boolean {
  if (host === '0.0.0.0' || /^[0:]+$/.test(host) || host.startsWith('127.')) return true;
  const own = Object.values(os.networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return own.some(({ address }) =>
    addressesOverlap({ host: address, port: 1 }, { host: host.replace(/%.*/, ''), port: 1 }),
  );
}
