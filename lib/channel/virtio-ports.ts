/** The virtio-serial ports of a guest: which of them the system knows, which one an address means, and whether a device is one. */
import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { linkTarget, listFolder, readText } from '../system/files/optional-files.js';

/** Where the system keeps its devices: `/dev` and `/sys`. */
export interface DeviceFolders {
  readonly dev: string;
  readonly sys: string;
}

interface VirtioPort {
  /** Such as `vport1p1`. */
  readonly device: string;
  /** The name that QEMU gave it; empty for one without, and for a console. */
  readonly name: string;
}

/** All ports of this machine. */
export function listVirtioPorts(sys: string): VirtioPort[] {
  const folder = path.join(sys, 'class/virtio-ports');
  const devices = (listFolder(folder) ?? []).sort();
  return devices.map((device) => ({ device, name: readText(path.join(folder, device, 'name')).trim() }));
}

/**
 * What an address means, a name or a path: where its device should be, and its name, by which it is found where udev has made no
 * link there. Null for a path elsewhere, which has no name.
 */
export function readPortAddress(address: string, dev: string): { readonly path: string; readonly name: string | null } {
  const links = path.join(dev, 'virtio-ports');
  if (!address.includes('/')) return { path: path.join(links, address), name: address };
  return { path: address, name: path.dirname(address) === links ? path.basename(address) : null };
}

/** Why a file can be no port; null where it may be one. Throws an error of the system. It opens nothing: opening some devices does something. */
export function whyNoPort(device: string, sys: string): { readonly isConsole: boolean; readonly why: string } | null {
  const name = path.basename(realpathSync(device));
  const found = statSync(device);
  if (/^hvc\d+$/.test(name)) {
    return { isConsole: true, why: `${name} is a console of the VM; give the VM a virtserialport` };
  }
  if (!found.isCharacterDevice()) return { isConsole: false, why: 'it is not a device' };
  const subsystem = subsystemOf(found.rdev, sys);
  if (subsystem === null || subsystem === 'virtio-ports') return null;
  return { isConsole: false, why: `${name} is a device of "${subsystem}", not a virtio-serial port` };
}

/**
 * What the system says that a device is (`virtio-ports`, `tty`, `mem`), by its device number as `stat` gives it; null
 * where it says nothing.
 */
export function subsystemOf(deviceNumber: number, sys: string): string | null {
  const high = Math.floor(deviceNumber / 2 ** 32);
  const major = ((deviceNumber >>> 8) & 0xfff) | (high & ~0xfff);
  const minor = (deviceNumber & 0xff) | ((deviceNumber >>> 12) & 0xfff00);
  const target = linkTarget(path.join(sys, 'dev/char', `${major}:${minor}`, 'subsystem'));
  return target === null ? null : path.basename(target);
}
