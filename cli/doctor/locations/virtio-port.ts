/** The guest's end of virtio-serial ports: which ports a machine has, and whether one is free, and open on the host. */

import { constants, lstatSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { listVirtioPorts, readPortAddress, whyNoPort } from '../../../lib/channel/virtio-ports.js';
import { findPort } from '../../../lib/channel/virtserial.js';
import { systemCode } from '../../../lib/errors.js';
import { channelError } from '../../../lib/link/link.js';
import { listFolder } from '../../../lib/system/files/optional-files.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, failureOf, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders, heldOpen } from '../process-list.js';

/** Lists the ports of this machine, which identify it as a guest, and devices without a driver. */
export function checkVirtioPorts(machine: Machine): Finding[] {
  const ports = listVirtioPorts(machine.options.sys);
  const idle = listIdleDevices(machine);
  const list = ports.map(({ device, name }) =>
    name === '' ? `${device} (unnamed)` : `${escapeText(name)} (${device})`,
  );
  return [
    ...(idle.length === 0
      ? []
      : [finding('port-module', `no driver for ${idle.map((name) => escapeText(name)).join(', ')}`)]),
    ports.length === 0
      ? finding('ports-none', 'no virtio-serial ports on this machine')
      : finding('ports-found', `this is a guest with the virtio-serial ports ${list.join(', ')}`),
  ];
}

/** Lists the virtio-serial devices without a driver, such as `virtio3`. */
function listIdleDevices(machine: Machine): string[] {
  const devices = 'bus/virtio/devices';
  return (listFolder(path.join(machine.options.sys, devices)) ?? []).filter((name) => {
    const driver = path.join(machine.options.sys, devices, name, 'driver');
    const isConsole = machine.readSys(`${devices}/${name}/device`) === '0x0003';
    return isConsole && lstatSync(driver, { throwIfNoEntry: false }) === undefined;
  });
}

/** Checks the port at an address of `virtserial-open`: a path, or a name. `isOurs`: a running vproxy has it. */
export async function checkVirtioPort(machine: Machine, address: string, isOurs: boolean): Promise<Finding[]> {
  const place = await findDevice(machine, address);
  if (place.device === null) return place.findings;
  const { device, findings } = place;
  const unusable = describeUnusable(machine, device);
  if (unusable !== null) return [...findings, unusable];
  const stats = statSync(device);
  if (!isAllowed(device, constants.R_OK | constants.W_OK)) {
    const message = `this user cannot open ${escapeText(device)} (${formatAccess(stats)})`;
    return [...findings, failure('virtio-port', 'channel-denied', message)];
  }
  return isOurs ? findings : [...findings, await lookForOthers(machine, device)];
}

interface FoundDevice {
  /** Null if no device was found; `findings` have the reason. */
  readonly device: string | null;
  readonly findings: Finding[];
}

async function findDevice(machine: Machine, address: string): Promise<FoundDevice> {
  const { options } = machine;
  const { path: link, name } = readPortAddress(address, options.dev);
  const { problem, stats = null } = await lookAtPath(machine, link);
  if (stats !== null) return { device: link, findings: [] };
  const none = (found: Finding): FoundDevice => ({ device: null, findings: [found] });
  if (problem !== null && (name === null || problem.id !== 'folder-missing')) return none(problem);
  if (name === null) return none(failure('virtio-port', 'channel-missing', `${escapeText(link)} does not exist`));
  let device: string;
  try {
    device = findPort(address, options, `virtserial-open:${escapeText(address)}`);
  } catch (error) {
    return none(failureOf('virtio-port', error));
  }
  const [shown, place] = [escapeText(name), escapeText(device)];
  if (lstatSync(device, { throwIfNoEntry: false }) === undefined) {
    return none(finding('port-no-device', `the kernel has the port ${shown}, but ${place} does not exist`));
  }
  const message = `the port ${shown} is ${place}, but the link ${escapeText(link)} does not exist`;
  return { device, findings: [finding('port-no-link', message)] };
}

/** Returns the reason why the file cannot be a channel, or null. */
function describeUnusable({ options: { sys } }: Machine, device: string): Finding | null {
  // Opening it would tell as well, but this user may not be allowed to.
  const isFirst = /^vport\d+p0$/.test(path.basename(realpathSync(device)));
  const why = isFirst ? 'a console of the VM' : whyNoPort(device, sys);
  return why === null ? null : failure('virtio-port', 'channel-unusable', `${escapeText(device)}: ${why}`);
}

/** Finds the process that has it open; if none, whether the host has it open, which may require opening it for a moment. */
async function lookForOthers(machine: Machine, device: string): Promise<Finding> {
  const shown = escapeText(device);
  const real = realpathSync(device);
  const processes = await machine.processes();
  const holders = processes.holdersOf(real);
  const isBusy = heldOpen(`${shown} is open in ${formatHolders(holders, processes.isPartial)}`, holders);
  if (holders.length > 0) return isBusy;
  const known = readConnected(machine, path.basename(real));
  if (known?.isGuestThere === true) return isBusy;
  try {
    const isHostThere = known?.isHostThere ?? machine.options.isHostAtPort(device);
    const how = known === null ? ' (it was opened for a moment)' : '';
    return isHostThere
      ? finding('port-host', `${shown} is free, and open on the host${how}`)
      : finding('port-no-host', `${shown} is free, but not open on the host${how}`);
  } catch (error) {
    return systemCode(error) === 'EBUSY' ? isBusy : failureOf('virtio-port', channelError(shown, error));
  }
}

/** Reads the state of a port from debugfs; null if it is not mounted or not readable. */
function readConnected(machine: Machine, device: string): { isHostThere: boolean; isGuestThere: boolean } | null {
  const text = machine.readSys(`kernel/debug/virtio-ports/${device}`);
  const isSet = (name: string): boolean => new RegExp(`^${name}: 1$`, 'm').test(text ?? '');
  return text === null ? null : { isHostThere: isSet('host_connected'), isGuestThere: isSet('guest_connected') };
}
