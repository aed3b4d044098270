/** `virtserial-open:PATH` and `virtserial-open:NAME`: the guest's end of a virtio-serial port. */

import { closeSync, constants, existsSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { DEVICE_SLAB_BYTES, openDeviceLink, restoreDeviceLink } from '../link/device-link.js';
import { channelError, openingCancelled } from '../link/link.js';
import { canonicalPath } from '../system/files/guarded-files.js';
import { formatPath, parsePath, parsePathOrName } from '../util/addresses/paths.js';
import { Backoff, type Clock, sleep, systemClock } from '../util/clock.js';
import { suggestOrList } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import { type DialContext, type DialKind, VM_TRAITS } from './kind.js';
import { type DeviceFolders, listVirtioPorts, readPortAddress, whyNoPort } from './virtio-ports.js';

interface VirtserialOptions extends Partial<DeviceFolders> {
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** Creates the kind `virtserial-open`, with devices in the usual folders by default. */
export function virtserialKind(options: VirtserialOptions = {}): DialKind<string> {
  const folders = { dev: options.dev ?? '/dev', sys: options.sys ?? '/sys' };
  const clock = options.clock ?? systemClock;
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    leadsToHost: () => true,
    parse: (text) => (text.includes('/') ? parsePath(text) : parsePathOrName(text)),
    format: formatPath,
    place: (address) => canonicalPath(readPortAddress(address, folders.dev).path),
    locate: (name) => ({ is: 'virtio-port', name }),
    async dial(address, context) {
      const description = `virtserial-open:${escapeText(address)}`;
      try {
        if (context.signal.aborted) throw openingCancelled(description);
        const fd = openPort(findPort(address, folders, description), folders, description);
        const firstBytes = await waitForHost(
          fd,
          Buffer.allocUnsafeSlow(DEVICE_SLAB_BYTES),
          description,
          context,
          clock,
        );
        return openDeviceLink(description, fd, firstBytes, clock);
      } catch (error) {
        throw channelError(description, error);
      }
    },
    restoreLink: (state, take) => restoreDeviceLink(state, take, clock),
  };
}

export const virtserialOpen: DialKind<string> = virtserialKind();

// Opening the device of a virtio-serial port, and waiting for the host.

/**
 * Opens the device without blocking; the caller owns the descriptor. Throws `channel-unusable` if it is not a virtio-serial
 * port, and system errors.
 */
function openPort(device: string, { sys }: DeviceFolders, description: string): number {
  const refusal = whyNoPort(device, sys);
  if (refusal !== null) throw new VproxyError('channel-unusable', `${description}: ${refusal}`);
  return openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
}

/**
 * Resolves when the host has the other end of port `fd` open, with what it has already sent, at most `room`. A port without
 * a host reads as EOF and would make the event loop spin, so it is polled at growing intervals instead; `fd` stays open
 * meanwhile, which keeps others out. Closes `fd` and rejects when the port fails or waiting is cancelled (`shutdown`).
 */
async function waitForHost(
  fd: number,
  room: Buffer,
  description: string,
  context: DialContext,
  clock: Clock,
): Promise<Buffer | null> {
  try {
    const backoff = new Backoff(WAITS);
    for (let isFirst = true; !context.signal.aborted; isFirst = false) {
      const count = look(fd, room);
      if (count !== 0) return count === null ? null : room.subarray(0, count);
      if (isFirst) context.report.waiting('the host');
      await sleep(clock, backoff.next(), context.signal);
    }
    throw openingCancelled(description);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Reads what is available: 0 if the host is absent, null if it is silent. */
function look(fd: number, room: Buffer): number | null {
  try {
    return readSync(fd, room);
  } catch (error) {
    if (systemCode(error) === 'EAGAIN') return null;
    throw error;
  }
}

const WAITS = { firstMs: 50, maxMs: 250, factor: 1.5, jitter: 0 };

/**
 * The device path for `address`: a path is returned unchanged; a name, or a path in `/dev/virtio-ports` that udev did not
 * create, is looked up in `/sys/class/virtio-ports`. Throws `channel-missing`, with `description` in its message.
 */
export function findPort(address: string, { dev, sys }: DeviceFolders, description: string): string {
  const { path: link, name } = readPortAddress(address, dev);
  if (name === null || existsSync(link)) return link;
  const ports = listVirtioPorts(sys).filter((port) => port.name !== '');
  const found = ports.find((port) => port.name === name);
  if (found !== undefined) return path.join(dev, found.device);
  const names = ports.map((port) => escapeText(port.name));
  const [shown, hint] = [escapeText(name), suggestOrList(name, names)];
  throw new VproxyError('channel-missing', `${description}: no virtio-serial port "${shown}"; ${hint}`);
}
