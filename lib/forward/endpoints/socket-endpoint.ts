/** `tcp:` and `unix:`: sockets to listen on or to dial. */

import net from 'node:net';
import { type ErrorCode, systemCode } from '../../errors.js';
import type { SessionStream } from '../../session/stream.js';
import { guardDescriptor } from '../../system/descriptors.js';
import { lookup } from '../../system/dns/lookup.js';
import { type OnRead, readBuffered, resetSocket } from '../../system/sockets/node-sockets.js';
import { meaningOf } from '../../system-errors.js';
import { describeError } from '../../util/escape.js';
import { type Caller, Connections } from '../connection.js';
import {
  type EndpointKind,
  type Entrance,
  type EntranceContext,
  MAX_CLOSING,
  refuseBeyond,
  type Target,
  type TargetContext,
} from '../endpoint-kind.js';
import type { TcpEndpoint, UnixEndpoint } from '../forms/socket-form.js';

export const tcpEndpoint: EndpointKind<TcpEndpoint> = {
  createTarget({ host, port }, context) {
    const dial: Dial = (onread, { answered }) =>
      net.connect({ host, port, lookup, allowHalfOpen: true, noDelay: true, onread }).once('connect', answered);
    return new SocketTarget(dial, context);
  },
  listenAddress: ({ host, port }) => ({ host, port }),
  createEntrance: (_, context) => socketEntrance(false, context),
};

export const unixEndpoint: EndpointKind<UnixEndpoint> = {
  createTarget({ path }, context) {
    // Node reads into the buffers of `onread`, which its types state for TCP only.
    const dial: Dial = (onread, { answered }) => {
      const options = { path, allowHalfOpen: true, noDelay: true, onread };
      return net.connect(options as net.NetConnectOpts).once('connect', answered);
    };
    return new SocketTarget(dial, context);
  },
  listenAddress: ({ path, access }) => ({ path, access }),
  createEntrance: (_, context) => socketEntrance(true, context),
};

/**
 * An entrance that opens a stream to the forward's service for every connection. With `waitsForPeer` nothing is read before the
 * stream is open: a unix socket closed with unread input shows its peer an error rather than EOF. TCP has RST for that, and may
 * send ahead.
 */
function socketEntrance(waitsForPeer: boolean, { service }: EntranceContext): Entrance {
  return { receive: (accepted, onCaller) => onCaller(new SocketCaller(service, accepted, waitsForPeer)) };
}

class SocketCaller implements Caller {
  readonly service: string;
  readonly from: string | null;
  readonly isUntouched = true;
  readonly waitsForPeer: boolean;
  readonly socket: net.Socket;

  constructor(service: string, accepted: net.Socket, waitsForPeer: boolean) {
    this.service = service;
    this.from = accepted.remoteAddress === undefined ? null : `${accepted.remoteAddress}:${accepted.remotePort ?? 0}`;
    this.socket = accepted;
    this.waitsForPeer = waitsForPeer;
  }

  read(onread: OnRead): void {
    readBuffered(this.socket, onread);
    if (this.waitsForPeer) this.socket.pause();
  }

  opened(): void {
    if (this.waitsForPeer) this.socket.resume();
  }

  refuse(): void {
    resetSocket(this.socket);
  }
}

/** Exactly one is called, unless the socket fails first. */
interface DialEvents {
  /** The target serves: the stream is accepted. */
  readonly answered: () => void;
  /** The target refuses to serve, although the socket is connected. */
  readonly refused: (code: ErrorCode, message: string) => void;
}

/** Starts to connect a socket that is read with `onread` and has `allowHalfOpen`. */
type Dial = (onread: OnRead, events: DialEvents) => net.Socket;

interface SocketTargetOptions {
  /** Time limit for the target's answer; shorter than the opener's limit for the stream. Default 10,000. */
  readonly timeoutMs?: number;
  /** Whether the target itself is dialled, so that it can get the preamble. Default true. */
  readonly takesPreamble?: boolean;
}

/** Dials a socket for each stream and splices the two. */
export class SocketTarget implements Target {
  readonly #dial: Dial;
  readonly #context: TargetContext;
  readonly #timeoutMs: number;
  readonly #takesPreamble: boolean;
  readonly connections: Connections;

  constructor(
    dial: Dial,
    context: TargetContext,
    { timeoutMs = 10_000, takesPreamble = true }: SocketTargetOptions = {},
  ) {
    this.#dial = dial;
    this.#context = context;
    this.#timeoutMs = timeoutMs;
    this.#takesPreamble = takesPreamble;
    const { clock, filters, onLeft } = context;
    this.connections = new Connections({
      clock,
      filters,
      onLeft,
      onDone: ({ stream }, reason) => context.onClosed(stream, reason),
    });
  }

  get openCount(): number {
    return this.connections.size;
  }

  /** Accepts the stream once the target has answered, else refuses it with the system's error. */
  serve(stream: SessionStream): void {
    const { clock, endpoint, log, maxStreams, name, preamble } = this.#context;
    if (refuseBeyond(stream, this.connections.size, maxStreams + MAX_CLOSING)) return;
    const { splice } = this.connections.connect(() => stream);
    stream.attach(splice);
    const cancelTimeout = clock.schedule(this.#timeoutMs, () => {
      stream.refuse('connect-timeout', `${name} did not answer within ${this.#timeoutMs / 1000} s`);
      socket.destroy();
    });
    const refuse = (code: ErrorCode, message: string): void => {
      stream.refuse(code, `${name}: ${message}`);
      socket.destroy();
    };
    const socket = this.#dial(splice.onread, {
      answered: () => {
        cancelTimeout();
        stream.accept();
        splice.handleAnswered();
        log.opened(stream);
      },
      refused: refuse,
    });
    guardDescriptor(socket, (why) => refuse('connect-failed', why));
    socket.once('error', (error) => {
      const why = describeError(error, endpoint);
      stream.refuse(meaningOf(systemCode(error)).connect ?? 'connect-failed', `${name}: ${why}`);
    });
    socket.once('close', cancelTimeout);
    this.connections.seat(socket);
    if (preamble !== null && this.#takesPreamble) socket.write(preamble(stream));
    splice.join(stream, socket);
  }

  /** Resets all open connections. */
  stop(): void {
    this.connections.stop();
  }
}
