/** The connections of a forward: a stream and the socket spliced with it, until both have closed; survives a hand-over. */
import type net from 'node:net';
import { VproxyError } from '../errors.js';
import { SessionStream, type StreamTarget } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { type OnRead, resetSocket } from '../system/sockets/node-sockets.js';
import { formatHostPort } from '../util/addresses/host-port.js';
import type { Clock } from '../util/clock.js';
import { Roster } from '../util/members/roster.js';
import type { ConnectionFilters, InputFilter } from './input-filter.js';
import { Splice, type SpliceState } from './splice.js';

/** What the log needs of a stream, even after it has ended. */
export type KnownStream = Readonly<
  Pick<SessionStream, 'id' | 'service' | 'from' | 'sentBytes' | 'receivedBytes' | 'openedAtMs'>
> &
  Partial<Pick<SessionStream, 'isServed'>>;

/** An accepted connection that needs a stream. */
export interface Caller {
  readonly service: string;
  /** Its origin, as reported to the peer; null if unknown. */
  readonly from: string | null;
  /** Whether the entrance reads nothing from it and writes nothing to it, so that a successor can receive it again. */
  readonly isUntouched: boolean;
  /** Whether nothing is read from it before the peer has accepted the stream. */
  readonly waitsForPeer: boolean;
  /** Where the connection went before it was redirected here. Default: nowhere else. */
  readonly destination?: string;
  /** What the peer is sent before the bytes of the socket. Default: nothing. */
  readonly request?: Buffer;
  /** Not read yet. */
  readonly socket: net.Socket;
  /** Reads the socket with `onread`. Called once. */
  read(onread: OnRead): void;
  /** The peer has accepted the stream. */
  opened(stream: KnownStream): void;
  /** There will be no stream: closes the connection so that it looks refused. */
  refuse(): void;
}

/** A connection, from the opening of its stream until both stream and socket have closed. */
export interface Connection<S = KnownStream> {
  /** A plain record if it had already ended in the previous process. */
  readonly stream: S;
  readonly splice: Splice;
  /** Whether the stream is, or was, open in both directions. */
  isOpen: boolean;
  /** The client of an outgoing forward; null if the stream was already open in the previous process. */
  caller: Caller | null;
  /** The destination that an egress reached; null if it does not belong to an egress. */
  readonly egress: EgressReached | null;
}

/** A socket, until it is closed. */
export interface Accepted {
  readonly socket: net.Socket;
  /** Whether there is, or was, a stream for it. */
  hasStream: boolean;
  /** The client of an outgoing forward; null before the entrance has read its request. */
  caller: Caller | null;
}

/** The destination that an egress connected a stream to. */
export interface EgressReached {
  /** The requested name in lower case, or address. */
  readonly host: string;
  readonly port: number;
  /** The address that a redirected program connected to, if it was found by its name. */
  readonly redirectedFrom?: string;
  /** The address connected to, as `ADDRESS:PORT`: the destination, or the upstream proxy. */
  readonly address: string;
  /** The entry that allowed it. */
  readonly rule: string;
  /** Whether that was added at run time. */
  readonly isAdded: boolean;
  /** When it was reached, by the clock, and the bytes that had passed on the stream by then. */
  readonly atMs: number;
  readonly sentBefore: number;
  readonly receivedBefore: number;
}

/** The destination, for a list of streams. */
export function targetOf({
  address,
  host,
  port,
  rule,
}: Pick<EgressReached, 'address' | 'host' | 'port' | 'rule'>): StreamTarget {
  return { destination: formatHostPort({ host, port }), address, rule };
}

/** State of a stream and its splice that are handed over. */
export interface SplicedState {
  /** The index of the stream among those handed over; a plain record if it has ended and its session no longer has it. */
  readonly stream: number | KnownStream;
  readonly splice: SpliceState;
}

/** State of a {@link Connection} that is handed over. */
export interface ConnectionState extends Pick<Connection, 'isOpen' | 'egress'>, SplicedState {}

/** The index of a stream among those handed over; -1 if it is not one of them. */
export type IndexOfStream = (stream: SessionStream) => number;

/** Inherited resources by index: descriptors, and streams that wait for their local ends. */
export interface Inheritance {
  readonly take: TakeDescriptor;
  readonly streams: readonly SessionStream[];
}

interface ConnectionHooks {
  readonly clock: Clock;
  /** Filters between streams and sockets. Default: none. */
  readonly filters?: ConnectionFilters | undefined;
  /** The peer has accepted the stream of a connection that this side opened. */
  readonly onAccept?: (connection: Connection) => void;
  /** Both stream and socket of a connection have closed; null if both directions ended in order. */
  readonly onDone: (connection: Connection, reason: VproxyError | null) => void;
  /** A socket was closed. Default: no callback. */
  readonly onLeft?: (() => void) | undefined;
}

export class Connections {
  readonly #hooks: ConnectionHooks;
  readonly #sockets = new Roster<Accepted>();
  readonly #connections = new Roster<Connection>();

  constructor(hooks: ConnectionHooks) {
    this.#hooks = hooks;
  }

  /** Sockets that are not closed. */
  get size(): number {
    return this.#sockets.size;
  }

  /** Sockets that are not closed and have no stream yet. */
  get early(): Accepted[] {
    return this.#sockets.list().filter(({ hasStream, socket }) => !hasStream && !socket.destroyed);
  }

  /** Counts a socket until it closes. */
  seat(socket: net.Socket, hasStream = true): Accepted {
    const accepted: Accepted = { socket, hasStream, caller: null };
    const seat = this.#sockets.add(accepted);
    socket.once('close', () => {
      this.#sockets.remove(seat);
      this.#hooks.onLeft?.();
    });
    return accepted;
  }

  /** Creates a connection for the stream that `streamOf` returns; join its splice next. Throws what `streamOf` throws. */
  connect<S extends KnownStream>(
    streamOf: (splice: Splice) => S,
    { isOpen = true, caller = null, egress = null }: Partial<Connection> = {},
    state?: SpliceState,
  ): Connection<S> {
    const { clock, filters, onAccept, onDone } = this.#hooks;
    const splice = new Splice(
      {
        clock,
        createFilter: (held): InputFilter | null =>
          filters?.(connection.stream.service, held, {
            destination: connection.caller?.destination,
            reset: (code, message) => connection.splice.reset(code, message),
          }) ?? null,
        onAccept: () => onAccept?.(connection),
        onDone: (reason) => {
          this.#connections.remove(seat);
          onDone(connection, reason);
        },
      },
      state,
    );
    const connection = { stream: streamOf(splice), splice, isOpen, caller, egress };
    if (egress !== null && connection.stream instanceof SessionStream) connection.stream.reached = targetOf(egress);
    const seat = this.#connections.add(connection);
    return connection;
  }

  /** Resets all open connections. */
  stop(): void {
    for (const { socket } of this.#sockets.list()) resetSocket(socket);
  }

  /** Resets some of the connections; returns their number. */
  resetWhere(isChosen: (connection: Connection) => boolean, code: string, message: string): number {
    const chosen = this.#connections.list().filter(isChosen);
    for (const { splice } of chosen) splice.reset(code, message);
    return chosen.length;
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  /** Streams from the peer that wait for their target. The successor offers them to the service again, which dials again. */
  get unansweredCount(): number {
    return this.#connections.size - this.#answered.length;
  }

  get #answered(): Connection[] {
    return this.#connections.list().filter(({ stream }) => {
      return !(stream instanceof SessionStream) || !stream.isIncoming || stream.isAnswered;
    });
  }

  /** What cannot be handed over now, each as a human-readable line. `name` is the target or listener. */
  obstacles(name: string): string[] {
    return this.#answered.map((connection) => obstacleOf(connection, name)).filter((text) => text !== null);
  }

  /** Throws `upgrade-failed` if a stream that has not ended is not handed over, or one is an obstacle. */
  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ConnectionState[] {
    return this.#answered.map(({ egress, isOpen, splice, stream }) => {
      return { ...captureSpliced(stream, splice, keep, indexOf), isOpen, egress };
    });
  }

  /**
   * Restores the connections of the previous process; call `goOn` afterwards. Returns the sockets of those that wait for the
   * peer's answer. Throws `upgrade-failed` if a stream was not handed over.
   */
  restore(states: readonly ConnectionState[], { streams, take }: Inheritance): [Connection, net.Socket][] {
    const opening: [Connection, net.Socket][] = [];
    for (const { stream: known, splice: state, isOpen, egress } of states) {
      const stream = findHandedOver(known, streams);
      const connection = this.connect(() => stream, { isOpen, egress }, state);
      const socket = connection.splice.joinAgain(isHeld(stream) ? stream : null, take);
      if (socket === null) continue;
      this.seat(socket);
      if (!isOpen) opening.push([connection, socket]);
    }
    return opening;
  }

  /** Starts to read, write and report, after `restore`. */
  goOn(): void {
    for (const { caller, isOpen, splice } of this.#connections.list())
      splice.goOn(!isOpen && caller?.waitsForPeer === true);
  }
}

/** Throws `upgrade-failed` if a stream that has not ended is not handed over, or its splice cannot be. */
export function captureSpliced(
  stream: KnownStream,
  splice: Splice,
  keep: KeepDescriptor,
  indexOf: IndexOfStream,
): SplicedState {
  const state = splice.capture(keep);
  const known = isHeld(stream) ? indexOf(stream) : plain(stream);
  if (state === null || known === -1)
    throw new VproxyError('upgrade-failed', `stream ${stream.id} to ${stream.service} cannot be handed over`);
  return { stream: known, splice: state };
}

/** Throws `upgrade-failed` if it was not handed over. */
export function findHandedOver(known: SplicedState['stream'], streams: readonly SessionStream[]): KnownStream {
  const stream = typeof known === 'number' ? streams[known] : known;
  if (stream === undefined) throw new VproxyError('upgrade-failed', 'a stream was not handed over');
  return stream;
}

/** Whether its session still has the stream. */
export const isHeld = (stream: KnownStream): stream is SessionStream =>
  stream instanceof SessionStream && (!stream.isOver || stream.isDraining);

const plain = ({ id, service, from, sentBytes, receivedBytes, openedAtMs }: KnownStream): KnownStream => {
  return { id, service, from, sentBytes, receivedBytes, openedAtMs };
};

/** Why a connection cannot be handed over now, human-readable; null if it can. */
function obstacleOf({ caller, isOpen, splice, stream }: Connection, name: string): string | null {
  if (!isOpen && caller?.isUntouched === false) return `stream ${stream.id} to ${name}, not yet answered by the peer`;
  return unwrittenObstacle(splice, stream.id, name);
}

/** Why a splice cannot be handed over now; null if it can. */
export function unwrittenObstacle(splice: Splice, id: number, name: string): string | null {
  if (splice.capture(() => 0) !== null) return null;
  return `stream ${id} to ${name}, whose unwritten bytes cannot be determined`;
}
