/** Findings about virtio-serial ports, in a guest. */
import { type FindingRows, fail, note, ok, warn } from './row.js';

/** By id. */
export const PORT_FINDINGS = {
  'ports-found': ok('This machine is a guest with virtio-serial ports.'),
  'ports-none': note('This machine has no virtio-serial ports: it is no guest, or has no such device.', null),
  'port-module': fail('There is a virtio-serial device, and no driver has it.', 'modprobe virtio_console'),
  'port-missing': fail(
    'There is no virtio-serial port of that name.',
    'give the VM a virtserialport with that name, or correct the name',
  ),
  'port-misspelt': fail('There is no port of that name, but one with a name like it.', 'correct the name'),
  'port-no-link': warn(
    'The port is there, and its link in /dev/virtio-ports is not, because udev has not made it. vproxy finds the port all the same.',
    'udevadm trigger --subsystem-match=virtio-ports, or name the port without a path',
  ),
  'port-no-device': fail(
    'The system knows the port, and its device in /dev is missing.',
    'mount devtmpfs at /dev, or give the container the device',
  ),
  'port-not-virtio': fail('What is at the path is no virtio-serial port.', 'name the device of a virtserialport'),
  'port-console': fail(
    'The port is a console of the VM, which changes bytes.',
    'give the VM a virtserialport; number 0 of a device is for a console',
  ),
  'port-denied': fail(
    'This user may not open the port.',
    'run as root, or have udev give the port to a group: packaging/udev/60-vproxy.rules',
  ),
  'port-busy': fail('Another process has the port open; only one can.', 'end that process'),
  'port-no-host': warn(
    'Nobody has the host’s end of the port open.',
    'start vproxy on the host, with the channel of this port',
  ),
  'port-host': ok('The port is free, and the host’s end is open.'),
  'port-failed': fail('The system cannot open the port.', 'look at the kernel log (dmesg)'),
} as const satisfies FindingRows;
