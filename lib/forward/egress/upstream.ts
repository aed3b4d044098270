/** Asks an HTTP proxy for a tunnel: CONNECT (RFC 9110, section 9.3.6). */
import type net from 'node:net';
import { formatHostPort, type HostPort } from '../../util/addresses/host-port.js';

/** Limit on a proxy's answer: the heads of all its responses together. */
const MAX_ANSWER_BYTES = 16_384;

/**
 * Asks on a paused socket connected to the proxy. Resolves with the status of the answer; null if the answer is too long, cut
 * off, or not HTTP. With a 2xx status the socket is the tunnel, paused again, with any bytes after the answer still to be
 * read from it. Rejects with `signal.reason` on abort. The socket stays the caller's in any case.
 */
export function askForTunnel(socket: net.Socket, target: HostPort, signal: AbortSignal): Promise<number | null> {
  const authority = formatHostPort(target);
  return new Promise((resolve, reject) => {
    let answer: Buffer = Buffer.alloc(0);

    const finish = (status: number | null): void => {
      leave();
      resolve(status);
    };
    const leave = (): void => {
      signal.removeEventListener('abort', abort);
      socket.off('data', read).off('end', breakOff).off('error', breakOff).off('close', breakOff).pause();
    };
    const abort = (): void => {
      leave();
      reject(signal.reason as Error);
    };
    const breakOff = (): void => finish(null);
    const read = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const head = finalHead(answer);
      if (head === null) {
        if (answer.length >= MAX_ANSWER_BYTES) finish(null);
        return;
      }
      finish(head.status);
      // The tunnel begins right after the head, whatever its fields claim about a body.
      if (head.end < answer.length) socket.unshift(answer.subarray(head.end));
    };

    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort);
    socket.on('data', read).on('end', breakOff).on('error', breakOff).on('close', breakOff).resume();
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });
}

interface Head {
  /** Null if it is not an HTTP/1 head. */
  readonly status: number | null;
  /** Where it ends, after its empty line. */
  readonly end: number;
}

const STATUS_LINE = /^HTTP\/1\.[01] ([1-9]\d\d)(?: [^\r\n]*)?\r?\n/;

/**
 * The head of the final response; null while incomplete. Skips interim responses (1xx; RFC 9110, section 15.2).
 */
function finalHead(answer: Buffer): Head | null {
  const text = answer.toString('latin1', 0, MAX_ANSWER_BYTES);
  for (let start = 0; ; ) {
    const rest = text.slice(start);
    const length = /\n\r?\n/.exec(rest);
    if (length === null) return null;
    const end = start + length.index + length[0].length;
    const status = Number(STATUS_LINE.exec(rest)?.[1]);
    if (Number.isNaN(status)) return { status: null, end };
    if (status >= 200) return { status, end };
    start = end;
  }
}
