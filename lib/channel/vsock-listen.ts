/** `vsock-listen:PORT`: an AF_VSOCK port of this machine, for its guests, its host, or itself. */
import { closeSync } from 'node:fs';
import { type ErrorCode, VproxyError } from '../errors.js';
import type { ChannelListener, ListenHandlers, ListenKind } from './kind.js';
import { ListeningHandle } from './listening-handle.js';
import { openPipeHandle, type PipeHandle, pipeSocket } from './pipe-handle.js';
import { SocketLink } from './socket-link.js';
import { VM_TRAITS } from './traits.js';
import { ANY_CID, parseListenPort } from './vsock-address.js';
import { systemError } from './vsock-error.js';
import { type OpenVsockSystem, openVsockSystem } from './vsock-system.js';

const BACKLOG = 16;

/** The kind `vsock-listen`; its address is a port. What it is given is for tests. */
export function vsockListenKind(openSystem: OpenVsockSystem = openVsockSystem): ListenKind<number> {
  return {
    mode: 'listen',
    traits: VM_TRAITS,
    parse: parseListenPort,
    format: String,
    // Only this machine, its host and its own guests have a way to it, but each of these guests.
    isPrivate: () => true,
    strangers: () => 'any virtual machine of this host',
    listen: (port, handlers) => listen(port, handlers, openSystem),
  };
}

/** The kind `vsock-listen`. */
export const vsockListen: ListenKind<number> = vsockListenKind();

async function listen(port: number, handlers: ListenHandlers, openSystem: OpenVsockSystem): Promise<ChannelListener> {
  const description = `vsock-listen:${port}`;
  const system = await openSystem(description, `exec:socat - VSOCK-LISTEN:${port}`);
  const check = (call: string, result: number): number => {
    if (result >= 0) return result;
    const error = systemError(call, -result);
    const code = LISTEN_CODES[error.code ?? ''] ?? 'address-unavailable';
    throw new VproxyError(code, `cannot listen on ${description}: ${error.message}`, { cause: error });
  };
  const fd = check('socket', system.socket());
  let handle: PipeHandle | null = null;
  try {
    check('bind', system.bind(fd, { cid: ANY_CID, port }));
    handle = openPipeHandle(fd);
  } finally {
    if (handle === null) closeSync(fd);
  }
  if (handle === null) throw new VproxyError('channel-unusable', `${description}: this Node has no pipe handle`);
  const listening = new ListeningHandle(handle, {
    onAccepted: (accepted) => handlers.onLink(new SocketLink(description, (onread) => pipeSocket(accepted, onread))),
    onFailed: (status) => {
      const why = systemError('accept', -status).message;
      handlers.onFailed(new VproxyError('channel-failed', `${description} failed: ${why}`));
    },
  });
  check('listen', listening.listen(BACKLOG));
  return {
    description,
    close() {
      listening.close();
      return Promise.resolve();
    },
  };
}

const LISTEN_CODES: Readonly<Record<string, ErrorCode>> = {
  EADDRINUSE: 'address-in-use',
  EACCES: 'address-denied',
  EPERM: 'address-denied',
};
