/**
 * The system's send buffer of a unix socket, and the buffer of a pipe: how much may wait for the other end.
 *
 * The defaults, 208 KiB for a socket and 64 KiB for a pipe, are so small that both ends take turns sleeping under load. Node
 * cannot change them; SO_SNDBUF and F_SETPIPE_SZ can, through the optional package koffi. Without koffi, the defaults stay.
 */

import { closeSync, fstatSync } from 'node:fs';
import type net from 'node:net';
import { orElse } from '../../util/or-else.js';
import { type Libc, loadLibc } from '../libc.js';
import { descriptorOf } from './node-sockets.js';

/** The default size, in bytes. */
export const DEFAULT_BUFFER_BYTES = 1_048_576;

/** The smallest and largest size accepted, in bytes. */
export const BUFFER_RANGE = [65_536, 67_108_864] as const;

/**
 * Requests a send buffer of `bytes` for `socket`, and returns the size granted: at most twice `net.core.wmem_max`, unless this
 * process may exceed that. Null if nothing was changed: it is not a unix socket, it has closed, or koffi cannot be loaded. The
 * first call in a process loads koffi, so call it only where it pays.
 */
export async function enlargeBuffer(
  socket: net.Socket,
  bytes: number,
  load: () => Promise<Libc> = loadLibc,
): Promise<number | null> {
  // TCP sockets have a family, and size their own buffers.
  if (socket.remoteFamily !== undefined || !isSocket(descriptorOf(socket))) return null;
  const options = await loadCalls(load);
  // It may have closed meanwhile, and its descriptor been reused.
  const fd = descriptorOf(socket);
  return options === null || fd === null ? null : resize(options, fd, bytes);
}

/** The size that the system would grant this process, in bytes; null if it refuses. Rejects if koffi cannot be loaded. */
export async function grantedBuffer(bytes: number): Promise<number | null> {
  const libc = await loadLibc();
  const pair = new Int32Array(2);
  const socketpair = libc.declare('int socketpair(int family, int type, int protocol, void *pair)');
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return null;
  try {
    return resize(new BufferCalls(libc), pair[0] ?? -1, bytes);
  } finally {
    for (const fd of pair) closeSync(fd);
  }
}

/**
 * Gives a pipe a buffer of at least `bytes`, if koffi can be loaded and the system grants it. Leaves any other file as it is, and
 * a descriptor that was closed meanwhile: the worst is a larger pipe in its place.
 */
export async function enlargePipe(fd: number, bytes: number, load = loadLibc): Promise<void> {
  const calls = await loadCalls(load);
  const size = calls?.fcntl(fd, F_GETPIPE_SZ, 0) ?? -1;
  if (size >= 0 && size < bytes) calls?.fcntl(fd, F_SETPIPE_SZ, bytes);
}

/** Cached also if koffi is missing: looking for it takes longer than a write. */
const LOADED = new WeakMap<() => Promise<Libc>, Promise<BufferCalls | null>>();

function loadCalls(load: () => Promise<Libc>): Promise<BufferCalls | null> {
  const loading =
    LOADED.get(load) ??
    load()
      .then((libc) => new BufferCalls(libc))
      .catch(() => null);
  LOADED.set(load, loading);
  return loading;
}

/** False for a FIFO or a device. */
const isSocket = (fd: number | null): boolean => fd !== null && orElse(false, () => fstatSync(fd).isSocket());

function resize(options: BufferCalls, fd: number, bytes: number): number | null {
  if (options.get(fd, SO_DOMAIN) !== AF_UNIX) return null;
  // The kernel doubles the requested size, which for a unix socket is room for that many bytes, and reports the double.
  const asked = Math.ceil(bytes / 2);
  // A process with CAP_NET_ADMIN is not bound by wmem_max.
  const isSet = options.set(fd, SO_SNDBUFFORCE, asked) || options.set(fd, SO_SNDBUF, asked);
  return isSet ? options.get(fd, SO_SNDBUF) : null;
}

// Linux, on all architectures that koffi supports.
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const SO_DOMAIN = 39;
const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;

/** The integer options of sockets, and fcntl(2). */
class BufferCalls {
  readonly fcntl: ReturnType<Libc['declare']>;
  readonly #setsockopt: ReturnType<Libc['declare']>;
  readonly #getsockopt: ReturnType<Libc['declare']>;

  constructor(libc: Libc) {
    this.fcntl = libc.declare('int fcntl(int fd, int command, int value)');
    const words = 'int fd, int level, int option, void *value';
    this.#setsockopt = libc.declare(`int setsockopt(${words}, uint32_t size)`);
    this.#getsockopt = libc.declare(`int getsockopt(${words}, void *size)`);
  }

  /** Whether the system accepted it. */
  set(fd: number, option: number, value: number): boolean {
    return this.#setsockopt(fd, SOL_SOCKET, option, new Int32Array([value]), INT_BYTES) === 0;
  }

  /** Null if the system does not report it. */
  get(fd: number, option: number): number | null {
    const value = new Int32Array(1);
    const status = this.#getsockopt(fd, SOL_SOCKET, option, value, new Uint32Array([INT_BYTES]));
    return status === 0 ? (value[0] ?? null) : null;
  }
}

const INT_BYTES = 4;
