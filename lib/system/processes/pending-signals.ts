/**
 * Signals that arrived while this process did not return to its event loop, where Node's handlers run. Until then their numbers
 * wait in a pipe of libuv, identified by a signal that this process sends to itself.
 */
import { readdirSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import { linkTarget } from '../files/optional-files.js';
import type { MessageCalls } from '../unix-messages.js';

/** A harmless signal: ignored by default. */
const PROBE = 'SIGURG';

/** `uv__signal_msg_t` on 64-bit machines: a pointer, the signal number, 4 bytes of padding. */
const RECORD = { signal: 8, size: 16 } as const;

/** Signals that users and service managers send. */
const NAMES = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

export class PendingSignals {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Null if Node's internals differ from what is expected. */
  static find(calls: MessageCalls): PendingSignals | null {
    const isReadable = (fd: number): boolean => calls.wait(fd, 'readable', 0);
    const silent = ownPipes().filter((fd) => !isReadable(fd));
    process.once(PROBE, () => undefined);
    process.kill(process.pid, PROBE);
    const [fd, ...others] = silent.filter(isReadable);
    return fd === undefined || others.length > 0 ? null : new PendingSignals(fd);
  }

  /** Takes the signals not yet handled. Their handlers will not run: call this only at the end of the process. */
  take(): NodeJS.Signals[] {
    const records = Buffer.alloc(64 * RECORD.size);
    let byteCount = 0;
    try {
      byteCount = readSync(this.#fd, records);
    } catch {
      // Nothing is pending.
    }
    const numbers = Array.from({ length: byteCount / RECORD.size }, (_, index) =>
      records.readInt32LE(index * RECORD.size + RECORD.signal),
    );
    return NAMES.filter((name) => numbers.includes(constants.signals[name]));
  }
}

/** The descriptors of pipes of which this process holds both ends. */
function ownPipes(): number[] {
  const ends = new Map<string, number[]>();
  for (const name of readdirSync('/proc/self/fd')) {
    // The folder's own descriptor is closed by now.
    const target = linkTarget(`/proc/self/fd/${name}`) ?? '';
    if (target.startsWith('pipe:')) ends.set(target, [...(ends.get(target) ?? []), Number(name)]);
  }
  return [...ends.values()].filter((fds) => fds.length > 1).flat();
}
