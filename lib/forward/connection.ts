/** The connections of a forward, a stream and the socket that is spliced with it: until both are done with, and into a successor. */
import type net from 'node:net';
import { VproxyError } from '../errors.js';
import { SessionStream } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { type OnRead, resetSocket } from '../system/sockets/node-sockets.js';
import type { Clock } from '../util/clock.js';
import { Roster } from '../util/members/roster.js';
import { Splice, type SpliceState } from './splice.js';

/** What is known of a stream, also when it is over; for the log. */
export type KnownStream = Readonly<
  Pick<SessionStream, 'id' | 'service' | 'from' | 'sentBytes' | 'receivedBytes' | 'openedAtMs'>
>;

/** A connection for which a stream is to be opened. */
export interface Caller {
  readonly service: string;
  /** Where it came from, for the peer; null where there is nothing to say. */
  readonly from: string | null;
  /** Whether the entrance has read nothing of it and writes nothing to it: a successor can receive it anew. */
  readonly isUntouched: boolean;
  /** Whether nothing is read of it before the peer has accepted the stream. */
  readonly waitsForPeer: boolean;
  /** Reads nothing yet. */
  readonly socket: net.Socket;
  /** Reads the socket with `onread`. Called once. */
  read(onread: OnRead): void;
  /** The peer has accepted the stream. */
  opened(stream: KnownStream): void;
  /** There will be no stream: ends the connection such that it looks like none. */
  refuse(): void;
}

/** A connection, from the opening of its stream until stream and socket are both done with. */
export interface Connection<S = KnownStream> {
  /** Only what is known of it where it was over already in an earlier process. */
  readonly stream: S;
  readonly splice: Splice;
  /** Whether the stream is, or was, open both ways. */
  isOpen: boolean;
  /** Whether what the peer sends passes a filter, which has a state. */
  isFiltered: boolean;
  /** Who connected to an outgoing forward; null where the stream was open already in an earlier process. */
  caller: Caller | null;
  /** What an egress reached with it; null: it is none of an egress. */
  readonly egress: EgressReached | null;
}

/** A socket, until it is closed. */
export interface Accepted {
  readonly socket: net.Socket;
  /** Whether there is, or was, a stream for it. */
  hasStream: boolean;
  /** Who connected with it to an outgoing forward; null before the entrance knows what it wants. */
  caller: Caller | null;
}

/** What an egress connected a stream to. */
export interface EgressReached {
  /** What was asked for: a name in lower case, or an address. */
  readonly host: string;
  readonly port: number;
  /** What was connected to, as `ADDRESS:PORT`. */
  readonly address: string;
  /** The entry that let it out. */
  readonly rule: string;
  /** When, by the clock, and what had passed on the stream by then, in bytes. */
  readonly atMs: number;
  readonly sentBefore: number;
  readonly receivedBefore: number;
}

/** What lives on of a {@link Connection}. */
export interface ConnectionState extends Pick<Connection, 'isOpen' | 'egress'> {
  /** The number of its stream among those that are handed over; what is known of it where it is over, and its session has it no more. */
  readonly stream: number | KnownStream;
  readonly splice: SpliceState;
}

/** The number of a stream among those that are handed over; -1 where it is not among them. */
export type IndexOfStream = (stream: SessionStream) => number;

/** What a successor finds of another process by numbers: descriptors, and streams, which wait for their local ends. */
export interface Inheritance {
  readonly take: TakeDescriptor;
  readonly streams: readonly SessionStream[];
}

interface ConnectionHooks {
  readonly clock: Clock;
  /** The peer has accepted the stream of a connection that this side opened. */
  readonly onAccept?: (connection: Connection) => void;
  /** Stream and socket of a connection are both done with; null when both directions ended in order. */
  readonly onDone: (connection: Connection, reason: VproxyError | null) => void;
  /** A socket was closed. Default: nobody is told. */
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

  /** Counts a socket until it is closed. */
  seat(socket: net.Socket, hasStream = true): Accepted {
    const accepted: Accepted = { socket, hasStream, caller: null };
    const seat = this.#sockets.add(accepted);
    socket.once('close', () => {
      this.#sockets.remove(seat);
      this.#hooks.onLeft?.();
    });
    return accepted;
  }

  /** A connection whose splice is still to be joined, of the stream that `streamOf` gives. Throws what that throws. */
  connect<S extends KnownStream>(
    streamOf: (splice: Splice) => S,
    { isOpen = true, isFiltered = false, caller = null, egress = null }: Partial<Connection> = {},
    state?: SpliceState,
  ): Connection<S> {
    const { clock, onAccept, onDone } = this.#hooks;
    const splice = new Splice(
      {
        clock,
        onAccept: () => onAccept?.(connection),
        onDone: (reason) => {
          this.#connections.remove(seat);
          onDone(connection, reason);
        },
      },
      state,
    );
    const connection = { stream: streamOf(splice), splice, isOpen, isFiltered, caller, egress };
    const seat = this.#connections.add(connection);
    return connection;
  }

  /** Resets what is still open. */
  stop(): void {
    for (const { socket } of this.#sockets.list()) resetSocket(socket);
  }

  // ---- handing over ---------------------------------------------------------------------------------------------

  /** Streams that the peer opened and that wait for their target: they are offered to the service again in the successor, which dials anew. */
  get unansweredCount(): number {
    return this.#connections.size - this.#answered.length;
  }

  get #answered(): Connection[] {
    return this.#connections.list().filter(({ stream }) => {
      return !(stream instanceof SessionStream) || !stream.isIncoming || stream.isAnswered;
    });
  }

  /** What cannot be handed over now, each as a line for people. `name` is what they lead to. */
  obstacles(name: string): string[] {
    return this.#answered.map((connection) => obstacleOf(connection, name)).filter((text) => text !== null);
  }

  /** Throws `upgrade-failed` where a stream is not handed over, although it is not over; or where one is an obstacle. */
  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ConnectionState[] {
    return this.#answered.map(({ egress, isOpen, splice, stream }) => {
      const state = splice.capture(keep);
      const known = isHeld(stream) ? indexOf(stream) : plain(stream);
      if (state === null || known === -1)
        throw new VproxyError('upgrade-failed', `stream ${stream.id} to ${stream.service} cannot be handed over`);
      return { stream: known, splice: state, isOpen, egress };
    });
  }

  /**
   * Makes connections what they were in an earlier process; `goOn` is to follow. Gives the sockets of those that wait for the peer's
   * answer. Throws `upgrade-failed` where a stream was not handed over.
   */
  restore(states: readonly ConnectionState[], { streams, take }: Inheritance): [Connection, net.Socket][] {
    const opening: [Connection, net.Socket][] = [];
    for (const { stream: known, splice: state, isOpen, egress } of states) {
      const stream = typeof known === 'number' ? streams[known] : known;
      if (stream === undefined) throw new VproxyError('upgrade-failed', 'a stream of a forward was not handed over');
      const connection = this.connect(() => stream, { isOpen, egress }, state);
      const socket = connection.splice.joinAgain(isHeld(stream) ? stream : null, take);
      if (socket === null) continue;
      this.seat(socket);
      if (!isOpen) opening.push([connection, socket]);
    }
    return opening;
  }

  /** Begins to read, write and tell, after `restore`. */
  goOn(): void {
    for (const { caller, isOpen, splice } of this.#connections.list())
      splice.goOn(!isOpen && caller?.waitsForPeer === true);
  }
}

/** Whether its session still has the stream. */
const isHeld = (stream: KnownStream): stream is SessionStream =>
  stream instanceof SessionStream && (!stream.isOver || stream.isDraining);

const plain = ({ id, service, from, sentBytes, receivedBytes, openedAtMs }: KnownStream): KnownStream => {
  return { id, service, from, sentBytes, receivedBytes, openedAtMs };
};

/** Why a connection cannot be handed over now, for people; null where it can. */
function obstacleOf({ caller, isFiltered, isOpen, splice, stream }: Connection, name: string): string | null {
  const what = `stream ${stream.id} to ${name}`;
  if (!isOpen && caller?.isUntouched === false) return `${what}, not yet answered by the peer`;
  const state = splice.capture(() => 0);
  if (state === null) return `${what}, whose unwritten bytes cannot be determined`;
  return isFiltered && state.socket !== null ? `${what}, whose bytes pass through a filter` : null;
}
