/** Opening the device of a virtio-serial port, and looking whether the host is there. */
import { closeSync, constants, openSync, readSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { openingCancelled } from './channel-error.js';
import type { DialContext } from './kind.js';
import { type DeviceFolders, subsystemOf } from './virtserial-lookup.js';

/**
 * Opens the device at `path` without blocking; the descriptor is the caller's. Throws `channel-unusable` for what is
 * not a virtio-serial port, and errors of the system. It looks before it opens: opening some devices does something.
 */
export function openPort(devicePath: string, folders: DeviceFolders, description: string): number {
  const unusable = (why: string) => new VproxyError('channel-unusable', `${description}: ${why}`);
  const name = path.basename(realpathSync(devicePath));
  if (/^hvc\d+$/.test(name)) throw unusable(`${name} is a console of the VM; give the VM a virtserialport`);
  const found = statSync(devicePath);
  if (!found.isCharacterDevice()) throw unusable('it is not a device');
  const subsystem = subsystemOf(found.rdev, folders);
  if (subsystem !== null && subsystem !== 'virtio-ports') {
    throw unusable(`${name} is a device of "${subsystem}", not a virtio-serial port`);
  }
  return openSync(devicePath, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
}

/**
 * Resolves when the host has the other end of port `fd` open, with what it has sent already, at most `room`. A port
 * without a host reads as ended, and would make the event loop spin, so it is asked at growing intervals instead;
 * `fd` stays open meanwhile, and so taken. Closes `fd` and rejects when the port fails, or is given up (`shutdown`).
 */
export async function waitForHost(
  fd: number,
  room: Buffer,
  description: string,
  context: DialContext,
  clock: Clock,
): Promise<Buffer | null> {
  try {
    for (let delayMs = FIRST_WAIT_MS; !context.signal.aborted; delayMs = Math.min(delayMs * 1.5, LONGEST_WAIT_MS)) {
      const count = look(fd, room);
      if (count !== 0) return count === null ? null : room.subarray(0, count);
      if (delayMs === FIRST_WAIT_MS) context.report.waiting('the host');
      await wait(delayMs, context.signal, clock);
    }
    throw openingCancelled(description);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** How many bytes were there: 0 where the host is absent, null where it is silent. */
function look(fd: number, room: Buffer): number | null {
  try {
    return readSync(fd, room);
  } catch (error) {
    if (systemCode(error) === 'EAGAIN') return null;
    throw error;
  }
}

/** Resolves after a time, or when `signal` is aborted. */
function wait(delayMs: number, signal: AbortSignal, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.schedule(delayMs, done);
    signal.addEventListener('abort', done);
  });
}

const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 250;
