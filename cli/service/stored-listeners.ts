/** Listening sockets in the store of the service manager (`FDSTORE=1` of sd_notify(3), `FileDescriptorStoreMax=` of the unit). */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { type Log, makeEvent } from '../../lib/events.js';
import type { ListenerStore } from '../../lib/system/sockets/listener-store.js';
import { loadMessageCalls, type MessageCalls } from '../../lib/system/unix-messages.js';
import { type CancelTimer, type Clock, systemClock } from '../../lib/util/clock.js';
import { describeError } from '../../lib/util/escape.js';
import { STORED_NAME_START } from './environment.js';

/** After this time it is tried again to tell a service manager that is busy, in milliseconds. */
const RETRY_MS = 50;

/** The name of a socket in the store, which people read as well: what of the key a name may have, and what makes it the only one. */
export function storedName(key: string): string {
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 16);
  const text = key.replaceAll(/[^A-Za-z0-9.,/_-]+/g, '_').slice(0, 200);
  return `${STORED_NAME_START}${text}-${hash}`;
}

interface StoredListenersOptions {
  /** The address of the socket for notifications, as the environment had it. */
  readonly socket: string;
  /** The number of sockets that it keeps (`FileDescriptorStoreMax=`). */
  readonly size: number;
  /** What the service manager has handed over, by name. */
  readonly inherited: ReadonlyMap<string, number>;
  /** Is told once that sockets are not stored, and why. */
  readonly log: Log;
  /** Default `loadMessageCalls`. */
  readonly load?: () => Promise<MessageCalls>;
  readonly clock?: Clock;
}

/** A message that is yet to be sent. */
interface Message {
  readonly name: string;
  readonly text: string;
  /** What goes with it; open as long as the message waits. */
  readonly descriptors: readonly number[];
}

const removal = (name: string): Message => ({ name, text: `FDSTOREREMOVE=1\nFDNAME=${name}`, descriptors: [] });

/** The store of the service manager that runs this process. */
export class StoredListeners implements ListenerStore {
  readonly #socket: string;
  readonly #size: number;
  /** Null where nothing can be stored. */
  #calls: MessageCalls | null;
  readonly #log: Log;
  readonly #clock: Clock;
  /** What came, and nobody has taken yet. */
  readonly #inherited: Map<string, number>;
  /** What is in the store, or on its way there. */
  readonly #stored = new Map<string, number>();
  #waiting: Message[] = [];
  #cancelRetry: CancelTimer | null = null;
  #isEnding = false;
  #hasFailed = false;

  private constructor(
    calls: MessageCalls | null,
    { socket, size, inherited, log, clock = systemClock }: StoredListenersOptions,
  ) {
    this.#calls = calls;
    this.#socket = socket;
    this.#size = size;
    this.#inherited = new Map(inherited);
    this.#log = log;
    this.#clock = clock;
  }

  /** Never rejects: without koffi what came can be taken, and nothing is stored. */
  static async open(options: StoredListenersOptions): Promise<StoredListeners> {
    const { load = loadMessageCalls, log } = options;
    try {
      return new StoredListeners(await load(), options);
    } catch (error) {
      log(notKept(`this needs the optional package koffi, which cannot be loaded: ${describeError(error)}`));
      return new StoredListeners(null, options);
    }
  }

  has(key: string): boolean {
    return this.#inherited.has(storedName(key));
  }

  take(key: string): number | null {
    const name = storedName(key);
    const fd = this.#inherited.get(name) ?? null;
    if (fd === null) return null;
    this.#inherited.delete(name);
    this.#stored.set(name, fd);
    return fd;
  }

  put(key: string, fd: number): void {
    const name = storedName(key);
    if (this.#isEnding || this.#calls === null || this.#stored.get(name) === fd) return;
    // One of the same name that is no more listened on would stay there.
    if (this.#stored.has(name)) this.#send(removal(name));
    else if (this.#isFull()) return;
    this.#stored.set(name, fd);
    // Of a listening socket nothing is polled for that would say that it is of no use any more.
    this.#send({ name, text: `FDSTORE=1\nFDPOLL=0\nFDNAME=${name}`, descriptors: [fd] });
  }

  remove(key: string): boolean {
    const name = storedName(key);
    const fd = this.#stored.get(name);
    if (fd === undefined) return true;
    if (this.#isEnding) return false;
    this.#stored.delete(name);
    this.#drop(name, fd);
    return true;
  }

  settle(): boolean {
    const rest = [...this.#inherited];
    this.#inherited.clear();
    for (const [name, fd] of rest) {
      this.#drop(name, fd);
      closeSync(fd);
    }
    return rest.length > 0;
  }

  end(): void {
    this.#isEnding = true;
    this.#flush();
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.#waiting = [];
  }

  /** Whether the service manager would take no more; what nobody has taken yet counts. */
  #isFull(): boolean {
    const isFull = this.#stored.size + this.#inherited.size >= this.#size;
    if (isFull) this.#tell(`the service manager keeps ${this.#size} of them (FileDescriptorStoreMax=)`);
    return isFull;
  }

  #tell(reason: string): void {
    if (!this.#hasFailed) this.#log(notKept(reason));
    this.#hasFailed = true;
  }

  /** The service manager's own descriptor would listen on until it has read the message. */
  #drop(name: string, fd: number): void {
    this.#calls?.stopListening(fd);
    this.#waiting = this.#waiting.filter((message) => message.name !== name);
    this.#send(removal(name));
  }

  #send(message: Message): void {
    if (this.#calls === null) return;
    this.#waiting.push(message);
    if (this.#cancelRetry === null) this.#flush();
  }

  /** Sends what waits; tries again later where the service manager takes no more now. */
  #flush(): void {
    this.#cancelRetry = null;
    const calls = this.#calls;
    if (calls === null || this.#waiting.length === 0) return;
    try {
      const fd = calls.openDatagrams(this.#socket);
      try {
        for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
          if (calls.send(fd, Buffer.from(next.text), next.descriptors) === null) break;
          this.#waiting.shift();
        }
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.#tell(describeError(error));
      this.#calls = null;
      this.#waiting = [];
    }
    if (this.#waiting.length > 0) this.#cancelRetry = this.#clock.schedule(RETRY_MS, () => this.#flush());
  }
}

const notKept = (reason: string) =>
  makeEvent('listeners-not-kept', `listening sockets are not kept while the service is restarted: ${reason}`, {});
