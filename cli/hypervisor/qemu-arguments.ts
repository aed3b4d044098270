/** A port as QEMU's own arguments: a controller of its own, the chardev at the host's end, and the port itself. */
import { type HypervisorPort, isDialed } from './hypervisor-port.js';
import { isSince, type QemuVersion } from './qemu-version.js';

/** What a device of QEMU is told. */
export type DeviceProperties = Readonly<Record<string, string | number>>;

/** The parts of a port. */
export interface QemuPort {
  /** The value of `-chardev`. */
  readonly chardev: string;
  /** The controller, which has to come first, and the port. */
  readonly controller: DeviceProperties;
  readonly port: DeviceProperties;
}

/** Makes the parts for QEMU of a `version`, which may be null where QEMU does not dial (`isDialed`). */
export function describeQemuPort(port: HypervisorPort, version: QemuVersion | null): QemuPort {
  // Ids begin with a letter. Each port has its own, so that those of several calls can stand together.
  const chardev = `vproxy-${port.name}`;
  const controller = `${chardev}-bus`;
  return {
    chardev: formatChardev(port, chardev, version),
    controller: { driver: 'virtio-serial-pci', id: controller },
    // Port 0 is for a console.
    port: { driver: 'virtserialport', bus: `${controller}.0`, nr: 1, chardev, name: port.name },
  };
}

/** The arguments, each as one word for `exec`. */
export function formatQemuArguments({ chardev, controller, port }: QemuPort): string[] {
  return ['-device', formatDevice(controller), '-chardev', chardev, '-device', formatDevice(port)];
}

function formatChardev(port: HypervisorPort, id: string, version: QemuVersion | null): string {
  const { end } = port;
  if (end.kind === 'pipe') return formatValues('pipe', { id, path: end.path });
  const where = end.kind === 'tcp' ? { host: end.host, port: end.port } : { path: end.path ?? '' };
  const how = isDialed(port) ? formatReconnect(port, version) : { server: 'on', wait: 'off' };
  return formatValues('socket', { id, ...where, ...how });
}

/** QEMU has taken milliseconds since 9.2, and later gave the seconds up. */
function formatReconnect({ reconnectSeconds }: HypervisorPort, version: QemuVersion | null): DeviceProperties {
  if (version !== null && !isSince(version, 9, 2)) return { reconnect: reconnectSeconds };
  return { 'reconnect-ms': reconnectSeconds * 1000 };
}

function formatDevice({ driver, ...properties }: DeviceProperties): string {
  return formatValues(String(driver), properties);
}

/** `FIRST,key=value…`; a comma inside a value is doubled. */
function formatValues(first: string, values: DeviceProperties): string {
  const pairs = Object.entries(values).map(([key, value]) => `${key}=${String(value).replaceAll(',', ',,')}`);
  return [first, ...pairs].join(',');
}
