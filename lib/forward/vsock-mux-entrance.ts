/** Hybrid vsock as an entrance: `CONNECT ssh` or `CONNECT 1234` opens a stream, `OK ID` says that the peer accepted. */
import type net from 'node:net';
import { SERVICE_NAME } from '../codec/limits.js';
import type { SessionStream } from '../session/session-stream.js';
import { acceptBuffered, type OnRead } from '../util/buffered-socket.js';
import { escapeText } from '../util/escape.js';
import { FirstLine } from '../util/first-line.js';
import { LINE_TIMEOUT_MS, parseConnectLine, parseVsockPort } from '../util/hybrid-vsock.js';
import type { ListenAddress } from '../util/listen.js';
import type { Caller, Entrance, EntranceContext } from './entrance.js';

/** `CONNECT`, a service of 64 characters, and what surrounds them. */
const MAX_LINE_BYTES = 80;

/**
 * An entrance at `address`. As with hybrid vsock itself, everything that goes wrong is a bare close: a line that is none,
 * or that does not come within 5 s, a port that `services` does not have, a stream that is refused.
 */
export function vsockMuxEntrance(
  address: ListenAddress,
  services: Readonly<Record<number, string>>,
  context: EntranceContext,
): Entrance {
  const serviceOf = (word: string): string | undefined => {
    const port = parseVsockPort(word);
    if (port !== null) return services[port];
    return SERVICE_NAME.test(word) && /\D/.test(word) ? word : undefined;
  };
  return {
    address,
    receive(accepted, onCaller) {
      let hasSpoken = false;
      const reject = (why: string): void => {
        hasSpoken = true;
        cancelTimeout();
        if (!socket.destroyed) context.onRejected(why);
        socket.destroy();
      };
      const line = new FirstLine(MAX_LINE_BYTES, (text) => {
        hasSpoken = true;
        cancelTimeout();
        const word = text === null ? null : parseConnectLine(text);
        const service = word === null ? undefined : serviceOf(word);
        if (service !== undefined) onCaller(new HybridCaller(service, socket, line));
        else if (word === null) reject(`it began with ${text === null ? 'a line without an end' : quote(text)}`);
        else reject(`no service is meant by CONNECT ${escapeText(word)}`);
        return false;
      });
      const cancelTimeout = context.clock.schedule(LINE_TIMEOUT_MS, () =>
        reject(`it said nothing complete for ${LINE_TIMEOUT_MS / 1000} s`),
      );
      const socket = acceptBuffered(accepted, line.onread);
      context.track(socket);
      socket.once('error', () => socket.destroy());
      socket.once('end', () => {
        if (!hasSpoken) reject('it ended before its line did');
      });
      socket.once('close', cancelTimeout);
    },
  };
}

const quote = (text: string): string => `"${escapeText(text)}"`;

class HybridCaller implements Caller {
  readonly service: string;
  readonly from = null;
  readonly waiting: net.Socket;
  readonly #line: FirstLine;
  #onread: OnRead | null = null;

  constructor(service: string, socket: net.Socket, line: FirstLine) {
    this.service = service;
    this.waiting = socket;
    this.#line = line;
  }

  read(onread: OnRead): net.Socket {
    this.#onread = onread;
    return this.waiting;
  }

  opened(stream: SessionStream): void {
    this.waiting.write(`OK ${stream.id}\n`);
    if (this.#onread !== null && this.#line.handOver(this.#onread)) this.waiting.resume();
  }

  refuse(): void {
    this.waiting.destroy();
  }
}
