/**
 * Unix socket messages with descriptors: sendmsg(2) and recvmsg(2), which Node lacks, through the optional package koffi. Only
 * `wait` blocks.
 *
 * The structures are laid out by hand. In glibc two of the length fields are 64-bit; in musl they are 32-bit with 32 bits of
 * padding after each. On a little-endian machine both are the same bytes.
 */

import { closeSync } from 'node:fs';
import { constants, endianness } from 'node:os';
import { MAX_SOCKET_PATH_BYTES } from '../util/addresses/paths.js';
import { MAX_TIMER_MS } from '../util/clock.js';
import { type Libc, loadLibc, type NativeCall, systemError } from './libc.js';

export const MAX_MESSAGE_DESCRIPTORS = 253;

/** The result of receiving one message, or the part of it that fitted. */
export interface Received {
  /** The number of bytes; zero: the other end was closed. */
  readonly byteCount: number;
  /** The callee closes them; programs do not inherit them. */
  readonly descriptors: readonly number[];
  /** Whether there were more descriptors than this process could take. */
  readonly isTruncated: boolean;
}

/** Loads the calls. Rejects like `import` if koffi is missing, and with an error on a machine with other structures. */
export async function loadMessageCalls(): Promise<MessageCalls> {
  if (!hasKnownStructures()) {
    throw new Error(`passing descriptors is not supported on ${process.platform}/${process.arch}`);
  }
  return new MessageCalls(await loadLibc());
}

/** Whether this machine's structures have the layout used here. */
export const hasKnownStructures = (): boolean =>
  ARCHITECTURES.has(process.arch) && endianness() === 'LE' && process.platform === 'linux';

/** The 64-bit little-endian architectures that share the numbers below. */
const ARCHITECTURES = new Set(['arm64', 'loong64', 'riscv64', 'x64']);

/** The system calls of this machine. */
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
   * A socket whose messages go to the unix datagram socket at `path`, an abstract name if it starts with `@`; the caller closes
   * it. Throws a system error, also if there is no receiver.
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

  /** A unix datagram socket without an address; otherwise like `openDatagrams`. */
  openUnbound(): number {
    return this.checked('socket', () => this.#socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }

  /**
   * Sends a non-empty buffer, and up to {@link MAX_MESSAGE_DESCRIPTORS} descriptors, which stay open here. Returns the number of
   * bytes taken, all of a datagram; null if there is no room now. Throws a system error.
   */
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[] = []): number | null {
    const control = this.#control.subarray(0, descriptors.length === 0 ? 0 : controlSize(descriptors.length));
    if (descriptors.length > 0) putDescriptors(control, descriptors);
    this.#describe(bytes, control);
    return this.#atOnce('sendmsg', () => this.#sendmsg(fd, this.#header, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  /** Receives available bytes into the start of `room`, which is not empty; null if there are none. Throws a system error. */
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
   * Blocks this process until `fd` is readable, writable or closed, for at most `timeoutMs` (Infinity: indefinitely). False on
   * timeout. Throws a system error.
   */
  wait(fd: number, what: 'readable' | 'writable', timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    // struct pollfd: int fd, short events, short revents.
    const entry = Buffer.alloc(8);
    entry.writeInt32LE(fd, 0);
    entry.writeInt16LE(what === 'readable' ? POLLIN : POLLOUT, 4);
    return this.checked('poll', () => this.#poll(entry, 1, millisecondsUntil(deadline))) > 0;
  }

  /** Stops a socket from listening, in every process that shares it. No effect on a socket that does not listen. */
  stopListening(fd: number): void {
    this.#shutdown(fd, SHUT_RDWR);
  }

  /** Fills in the header for the next call. */
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

  /** The result of a non-blocking call; null if it would block. */
  #atOnce(name: string, call: () => number): number | null {
    try {
      return this.checked(name, call);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).errno === -constants.errno.EAGAIN) return null;
      throw error;
    }
  }

  /** The result of a call, retried after a signal. Throws a system error. */
  checked(name: string, call: () => number): number {
    for (;;) {
      const result = call();
      if (result >= 0) return result;
      const number = this.#libc.errno();
      if (number !== constants.errno.EINTR) throw systemError(name, number);
    }
  }
}

/** The timeout for poll(2), for which -1 is infinite. */
function millisecondsUntil(deadline: number): number {
  if (deadline === Number.POSITIVE_INFINITY) return -1;
  return Math.min(Math.max(0, Math.ceil(deadline - performance.now())), MAX_TIMER_MS);
}

export function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) closeSync(fd);
}

/** The struct sockaddr_un of a path, an abstract name if it starts with `@`. Throws a system error. */
export function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_SOCKET_PATH_BYTES) throw systemError('connect', constants.errno.ENAMETOOLONG);
  const isAbstract = path.startsWith('@');
  if (isAbstract) bytes[0] = 0;
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, bytes, Buffer.alloc(isAbstract ? 0 : 1)]);
}

// Structures of the system: the offset of each field, and the total size, in bytes.

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

/** struct cmsghdr; the descriptors follow it. */
const CONTROL = { length: 0, level: 8, type: 12, size: 16 } as const;
const DESCRIPTOR_BYTES = 4;

/** The size of a control message, padded to 8 bytes. */
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

// Linux constants.
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
