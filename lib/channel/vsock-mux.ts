/**
 * Hybrid vsock of Firecracker and cloud-hypervisor. `vsock-mux-connect:PATH:PORT`: a port of the guest.
 * `vsock-mux-listen:PATH_PORT`: a port of the host that the guest dials.
 */
import net from 'node:net';
import { badArgument, systemCode, VproxyError } from '../errors.js';
import { channelError, openingCancelled } from '../link/link.js';
import { restoreSocketLink, SocketLink } from '../link/socket-link.js';
import { canonicalPath } from '../system/files/guarded-files.js';
import { FirstLine, type OnRead } from '../system/sockets/node-sockets.js';
import { parseSocketPath } from '../util/addresses/paths.js';
import { type Clock, systemClock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { BREAKABLE_TRAITS, type DialKind } from './kind.js';
import { unixListenKind } from './sockets.js';

/** The VMM's unix socket, and a port of the guest. */
export interface VsockMuxAddress {
  readonly path: string;
  readonly port: number;
}

/** Creates the kind `vsock-mux-connect`; `clock` is for tests. */
export function vsockMuxConnectKind(clock: Clock = systemClock): DialKind<VsockMuxAddress> {
  return {
    mode: 'dial',
    traits: BREAKABLE_TRAITS,
    parse(text) {
      const [, path = '', digits = ''] = /^(.*):(\d+)$/s.exec(text) ?? [];
      const port = parseVsockPort(digits);
      if (port === null) {
        throw badArgument(`"${escapeText(text)}" is not PATH:PORT with a port from 0 to ${MAX_VSOCK_PORT}`);
      }
      return { path: parseSocketPath(path), port };
    },
    format: ({ path, port }) => `${path.endsWith(':-') ? `${path}:-` : path}:${port}`,
    place: ({ path, port }) => `${canonicalPath(path)}:${port}`,
    locate: ({ path }) => ({ is: 'unix-socket', path, servesOne: false }),
    dial: ({ path, port }, { signal }) => dial(path, port, signal, clock),
    restoreLink: restoreSocketLink,
  };
}

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
  const late = `${description}: no answer to CONNECT within ${LINE_TIMEOUT_MS / 1000} s`;
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

// `vsock-mux-listen:PATH_PORT`: where Firecracker and cloud-hypervisor connect for a guest that dials the host's port.

/** The kind `vsock-mux-listen`; its address is the VMM's path followed by `_PORT`. */
export const vsockMuxListen = unixListenKind('vsock-mux-listen', BREAKABLE_TRAITS);

// The protocol of hybrid vsock, as Firecracker and cloud-hypervisor speak it on a unix socket: `CONNECT PORT`, answered
// with `OK NUMBER` or a bare close; everything after either newline is payload.

export const MAX_VSOCK_PORT = 2 ** 32 - 1;

/** Timeout for the other side's line, in milliseconds. */
export const LINE_TIMEOUT_MS = 5000;

/** The longest answer: `OK` and a number of 32 bits. */
const MAX_ANSWER_BYTES = 32;

/** Parses a port of digits, from 0 to 4294967295; null for any other text. */
export function parseVsockPort(text: string): number | null {
  return /^\d{1,10}$/.test(text) && Number(text) <= MAX_VSOCK_PORT ? Number(text) : null;
}

/** The word after `CONNECT` (in upper or lower case); null if a line is not of that form. */
export function parseConnectLine(line: string): string | null {
  const [verb, word, ...rest] = line.trim().split(/\s+/);
  return verb?.toLowerCase() === 'connect' && word !== undefined && rest.length === 0 ? word : null;
}

/** The answer to `CONNECT`. */
interface HybridAnswer {
  /** Whether the port is open. */
  readonly isOk: boolean;
  /** Whether it closed the socket without an answer, as for a port without a listener. */
  readonly isClose: boolean;
  /** A human-readable problem; empty if the port is open. */
  readonly problem: string;
}

/**
 * Requests `port` on the socket that `connect` begins to connect, with `allowHalfOpen`, read by the line's `onread`. Writes to
 * it wait for the answer. `onAnswer` is called once, unless the socket cannot be connected, and returns whether to continue
 * reading at once.
 */
export function askHybridVsock(
  port: number,
  connect: (onread: OnRead) => net.Socket,
  onAnswer: (answer: HybridAnswer, line: FirstLine, socket: net.Socket) => boolean,
): net.Socket {
  let isAnswered = false;
  const answer = (problem: string, isClose: boolean): boolean => {
    if (isAnswered) return false;
    isAnswered = true;
    socket.uncork();
    return onAnswer({ isOk: problem === '', isClose, problem }, line, socket);
  };
  const line = new FirstLine(MAX_ANSWER_BYTES, (text) => {
    if (text !== null && /^OK \d{1,10}\r?$/.test(text)) return answer('', false);
    return answer(`it answered ${text === null ? 'more than a line' : `"${escapeText(text)}"`} instead of OK`, false);
  });
  const closed = (): boolean => answer(`connection refused: no listener on port ${port}`, true);
  const socket = connect(line.onread);
  // Firecracker takes whatever it can read at once for the whole line, so send the line alone.
  socket.write(`CONNECT ${port}\n`);
  socket.cork();
  socket.once('end', closed);
  socket.once('error', (error) => {
    if (['ECONNRESET', 'EPIPE'].includes(systemCode(error))) closed();
  });
  return socket;
}
