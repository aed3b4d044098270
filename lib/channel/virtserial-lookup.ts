/** Finding the device of a virtio-serial port, by path or by the name that QEMU gave it. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** Where the system keeps its devices. */
export interface DeviceFolders {
  /** Default `/dev`. */
  readonly dev: string;
  /** Default `/sys`. */
  readonly sys: string;
}

/**
 * The path of the device for `address`: a path is itself; a name, or a path in `/dev/virtio-ports` that udev did not
 * make, is looked up in `/sys/class/virtio-ports`. Throws
 * `channel-missing`, with `description` in its message.
 */
export function findPort(address: string, folders: DeviceFolders, description: string): string {
  const links = path.join(folders.dev, 'virtio-ports');
  const isName = !address.includes('/');
  const link = isName ? path.join(links, address) : address;
  if (existsSync(link)) return link;
  if (!isName && path.dirname(address) !== links) return address;

  const name = path.basename(link);
  const ports = listPorts(folders.sys);
  const found = ports.find((port) => port.name === name);
  if (found !== undefined) return path.join(folders.dev, found.device);
  const names = ports.map((port) => escapeText(port.name)).join(', ');
  throw new VproxyError(
    'channel-missing',
    `${description}: no virtio-serial port is named ${escapeText(name)}; there ${names === '' ? 'is none' : `are: ${names}`}`,
  );
}

/**
 * What the system says that a device is (`virtio-ports`, `tty`, `mem`), by its device number as `stat` gives it; null
 * where it says nothing.
 */
export function subsystemOf(deviceNumber: number, folders: DeviceFolders): string | null {
  const high = Math.floor(deviceNumber / 2 ** 32);
  const major = ((deviceNumber >>> 8) & 0xfff) | (high & ~0xfff);
  const minor = (deviceNumber & 0xff) | ((deviceNumber >>> 12) & 0xfff00);
  const link = path.join(folders.sys, 'dev/char', `${major}:${minor}`, 'subsystem');
  return orElse(null, () => path.basename(readlinkSync(link)));
}

/** The ports that have a name. */
function listPorts(sys: string): { readonly device: string; readonly name: string }[] {
  const folder = path.join(sys, 'class/virtio-ports');
  return orElse([], () => readdirSync(folder)).flatMap((device) => {
    const name = orElse('', () => readFileSync(path.join(folder, device, 'name'), 'utf8').trim());
    return name === '' ? [] : [{ device, name }];
  });
}

/** What `read` gives, or `otherwise` where the file is not there or cannot be read. */
function orElse<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
