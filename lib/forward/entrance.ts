/** Where an outgoing forward lets connections in, and what a connection is before it is a stream. */
import type net from 'node:net';
import type { SessionStream } from '../session/session-stream.js';
import type { OnRead } from '../util/buffered-socket.js';
import type { Clock } from '../util/clock.js';
import type { ListenAddress } from '../util/listen.js';

/** A listener of one kind. */
export interface Entrance {
  readonly address: ListenAddress;
  /** Takes a connection, paused and not read yet, and hands it on once it is known what it wants. */
  receive(accepted: net.Socket, onCaller: (caller: Caller) => void): void;
}

/** What an entrance gets from its forward. */
export interface EntranceContext {
  /** The service of the forward; `*` where callers name it. */
  readonly service: string;
  readonly clock: Clock;
  /** Keeps an eye on a socket that waits: it is reset when the forward stops. */
  readonly track: (socket: net.Socket) => void;
  /** A connection is closed without a stream, because of what it said. */
  readonly onRejected: (why: string) => void;
}

/** A connection for which a stream is to be opened. */
export interface Caller {
  readonly service: string;
  /** Where it came from, for the peer; null where there is nothing to say. */
  readonly from: string | null;
  /** The socket as it is before `read`. */
  readonly waiting: net.Socket;
  /** The socket, read by `onread`, maybe from `opened` on only. Called once. */
  read(onread: OnRead): net.Socket;
  /** The peer has accepted the stream. */
  opened(stream: SessionStream): void;
  /** There will be no stream: ends the connection such that it looks like none. */
  refuse(): void;
}
