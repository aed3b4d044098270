/** What sockets of datagrams have in common, of UDP and of the unix family: what gets messages, what sends them. */

/** Who sent a message, and who gets an answer. */
export interface DatagramSource {
  /** One for each address. */
  readonly key: string;
  /** The address for people; null: it has none, and cannot be answered. */
  readonly name: string | null;
  /** Sends a message, which nobody may change any more. `onLost` is called where the system does not take it. */
  answer(message: Buffer, onLost: () => void): void;
}

/** Who is told of what comes at an address. */
export interface BoundDatagramsEvents {
  /** A message, which is the callee's until it returns. One that is longer than any that is forwarded comes cut, but too long. */
  readonly onMessage: (message: Buffer, source: DatagramSource) => void;
  /** What the system says later. */
  readonly onError: (error: Error) => void;
}

/** What all have. */
interface DatagramSocket {
  /** The number of its descriptor; null where that is not known. */
  readonly descriptor: number | null;
  /** Closes it; nothing comes any more. */
  close(): void;
}

/** A socket that gets messages at an address. */
export interface BoundDatagrams extends DatagramSocket {
  /** The port that it is bound to, and the family of that address; null where it has a path. */
  readonly port: number | null;
  readonly family: 4 | 6 | null;
}

/** A socket that exchanges messages with one address only. */
export interface DatagramConnection extends DatagramSocket {
  /** Sends a message, which nobody may change any more. `onLost` is called where the system does not take it. */
  send(message: Buffer, onLost: () => void): void;
}

/** Who is told of what comes over a connection. */
export interface DatagramConnectionEvents {
  /** As above. */
  readonly onMessage: (message: Buffer) => void;
  /** One message that was sent has been lost, and the system says why. */
  readonly onError: (error: Error) => void;
}

/** Where messages are got. */
export interface DatagramEntrance {
  /** Binds a socket. Rejects with `address-…` codes. */
  bind(events: BoundDatagramsEvents): Promise<BoundDatagrams>;
  /**
   * Takes over the descriptor of one that an earlier process has bound, and owns it; `family` is that of its address. Rejects
   * with `address-unavailable`.
   */
  adopt(fd: number, family: 4 | 6 | null, events: BoundDatagramsEvents): Promise<BoundDatagrams>;
}
