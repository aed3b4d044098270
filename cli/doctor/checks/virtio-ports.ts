/** The virtio-serial ports of this machine, by which a guest is known. */
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';
import { listVirtioPorts } from '../virtio-ports.js';
import { listIdleDevices } from './virtio-port.js';

/** Which there are, and what has no driver. */
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
