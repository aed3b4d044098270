/** `fd:N`: one descriptor that this process inherited and that carries bytes both ways: a socket, or a raw terminal. */
import tty from 'node:tty';
import { VproxyError } from '../errors.js';
import { DEVICE_SLAB_BYTES, deviceAccess } from '../link/device-link.js';
import { type Link, requireWanted } from '../link/link.js';
import { SocketLink, type SocketLinkOptions } from '../link/socket-link.js';
import { openPipeHandle, pipeSocket } from '../system/handles.js';
import type { OnRead } from '../system/sockets.js';
import { closeWith, endsForGood, inspectDescriptor, TakenDescriptors } from './inherited.js';
import { type DialKind, VM_TRAITS } from './kind.js';
import { subsystemOf } from './virtserial.js';

const FOLDERS = { dev: '/dev', sys: '/sys' };

/** The kind `fd`; its address is the number. One of them opens each descriptor once. */
export function fdKind(): DialKind<number> {
  const descriptors = new TakenDescriptors();
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse(text) {
      if (/^(0|[1-9]\d{0,5})$/.test(text) && text !== '2') return Number(text);
      throw new VproxyError('bad-argument', 'the number of a descriptor is missing; 2 is taken for the log');
    },
    format: String,
    async dial(number, { signal }) {
      const description = `fd:${number}`;
      requireWanted(signal, description);
      descriptors.take([number], description);
      const options = isDevice(number, description)
        ? { slabBytes: DEVICE_SLAB_BYTES, direct: deviceAccess(number) }
        : {};
      const link = openLink(number, description, options);
      return Promise.resolve(endsForGood(link));
    },
  };
}

/** The kind `fd`. */
export const fd: DialKind<number> = fdKind();

/** Whether it is a device; false: a socket. Nothing else may reach a handle: epoll aborts the process on files. */
function isDevice(number: number, description: string): boolean {
  const unusable = (what: string) => new VproxyError('channel-unusable', `${description}: ${what}`);
  const found = inspectDescriptor(number, description);
  if (found.isSocket()) return false;
  if (found.isFIFO()) throw unusable('it is a pipe, which carries bytes one way only; stdio: takes two of them');
  if (!found.isCharacterDevice()) throw unusable('it is neither a socket nor a device');
  if (tty.isatty(number) || subsystemOf(found.rdev, FOLDERS) === 'virtio-ports') return true;
  throw unusable('it is a device, but neither a terminal nor a virtio-serial port');
}

/** The handle makes the descriptor non-blocking. It takes sockets of any family, also those Node has no class for. */
function openLink(number: number, description: string, options: SocketLinkOptions): Link {
  const handle = openPipeHandle(number);
  if (handle === null) throw new VproxyError('channel-unusable', `${description}: this Node cannot open it`);
  const open = (onread: OnRead) => {
    const socket = pipeSocket(handle, onread);
    closeWith(socket, number);
    return socket;
  };
  return new SocketLink(description, open, options);
}
