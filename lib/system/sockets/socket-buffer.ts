/**
 * The buffer that the system has behind a unix socket: how much of what was written may wait there for the other end.
 *
 * It is 208 KiB by default, so that under load both ends take turns asleep. Node cannot change it; SO_SNDBUF can, through
 * the optional package koffi. Without koffi the buffer stays as it is.
 */
import { closeSync, fstatSync } from 'node:fs';
import type net from 'node:net';
import { type Libc, loadLibc } from '../libc.js';
import { descriptorOf } from './node-sockets.js';

/** What is asked for where nothing is said, in bytes. */
export const DEFAULT_BUFFER_BYTES = 1_048_576;

/** The least and the most that can be asked for, in bytes. */
export const BUFFER_RANGE = [65_536, 67_108_864] as const;

/**
 * Asks the system for a buffer of `bytes` behind what is written to `socket`. Gives what it granted: at most twice
 * `net.core.wmem_max`, unless this process may exceed that. Null where nothing was changed: it is no unix socket, or it
 * is gone, or koffi cannot be loaded. The first call in a process loads koffi, so call it where it pays only.
 */
export async function enlargeBuffer(
  socket: net.Socket,
  bytes: number,
  load: () => Promise<Libc> = loadLibc,
): Promise<number | null> {
  // TCP has a family, and sizes its buffers by itself.
  if (socket.remoteFamily !== undefined || !isSocket(descriptorOf(socket))) return null;
  const options = await loadOptions(load);
  // It may have been closed meanwhile, and its number be another file's.
  const fd = descriptorOf(socket);
  return options === null || fd === null ? null : resize(options, fd, bytes);
}

/** What the system would grant this process, in bytes; null where it refuses. Rejects where koffi cannot be loaded. */
export async function grantedBuffer(bytes: number): Promise<number | null> {
  const libc = await loadLibc();
  const pair = new Int32Array(2);
  const socketpair = libc.declare('int socketpair(int family, int type, int protocol, void *pair)');
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return null;
  try {
    return resize(new SocketOptions(libc), pair[0] ?? -1, bytes);
  } finally {
    for (const fd of pair) closeSync(fd);
  }
}

/** Where koffi is missing it is looked for once: that takes longer than a write. */
const LOADED = new WeakMap<() => Promise<Libc>, Promise<SocketOptions | null>>();

function loadOptions(load: () => Promise<Libc>): Promise<SocketOptions | null> {
  const loading =
    LOADED.get(load) ??
    load()
      .then((libc) => new SocketOptions(libc))
      .catch(() => null);
  LOADED.set(load, loading);
  return loading;
}

/** A FIFO or a device is none. */
function isSocket(fd: number | null): boolean {
  try {
    return fd !== null && fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}

function resize(options: SocketOptions, fd: number, bytes: number): number | null {
  if (options.get(fd, SO_DOMAIN) !== AF_UNIX) return null;
  // The kernel doubles what it is asked for, which on a unix socket is room for as many bytes, and tells the double.
  const asked = Math.ceil(bytes / 2);
  // Who may administer the network is not bound by wmem_max.
  const isSet = options.set(fd, SO_SNDBUFFORCE, asked) || options.set(fd, SO_SNDBUF, asked);
  return isSet ? options.get(fd, SO_SNDBUF) : null;
}

// Of Linux, on all architectures for which there is a koffi.
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const SO_DOMAIN = 39;

/** The options of a socket that are whole numbers. */
class SocketOptions {
  readonly #setsockopt: ReturnType<Libc['declare']>;
  readonly #getsockopt: ReturnType<Libc['declare']>;

  constructor(libc: Libc) {
    const words = 'int fd, int level, int option, void *value';
    this.#setsockopt = libc.declare(`int setsockopt(${words}, uint32_t size)`);
    this.#getsockopt = libc.declare(`int getsockopt(${words}, void *size)`);
  }

  /** Whether the system took it. */
  set(fd: number, option: number, value: number): boolean {
    return this.#setsockopt(fd, SOL_SOCKET, option, new Int32Array([value]), INT_BYTES) === 0;
  }

  /** Null where the system does not tell it. */
  get(fd: number, option: number): number | null {
    const value = new Int32Array(1);
    const status = this.#getsockopt(fd, SOL_SOCKET, option, value, new Uint32Array([INT_BYTES]));
    return status === 0 ? (value[0] ?? null) : null;
  }
}

const INT_BYTES = 4;
