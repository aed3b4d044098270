/** Addresses that vproxy listens on: TCP, and unix sockets that it creates. */

import { constants } from 'node:fs';
import os from 'node:os';
import { dirname, resolve } from 'node:path';
import { isAnswered } from '../../../lib/system/sockets/listening.js';
import {
  addressesOverlap,
  formatHostPort,
  type HostPort,
  isEveryAddress,
  isIP,
} from '../../../lib/util/addresses/host-port.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, folderDenied, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders } from '../process-list.js';

/** Checks whether a TCP address is free, by /proc alone: the check does not listen there itself. */
export async function checkTcpListen(machine: Machine, address: HostPort): Promise<Finding[]> {
  const { host, port } = address;
  const shown = formatHostPort(address);
  if (port === 0) return [finding('listen-free', `${shown}: the system picks a port`)];
  if (isIP(host) !== 0 && !isOwnAddress(host))
    return [finding('listen-address', `${host} is not an address of this machine`)];
  const lowest = Number(machine.readProc('sys/net/ipv4/ip_unprivileged_port_start') || 1024);
  if (port < lowest && machine.options.userId !== 0) {
    return [finding('listen-low-port', `${shown}: ports below ${lowest} are reserved for root`)];
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

/** 127.0.0.0/8 and the wildcard addresses always belong to this machine. */
function isOwnAddress(host: string): boolean {
  if (isEveryAddress(host) || host.startsWith('127.')) return true;
  const own = Object.values(os.networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return own.some(({ address }) =>
    addressesOverlap({ host: address, port: 1 }, { host: host.replace(/%.*/, ''), port: 1 }),
  );
}

/** Checks whether a unix socket can be created, or which process has it. */
export async function checkUnixListen(machine: Machine, path: string): Promise<Finding[]> {
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const folder = dirname(resolve(path));
  if (!isAllowed(folder, constants.W_OK | constants.X_OK)) {
    const folderLook = await lookAtPath(machine, folder);
    const access =
      folderLook.problem === null && folderLook.stats !== null ? ` (${formatAccess(folderLook.stats)})` : '';
    return [folderDenied(`this user cannot create a socket in ${escapeText(folder)}${access}`)];
  }
  if (look.stats === null) return [finding('listen-free', `${shown} can be created`)];
  if (!look.stats.isSocket()) return [finding('listen-file', `${shown} already exists as ${describeKind(look.stats)}`)];
  const listener = (await machine.sockets()).find((socket) => socket.path === path && socket.state === 'listening');
  // The table shows a listener without connecting; one that is not in it may be in another network namespace.
  if (listener === undefined && !(await isAnswered(path).catch(() => true))) {
    return [finding('listen-stale', `${shown} was left behind by a process that has exited`)];
  }
  const processes = await machine.processes();
  const holders = listener === undefined ? [] : processes.holdersOfSocket(listener.inode);
  return [finding('listen-taken', `${formatHolders(holders, processes.isPartial)} listens on ${shown}`)];
}
