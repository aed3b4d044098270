/**
 * AF_VSOCK. `vsock-connect:CID:PORT`: a port of the host (CID 2), of a guest, or of this machine (CID 1). `vsock-listen:PORT`: a
 * port of this machine.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { badArgument, VproxyError } from '../errors.js';
import { openHandleLink } from '../link/device-link.js';
import { channelError, type Link, type LinkState, openingCancelled } from '../link/link.js';
import { SocketLink } from '../link/socket-link.js';
import { REMEDIES } from '../remedies.js';
import type { TakeDescriptor } from '../system/descriptors.js';
import { ListeningHandle, openPipeHandle, pipeSocket } from '../system/handles.js';
import { loadLibc, type NativeCall, systemError } from '../system/libc.js';
import { meaningOf } from '../system-errors.js';
import { Backoff, type Clock, sleep, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { BREAKABLE_TRAITS, type ChannelListener, type DialKind, type ListenHandlers, type ListenKind } from './kind.js';
import { MAX_VSOCK_PORT, parseVsockPort } from './vsock-mux.js';

const CONNECT_TIMEOUT_MS = 5000;
/** How often a pending connection is polled. */
const LOOKS = { firstMs: 1, maxMs: 50, jitter: 0 };

/** Creates the kind `vsock-connect`; the parameters are for tests. */
export function vsockConnectKind(
  openSystem: OpenVsockSystem = openVsockSystem,
  clock: Clock = systemClock,
): DialKind<VsockAddress> {
  return {
    mode: 'dial',
    traits: BREAKABLE_TRAITS,
    parse: parseVsockAddress,
    format: ({ cid, port }) => `${cid}:${port}`,
    locate: ({ cid }) => ({ is: 'vsock', cid }),
    async dial(address, { signal }) {
      const text = `${address.cid}:${address.port}`;
      const description = `vsock-connect:${text}`;
      const system = await openSystem(description, `exec:socat - VSOCK-CONNECT:${text}`);
      const fd = system.socket();
      if (fd < 0) throw vsockError(description, systemError('socket', -fd));
      try {
        await connect(system, fd, address, description, signal, clock);
        return openHandleLink(description, fd);
      } catch (error) {
        closeSync(fd);
        throw vsockError(description, error);
      }
    },
    restoreLink: restoreVsockLink,
  };
}

export const vsockConnect: DialKind<VsockAddress> = vsockConnectKind();

function restoreVsockLink(state: LinkState, take: TakeDescriptor): Link {
  return openHandleLink(state.description, take(state.descriptors[0] ?? -1), state);
}

/** Connects without blocking the event loop. */
async function connect(
  system: VsockSystem,
  fd: number,
  address: VsockAddress,
  description: string,
  signal: AbortSignal,
  clock: Clock,
): Promise<void> {
  const begun = system.connect(fd, address);
  if (begun < 0 && begun !== -constants.errno.EINPROGRESS) throw systemError('connect', -begun);
  if (begun >= 0) return;
  const startedMs = clock.now();
  const backoff = new Backoff(LOOKS);
  while (!system.isWritable(fd)) {
    if (signal.aborted) throw openingCancelled(description);
    if (clock.now() - startedMs >= CONNECT_TIMEOUT_MS) throw systemError('connect', constants.errno.ETIMEDOUT);
    await sleep(clock, backoff.next(), signal);
  }
  if (signal.aborted) throw openingCancelled(description);
  const failure = system.pendingError(fd);
  if (failure !== 0) throw systemError('connect', failure);
}

/** Error codes as AF_VSOCK uses them: a port without a listener answers with a reset, an unknown CID with ENODEV. */
function vsockError(description: string, error: unknown): VproxyError {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  if (code === 'ECONNRESET') return new VproxyError('channel-refused', `${description}: connection refused`);
  if (code === 'EAFNOSUPPORT') {
    const why =
      'AF_VSOCK is missing: a module (vsock, and vmw_vsock_virtio_transport in a guest), or RestrictAddressFamilies=';
    return new VproxyError('channel-failed', `${description}: ${why}`);
  }
  if (code === 'ENODEV') {
    return new VproxyError('channel-missing', `${description}: no machine with that CID, or no vsock device`);
  }
  return channelError(description, error);
}

// `vsock-listen:PORT`: an AF_VSOCK port of this machine, for its guests, its host, or itself.

const BACKLOG = 16;

/** Creates the kind `vsock-listen`; its address is a port. The parameter is for tests. */
export function vsockListenKind(openSystem: OpenVsockSystem = openVsockSystem): ListenKind<number> {
  return {
    mode: 'listen',
    traits: BREAKABLE_TRAITS,
    parse: parseListenPort,
    format: String,
    locate: () => ({ is: 'vsock', cid: null }),
    // Reachable only from this machine, its host and its own guests, but from any of these guests.
    isPrivate: () => true,
    strangers: () => 'any virtual machine of this host',
    listen: (port, handlers, descriptor) => listen(port, handlers, openSystem, descriptor),
    restoreLink: restoreVsockLink,
  };
}

export const vsockListen: ListenKind<number> = vsockListenKind();

/** Listens on a port, or on the socket `descriptor` that a predecessor bound to it. */
async function listen(
  port: number,
  handlers: ListenHandlers,
  openSystem: OpenVsockSystem,
  descriptor?: number,
): Promise<ChannelListener> {
  const description = `vsock-listen:${port}`;
  const system = await openSystem(description, `exec:socat - VSOCK-LISTEN:${port}`);
  const fd = descriptor ?? bindPort(port, description, system);
  const handle = openPipeHandle(fd);
  if (handle === null) {
    closeSync(fd);
    throw new VproxyError('channel-unusable', `${description}: not supported by this Node (no pipe handle)`);
  }
  const listening = new ListeningHandle(handle, {
    onAccepted(accepted) {
      const cid = system.peerCid(accepted.fd ?? -1);
      const origin = cid === null ? null : `CID ${cid}`;
      handlers.onLink(new SocketLink(description, (onread) => pipeSocket(accepted, onread), { origin }));
    },
    onFailed: (status) => {
      const why = systemError('accept', -status).message;
      handlers.onFailed(new VproxyError('channel-failed', `${description} failed: ${why}`));
    },
  });
  requireListening(description, 'listen', listening.listen(BACKLOG));
  return {
    description,
    close() {
      listening.close();
      return Promise.resolve();
    },
    capture: (keep) => (listening.fd === null ? null : keep(listening.fd)),
  };
}

/** Creates a socket bound to that port of this machine. */
function bindPort(port: number, description: string, system: VsockSystem): number {
  const fd = requireListening(description, 'socket', system.socket());
  try {
    requireListening(description, 'bind', system.bind(fd, { cid: ANY_CID, port }));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Returns the result of a call. Throws an `address-…` code if it is a negative error number. */
function requireListening(description: string, call: string, result: number): number {
  if (result >= 0) return result;
  const error = systemError(call, -result);
  const code = meaningOf(error.code ?? '').listen ?? 'address-unavailable';
  throw new VproxyError(code, `cannot listen on ${description}: ${error.message}`, { cause: error });
}

// Parsing AF_VSOCK addresses: `CID:PORT`, or `PORT` to listen on.

/** The context id of a machine (2: the host, 1: this machine), and a port. */
export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

/** VMADDR_CID_ANY: every address of this machine. */
const ANY_CID = 0xffffffff;

/** Parses `CID:PORT`. Throws `bad-argument`. */
function parseVsockAddress(text: string): VsockAddress {
  const [, cidText = '', portText = ''] = /^(\d+):(\d+)$/.exec(text) ?? [];
  const [cid, port] = [parseVsockPort(cidText), parseVsockPort(portText)];
  if (cid === null || cid === ANY_CID || port === null || port === MAX_VSOCK_PORT) {
    throw bad(text, 'CID:PORT, such as 2:1234 for the host, 3:1234 for a guest');
  }
  return { cid, port };
}

/** Parses a port. Throws `bad-argument`. */
function parseListenPort(text: string): number {
  const port = parseVsockPort(text);
  if (port === null || port === MAX_VSOCK_PORT) throw bad(text, `a port from 0 to ${MAX_VSOCK_PORT - 1}`);
  return port;
}

function bad(text: string, expected: string): VproxyError {
  return badArgument(`"${escapeText(text)}" is not ${expected}`);
}

// AF_VSOCK system calls, through the optional package koffi: Node does not support that family.

/** System calls; each returns the system's result, or a negative error number. */
export interface VsockSystem {
  /** Creates a stream socket, non-blocking and close-on-exec. */
  socket(): number;
  connect(fd: number, address: VsockAddress): number;
  bind(fd: number, address: VsockAddress): number;
  /** The pending error of a connection (SO_ERROR), or 0. */
  pendingError(fd: number): number;
  /** Whether a connection was established or failed. */
  isWritable(fd: number): boolean;
  /** The machine at the other end of a connection; null if that cannot be found out. */
  peerCid(fd: number): number | null;
}

/** Creates a {@link VsockSystem}. Rejects with `channel-unusable`, which names `description` and `instead`. */
type OpenVsockSystem = (description: string, instead: string) => Promise<VsockSystem>;

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const POLLOUT = 4;

/** An address family: its number, and the encoding of its addresses. */
interface SocketFamily {
  readonly number: number;
  readonly encode: (address: VsockAddress) => Buffer;
}

/** Encodes `struct sockaddr_vm`: family, reserved, port, cid, flags, padding; in host byte order. */
export function encodeVsockAddress({ cid, port }: VsockAddress): Buffer {
  const words = new Uint32Array([0, port, cid, 0]);
  new Uint16Array(words.buffer)[0] = AF_VSOCK;
  return Buffer.from(words.buffer);
}

let loaded: Promise<VsockSystem> | null = null;

/** Loads the system calls of this machine with koffi. */
async function openVsockSystem(description: string, instead: string): Promise<VsockSystem> {
  try {
    loaded ??= loadSocketSystem({ number: AF_VSOCK, encode: encodeVsockAddress });
    return await loaded;
  } catch (cause) {
    loaded = null;
    throw new VproxyError(
      'channel-unusable',
      `${description}: AF_VSOCK needs the optional package koffi, which cannot be loaded (instead: ${instead}); ${REMEDIES.vsock['channel-unusable']}`,
      { cause },
    );
  }
}

/** Loads the calls for a family; others than AF_VSOCK are for tests. Rejects as `import` does if koffi is missing. */
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
  const getpeername = call('int getpeername(int fd, void *address, void *length)');
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
    peerCid(fd) {
      const [address, length] = [new Uint32Array(4), Buffer.from(new Int32Array([16]).buffer)];
      return getpeername(fd, Buffer.from(address.buffer), length) < 0 ? null : (address[2] ?? null);
    },
  };
}
