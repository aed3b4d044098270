/** A port as QEMU's own arguments, whose spelling depends on its version: a controller, the chardev at the host's end, and the port. */

import { badArgument } from '../../lib/errors.js';
import { runTool } from '../../lib/system/processes/run-tool.js';
import { escapeText } from '../../lib/util/escape.js';
import { type HypervisorPort, isDialed } from './port.js';

/** The properties of a device of QEMU. */
type DeviceProperties = Readonly<Record<string, string | number>>;

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
  // Ids begin with a letter. Each port has its own, so that those of several calls can be used together.
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

/** QEMU has taken milliseconds since 9.2, and later dropped the seconds. */
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

// QEMU's version, on which the spelling of some of its arguments depends.

/** A version, without what follows its second number. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
}

/** Whether `version` is at least another one. */
export const isSince = (version: QemuVersion, major: number, minor: number): boolean =>
  version.major > major || (version.major === major && version.minor >= minor);

/** The version of a text such as `7.2` or `7.2.22`. Throws `bad-argument`. */
export function parseQemuVersion(text: string): QemuVersion {
  const [, major, minor] = /^(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?$/.exec(text) ?? [];
  if (major === undefined || minor === undefined) {
    throw badArgument(`--qemu-version: "${escapeText(text, 64)}" is no version, such as 7.2`);
  }
  return { major: Number(major), minor: Number(minor) };
}

/** QEMU's name of a processor, by Node's, where they differ. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  ia32: 'i386',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  loong64: 'loongarch64',
};

const ANSWER_MS = 10_000;

/** The version of this machine's QEMU, from its own output. Throws `bad-argument` where it is missing. */
export async function askQemuVersion(): Promise<QemuVersion> {
  const own = `qemu-system-${ARCHITECTURES[process.arch] ?? process.arch}`;
  for (const program of [own, 'qemu-kvm', '/usr/libexec/qemu-kvm']) {
    const stdout = await runTool([program, '--version'], { timeoutMs: ANSWER_MS }).then(
      (output) => output.stdout,
      () => '',
    );
    const found = /^QEMU emulator version (\d+\.\d+)/.exec(stdout)?.[1];
    if (found !== undefined) return parseQemuVersion(found);
  }
  throw badArgument(
    `--qemu-version: it is required here: QEMU's arguments depend on it, and there is no ${own} to ask; expected such as 7.2`,
  );
}
