/** Listening sockets in the store of the service manager (`FDSTORE=1` of sd_notify(3), `FileDescriptorStoreMax=` of the unit). */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { type Log, makeEvent } from '../../lib/events.js';
import type { ListenerStore } from '../../lib/system/sockets/listener-store.js';
import { loadMessageCalls, type MessageCalls } from '../../lib/system/unix-messages.js';
import { type CancelTimer, type Clock, systemClock } from '../../lib/util/clock.js';
import { describeError } from '../../lib/util/escape.js';
import { STORED_NAME_START } from './environment.js';

/** The delay before retrying a busy service manager, in milliseconds. */
const RETRY_MS = 50;

/** Returns the name of a socket in the store: the readable part of the key, and a hash that makes it unique. */
export function storedName(key: string): string {
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 16);
  const text = key.replaceAll(/[^A-Za-z0-9.,/_-]+/g, '_').slice(0, 200);
  return `${STORED_NAME_START}${text}-${hash}`;
}

interface StoredListenersOptions {
  /** The address of the notification socket, as in the environment. */
  readonly socket: string;
  /** Maximum number of sockets to keep (`FileDescriptorStoreMax=`). */
  readonly size: number;
  /** The descriptors passed by the service manager, by name. */
  readonly inherited: ReadonlyMap<string, number>;
  /** Logs once that sockets are not stored, and why. */
  readonly log: Log;
  /** Default `loadMessageCalls`. */
  readonly load?: () => Promise<MessageCalls>;
  readonly clock?: Clock;
}

interface Message {
  readonly name: string;
  readonly text: string;
  /** Descriptors to send; they stay open while the message waits. */
  readonly descriptors: readonly number[];
}

const removal = (name: string): Message => ({ name, text: `FDSTOREREMOVE=1\nFDNAME=${name}`, descriptors: [] });

/** The store of the service manager that runs this process. */
export class StoredListeners implements ListenerStore {
  readonly #options: StoredListenersOptions;
  /** Null if nothing can be stored. */
  #calls: MessageCalls | null;
  /** Descriptors passed by the service manager that were not taken yet. */
  readonly #inherited: Map<string, number>;
  /** Descriptors in the store, or on their way there. */
  readonly #stored = new Map<string, number>();
  #waiting: Message[] = [];
  #cancelRetry: CancelTimer | null = null;
  #isEnding = false;
  #hasFailed = false;

  private constructor(calls: MessageCalls | null, options: StoredListenersOptions) {
    this.#calls = calls;
    this.#options = options;
    this.#inherited = new Map(options.inherited);
  }

  /** Never rejects: without koffi, passed sockets can be taken, but nothing is stored. */
  static async open(options: StoredListenersOptions): Promise<StoredListeners> {
    const { load = loadMessageCalls, log } = options;
    try {
      return new StoredListeners(await load(), options);
    } catch (error) {
      log(notKept(`cannot load the optional package koffi: ${describeError(error)}`));
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
    // Otherwise an old socket of the same name would stay there.
    if (this.#stored.has(name)) this.#send(removal(name));
    else if (this.#isFull()) return;
    this.#stored.set(name, fd);
    // FDPOLL=0: polling cannot tell that a listening socket is no longer useful.
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

  /** Whether the store is full; sockets that were not taken yet count. */
  #isFull(): boolean {
    const isFull = this.#stored.size + this.#inherited.size >= this.#options.size;
    if (isFull) this.#tell(`the service manager keeps at most ${this.#options.size} (FileDescriptorStoreMax=)`);
    return isFull;
  }

  #tell(reason: string): void {
    if (!this.#hasFailed) this.#options.log(notKept(reason));
    this.#hasFailed = true;
  }

  /** Stops listening at once: the service manager's descriptor would keep the socket listening until it reads the message. */
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

  /** Sends waiting messages; retries later if the service manager accepts no more now. */
  #flush(): void {
    this.#cancelRetry = null;
    const calls = this.#calls;
    if (calls === null || this.#waiting.length === 0) return;
    try {
      const fd = calls.openDatagrams(this.#options.socket);
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
    const { clock = systemClock } = this.#options;
    if (this.#waiting.length > 0) this.#cancelRetry = clock.schedule(RETRY_MS, () => this.#flush());
  }
}

const notKept = (reason: string) =>
  makeEvent('listeners-not-kept', `listening sockets will not survive a restart of the service: ${reason}`, {});
