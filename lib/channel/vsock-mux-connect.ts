/** `vsock-mux-connect:PATH:PORT`: a port of the guest through the hybrid vsock of Firecracker or cloud-hypervisor. */
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { escapeText } from '../util/escape.js';
import type { FirstLine } from '../util/first-line.js';
import { askHybridVsock, LINE_TIMEOUT_MS, MAX_VSOCK_PORT, parseVsockPort } from '../util/hybrid-vsock.js';
import { parseSocketPath } from '../util/unix-path.js';
import { channelError, openingCancelled } from './channel-error.js';
import type { DialKind } from './kind.js';
import { SocketLink } from './socket-link.js';
import { VM_TRAITS } from './traits.js';

/** The VMM's unix socket, and a port of the guest. */
export interface VsockMuxAddress {
  readonly path: string;
  readonly port: number;
}

/** The kind `vsock-mux-connect`; `clock` is for tests. */
export function vsockMuxConnectKind(clock: Clock = systemClock): DialKind<VsockMuxAddress> {
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse(text) {
      const [, path = '', digits = ''] = /^(.*):(\d+)$/s.exec(text) ?? [];
      const port = parseVsockPort(digits);
      if (port === null) {
        const what = `"${escapeText(text)}" is not PATH:PORT with a port from 0 to ${MAX_VSOCK_PORT}`;
        throw new VproxyError('bad-argument', what);
      }
      return { path: parseSocketPath(path), port };
    },
    format: ({ path, port }) => `${path.endsWith(':-') ? `${path}:-` : path}:${port}`,
    dial: ({ path, port }, { signal }) => dial(path, port, signal, clock),
  };
}

/** The kind `vsock-mux-connect`. */
export const vsockMuxConnect: DialKind<VsockMuxAddress> = vsockMuxConnectKind();

async function dial(path: string, port: number, signal: AbortSignal, clock: Clock): Promise<SocketLink> {
  const description = `vsock-mux-connect:${escapeText(path)}:${port}`;
  if (signal.aborted) throw openingCancelled(description);
  const answered = deferred<FirstLine>();
  const socket = askHybridVsock(
    port,
    (onread) => net.connect({ path, allowHalfOpen: true, onread } as net.NetConnectOpts),
    ({ isOk, isClose, problem }, line) => {
      const code = isClose ? 'channel-refused' : 'channel-failed';
      if (isOk) answered.resolve(line);
      else answered.reject(new VproxyError(code, `${description}: ${problem}`));
      return false;
    },
  );
  socket.on('error', (error) => answered.reject(channelError(description, error)));
  const cancel = () => answered.reject(openingCancelled(description));
  const late = `${description}: no answer to CONNECT for ${LINE_TIMEOUT_MS / 1000} s`;
  const cancelTimeout = clock.schedule(LINE_TIMEOUT_MS, () => answered.reject(new VproxyError('channel-failed', late)));
  signal.addEventListener('abort', cancel);
  try {
    const line = await answered.promise;
    const firstBytes = line.takeRest();
    return new SocketLink(
      description,
      (onread) => {
        line.handOver(onread);
        return socket;
      },
      firstBytes.length > 0 ? { firstBytes } : {},
    );
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    cancelTimeout();
    signal.removeEventListener('abort', cancel);
  }
}
