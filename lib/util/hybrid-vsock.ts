/**
 * The protocol of hybrid vsock, as Firecracker and cloud-hypervisor speak it on a unix socket: `CONNECT PORT`, answered
 * with `OK NUMBER` or a bare close; what is behind the newline of either is the connection's.
 */
import type net from 'node:net';
import { systemCode } from '../errors.js';
import type { OnRead } from './buffered-socket.js';
import { escapeText } from './escape.js';
import { FirstLine } from './first-line.js';

/** The largest port. */
export const MAX_VSOCK_PORT = 2 ** 32 - 1;

/** How long the other side may take for its line, in milliseconds. */
export const LINE_TIMEOUT_MS = 5000;

/** A longer answer is none: `OK` and a number of 32 bits. */
const MAX_ANSWER_BYTES = 32;

/** The port of a text of digits, from 0 to 4294967295; null where it is none. */
export function parseVsockPort(text: string): number | null {
  return /^\d{1,10}$/.test(text) && Number(text) <= MAX_VSOCK_PORT ? Number(text) : null;
}

/** The word behind `CONNECT`; null where a line does not begin with that, in any case. */
export function parseConnectLine(line: string): string | null {
  const [verb, word, ...rest] = line.trim().split(/\s+/);
  return verb?.toLowerCase() === 'connect' && word !== undefined && rest.length === 0 ? word : null;
}

/** What the other side said to `CONNECT`. */
export interface HybridAnswer {
  /** Whether the port is open. */
  readonly isOk: boolean;
  /** Whether it closed the socket without a word, as for a port on which nobody listens. */
  readonly isClose: boolean;
  /** What was wrong, for people; empty when it is open. */
  readonly problem: string;
}

/**
 * Asks for `port` on the socket that `connect` begins to connect, with `allowHalfOpen`, read by the line's `onread`. What
 * is written to it meanwhile waits for the answer. `onAnswer` is called once, unless the socket cannot be connected, and
 * returns whether to read on at once.
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
    return answer(`it answered ${text === null ? 'more than a line' : `"${escapeText(text)}"`} and not OK`, false);
  });
  const closed = (): boolean => answer(`it closed the connection: nobody listens on port ${port} there`, true);
  const socket = connect(line.onread);
  // Firecracker reads the line from a socket that has just become ready, and takes what is there for all of it.
  socket.write(`CONNECT ${port}\n`);
  socket.cork();
  socket.once('end', closed);
  socket.once('error', (error) => {
    if (['ECONNRESET', 'EPIPE'].includes(systemCode(error))) closed();
  });
  return socket;
}
