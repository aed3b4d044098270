/** The guest's end of virtio-serial ports: which ports a machine has, and whether one is there, free, and with a host. */

import { constants, lstatSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { listVirtioPorts, readPortAddress, whyNoPort } from '../../../lib/channel/virtio-ports.js';
import { systemCode } from '../../../lib/errors.js';
import { listFolder } from '../../../lib/system/files/optional-files.js';
import { closestWord } from '../../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders } from '../process-list.js';

/** The ports of this machine, by which a guest is known, and devices without a driver. */
export function checkVirtioPorts(machine: Machine): Finding[] {
  const ports = listVirtioPorts(machine.options.sys);
  const idle = listIdleDevices(machine);
  const list = ports.map(({ device, name }) =>
    name === '' ? `${device} without a name` : `${escapeText(name)} (${device})`,
  );
  return [
    ...(idle.length === 0
      ? []
      : [finding('port-module', `no driver has ${idle.map((name) => escapeText(name)).join(', ')}`)]),
    ports.length === 0
      ? finding('ports-none', 'there are no virtio-serial ports here')
      : finding('ports-found', `this is a guest with the virtio-serial ports ${list.join(', ')}`),
  ];
}

/** The virtio-serial devices, such as `virtio3`, that no driver has. */
function listIdleDevices(machine: Machine): string[] {
  const devices = 'bus/virtio/devices';
  return (listFolder(path.join(machine.options.sys, devices)) ?? []).filter((name) => {
    const driver = path.join(machine.options.sys, devices, name, 'driver');
    const isConsole = machine.readSys(`${devices}/${name}/device`) === '0x0003';
    return isConsole && lstatSync(driver, { throwIfNoEntry: false }) === undefined;
  });
}

/** Looks at the port of an address as `virtserial-open` takes it: a path, or a name. `isOurs`: a vproxy that runs has it. */
export async function checkVirtioPort(machine: Machine, address: string, isOurs: boolean): Promise<Finding[]> {
  const place = await findDevice(machine, address);
  if (place.device === null) return place.findings;
  const { device, findings } = place;
  const unusable = describeUnusable(machine, device);
  if (unusable !== null) return [...findings, unusable];
  const stats = statSync(device);
  if (!isAllowed(device, constants.R_OK | constants.W_OK)) {
    const message = `this user may not open ${escapeText(device)} (${formatAccess(stats)})`;
    return [...findings, finding('port-denied', message)];
  }
  return isOurs ? findings : [...findings, await lookForOthers(machine, device)];
}

interface FoundDevice {
  /** Null where no device was found; `findings` say why. */
  readonly device: string | null;
  readonly findings: Finding[];
}

async function findDevice(machine: Machine, address: string): Promise<FoundDevice> {
  const { dev, sys } = machine.options;
  const { path: link, name } = readPortAddress(address, dev);
  const { problem, stats = null } = await lookAtPath(machine, link);
  if (stats !== null) return { device: link, findings: [] };
  const none = (found: Finding): FoundDevice => ({ device: null, findings: [found] });
  if (problem !== null && (name === null || problem.id !== 'folder-missing')) return none(problem);
  if (name === null) return none(finding('port-missing', `there is no ${escapeText(link)}`));
  const ports = listVirtioPorts(sys);
  const found = ports.find((port) => port.name === name);
  if (found === undefined)
    return none(
      describeMissing(
        name,
        ports.flatMap((port) => port.name || []),
      ),
    );
  const device = path.join(dev, found.device);
  const [shown, place] = [escapeText(name), escapeText(device)];
  if (lstatSync(device, { throwIfNoEntry: false }) === undefined) {
    return none(
      finding('port-no-device', `the system has the port ${shown} as ${found.device}, and ${place} is not there`),
    );
  }
  const message = `the port ${shown} is ${place}, and the link ${escapeText(link)} is not there`;
  return { device, findings: [finding('port-no-link', message)] };
}

function describeMissing(name: string, names: readonly string[]): Finding {
  const shown = escapeText(name);
  const near = closestWord(name, names);
  if (near !== undefined) {
    const remedy = `write ${escapeText(near)} here, or ${shown} in the VM`;
    return finding('port-misspelt', `there is no port ${shown}, but there is ${escapeText(near)}`, remedy);
  }
  const list = names.map((one) => escapeText(one)).join(', ');
  const there = list === '' ? 'this machine has no ports' : `there are: ${list}`;
  return finding('port-missing', `there is no port ${shown}; ${there}`);
}

/** What the file is, if it can be no channel. */
function describeUnusable({ options: { sys } }: Machine, device: string): Finding | null {
  const shown = escapeText(device);
  // Opening it would tell, too, and this user may not be allowed to.
  if (/^vport\d+p0$/.test(path.basename(realpathSync(device)))) {
    return finding('port-console', `${shown} is a console of the VM`);
  }
  const refusal = whyNoPort(device, sys);
  if (refusal === null) return null;
  return finding(refusal.isConsole ? 'port-console' : 'port-not-virtio', `${shown}: ${escapeText(refusal.why)}`);
}

/** Who has it open; if nobody has, whether the host is there, for which it may have to be opened for a moment. */
async function lookForOthers(machine: Machine, device: string): Promise<Finding> {
  const shown = escapeText(device);
  const real = realpathSync(device);
  const processes = await machine.processes();
  const holders = processes.holdersOf(real);
  const [holder] = holders;
  if (holder !== undefined) {
    const remedy = holder.unit === null ? `end it: kill ${holder.pid}` : `systemctl stop ${holder.unit}`;
    return finding('port-busy', `${shown} is open in ${formatHolders(holders, false)}`, remedy);
  }
  const known = readConnected(machine, path.basename(real));
  if (known?.isGuestThere === true) {
    return finding('port-busy', `${shown} is open in ${formatHolders([], processes.isPartial)}`);
  }
  try {
    const isHostThere = known?.isHostThere ?? machine.options.isHostAtPort(device);
    const how = known === null ? ' (it was opened for a moment)' : '';
    return isHostThere
      ? finding('port-host', `${shown} is free, and the host is there${how}`)
      : finding('port-no-host', `${shown} is free, and nobody has its end on the host open${how}`);
  } catch (error) {
    if (systemCode(error) === 'EBUSY') {
      return finding('port-busy', `${shown} is open in ${formatHolders([], processes.isPartial)}`);
    }
    if (systemCode(error) === 'ENXIO') return finding('port-console', `${shown} is a console of the VM`);
    return finding('port-failed', `${shown} cannot be opened: ${describeError(error)}`);
  }
}

/** What debugfs says of a port, where it is mounted and this user may read it; null elsewhere. */
function readConnected(machine: Machine, device: string): { isHostThere: boolean; isGuestThere: boolean } | null {
  const text = machine.readSys(`kernel/debug/virtio-ports/${device}`);
  const isSet = (name: string): boolean => new RegExp(`^${name}: 1$`, 'm').test(text ?? '');
  return text === null ? null : { isHostThere: isSet('host_connected'), isGuestThere: isSet('guest_connected') };
}
