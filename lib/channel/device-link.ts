/** A link over a character device that epoll takes: a virtio-serial port or a terminal. */
import type { Clock } from '../util/clock.js';
import { deviceAccess } from './device-access.js';
import type { Link } from './link.js';
import { openPipeHandle, pipeSocket } from './pipe-handle.js';
import { PollingLink } from './polling-link.js';
import { SocketLink } from './socket-link.js';

/** 64 pages: as many as one `readv` of a virtio-serial port is given. */
export const DEVICE_SLAB_BYTES = 262_144;

/**
 * A link over the device `fd`, non-blocking, which it owns from now on. `firstBytes` were read already and are
 * delivered first; the link owns them.
 */
export function openDeviceLink(description: string, fd: number, firstBytes: Buffer | null, clock: Clock): Link {
  const options = { slabBytes: DEVICE_SLAB_BYTES, direct: deviceAccess(fd), clock, ...(firstBytes && { firstBytes }) };
  const handle = openPipeHandle(fd);
  if (handle === null) return new PollingLink(description, fd, options);
  return new SocketLink(description, (onread) => pipeSocket(handle, onread), options);
}
