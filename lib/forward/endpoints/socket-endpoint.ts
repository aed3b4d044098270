/** Sockets to listen on or to dial: TCP (`ADDR:PORT`, `PORT`) and unix sockets (`/path`, `unix:/path`). */

import net from 'node:net';
import { badArgument, type ErrorCode, systemCode } from '../../errors.js';
import type { SessionStream } from '../../session/stream.js';
import { guardDescriptor } from '../../system/descriptors.js';
import { lookup } from '../../system/dns/lookup.js';
import {
  ACCESS_OPTIONS,
  formatSocketAccess,
  parseSocketAccess,
  type SocketAccess,
} from '../../system/sockets/listen-address.js';
import { type OnRead, readBuffered, resetSocket } from '../../system/sockets/node-sockets.js';
import { meaningOf } from '../../system-errors.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses/comma-options.js';
import { formatHostPort, type HostPort, isHost } from '../../util/addresses/host-port.js';
import { formatPath, parseSocketPath } from '../../util/addresses/paths.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type Caller, Connections } from '../connection.js';
import {
  type Direction,
  type EndpointKind,
  type Entrance,
  type EntranceContext,
  MAX_CLOSING,
  refuseBeyond,
  type Target,
  type TargetContext,
} from '../endpoint-kind.js';
import type { NameSample } from '../template.js';

/** A name or an address (IPv6 without brackets), and a port; 0 lets the system pick one to listen on. */
export interface TcpEndpoint extends HostPort {
  readonly kind: 'tcp';
}

const LOOPBACK = '127.0.0.1';

export const tcpEndpoint: EndpointKind<TcpEndpoint> = {
  form: { outgoing: 'tcp:ADDR:PORT', incoming: 'tcp:ADDR:PORT' },
  parse: (text, direction, sampleOf) => ({ kind: 'tcp', ...parseAddress(text, direction, sampleOf) }),
  format: formatHostPort,
  createTarget({ host, port }, context) {
    const dial: Dial = (onread, { answered }) =>
      net.connect({ host, port, lookup, allowHalfOpen: true, noDelay: true, onread }).once('connect', answered);
    return new SocketTarget(dial, context);
  },
  listenAddress: ({ host, port }) => ({ host, port }),
  createEntrance: (_, context) => socketEntrance(false, context),
};

/** Parses `ADDR:PORT`, or `PORT` on 127.0.0.1. Throws `bad-argument`. */
export function parseAddress(text: string, direction: Direction, sampleOf: NameSample): HostPort {
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? LOOPBACK;
  if (digits === undefined || !isHost(sampleOf(host), bracketed !== undefined))
    throw badArgument('not a valid ADDR:PORT (an IPv6 address goes in brackets)');
  const port = Number(digits);
  if (port > 65_535) throw badArgument(`port ${escapeText(digits, 20)} is not from 0 to 65535`);
  if (port === 0 && direction === 'incoming') throw badArgument('port 0 is not from 1 to 65535');
  return { host, port };
}

/** The file of a unix socket. */
export interface SocketFile {
  readonly path: string;
  /** The permissions of a socket that is created. Default: only the owner may connect. */
  readonly access?: SocketAccess;
}

export interface UnixEndpoint extends SocketFile {
  readonly kind: 'unix';
}

/** The form of a socket file to create. */
export const PATH_FORM = '/path[,mode=0660][,user=NAME][,group=NAME]';

/** Parses a path, with options if a socket is created. Throws `bad-argument`. */
export function parseSocketFile(text: string, direction: Direction, parsePath = parseSocketPath): SocketFile {
  const [path = '', ...options] = splitAtCommas(text);
  const values = parseKeyValues(options);
  requireKnown(values, direction === 'outgoing' ? ACCESS_OPTIONS : []);
  const access = parseSocketAccess(values);
  return { path: parsePath(path), ...(access === null ? {} : { access }) };
}

/** The text of a socket's file; `parseSocketFile` reads it back. */
export function formatSocketFile({ path, access = {} }: SocketFile): string {
  return joinWithCommas([formatPath(path), ...formatSocketAccess(access)]);
}

export const unixEndpoint: EndpointKind<UnixEndpoint> = {
  form: { outgoing: `unix:${PATH_FORM}`, incoming: 'unix:/path' },
  recognizes: (text) => text.startsWith('/'),
  parse: (text, direction) => ({ kind: 'unix', ...parseSocketFile(text, direction) }),
  format: formatSocketFile,
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
