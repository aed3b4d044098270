/** The system calls of AF_VSOCK, through the optional package koffi: Node has no sockets of that family. */
import { VproxyError } from '../errors.js';
import { loadLibc, type NativeCall } from '../util/load-libc.js';
import type { VsockAddress } from './vsock-address.js';

/** Calls of the system; each gives what the system gives, and a failure as the negative number of the error. */
export interface VsockSystem {
  /** A new stream socket, non-blocking and closed on exec. */
  socket(): number;
  connect(fd: number, address: VsockAddress): number;
  bind(fd: number, address: VsockAddress): number;
  /** The error with which a connection ended (SO_ERROR), or 0. */
  pendingError(fd: number): number;
  /** Whether a connection has been made or has failed. */
  isWritable(fd: number): boolean;
}

/** Makes a {@link VsockSystem}. Rejects with `channel-unusable`, which names `description` and `instead`. */
export type OpenVsockSystem = (description: string, instead: string) => Promise<VsockSystem>;

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const POLLOUT = 4;

/** A family of addresses: its number, and how an address looks to the system. */
export interface SocketFamily {
  readonly number: number;
  readonly encode: (address: VsockAddress) => Buffer;
}

/** `struct sockaddr_vm`: family, reserved, port, cid, flags, padding; in the byte order of the machine. */
export function encodeVsockAddress({ cid, port }: VsockAddress): Buffer {
  const words = new Uint32Array([0, port, cid, 0]);
  new Uint16Array(words.buffer)[0] = AF_VSOCK;
  return Buffer.from(words.buffer);
}

let loaded: Promise<VsockSystem> | null = null;

/** The system of this machine, with koffi. */
export const openVsockSystem: OpenVsockSystem = async (description, instead) => {
  try {
    loaded ??= loadSocketSystem({ number: AF_VSOCK, encode: encodeVsockAddress });
    return await loaded;
  } catch (cause) {
    loaded = null;
    throw new VproxyError(
      'channel-unusable',
      `${description}: AF_VSOCK needs the optional package koffi, which cannot be loaded (npm install koffi); or use ${instead}`,
      { cause },
    );
  }
};

/** The calls for a family; another one than AF_VSOCK is for tests. Rejects as `import` does where koffi is missing. */
export async function loadSocketSystem({ number, encode }: SocketFamily): Promise<VsockSystem> {
  const libc = await loadLibc();
  const call = (declaration: string): NativeCall => {
    const native = libc.declare(declaration);
    return (...args) => {
      const result = native(...args);
      return result < 0 ? -libc.errno() : result;
    };
  };
  const socket = call('int socket(int domain, int type, int protocol)');
  const connect = call('int connect(int fd, const void *address, unsigned int length)');
  const bind = call('int bind(int fd, const void *address, unsigned int length)');
  const getsockopt = call('int getsockopt(int fd, int level, int name, void *value, void *length)');
  const poll = call('int poll(void *fds, unsigned long count, int timeout)');
  return {
    socket: () => socket(number, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
    connect(fd, address) {
      const encoded = encode(address);
      return connect(fd, encoded, encoded.length);
    },
    bind(fd, address) {
      const encoded = encode(address);
      return bind(fd, encoded, encoded.length);
    },
    pendingError(fd) {
      const value = Buffer.from(new Int32Array([0]).buffer);
      const length = Buffer.from(new Int32Array([4]).buffer);
      const result = getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length);
      return result < 0 ? -result : (new Int32Array(value.buffer)[0] ?? 0);
    },
    isWritable(fd) {
      // struct pollfd: int fd, short events, short revents.
      const fds = new Int32Array([fd, 0]);
      new Int16Array(fds.buffer)[2] = POLLOUT;
      return poll(Buffer.from(fds.buffer), 1, 0) !== 0;
    },
  };
}
