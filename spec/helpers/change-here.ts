/**
 * Hands over within one process, for state that cannot be restored elsewhere: duplicates descriptors, and silently closes the
 * sockets of the old side, as the system does for a process that exits.
 */
import net from 'node:net';
import { deserialize, serialize } from 'node:v8';
import type { KeepDescriptor, TakeDescriptor } from '../../lib/system/descriptors.js';
import { loadLibc, type NativeCall } from '../../lib/system/libc.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';

const isHandle = (value: unknown): value is net.Socket | net.Server =>
  value instanceof net.Socket || value instanceof net.Server;

/** The sockets and servers of this process that use the descriptor. */
function handlesOf(fd: number): (net.Socket | net.Server)[] {
  const { _getActiveHandles: list } = process as unknown as { _getActiveHandles: () => unknown[] };
  return list
    .call(process)
    .filter(isHandle)
    .filter((handle) => descriptorOf(handle) === fd);
}

export class ChangeHere {
  readonly #dup: NativeCall;
  readonly #fds: number[] = [];
  readonly #old: (net.Socket | net.Server)[] = [];
  readonly #targets = new WeakMap<object, object>();
  isOver = false;

  private constructor(dup: NativeCall) {
    this.#dup = dup;
  }

  static async prepare(): Promise<ChangeHere> {
    return new ChangeHere((await loadLibc()).declare('int dup(int fd)'));
  }

  readonly keep: KeepDescriptor = (fd) => {
    this.#old.push(...handlesOf(fd));
    return this.#fds.push(this.#dup(fd)) - 1;
  };

  readonly take: TakeDescriptor = (index) => {
    const fd = this.#fds[index];
    if (fd === undefined || fd < 0) throw new Error(`there is no descriptor ${index}`);
    this.#fds[index] = -1;
    return fd;
  };

  /** The capture for the successor; the old side has ended when this returns. */
  end<C>(capture: C): C {
    const copy = deserialize(serialize(capture)) as C;
    this.isOver = true;
    for (const handle of this.#old) {
      handle.removeAllListeners();
      if (handle instanceof net.Server) handle.close();
      else handle.on('error', () => undefined).destroy();
    }
    return copy;
  }

  /** `target` as the old side sees it, which has no effect on it once it has ended. `own` replaces its members. */
  forOld<T extends object>(target: T, own: Partial<T> = {}): T {
    const seen = new Proxy(target, {
      get: (_, key) => {
        if (key in own) return own[key as keyof T];
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        return this.isOver ? () => undefined : (value.bind(target) as unknown);
      },
      set: (_, key, value) => this.isOver || Reflect.set(target, key, value, target),
    });
    this.#targets.set(seen, target);
    return seen;
  }

  targetOf(seen: object): object | undefined {
    return this.#targets.get(seen);
  }
}

export function patternFrom(from: number, byteCount: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(byteCount);
  for (let at = 0; at < byteCount; at += 1) bytes[at] = (from + at) * 31 + ((from + at) >> 8) * 7;
  return bytes;
}
