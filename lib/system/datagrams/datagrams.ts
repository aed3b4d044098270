/** The interfaces that UDP and unix datagram sockets share. */

/** The sender of a message, which can be answered. */
export interface DatagramSource {
  /** Unique per address. */
  readonly key: string;
  /** The human-readable address; null if it has none and cannot be answered. */
  readonly name: string | null;
  /** Sends a message, which must not change afterwards. Calls `onLost` if the system does not take it. */
  answer(message: Buffer, onLost: () => void): void;
}

/** Common to all events. */
interface DatagramEvents {
  /** The system dropped this many messages because the buffer of the socket was full. Default: not checked. */
  readonly onDropped?: (count: number) => void;
}

export interface BoundDatagramsEvents extends DatagramEvents {
  /** A message, valid until the callee returns. One longer than any that is forwarded is cut, but still too long. */
  readonly onMessage: (message: Buffer, source: DatagramSource) => void;
  /** A later system error. */
  readonly onError: (error: Error) => void;
}

/** Common to all datagram sockets. */
interface DatagramSocket {
  /** Its descriptor; null if unknown. */
  readonly descriptor: number | null;
  /** Closes the socket; no more events follow. */
  close(): void;
}

/** A socket that receives messages at an address. */
export interface BoundDatagrams extends DatagramSocket {
  /** The port that it is bound to and the family of the address; null for a path. */
  readonly port: number | null;
  readonly family: 4 | 6 | null;
  /** What the system has dropped since it was bound, as far as it was reported. */
  readonly dropped?: number;
}

/** A socket that exchanges messages with a single address. */
export interface DatagramConnection extends DatagramSocket {
  /** Sends a message, which must not change afterwards. Calls `onLost` if the system does not take it. */
  send(message: Buffer, onLost: () => void): void;
}

export interface DatagramConnectionEvents extends DatagramEvents {
  /** A message, valid until the callee returns. */
  readonly onMessage: (message: Buffer) => void;
  /** A sent message was lost, for the reason that the system gives. */
  readonly onError: (error: Error) => void;
}

/** A place to bind datagram sockets. */
export interface DatagramEntrance {
  /** Binds a socket. Rejects with `address-…` codes. */
  bind(events: BoundDatagramsEvents): Promise<BoundDatagrams>;
  /**
   * Takes ownership of a descriptor that an earlier process bound to an address of `family`, and for which it reported that
   * `dropped` messages were. Rejects with `address-unavailable`.
   */
  adopt(fd: number, family: 4 | 6 | null, events: BoundDatagramsEvents, dropped: number): Promise<BoundDatagrams>;
}
