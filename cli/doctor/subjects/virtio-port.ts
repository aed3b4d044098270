/** The guest's end of virtio-serial ports: which ports a machine has, and whether one is there, free, and with a host. */

import { constants, lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { subsystemOf } from '../../../lib/channel/virtserial.js';
import { systemCode } from '../../../lib/errors.js';
import { closestWord } from '../../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders } from '../process-list.js';

/** The ports of this machine, by which a guest is known, and devices without a driver. */
export function checkVirtioPorts(machine: Machine): Finding[] {
  const ports = listVirtioPorts(machine);
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

interface VirtioPort {
  /** Such as `vport1p1`. */
  readonly device: string;
  /** The name that QEMU gave it; empty for one without. */
  readonly name: string;
}

/** All ports, also consoles and those without a name. */
function listVirtioPorts(machine: Machine): VirtioPort[] {
  try {
    return readdirSync(path.join(machine.options.sys, 'class/virtio-ports'))
      .sort()
      .map((device) => ({ device, name: machine.readSys(`class/virtio-ports/${device}/name`) ?? '' }));
  } catch {
    return [];
  }
}

/** The virtio-serial devices, such as `virtio3`, that no driver has. */
function listIdleDevices(machine: Machine): string[] {
  const folder = path.join(machine.options.sys, 'bus/virtio/devices');
  try {
    return readdirSync(folder).filter((name) => {
      const isConsole = machine.readSys(`bus/virtio/devices/${name}/device`) === '0x0003';
      return isConsole && lstatSync(path.join(folder, name, 'driver'), { throwIfNoEntry: false }) === undefined;
    });
  } catch {
    return [];
  }
}

/** Looks at the port of an address as `virtserial-open` takes it: a path, or a name. `isOurs`: a vproxy that runs has it. */
export async function checkVirtioPort(
  machine: Machine,
  { address, isOurs }: { readonly address: string; readonly isOurs: boolean },
): Promise<Finding[]> {
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
  const { dev } = machine.options;
  const links = path.join(dev, 'virtio-ports');
  const isName = !address.includes('/');
  const link = isName ? path.join(links, address) : address;
  const look = await lookAtPath(machine, link);
  if (look.problem !== null && look.problem.id !== 'folder-missing') return { device: null, findings: [look.problem] };
  if (look.problem === null && look.stats !== null) return { device: link, findings: [] };
  if (!isName && path.dirname(address) !== links) {
    return { device: null, findings: [look.problem ?? finding('port-missing', `there is no ${escapeText(address)}`)] };
  }
  const name = path.basename(link);
  const ports = listVirtioPorts(machine);
  const found = ports.find((port) => port.name === name);
  if (found === undefined)
    return {
      device: null,
      findings: [
        missing(
          name,
          ports.map((port) => port.name),
        ),
      ],
    };
  const device = path.join(dev, found.device);
  if (lstatSync(device, { throwIfNoEntry: false }) === undefined) {
    const message = `the system has the port ${escapeText(name)} as ${found.device}, and ${escapeText(device)} is not there`;
    return { device: null, findings: [finding('port-no-device', message)] };
  }
  const message = `the port ${escapeText(name)} is ${escapeText(device)}, and the link ${escapeText(link)} is not there`;
  return { device, findings: [finding('port-no-link', message)] };
}

function missing(name: string, names: readonly string[]): Finding {
  const shown = escapeText(name);
  const near = closestWord(
    name,
    names.filter((one) => one !== ''),
  );
  if (near !== undefined) {
    const remedy = `write ${escapeText(near)} here, or ${shown} in the VM`;
    return finding('port-misspelt', `there is no port ${shown}, but there is ${escapeText(near)}`, remedy);
  }
  const list = names.filter((one) => one !== '').map((one) => escapeText(one));
  return finding(
    'port-missing',
    `there is no port ${shown}; ${list.length === 0 ? 'this machine has no ports' : `there are: ${list.join(', ')}`}`,
  );
}

/** What the file is, if it can be no channel. */
function describeUnusable(machine: Machine, device: string): Finding | null {
  const shown = escapeText(device);
  const stats = statSync(device);
  const name = path.basename(realpathSync(device));
  if (/^hvc\d+$/.test(name) || /^vport\d+p0$/.test(name)) {
    return finding('port-console', `${shown} is ${name}, a console of the VM`);
  }
  if (!stats.isCharacterDevice()) return finding('port-not-virtio', `${shown} is ${describeKind(stats)}, not a device`);
  const subsystem = subsystemOf(stats.rdev, machine.options);
  if (subsystem === null || subsystem === 'virtio-ports') return null;
  return finding('port-not-virtio', `${shown} is a device of "${escapeText(subsystem)}", not a virtio-serial port`);
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
  try {
    const text = readFileSync(path.join(machine.options.sys, 'kernel/debug/virtio-ports', device), 'utf8');
    const isSet = (name: string): boolean => new RegExp(`^${name}: 1$`, 'm').test(text);
    return { isHostThere: isSet('host_connected'), isGuestThere: isSet('guest_connected') };
  } catch {
    return null;
  }
}
