/** `vsock-connect:CID:PORT`: an AF_VSOCK port of the host (CID 2), of a guest, or of this machine (CID 1). */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { channelError, openingCancelled } from './channel-error.js';
import type { DialKind } from './kind.js';
import { openPipeHandle, pipeSocket } from './pipe-handle.js';
import { SocketLink } from './socket-link.js';
import { VM_TRAITS } from './traits.js';
import { parseVsockAddress, type VsockAddress } from './vsock-address.js';
import { systemError } from './vsock-error.js';
import { type OpenVsockSystem, openVsockSystem, type VsockSystem } from './vsock-system.js';

const CONNECT_TIMEOUT_MS = 5000;
/** How soon, and how seldom at last, a connection that is being made is looked at. */
const FIRST_LOOK_MS = 1;
const LONGEST_LOOK_MS = 50;

/** The kind `vsock-connect`; what it is given is for tests. */
export function vsockConnectKind(
  openSystem: OpenVsockSystem = openVsockSystem,
  clock: Clock = systemClock,
): DialKind<VsockAddress> {
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse: parseVsockAddress,
    format: ({ cid, port }) => `${cid}:${port}`,
    async dial(address, { signal }) {
      const text = `${address.cid}:${address.port}`;
      const description = `vsock-connect:${text}`;
      const system = await openSystem(description, `exec:socat - VSOCK-CONNECT:${text}`);
      const fd = system.socket();
      if (fd < 0) throw vsockError(description, systemError('socket', -fd));
      try {
        await connect(system, fd, address, description, signal, clock);
        const handle = openPipeHandle(fd);
        if (handle === null) throw new VproxyError('channel-unusable', `${description}: this Node has no pipe handle`);
        return new SocketLink(description, (onread) => pipeSocket(handle, onread));
      } catch (error) {
        closeSync(fd);
        throw vsockError(description, error);
      }
    },
  };
}

/** The kind `vsock-connect`. */
export const vsockConnect: DialKind<VsockAddress> = vsockConnectKind();

/** Connects without stopping the event loop meanwhile. */
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
  for (let delayMs = FIRST_LOOK_MS; !system.isWritable(fd); delayMs = Math.min(2 * delayMs, LONGEST_LOOK_MS)) {
    if (signal.aborted) throw openingCancelled(description);
    if (clock.now() - startedMs >= CONNECT_TIMEOUT_MS) throw systemError('connect', constants.errno.ETIMEDOUT);
    await new Promise<void>((resolve) => clock.schedule(delayMs, resolve));
  }
  if (signal.aborted) throw openingCancelled(description);
  const failure = system.pendingError(fd);
  if (failure !== 0) throw systemError('connect', failure);
}

/** What the numbers mean here: no listener answers with a reset, and a CID that is nowhere has no device. */
function vsockError(description: string, error: unknown): VproxyError {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  if (code === 'ECONNRESET') return new VproxyError('channel-refused', `${description}: nobody listens there`);
  if (code === 'EAFNOSUPPORT') {
    const why = 'this kernel has no AF_VSOCK (modules vsock, and vmw_vsock_virtio_transport in a guest)';
    return new VproxyError('channel-failed', `${description}: ${why}`);
  }
  if (code === 'ENODEV') {
    return new VproxyError('channel-missing', `${description}: there is no machine of that CID, or no vsock device`);
  }
  return channelError(description, error);
}
