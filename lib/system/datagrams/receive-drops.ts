/** Messages that the system has dropped because the buffer of a UDP socket was full: a column of Linux's /proc/net/udp. */
import { fstatSync } from 'node:fs';
import { type CancelTimer, systemClock } from '../../util/clock.js';
import { readTable } from '../proc/proc-net.js';

/** The tables are read this long after a message: a full buffer is soon read, so a message follows every drop. */
const LOOK_MS = 1000;

/** The sockets by inode, as the tables have no descriptors. */
const watched = new Map<string, ReceiveDrops>();
let cancelLook: CancelTimer | null = null;

/** The drops of one socket, until `close`. */
export class ReceiveDrops {
  readonly #inode: string;
  readonly #onDropped: (count: number) => void;
  /** What the system had counted, modulo 2^32, when it was last read. */
  count: number;

  constructor(fd: number, count: number, onDropped: (count: number) => void) {
    this.#inode = String(fstatSync(fd).ino);
    this.#onDropped = onDropped;
    this.count = count;
    watched.set(this.#inode, this);
  }

  /** A message was read. */
  touch(): void {
    cancelLook ??= systemClock.schedule(LOOK_MS, () => void look());
  }

  update(count: number): void {
    const more = (count - this.count) >>> 0;
    // An earlier look may end after a later one.
    if (more === 0 || more >= 2 ** 31) return;
    this.count = count;
    this.#onDropped(more);
  }

  close(): void {
    watched.delete(this.#inode);
    if (watched.size > 0) return;
    cancelLook?.();
    cancelLook = null;
  }
}

async function look(): Promise<void> {
  cancelLook = null;
  for (const name of ['udp', 'udp6']) {
    for await (const lines of readTable(`/proc/net/${name}`)) {
      // … inode ref pointer drops
      for (const [, inode = '', count] of lines.matchAll(/ (\d+) \d+ \S+ (\d+) *$/gm))
        watched.get(inode)?.update(Number(count));
    }
  }
}
