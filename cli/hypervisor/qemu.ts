/** A port as QEMU arguments, whose syntax depends on its version: a controller, the chardev of the host's end, and the port. */

import { badArgument } from '../../lib/errors.js';
import { runTool } from '../../lib/system/processes/run-tool.js';
import { escapeText } from '../../lib/util/escape.js';
import { type HypervisorPort, isDialed } from './port.js';

type DeviceProperties = Readonly<Record<string, string | number>>;

export interface QemuPort {
  readonly chardev: string;
  /** The controller, which must come first, and the port. */
  readonly controller: DeviceProperties;
  readonly port: DeviceProperties;
}

/**
 * Makes the parts for this version of QEMU, which may be null if QEMU does not dial (`isDialed`). Without `hasIoeventfd`, the
 * threads of the guest's CPUs do QEMU's work for the port themselves, so no wake-up of its main loop can be lost.
 */
export function describeQemuPort(port: HypervisorPort, version: QemuVersion | null, hasIoeventfd = true): QemuPort {
  // IDs begin with a letter. Each port has its own, so that the output of several calls can be combined.
  const chardev = `vproxy-${port.name}`;
  const controller = `${chardev}-bus`;
  return {
    chardev: formatChardev(port, chardev, version),
    controller: { driver: 'virtio-serial-pci', id: controller, ...(!hasIoeventfd && { ioeventfd: 'off' }) },
    // Port 0 is for a console.
    port: { driver: 'virtserialport', bus: `${controller}.0`, nr: 1, chardev, name: port.name },
  };
}

/** Formats the arguments, each as one word for `exec`. */
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

/** QEMU accepts milliseconds since 9.2, and later dropped the seconds. */
function formatReconnect({ reconnectSeconds }: HypervisorPort, version: QemuVersion | null): DeviceProperties {
  if (version !== null && !isSince(version, 9, 2)) return { reconnect: reconnectSeconds };
  return { 'reconnect-ms': reconnectSeconds * 1000 };
}

function formatDevice({ driver, ...properties }: DeviceProperties): string {
  return formatValues(String(driver), properties);
}

/** Formats `FIRST,key=value…`; commas in values are doubled. */
function formatValues(first: string, values: DeviceProperties): string {
  const pairs = Object.entries(values).map(([key, value]) => `${key}=${String(value).replaceAll(',', ',,')}`);
  return [first, ...pairs].join(',');
}

// QEMU's version, on which the syntax of some arguments depends.

/** The first two numbers of a version. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
}

export const isSince = (version: QemuVersion, major: number, minor: number): boolean =>
  version.major > major || (version.major === major && version.minor >= minor);

/** Parses a version such as `7.2` or `7.2.22`. Throws `bad-argument`. */
export function parseQemuVersion(text: string): QemuVersion {
  const [, major, minor] = /^(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?$/.exec(text) ?? [];
  if (major === undefined || minor === undefined) {
    throw badArgument(`--qemu-version: "${escapeText(text, 64)}" is not a version, such as 7.2`);
  }
  return { major: Number(major), minor: Number(minor) };
}

/** QEMU's names of architectures, by Node's. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  ia32: 'i386',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  loong64: 'loongarch64',
};

const ANSWER_MS = 10_000;

/** Resolves with the version of this machine's QEMU. Throws `bad-argument` if none is found. */
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
    `--qemu-version: missing; QEMU's arguments depend on it, and ${own} was not found; give a version, such as 7.2`,
  );
}
