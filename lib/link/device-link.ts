/** A link over a character device that epoll takes: a virtio-serial port or a terminal. */

import { readvSync, writeSync } from 'node:fs';
import net from 'node:net';
import { openPipeHandle, pipeSocket } from '../system/handles.js';
import type { OnRead } from '../system/sockets.js';
import type { Clock } from '../util/clock.js';
import type { Link } from './link.js';
import { PollingLink } from './polling-link.js';
import { type DirectAccess, type SocketHalves, SocketLink } from './socket-link.js';

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

// Reading and writing a non-blocking device with as few system calls as possible.

/**
 * Direct access to `fd`. A virtio-serial port gives one page a read and takes 32 KiB a write, whatever it is offered;
 * `readv` empties 64 pages in one call. A full or empty queue is no error, and a real one comes again when the event
 * loop reads or writes.
 */
export function deviceAccess(fd: number): DirectAccess {
  return {
    readNow(pages) {
      try {
        return readvSync(fd, pages);
      } catch {
        return 0;
      }
    },
    writeNow(bytes) {
      let written = 0;
      try {
        while (written < bytes.length) written += writeSync(fd, bytes, written);
      } catch {
        return written;
      }
      return written;
    },
  };
}

// Two descriptors, one to read and one to write, as the halves of a link.

/**
 * The halves over FIFOs, pipes or sockets (nothing else: epoll aborts the process on a regular file). They own both
 * descriptors, which become non-blocking.
 */
export function openHalves(inputFd: number, outputFd: number, onread: OnRead): SocketHalves {
  const input: net.SocketConstructorOpts & { onread: OnRead } = {
    fd: inputFd,
    onread,
    readable: true,
    writable: false,
    allowHalfOpen: true,
  };
  return {
    input: new net.Socket(input),
    output: new net.Socket({ fd: outputFd, readable: false, writable: true, allowHalfOpen: true }),
  };
}
