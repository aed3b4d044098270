/** UDP sockets, bound, connected or taken over. Unsent messages are bounded, and losses are reported. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { ALL_WAITING_BYTES, costOf, WAITING_BYTES } from '../../codec/datagram-messages.js';
import { systemCode, VproxyError } from '../../errors.js';
import { type HostPort, isIP, isIPv6, requireHost } from '../../util/addresses/host-port.js';
import { Budget } from '../../util/bounds.js';
import { LoopTurns } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import { shareLookUp } from '../dns/lookup.js';
import { listenFailure } from '../sockets/listen-failure.js';
import type {
  BoundDatagrams,
  BoundDatagramsEvents,
  DatagramConnection,
  DatagramConnectionEvents,
} from './datagrams.js';
import { ReceiveDrops } from './receive-drops.js';

/** Bytes that the system has not taken yet; beyond this, messages are lost. It takes them at once unless its buffer is full. */
const MAX_UNSENT_BYTES = 262_144;

/** The receive buffer requested from the system, which has a maximum of its own (net.core.rmem_max). */
const RECEIVE_BUFFER_BYTES = 4 * 2 ** 20;

interface UdpSource {
  readonly address: string;
  readonly port: number;
}

/** Limits how long a target's sockets send in one turn, at about 10 µs per message, and how much they defer to later turns. */
export class SendTurns extends LoopTurns {
  readonly waiting = new Budget(ALL_WAITING_BYTES);
}

export class UdpSocket implements BoundDatagrams, DatagramConnection {
  readonly #socket: dgram.Socket;
  readonly #onError: (error: Error) => void;
  readonly #turns: SendTurns;
  /** Sends deferred to another turn, and their bytes. */
  readonly #later: (() => void)[] = [];
  readonly #waiting: Budget;
  #drops: ReceiveDrops | null = null;
  #isConnected = false;
  #isClosed = false;

  private constructor(
    socket: dgram.Socket,
    turns: SendTurns,
    onMessage: (message: Buffer, source: UdpSource) => void,
    onError: (error: Error) => void,
  ) {
    this.#socket = socket;
    this.#turns = turns;
    this.#waiting = new Budget(WAITING_BYTES, turns.waiting);
    this.#onError = onError;
    socket.on('message', onMessage);
    socket.on('error', onError);
  }

  static #bound(socket: dgram.Socket, events: BoundDatagramsEvents, dropped = 0): UdpSocket {
    const { onMessage, onError, onDropped } = events;
    const take = (message: Buffer, { address, port }: UdpSource): void => {
      const name = `${address}:${port}`;
      onMessage(message, {
        key: name,
        name,
        answer: (answer, onLost) => bound.#sendTo(answer, { address, port }, onLost),
      });
    };
    const bound = new UdpSocket(socket, new SendTurns(), take, onError);
    bound.#watchDrops(onDropped, dropped);
    return bound;
  }

  /**
   * Binds a socket. Rejects with `address-in-use` (naming the owner of the address if known), `address-denied` or
   * `address-unavailable`, and with `bad-argument` without a host.
   */
  static async bind(address: HostPort, events: BoundDatagramsEvents): Promise<UdpSocket> {
    requireHost(address.host);
    try {
      const { host, type } = await resolve(address.host);
      const socket = newSocket(type, RECEIVE_BUFFER_BYTES);
      const listening = settled(socket, 'listening');
      // The address belongs to one process: no cluster worker shares it.
      socket.bind({ address: host, port: address.port, exclusive: true });
      await listening;
      return UdpSocket.#bound(socket, events);
    } catch (error) {
      throw await listenFailure(error, address, 'udp');
    }
  }

  /** A socket over a bound descriptor, which it owns. Rejects with `address-unavailable` for any other descriptor. */
  static async adopt(fd: number, family: 4 | 6, events: BoundDatagramsEvents, dropped = 0): Promise<UdpSocket> {
    try {
      const socket = newSocket(TYPES[family]);
      const listening = settled(socket, 'listening');
      socket.bind({ fd, exclusive: true });
      await listening;
      return UdpSocket.#bound(socket, events, dropped);
    } catch (error) {
      throw new VproxyError('address-unavailable', `cannot take over descriptor ${fd}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }

  /**
   * A socket that exchanges messages with a single address. `onError` receives ECONNREFUSED if nothing listens there, in reply
   * to an earlier message. Sockets that share `turns` share the time of a turn, and the bound on what waits. Rejects with a
   * system error.
   */
  static async connect(
    address: HostPort,
    { onMessage, onError, onDropped }: DatagramConnectionEvents,
    turns: SendTurns,
  ): Promise<UdpSocket> {
    const { host, type } = await resolve(address.host);
    const socket = newSocket(type);
    const connected = settled(socket, 'connect');
    let remote: UdpSource | null = null;
    const udp = new UdpSocket(
      socket,
      turns,
      // Between its bind and its connect anyone could send to it.
      (message, source) => {
        if (source.port === remote?.port && source.address === remote.address) onMessage(message);
      },
      onError,
    );
    socket.connect(address.port, host);
    await connected;
    remote = socket.remoteAddress();
    udp.#isConnected = true;
    udp.#watchDrops(onDropped);
    return udp;
  }

  /** The port that it is bound to. */
  get port(): number {
    return this.#socket.address().port;
  }

  get family(): 4 | 6 {
    return this.#socket.address().family === 'IPv6' ? 6 : 4;
  }

  /** Its descriptor; null if Node's internals differ from what is expected. */
  get descriptor(): number | null {
    const { handle } = (stateOf(this.#socket) ?? {}) as { readonly handle?: { readonly fd?: unknown } | null };
    return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : null;
  }

  get dropped(): number {
    return this.#drops?.count ?? 0;
  }

  #watchDrops(onDropped: ((count: number) => void) | undefined, count = 0): void {
    const { descriptor } = this;
    if (onDropped === undefined || descriptor === null) return;
    const drops = new ReceiveDrops(descriptor, count, onDropped);
    this.#drops = drops;
    this.#socket.on('message', () => drops.touch());
  }

  /** Sends a message to the connected address. */
  send(message: Buffer, onLost: () => void): void {
    this.#sendTo(message, null, onLost);
  }

  #sendTo(message: Buffer, target: UdpSource | null, onLost: () => void): void {
    if (!this.#isClosed && this.#later.length === 0 && !this.#turns.isOver) {
      this.#sendNow(message, target, onLost);
      return;
    }
    const bytes = costOf(message);
    if (this.#isClosed || !this.#waiting.reserve(bytes)) {
      onLost();
      return;
    }
    this.#later.push(() => {
      this.#waiting.release(bytes);
      this.#sendNow(message, target, onLost);
    });
    if (this.#later.length === 1) this.#turns.later(this.#sendOn);
  }

  /** Sends one message; others that share the turns come before the next one. */
  readonly #sendOn = (): void => {
    const send = this.#later.shift();
    if (send === undefined) return;
    send();
    if (this.#later.length > 0) this.#turns.later(this.#sendOn);
    else if (this.#isClosed) this.#socket.close();
  };

  #sendNow(message: Buffer, target: UdpSource | null, onLost: () => void): void {
    if (this.#socket.getSendQueueSize() > MAX_UNSENT_BYTES) {
      onLost();
      return;
    }
    this.#send(message, target, (error) => {
      if (error === null) return;
      // An earlier message was refused, and this send reports that error.
      const isEarlier = target === null && systemCode(error) === 'ECONNREFUSED' && !this.#isClosed;
      if (!isEarlier) {
        onLost();
        return;
      }
      this.#onError(error);
      this.#send(message, null, (again) => {
        if (again !== null) onLost();
      });
    });
  }

  #send(message: Buffer, target: UdpSource | null, onDone: (error: Error | null) => void): void {
    if (target === null) this.#socket.send(message, onDone);
    else this.#socket.send(message, target.port, target.address, onDone);
  }

  /** Closes the socket after the deferred sends; no more events follow. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#drops?.close();
    this.#socket.removeAllListeners('message');
    // An unhandled 'error' is thrown.
    this.#socket.removeAllListeners('error').on('error', () => undefined);
    // A bound address must be free at once.
    if (!this.#isConnected) for (const send of this.#later.splice(0)) send();
    if (this.#later.length === 0) this.#socket.close();
  }
}

const TYPES = { 4: 'udp4', 6: 'udp6' } as const;
type SocketType = (typeof TYPES)[4 | 6];

/** Resolves a host to an address, and the type of socket for it. */
async function resolve(host: string): Promise<{ readonly host: string; readonly type: SocketType }> {
  const [address = host] = isIP(host) === 0 ? await shareLookUp(host) : [];
  return { host: address, type: isIPv6(address) ? 'udp6' : 'udp4' };
}

function newSocket(type: SocketType, recvBufferSize?: number): dgram.Socket {
  return dgram.createSocket({
    type,
    // All hosts are addresses already.
    lookup: (host, _, callback) => callback(null, host, type === 'udp6' ? 6 : 4),
    ...(recvBufferSize !== undefined && { recvBufferSize }),
  });
}

/** Resolves on the event. Closes the socket and rejects if it fails. */
async function settled(socket: dgram.Socket, event: string): Promise<void> {
  try {
    await once(socket, event);
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Node's internal state of a socket, with its handle; the public API has no descriptor (decision 0027). */
function stateOf(socket: dgram.Socket): unknown {
  const key = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol');
  return key === undefined ? undefined : (socket as unknown as Record<symbol, unknown>)[key];
}
