/** Waits for descriptors that Node has no handle for: one epoll(7) holds them all, and is itself readable when one is ready. */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { openPipeHandle, ReadableHandle } from '../handles.js';
import { type Libc, type NativeCall, systemError } from '../libc.js';

/** Descriptors served per turn; others that are ready follow in the next one. */
const MAX_EVENTS = 64;

export class Readiness {
  readonly #libc: Libc;
  readonly #create: NativeCall;
  readonly #control: NativeCall;
  readonly #wait: NativeCall;
  readonly #events = Buffer.alloc(MAX_EVENTS * EVENT.size);
  /** The callback of each descriptor. */
  readonly #watched = new Map<number, () => void>();
  /** Non-null while anything is watched. */
  #epoll: { readonly fd: number; readonly handle: ReadableHandle } | null = null;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#create = libc.declare('int epoll_create1(int flags)');
    this.#control = libc.declare('int epoll_ctl(int epfd, int op, int fd, void *event)');
    this.#wait = libc.declare('int epoll_wait(int epfd, void *events, int maxevents, int timeout)');
  }

  /** Calls `onReady`, which must not throw, while there is something to read or an error to collect. Throws a system error. */
  watch(fd: number, onReady: () => void): void {
    this.#epoll ??= this.#open();
    this.#watched.set(fd, onReady);
    try {
      this.#change(CONTROL.add, fd, IN);
    } catch (error) {
      this.#drop(fd);
      throw error;
    }
  }

  /** Whether `onReady` is also called while the descriptor is writable. Default: no. */
  setWriting(fd: number, isWriting: boolean): void {
    this.#change(CONTROL.modify, fd, isWriting ? IN | OUT : IN);
  }

  /** Call this before closing the descriptor. */
  forget(fd: number): void {
    if (!this.#watched.has(fd)) return;
    this.#change(CONTROL.delete, fd, 0);
    this.#drop(fd);
  }

  #drop(fd: number): void {
    this.#watched.delete(fd);
    if (this.#watched.size > 0) return;
    this.#epoll?.handle.close();
    this.#epoll = null;
  }

  #open(): { fd: number; handle: ReadableHandle } {
    const fd = this.#create(CLOEXEC);
    if (fd < 0) throw systemError('epoll_create1', this.#libc.errno());
    const handle = openPipeHandle(fd);
    if (handle === null) {
      closeSync(fd);
      throw systemError('epoll_create1', constants.errno.ENOSYS);
    }
    return { fd, handle: new ReadableHandle(handle, () => this.#look()) };
  }

  #change(operation: number, fd: number, events: number): void {
    if (this.#epoll === null) return;
    const event = Buffer.alloc(EVENT.size);
    event.writeUInt32LE(events, EVENT.events);
    event.writeInt32LE(fd, EVENT.data);
    if (this.#control(this.#epoll.fd, operation, fd, event) < 0) throw systemError('epoll_ctl', this.#libc.errno());
  }

  #look(): void {
    if (this.#epoll === null) return;
    const count = this.#wait(this.#epoll.fd, this.#events, MAX_EVENTS, 0);
    const ready = Array.from({ length: Math.max(0, count) }, (_, index) =>
      this.#events.readInt32LE(index * EVENT.size + EVENT.data),
    );
    // One callback may end another descriptor.
    for (const fd of ready) this.#watched.get(fd)?.();
  }
}

// Linux, little-endian machines.

/** struct epoll_event, packed only on x86-64. */
const EVENT = process.arch === 'x64' ? { events: 0, data: 4, size: 12 } : { events: 0, data: 8, size: 16 };

const CONTROL = { add: 1, delete: 2, modify: 3 } as const;
const CLOEXEC = 0o2000000;
const IN = 1;
const OUT = 4;
