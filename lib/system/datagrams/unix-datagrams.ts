/**
 * Unix datagram sockets, such as /dev/log, which Node lacks: non-blocking system calls through the optional package koffi, and
 * epoll to tell when to make them (decision 0028).
 */
import { closeSync, lstatSync, type Stats, unlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { ALL_WAITING_BYTES, costOf, MAX_DATAGRAM_BYTES, WAITING_BYTES } from '../../codec/datagram-messages.js';
import { VproxyError } from '../../errors.js';
import { Budget } from '../../util/bounds.js';
import { describeError } from '../../util/escape.js';
import { type Libc, loadLibc, type NativeCall } from '../libc.js';
import type { FileAccess } from '../sockets/listen-address.js';
import { listenFailure } from '../sockets/listen-failure.js';
import { bindPrivately, removeStaleFile } from '../sockets/listening.js';
import {
  AF_UNIX,
  hasKnownStructures,
  MessageCalls,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  unixAddress,
} from '../unix-messages.js';
import type {
  BoundDatagrams,
  BoundDatagramsEvents,
  DatagramConnection,
  DatagramConnectionEvents,
  DatagramSource,
} from './datagrams.js';
import { Readiness } from './readiness.js';

/** Messages read from one socket before the others get their turn. */
const READS_IN_TURN = 32;

/** After finding no receiver, look for one at most this often. */
const LOOK_EVERY_MS = 1000;

const { EAGAIN, EINTR, EMSGSIZE, ENOBUFS, ENOMEM } = constants.errno;

/** The longest message forwarded, plus one byte: a message that fills it is too long. */
const ROOM_BYTES = MAX_DATAGRAM_BYTES + 1;

/** The sockets of this process; null until needed. */
let loaded: UnixDatagrams | null = null;

/** Loads the calls. Rejects with `address-unavailable`, naming `what`, if koffi is missing or the machine's structures differ. */
export async function loadUnixDatagrams(what: string): Promise<UnixDatagrams> {
  if (!hasKnownStructures()) {
    const machine = `${process.platform}/${process.arch}`;
    throw new VproxyError('address-unavailable', `${what} is not supported on ${machine}`);
  }
  try {
    const libc = await loadLibc();
    loaded ??= new UnixDatagrams(libc);
    return loaded;
  } catch (cause) {
    const message = `${what} needs the optional package koffi, which cannot be loaded (npm install koffi)`;
    throw new VproxyError('address-unavailable', message, { cause });
  }
}

/** The result of one recvfrom(2). */
interface Received {
  readonly message: Buffer;
  /** The sender's struct sockaddr_un; its path may be missing. */
  readonly address: Buffer;
}

/** The unix datagram sockets of this process. */
export class UnixDatagrams {
  readonly readiness: Readiness;
  /** For messages that wait for room at a receiver. */
  readonly waiting = new Budget(ALL_WAITING_BYTES);
  readonly #libc: Libc;
  readonly #calls: MessageCalls;
  readonly #bind: NativeCall;
  readonly #recvfrom: NativeCall;
  readonly #sendto: NativeCall;
  readonly #room = Buffer.alloc(ROOM_BYTES);
  readonly #address = Buffer.alloc(MAX_ADDRESS_BYTES);
  readonly #addressLength = Buffer.alloc(4);

  constructor(libc: Libc) {
    this.readiness = new Readiness(libc);
    this.#libc = libc;
    this.#calls = new MessageCalls(libc);
    this.#bind = libc.declare('int bind(int fd, const void *address, unsigned int length)');
    this.#recvfrom = libc.declare(
      'int64_t recvfrom(int fd, void *room, uint64_t length, int flags, void *address, void *address_length)',
    );
    this.#sendto = libc.declare(
      'int64_t sendto(int fd, const void *bytes, uint64_t length, int flags, const void *address, unsigned int address_length)',
    );
  }

  /**
   * Binds a socket to a path. Its file gets the access of a listener's, and is removed on close. Rejects with `address-in-use`
   * (naming the owner if known), `address-denied` or `address-unavailable`.
   */
  async bind(path: string, access: FileAccess, events: BoundDatagramsEvents): Promise<BoundDatagrams> {
    let fd: number | null = null;
    try {
      const address = unixAddress(path);
      await removeStaleFile(path);
      const made = this.#calls.openUnbound();
      fd = made;
      bindPrivately(path, access, () => {
        this.#calls.checked('bind', () => this.#bind(made, address, address.length));
        return true;
      });
      return new BoundSocket(this, made, path, events);
    } catch (error) {
      if (fd !== null) closeSync(fd);
      throw await listenFailure(error, { path }, 'tcp');
    }
  }

  /** A socket over a descriptor bound to a path, which it owns; otherwise as from `bind`. Throws `address-unavailable`. */
  adopt(fd: number, path: string, events: BoundDatagramsEvents): BoundDatagrams {
    try {
      return new BoundSocket(this, fd, path, events);
    } catch (cause) {
      const message = `cannot take over descriptor ${fd}: ${describeError(cause)}`;
      throw new VproxyError('address-unavailable', message, { cause });
    }
  }

  /**
   * Exchanges messages with the socket at a path, which need not exist: sending a message looks for it, at most once a second,
   * also after it has closed. `nowMs` returns the time.
   */
  connect(path: string, nowMs: () => number, events: DatagramConnectionEvents): DatagramConnection {
    return new Connection(this, path, nowMs, events);
  }

  // ---- for the sockets ------------------------------------------------------------------------------------------

  /** A socket connected to the one at a path. Throws a system error. */
  openTo(path: string): number {
    const fd = this.#calls.openDatagrams(path);
    // An autobound name, so that answers can come. Connected before, the socket hears no other sender.
    this.#bind(fd, FAMILY, FAMILY.length);
    return fd;
  }

  /** The next message, valid until the next call; null if there is none now. */
  receive(fd: number): Received | null {
    this.#addressLength.writeUInt32LE(this.#address.length);
    const { length } = this.#room;
    const count = this.#recvfrom(fd, this.#room, length, MSG_DONTWAIT, this.#address, this.#addressLength);
    if (count < 0) return null;
    const addressLength = Math.min(this.#addressLength.readUInt32LE(), this.#address.length);
    return { message: this.#room.subarray(0, count), address: this.#address.subarray(0, addressLength) };
  }

  /** Sends a message to an address, or to the connected peer. Returns zero or the errno. */
  send(fd: number, message: Buffer, address: Buffer | null): number {
    for (;;) {
      const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      if (this.#sendto(fd, message, message.length, flags, address, address?.length ?? 0) >= 0) return 0;
      const number = this.#libc.errno();
      if (number !== EINTR) return number;
    }
  }
}

/** A socket at a path. All senders without an address count as one source. */
class BoundSocket implements BoundDatagrams {
  readonly port = null;
  readonly family = null;
  readonly #sockets: UnixDatagrams;
  readonly #path: string;
  /** The file that it was bound to, whatever is at the path now. */
  readonly #file: Stats | undefined;
  readonly #events: BoundDatagramsEvents;
  #fd: number | null;

  constructor(sockets: UnixDatagrams, fd: number, path: string, events: BoundDatagramsEvents) {
    this.#sockets = sockets;
    this.#path = path;
    this.#file = lstatSync(path, { throwIfNoEntry: false });
    this.#events = events;
    this.#fd = fd;
    sockets.readiness.watch(fd, () => this.#receive());
  }

  get descriptor(): number | null {
    return this.#fd;
  }

  #receive(): void {
    for (let count = 0; count < READS_IN_TURN && this.#fd !== null; count += 1) {
      const received = this.#sockets.receive(this.#fd);
      if (received === null) return;
      this.#events.onMessage(received.message, this.#sourceOf(received.address));
    }
  }

  #sourceOf(address: Buffer): DatagramSource {
    const name = nameOf(address);
    if (name === null) return UNNAMED;
    // The shared buffer is overwritten by the next message.
    const own = Buffer.from(address);
    return {
      // Names need not be UTF-8.
      key: own.toString('latin1', PATH_OFFSET),
      name,
      answer: (message, onLost) => {
        if (this.#fd === null || this.#sockets.send(this.#fd, message, own) !== 0) onLost();
      },
    };
  }

  close(): void {
    if (this.#fd === null) return;
    this.#sockets.readiness.forget(this.#fd);
    const found = lstatSync(this.#path, { throwIfNoEntry: false });
    // While the socket exists no other file gets its inode number.
    const isOwn = found !== undefined && found.dev === this.#file?.dev && found.ino === this.#file.ino;
    try {
      if (isOwn && found.isSocket()) unlinkSync(this.#path);
    } catch {
      // The file stays, as a stale socket.
    }
    closeSync(this.#fd);
    this.#fd = null;
  }
}

/** Senders without an address, or with one that means something else in this process. */
const UNNAMED: DatagramSource = { key: '', name: null, answer: (_, onLost) => onLost() };

/** The human-readable name of a sender, an abstract one with a leading `@`; null if it cannot be answered. */
function nameOf(address: Buffer): string | null {
  if (address.length <= PATH_OFFSET) return null;
  if (address[PATH_OFFSET] === 0) return `@${address.toString('utf8', PATH_OFFSET + 1)}`;
  const end = address.indexOf(0, PATH_OFFSET);
  const path = address.toString('utf8', PATH_OFFSET, end < 0 ? address.length : end);
  // A relative path depends on the sender's working folder.
  return path.startsWith('/') ? path : null;
}

interface WaitingMessage {
  readonly message: Buffer;
  readonly onLost: () => void;
}

class Connection implements DatagramConnection {
  readonly #sockets: UnixDatagrams;
  readonly #path: string;
  readonly #nowMs: () => number;
  readonly #events: DatagramConnectionEvents;
  /** Null while there is no receiver. */
  #fd: number | null = null;
  #isClosed = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  readonly #waiting = new Set<WaitingMessage>();
  readonly #budget: Budget;

  constructor(sockets: UnixDatagrams, path: string, nowMs: () => number, events: DatagramConnectionEvents) {
    this.#sockets = sockets;
    this.#path = path;
    this.#nowMs = nowMs;
    this.#events = events;
    this.#budget = new Budget(WAITING_BYTES, sockets.waiting);
    try {
      this.#fd = this.#connect();
    } catch {
      // The first message reports it.
    }
  }

  get descriptor(): number | null {
    return this.#fd;
  }

  send(message: Buffer, onLost: () => void): void {
    if (this.#isClosed) onLost();
    else if (this.#waiting.size > 0 || !this.#sendNow(message, onLost)) this.#wait({ message, onLost });
  }

  /** False if there is no room for it now; otherwise it was sent, or its loss was reported. */
  #sendNow(message: Buffer, onLost: () => void): boolean {
    let number = this.#fd === null ? null : this.#sockets.send(this.#fd, message, null);
    if (number !== null && isOfReceiver(number)) {
      this.#disconnect();
      number = null;
    }
    if (number === null) {
      if (this.#nowMs() - this.#lookedAtMs < LOOK_EVERY_MS) {
        onLost();
        return true;
      }
      try {
        this.#fd = this.#connect();
        number = this.#sockets.send(this.#fd, message, null);
      } catch (error) {
        this.#lookedAtMs = this.#nowMs();
        this.#events.onError(error as Error);
        return true;
      }
    }
    if (number === EAGAIN) return false;
    if (number !== 0) onLost();
    return true;
  }

  #connect(): number {
    const fd = this.#sockets.openTo(this.#path);
    try {
      this.#sockets.readiness.watch(fd, () => this.#look(fd));
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Closes the descriptor: once disconnected, the system would let others send to it. */
  #disconnect(): void {
    if (this.#fd === null) return;
    this.#sockets.readiness.forget(this.#fd);
    closeSync(this.#fd);
    this.#fd = null;
  }

  #look(fd: number): void {
    for (let count = 0; count < READS_IN_TURN && this.#fd === fd; count += 1) {
      const received = this.#sockets.receive(fd);
      if (received === null) break;
      this.#events.onMessage(received.message);
    }
    if (this.#fd === fd && this.#waiting.size > 0) this.#sendWaiting();
  }

  #wait(waiting: WaitingMessage): void {
    if (!this.#budget.reserve(costOf(waiting.message))) {
      waiting.onLost();
      return;
    }
    this.#waiting.add(waiting);
    if (this.#waiting.size === 1 && this.#fd !== null) this.#sockets.readiness.setWriting(this.#fd, true);
  }

  #sendWaiting(): void {
    for (const next of this.#waiting) {
      if (!this.#sendNow(next.message, next.onLost)) break;
      this.#drop(next);
    }
    // The descriptor may have changed.
    if (this.#fd !== null) this.#sockets.readiness.setWriting(this.#fd, this.#waiting.size > 0);
  }

  #drop(waiting: WaitingMessage): void {
    this.#waiting.delete(waiting);
    this.#budget.release(costOf(waiting.message));
  }

  close(): void {
    this.#isClosed = true;
    this.#disconnect();
    for (const waiting of this.#waiting) {
      this.#drop(waiting);
      waiting.onLost();
    }
  }
}

/** Whether an error means that the receiver has closed, or accepts nothing from here. */
const isOfReceiver = (number: number): boolean => ![0, EAGAIN, EMSGSIZE, ENOBUFS, ENOMEM].includes(number);

/** struct sockaddr_un: the family, then the path, plus one byte in case the system terminates it. */
const PATH_OFFSET = 2;
const MAX_ADDRESS_BYTES = 112;
const FAMILY = Buffer.from([AF_UNIX, 0]);
