/** `vsock-mux:/path:PORT` dials hybrid vsock; `*:vsock-mux:/path` offers it, with services instead of ports. */
import net from 'node:net';
import { askHybridVsock, LINE_TIMEOUT_MS, parseConnectLine, parseVsockPort } from '../../channel/vsock-mux.js';
import { SERVICE_NAME } from '../../codec/limits.js';
import { FirstLine, type OnRead, readBuffered } from '../../system/sockets/node-sockets.js';
import { escapeText } from '../../util/escape.js';
import type { Caller, KnownStream } from '../connection.js';
import type { EndpointKind, Entrance, EntranceContext } from '../endpoint-kind.js';
import type { VsockMuxEndpoint } from '../forms/vsock-mux-form.js';
import { SocketTarget } from './socket-endpoint.js';

export const vsockMuxEndpoint: EndpointKind<VsockMuxEndpoint> = {
  createTarget({ path, port = 0 }, context) {
    const dial = { path, allowHalfOpen: true };
    return new SocketTarget(
      (onread, { answered, refused }) =>
        askHybridVsock(
          port,
          (lineOnread) => net.connect({ ...dial, onread: lineOnread } as net.NetConnectOpts),
          ({ isOk, isClose, problem }, line) => {
            if (!isOk) {
              refused(isClose ? 'connect-refused' : 'connect-failed', problem);
              return false;
            }
            answered();
            return line.handOver(onread);
          },
        ),
      context,
      { timeoutMs: LINE_TIMEOUT_MS, takesPreamble: false },
    );
  },
  listenAddress: ({ path, access }) => ({ path, access }),
  createEntrance: ({ services = {} }, context) => vsockMuxEntrance(services, context),
};

/** `CONNECT`, a service of 64 characters, and separators. */
const MAX_LINE_BYTES = 80;

/**
 * An entrance at which `CONNECT ssh` or `CONNECT 1234` opens a stream; `OK ID` reports that the peer has accepted it. As in
 * hybrid vsock itself, every failure is a bare close: an invalid line, none within 5 s, a port without a service, a refused
 * stream.
 */
function vsockMuxEntrance(services: Readonly<Record<number, string>>, context: EntranceContext): Entrance {
  const serviceOf = (word: string): string | undefined => {
    const port = parseVsockPort(word);
    if (port !== null) return services[port];
    return SERVICE_NAME.test(word) && /\D/.test(word) ? word : undefined;
  };
  return {
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
        else if (word === null)
          reject(`expected a CONNECT line, got ${text === null ? 'an unterminated line' : quote(text)}`);
        else reject(`no service for CONNECT ${escapeText(word)}`);
        return false;
      });
      const cancelTimeout = context.clock.schedule(LINE_TIMEOUT_MS, () =>
        reject(`no complete line within ${LINE_TIMEOUT_MS / 1000} s`),
      );
      const socket = readBuffered(accepted, line.onread);
      socket.once('error', () => socket.destroy());
      socket.once('end', () => {
        if (!hasSpoken) reject('closed by the client before a complete line');
      });
      socket.once('close', cancelTimeout);
    },
  };
}

const quote = (text: string): string => `"${escapeText(text)}"`;

class HybridCaller implements Caller {
  readonly service: string;
  readonly from = null;
  readonly isUntouched = false;
  readonly waitsForPeer = true;
  readonly socket: net.Socket;
  readonly #line: FirstLine;
  #onread: OnRead | null = null;

  constructor(service: string, socket: net.Socket, line: FirstLine) {
    this.service = service;
    this.socket = socket;
    this.#line = line;
  }

  read(onread: OnRead): void {
    this.#onread = onread;
  }

  opened(stream: KnownStream): void {
    this.socket.write(`OK ${stream.id}\n`);
    if (this.#onread !== null && this.#line.handOver(this.#onread)) this.socket.resume();
  }

  refuse(): void {
    this.socket.destroy();
  }
}
