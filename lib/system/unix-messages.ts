/**
 * Messages of unix sockets with descriptors: sendmsg(2) and recvmsg(2), which Node has no name for, through the optional
 * package koffi. Nothing here waits but `wait`.
 *
 * The structures are laid out by hand. In the library of GNU two of their lengths are words of 64 bits; in musl they are
 * words of 32 bits, each with as many of padding behind it. On a little-endian machine both are the same bytes.
 */

import { closeSync } from 'node:fs';
import { constants, endianness } from 'node:os';
import { MAX_SOCKET_PATH_BYTES } from '../util/addresses.js';
import { MAX_TIMER_MS } from '../util/clock.js';
import { type Libc, loadLibc, type NativeCall, systemError } from './libc.js';

/** The most descriptors that a message has. */
export const MAX_MESSAGE_DESCRIPTORS = 253;

/** What came of one message, or of as much of it as there was room for. */
export interface Received {
  /** The number of bytes; zero: the other end was closed. */
  readonly byteCount: number;
  /** They are the callee's to close, and not inherited by programs. */
  readonly descriptors: readonly number[];
  /** Whether there were more descriptors than this process could take. */
  readonly isTruncated: boolean;
}

/** Loads the calls. Rejects as `import` does where koffi is missing, and with an error for a machine of other structures. */
export async function loadMessageCalls(): Promise<MessageCalls> {
  if (!hasKnownStructures()) {
    throw new Error(`descriptors cannot be passed on ${process.platform} on ${process.arch}`);
  }
  return new MessageCalls(await loadLibc());
}

/** Whether this is a machine whose structures are laid out as here. */
export const hasKnownStructures = (): boolean =>
  ARCHITECTURES.has(process.arch) && endianness() === 'LE' && process.platform === 'linux';

/** Those with addresses of 64 bits, the least byte first, and the numbers below. */
const ARCHITECTURES = new Set(['arm64', 'loong64', 'riscv64', 'x64']);

/** The calls of this machine. */
export class MessageCalls {
  readonly #libc: Libc;
  readonly #sendmsg: NativeCall;
  readonly #recvmsg: NativeCall;
  readonly #poll: NativeCall;
  readonly #socket: NativeCall;
  readonly #connect: NativeCall;
  readonly #shutdown: NativeCall;
  readonly #header = Buffer.alloc(MESSAGE.size);
  readonly #vector = Buffer.alloc(VECTOR.size);
  readonly #control = Buffer.alloc(controlSize(MAX_MESSAGE_DESCRIPTORS));

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#sendmsg = libc.declare('int64_t sendmsg(int fd, const void *message, int flags)');
    this.#recvmsg = libc.declare('int64_t recvmsg(int fd, void *message, int flags)');
    this.#poll = libc.declare('int poll(void *fds, unsigned long count, int timeout)');
    this.#socket = libc.declare('int socket(int domain, int type, int protocol)');
    this.#connect = libc.declare('int connect(int fd, const void *address, unsigned int length)');
    this.#shutdown = libc.declare('int shutdown(int fd, int how)');
  }

  /**
   * A socket whose messages go to the unix socket for datagrams at `path`, which is an abstract name behind an `@`. It is
   * the caller's to close. Throws an error of the system, also where nobody receives there.
   */
  openDatagrams(path: string): number {
    const address = unixAddress(path);
    const fd = this.openUnbound();
    try {
      this.checked('connect', () => this.#connect(fd, address, address.length));
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** A unix socket for datagrams without an address, as `openDatagrams`. */
  openUnbound(): number {
    return this.checked('socket', () => this.#socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }

  /**
   * Sends bytes, of which there are some, and up to {@link MAX_MESSAGE_DESCRIPTORS} descriptors, which stay open here. The number of
   * bytes that were taken, all of a datagram; null where there is no room now. Throws an error of the system.
   */
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[] = []): number | null {
    const control = this.#control.subarray(0, descriptors.length === 0 ? 0 : controlSize(descriptors.length));
    if (descriptors.length > 0) putDescriptors(control, descriptors);
    this.#describe(bytes, control);
    return this.#atOnce('sendmsg', () => this.#sendmsg(fd, this.#header, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  /** What there is, put at the start of `room`, which is not empty; null where there is nothing now. Throws an error of the system. */
  receive(fd: number, room: Uint8Array): Received | null {
    this.#describe(room, this.#control);
    const byteCount = this.#atOnce('recvmsg', () => this.#recvmsg(fd, this.#header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (byteCount === null) return null;
    const controlBytes = Number(this.#header.readBigUInt64LE(MESSAGE.controlLength));
    return {
      byteCount,
      descriptors: getDescriptors(this.#control.subarray(0, controlBytes)),
      isTruncated: (this.#header.readInt32LE(MESSAGE.flags) & MSG_CTRUNC) !== 0,
    };
  }

  /**
   * Blocks this process until `fd` can be read or written, or has ended, for at most `timeoutMs` (Infinity: for as long
   * as it takes). False when that has passed. Throws an error of the system.
   */
  wait(fd: number, what: 'readable' | 'writable', timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    // struct pollfd: int fd, short events, short revents.
    const entry = Buffer.alloc(8);
    entry.writeInt32LE(fd, 0);
    entry.writeInt16LE(what === 'readable' ? POLLIN : POLLOUT, 4);
    return this.checked('poll', () => this.#poll(entry, 1, millisecondsUntil(deadline))) > 0;
  }

  /** Has a socket listen no more, whoever else has it, too; one that does not is as it was. */
  stopListening(fd: number): void {
    this.#shutdown(fd, SHUT_RDWR);
  }

  /** Fills in the header of the next call. */
  #describe(bytes: Uint8Array, control: Buffer): void {
    const pointer = (target: Uint8Array) => (target.length === 0 ? 0n : this.#libc.address(target));
    this.#vector.writeBigUInt64LE(pointer(bytes), VECTOR.base);
    this.#vector.writeBigUInt64LE(BigInt(bytes.length), VECTOR.length);
    const header = this.#header.fill(0);
    header.writeBigUInt64LE(pointer(this.#vector), MESSAGE.vector);
    header.writeBigUInt64LE(1n, MESSAGE.vectorLength);
    header.writeBigUInt64LE(pointer(control), MESSAGE.control);
    header.writeBigUInt64LE(BigInt(control.length), MESSAGE.controlLength);
  }

  /** The result of a call that does not wait; null where it would have to. */
  #atOnce(name: string, call: () => number): number | null {
    try {
      return this.checked(name, call);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).errno === -constants.errno.EAGAIN) return null;
      throw error;
    }
  }

  /** The result of a call, which is made again where a signal came. Throws an error of the system. */
  checked(name: string, call: () => number): number {
    for (;;) {
      const result = call();
      if (result >= 0) return result;
      const number = this.#libc.errno();
      if (number !== constants.errno.EINTR) throw systemError(name, number);
    }
  }
}

/** For poll(2), which takes -1 for ever. */
function millisecondsUntil(deadline: number): number {
  if (deadline === Number.POSITIVE_INFINITY) return -1;
  return Math.min(Math.max(0, Math.ceil(deadline - performance.now())), MAX_TIMER_MS);
}

/** Closes descriptors that nobody wants. */
export function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) closeSync(fd);
}

/** struct sockaddr_un of a path, which is an abstract name behind an `@`. Throws an error of the system. */
export function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_SOCKET_PATH_BYTES) throw systemError('connect', constants.errno.ENAMETOOLONG);
  const isAbstract = path.startsWith('@');
  if (isAbstract) bytes[0] = 0;
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, bytes, Buffer.alloc(isAbstract ? 0 : 1)]);
}

// Structures of the system: the offset of each field, and the whole, in bytes.

/** struct msghdr */
const MESSAGE = {
  vector: 16,
  vectorLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  size: 56,
} as const;

/** struct iovec */
const VECTOR = { base: 0, length: 8, size: 16 } as const;

/** struct cmsghdr; the descriptors are behind it. */
const CONTROL = { length: 0, level: 8, type: 12, size: 16 } as const;
const DESCRIPTOR_BYTES = 4;

/** What a control message takes, to the next border of 8 bytes. */
const controlSize = (descriptorCount: number): number => align(CONTROL.size + descriptorCount * DESCRIPTOR_BYTES);

const align = (byteCount: number): number => Math.ceil(byteCount / 8) * 8;

function putDescriptors(control: Buffer, descriptors: readonly number[]): void {
  control.writeBigUInt64LE(BigInt(CONTROL.size + descriptors.length * DESCRIPTOR_BYTES), CONTROL.length);
  control.writeInt32LE(SOL_SOCKET, CONTROL.level);
  control.writeInt32LE(SCM_RIGHTS, CONTROL.type);
  descriptors.forEach((fd, index) => control.writeInt32LE(fd, CONTROL.size + index * DESCRIPTOR_BYTES));
}

function getDescriptors(control: Buffer): number[] {
  const descriptors: number[] = [];
  for (let start = 0; start + CONTROL.size <= control.length; ) {
    const entry = control.subarray(start);
    const length = Number(entry.readBigUInt64LE(CONTROL.length));
    const isRights = entry.readInt32LE(CONTROL.level) === SOL_SOCKET && entry.readInt32LE(CONTROL.type) === SCM_RIGHTS;
    for (let at = CONTROL.size; isRights && at + DESCRIPTOR_BYTES <= length; at += DESCRIPTOR_BYTES) {
      descriptors.push(entry.readInt32LE(at));
    }
    start += align(Math.max(length, CONTROL.size));
  }
  return descriptors;
}

// Numbers of Linux.
export const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_RDWR = 2;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const POLLIN = 1;
const POLLOUT = 4;
