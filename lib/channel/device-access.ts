/** Reading and writing a non-blocking device with as few system calls as possible. */
import { readvSync, writeSync } from 'node:fs';
import type { DirectAccess } from './socket-link.js';

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
