/** Addresses that vproxy listens on: TCP, and unix sockets that it creates. */

import os from 'node:os';
import { isAnswered } from '../../../lib/system/sockets/listening.js';
import {
  addressesOverlap,
  formatHostPort,
  type HostPort,
  isEveryAddress,
  isIP,
} from '../../../lib/util/addresses/host-port.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, lookForNew } from '../path.js';
import { formatHolders } from '../process-list.js';

/** Checks whether a TCP address is free, by /proc alone: the check does not listen there itself. */
export async function checkTcpListen(machine: Machine, address: HostPort): Promise<Finding[]> {
  const { host, port } = address;
  const shown = formatHostPort(address);
  if (port === 0) return [finding('listen-free', `${shown}: the system picks a port`)];
  if (isIP(host) !== 0 && !isOwnAddress(host))
    return [failure('tcp-listener', 'address-unavailable', `${host} is not an address of this machine`)];
  const lowest = Number(machine.readProc('sys/net/ipv4/ip_unprivileged_port_start') || 1024);
  if (port < lowest && machine.options.userId !== 0) {
    return [failure('tcp-listener', 'address-denied', `${shown}: ports below ${lowest} are reserved for root`)];
  }
  const listener = await machine.listenerAt((one) => one.address !== null && addressesOverlap(one.address, address));
  if (listener === null) return [finding('listen-free', `${shown} is free`)];
  return [failure('tcp-listener', 'address-in-use', `${listener.who} listens on ${shown}`)];
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
  const { problem, stats } = await lookForNew(machine, path, 'socket');
  if (problem !== null) return [problem];
  const shown = escapeText(path);
  if (stats === null) return [finding('listen-free', `${shown} can be created`)];
  const taken = (message: string): Finding[] => [failure('anything', 'address-in-use', message)];
  if (!stats.isSocket()) return taken(`${shown} already exists as ${describeKind(stats)}`);
  const listener = await machine.listenerAt((one) => one.path === path);
  // The table shows a listener without connecting; one that is not in it may be in another network namespace.
  if (listener === null && !(await isAnswered(path).catch(() => true))) {
    return [finding('listen-stale', `${shown} was left behind by a process that has exited`)];
  }
  const who = listener?.who ?? formatHolders([], (await machine.processes()).isPartial);
  return taken(`${who} listens on ${shown}`);
}
