/** Sets the clock of this machine, and adds to its random numbers: system calls through the optional package koffi. */
import { closeSync, openSync } from 'node:fs';
import { loadLibc, systemError } from './libc.js';

/** From <time.h>. */
const CLOCK_REALTIME = 0;

/** From <linux/random.h>. */
const RNDADDENTROPY = 0x4008_5203;
const RNDRESEEDCRNG = 0x5207;

/** What changes the machine; replaced by tests. */
export interface MachineClock {
  /** Moves the time of day by so many milliseconds. Rejects with a system error: `EPERM` without CAP_SYS_TIME. */
  step(byMs: number): Promise<void>;
  /** Adds random bytes to the pool of the kernel, and has it use them. Rejects likewise, without CAP_SYS_ADMIN. */
  reseed(bytes: Buffer): Promise<void>;
}

export const machineClock: MachineClock = {
  async step(byMs) {
    const libc = await loadLibc();
    const set = libc.declare('int clock_settime(int clock, const void *time)');
    const microseconds = BigInt(Math.round((Date.now() + byMs) * 1000));
    const time = Buffer.alloc(16);
    time.writeBigInt64LE(microseconds / 1_000_000n, 0);
    time.writeBigInt64LE((microseconds % 1_000_000n) * 1000n, 8);
    if (set(CLOCK_REALTIME, time) !== 0) throw systemError('clock_settime', libc.errno());
  },
  async reseed(bytes) {
    const libc = await loadLibc();
    const ioctl = libc.declare('int ioctl(int fd, ulong request, void *argument)');
    // struct rand_pool_info: bits of entropy, bytes, and these.
    const pool = Buffer.alloc(8 + bytes.length);
    pool.writeInt32LE(8 * bytes.length, 0);
    pool.writeInt32LE(bytes.length, 4);
    bytes.copy(pool, 8);
    const fd = openSync('/dev/urandom', 'w');
    try {
      for (const request of [RNDADDENTROPY, RNDRESEEDCRNG])
        if (ioctl(fd, request, pool) !== 0) throw systemError('ioctl /dev/urandom', libc.errno());
    } finally {
      closeSync(fd);
    }
  },
};
