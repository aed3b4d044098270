/** The sockets of a target that are spliced with streams: from the splice to the end of both, and into a successor. */
import type net from 'node:net';
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { resetSocket } from '../system/sockets/node-sockets.js';
import { Roster } from '../util/members/roster.js';
import {
  type Connection,
  type ConnectionCapture,
  captureConnection,
  type EgressCapture,
  type IndexOfStream,
  type KnownStream,
  obstacleOf,
  restoreConnection,
  restoredStream,
} from './connection.js';
import type { TargetContext } from './endpoint-kind.js';
import { Splice } from './splice.js';

interface ConnectionOptions {
  /** Whether what the peer sends passes a filter. Default false. */
  readonly isFiltered?: boolean;
  /** What an egress reached with it. Default null: it is none of an egress. */
  readonly egress?: EgressCapture | null;
}

export class SplicedSockets {
  readonly #context: Pick<TargetContext, 'name' | 'clock' | 'onLeft'>;
  readonly #onDone: (connection: Connection, reason: VproxyError | null) => void;
  readonly #sockets = new Roster<net.Socket>();
  readonly #connections = new Roster<Connection>();

  /** `onDone`: stream and socket of a connection are both done with; null when both directions ended in order. */
  constructor(
    context: Pick<TargetContext, 'name' | 'clock' | 'onLeft'>,
    onDone: (connection: Connection, reason: VproxyError | null) => void,
  ) {
    this.#context = context;
    this.#onDone = onDone;
  }

  /** Sockets that are not closed. */
  get size(): number {
    return this.#sockets.size;
  }

  /** A connection whose splice is still to be joined. */
  connect(
    stream: SessionStream | KnownStream,
    { isFiltered = false, egress = null }: ConnectionOptions = {},
  ): Connection {
    const splice = new Splice({
      clock: this.#context.clock,
      onDone: (reason) => {
        this.#connections.remove(seat);
        this.#onDone(connection, reason);
      },
    });
    const connection = { stream, splice, isOpen: true, isFiltered, egress };
    const seat = this.#connections.add(connection);
    return connection;
  }

  /** Counts a socket until it is closed. */
  seat(socket: net.Socket): void {
    const seat = this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.remove(seat);
      this.#context.onLeft?.();
    });
  }

  // ---- as of a target -------------------------------------------------------------------------------------------

  get unansweredCount(): number {
    return this.#connections.size - this.#answered.length;
  }

  obstacles(): string[] {
    const { name } = this.#context;
    return this.#answered.map((connection) => obstacleOf(connection, name)).filter((text) => text !== null);
  }

  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ConnectionCapture[] {
    return this.#answered.map((connection) => captureConnection(connection, this.#context.clock, keep, indexOf));
  }

  /** A stream that waits for its target is offered to the service again in the successor, which dials anew. */
  get #answered(): Connection[] {
    return this.#connections.list().filter(({ stream }) => !('isAnswered' in stream) || stream.isAnswered);
  }

  restore(connections: readonly ConnectionCapture[], take: TakeDescriptor, streams: readonly SessionStream[]): void {
    for (const capture of connections) {
      const { egress } = capture;
      const connection = this.connect(restoredStream(capture, streams, this.#context.clock), { egress });
      const socket = restoreConnection(connection, capture, take);
      if (socket !== null) this.seat(socket);
    }
  }

  goOn(): void {
    for (const { splice } of this.#connections.list()) splice.goOn();
  }

  /** Resets what is still open. */
  stop(): void {
    for (const socket of this.#sockets.list()) resetSocket(socket);
  }
}
