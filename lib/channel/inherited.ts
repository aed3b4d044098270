/**
 * `stdio:` and `fd:N`: inherited descriptors. Each can be opened as a channel once, and cannot be reopened.
 */
import { closeSync, fstatSync, openSync, type Stats } from 'node:fs';
import type net from 'node:net';
import tty from 'node:tty';
import { badArgument, systemCode, VproxyError } from '../errors.js';
import type { BaseLink } from '../link/base-link.js';
import { DEVICE_SLAB_BYTES, deviceAccess } from '../link/device-link.js';
import { type Link, requireWanted } from '../link/link.js';
import { openHalves, SocketLink, type SocketLinkOptions } from '../link/socket-link.js';
import { openPipeHandle, pipeSocket } from '../system/handles.js';
import type { OnRead } from '../system/sockets/node-sockets.js';
import { describeError } from '../util/escape.js';
import { type DialKind, VM_TRAITS } from './kind.js';
import { subsystemOf } from './virtio-ports.js';

/** The descriptors that have been used as channels. */
class TakenDescriptors {
  readonly #taken = new Set<number>();

  /** Takes descriptors for a channel. Throws `channel-lost` if one was taken before. */
  register(fds: readonly number[], description: string): void {
    if (fds.some((fd) => this.#taken.has(fd))) {
      throw new VproxyError('channel-lost', `${description} was closed and cannot be reopened`);
    }
    for (const fd of fds) this.#taken.add(fd);
  }
}

/** The status of an open descriptor. Throws `channel-unusable` if it is not open. */
function inspectDescriptor(fd: number, description: string): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    const what = systemCode(error) === 'EBADF' ? 'not an open descriptor of this process' : String(error);
    throw new VproxyError('channel-unusable', `${description}: ${what}`, { cause: error });
  }
}

/**
 * Closes one of the descriptors 0 to 2 with its socket, which Node would leave open, so that the other side sees EOF. Then
 * opens /dev/null in its place, so that nothing else gets that number.
 */
function closeWith(socket: net.Socket, fd: number): void {
  if (fd > 2) return;
  socket.once('close', () => {
    closeSync(fd);
    openSync('/dev/null', 'r+');
  });
}

/** Makes the end of a link final for the channel: `channel-ended` or, after a failure, `channel-lost`. */
function endsForGood(link: BaseLink): Link {
  return link.beforeClosed((reason) => {
    if (reason.code === 'shutdown') return Promise.resolve(reason);
    const code = reason.code === 'channel-closed' ? 'channel-ended' : 'channel-lost';
    return Promise.resolve(new VproxyError(code, reason.message, { cause: reason }));
  });
}

// `stdio:`: standard input and output, such as those provided by ssh or socat.

/** Creates the kind `stdio`; other descriptors than 0 and 1 are for specs. */
export function stdioKind(inputFd = 0, outputFd = 1): DialKind<string> {
  const descriptors = new TakenDescriptors();
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse(text) {
      if (text !== '') throw badArgument('only options may follow the colon');
      return text;
    },
    format: (text) => text,
    async dial(_address, { signal }) {
      requireWanted(signal, STDIO);
      descriptors.register([inputFd, outputFd], STDIO);
      requireStream(inputFd, 'standard input');
      requireStream(outputFd, 'standard output');
      return Promise.resolve(openStreams(inputFd, outputFd));
    },
  };
}

export const stdio: DialKind<string> = stdioKind();

const STDIO = 'stdio:';

function requireStream(fd: number, name: string): void {
  const found = inspectDescriptor(fd, STDIO);
  if (found.isFIFO() || found.isSocket()) return;
  const what = found.isCharacterDevice() ? 'a device, such as a terminal' : 'a file';
  throw new VproxyError('channel-unusable', `${STDIO} ${name} is ${what}; expected a pipe or a socket`);
}

function openStreams(inputFd: number, outputFd: number): Link {
  try {
    const link = new SocketLink(STDIO, (onread) => {
      const halves = openHalves(inputFd, outputFd, onread);
      closeWith(halves.input, inputFd);
      closeWith(halves.output, outputFd);
      return halves;
    });
    return endsForGood(link);
  } catch (error) {
    throw new VproxyError('channel-unusable', `${STDIO} ${describeError(error)}`, { cause: error });
  }
}

// `fd:N`: one descriptor that carries bytes both ways: a socket, or a raw terminal.

/** Creates the kind `fd`; its address is the number. Opens each descriptor once. */
export function fdKind(): DialKind<number> {
  const descriptors = new TakenDescriptors();
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse(text) {
      if (/^(0|[1-9]\d{0,5})$/.test(text) && text !== '2') return Number(text);
      throw badArgument('expected a descriptor number, except 2, which is for the log');
    },
    format: String,
    async dial(number, { signal }) {
      const description = `fd:${number}`;
      requireWanted(signal, description);
      descriptors.register([number], description);
      const options = isDevice(number, description)
        ? { slabBytes: DEVICE_SLAB_BYTES, direct: deviceAccess(number) }
        : {};
      const link = openDescriptor(number, description, options);
      return Promise.resolve(endsForGood(link));
    },
  };
}

export const fd: DialKind<number> = fdKind();

/** True for a device, false for a socket; throws for anything else: epoll would abort the process on files. */
function isDevice(number: number, description: string): boolean {
  const unusable = (what: string) => new VproxyError('channel-unusable', `${description}: ${what}`);
  const found = inspectDescriptor(number, description);
  if (found.isSocket()) return false;
  if (found.isFIFO()) throw unusable('a pipe carries bytes one way only; use stdio: for two of them');
  if (!found.isCharacterDevice()) throw unusable('neither a socket nor a device');
  if (tty.isatty(number) || subsystemOf(found.rdev, '/sys') === 'virtio-ports') return true;
  throw unusable('a device, but neither a terminal nor a virtio-serial port');
}

/** Opens a handle, which makes the descriptor non-blocking. Works for sockets of any family, even without a Node class. */
function openDescriptor(number: number, description: string, options: SocketLinkOptions): SocketLink {
  const handle = openPipeHandle(number);
  if (handle === null) throw new VproxyError('channel-unusable', `${description}: this Node cannot open it`);
  const open = (onread: OnRead) => {
    const socket = pipeSocket(handle, onread);
    closeWith(socket, number);
    return socket;
  };
  return new SocketLink(description, open, options);
}
