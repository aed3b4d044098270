/** The virtio-serial ports of a guest: lists them, resolves addresses, and checks devices. */
import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { REMEDIES } from '../remedies.js';
import { linkTarget, listFolder, readText } from '../system/files/optional-files.js';

/** The folders of the system's devices: `/dev` and `/sys`. */
export interface DeviceFolders {
  readonly dev: string;
  readonly sys: string;
}

interface VirtioPort {
  /** Such as `vport1p1`. */
  readonly device: string;
  /** Its name in QEMU; empty for a port without one, and for a console. */
  readonly name: string;
}

export function listVirtioPorts(sys: string): VirtioPort[] {
  const folder = path.join(sys, 'class/virtio-ports');
  const devices = (listFolder(folder) ?? []).sort();
  return devices.map((device) => ({ device, name: readText(path.join(folder, device, 'name')).trim() }));
}

/**
 * Resolves an address, a name or a path: the expected device path, and the name by which to find the port if udev created no
 * link. The name is null for a path elsewhere.
 */
export function readPortAddress(address: string, dev: string): { readonly path: string; readonly name: string | null } {
  const links = path.join(dev, 'virtio-ports');
  if (!address.includes('/')) return { path: path.join(links, address), name: address };
  return { path: address, name: path.dirname(address) === links ? path.basename(address) : null };
}

/** Why a file cannot be a port; null if it may be. Throws system errors. Opens nothing: opening some devices has side effects. */
export function whyNoPort(device: string, sys: string): string | null {
  const name = path.basename(realpathSync(device));
  const found = statSync(device);
  if (/^hvc\d+$/.test(name)) {
    return `${name} is a console of the VM; ${REMEDIES['virtio-port']['channel-unusable']}`;
  }
  if (!found.isCharacterDevice()) return 'not a device';
  const subsystem = subsystemOf(found.rdev, sys);
  if (subsystem === null || subsystem === 'virtio-ports') return null;
  return `${name} is a device of "${subsystem}", not a virtio-serial port`;
}

/**
 * The subsystem of a device (`virtio-ports`, `tty`, `mem`) by its device number, as returned by `stat`; null if unknown.
 */
export function subsystemOf(deviceNumber: number, sys: string): string | null {
  const high = Math.floor(deviceNumber / 2 ** 32);
  const major = ((deviceNumber >>> 8) & 0xfff) | (high & ~0xfff);
  const minor = (deviceNumber & 0xff) | ((deviceNumber >>> 12) & 0xfff00);
  const target = linkTarget(path.join(sys, 'dev/char', `${major}:${minor}`, 'subsystem'));
  return target === null ? null : path.basename(target);
}
