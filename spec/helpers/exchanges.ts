/**
 * Connections both ends of which write until told to stop, and compare the received bytes by digest. They are unix sockets: TCP
 * sockets buffer megabytes each, and a few hundred would leave a link over TCP none of the system's memory.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { hiddenReset } from '../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from './files.js';
import { localServer, localSocket } from './proxies.js';
import { eventually, within } from './time.js';

const WORDS = randomBytes(1_000_000);
const MAX_PIECE_BYTES = 20_000;

/** Each connection first identifies itself, in this many bytes. */
const NAME_BYTES = 6;

const END_MS = 60_000;

interface Digests {
  readonly sent: string;
  readonly received: string;
}

export class Exchanges {
  receivedBytes = 0;
  readonly targetPath: string;
  readonly localPath: string;
  readonly #t: ExecutionContext;
  readonly #near: Promise<Digests>[] = [];
  readonly #far = new Map<string, Promise<Digests>>();
  readonly #arrived = new Map<string, net.Socket>();
  readonly #waiters = new Map<() => void, number>();
  readonly #failed = deferred<never>();
  #isOver = false;

  private constructor(t: ExecutionContext) {
    this.#t = t;
    const folder = temporaryFolder(t);
    this.targetPath = join(folder, 'target.sock');
    this.localPath = join(folder, 'local.sock');
    this.#failed.promise.catch(() => undefined);
  }

  static async start(t: ExecutionContext): Promise<Exchanges> {
    const exchanges = new Exchanges(t);
    const accept = (socket: net.Socket): void => {
      socket.once('readable', () => exchanges.#arrived.set(String(socket.read(NAME_BYTES)), socket));
    };
    await localServer(t, accept, { path: exchanges.targetPath });
    return exchanges;
  }

  /**
   * Makes this many connections to the listening forward, and starts when the target has all of them: Node accepts one per turn
   * of the event loop, and connections at work make such turns long.
   */
  async open(count: number): Promise<void> {
    const first = this.#near.length;
    const sockets = Array.from({ length: count }, (_, index) => {
      const socket = localSocket(this.#t, { path: this.localPath });
      socket.once('error', (cause) => this.#fail(cause)).write(nameOf(first + index));
      return socket;
    });
    const all = eventually(() => this.#arrived.size === first + count, { what: 'all connections at the target' });
    await Promise.race([all, this.#failed.promise]);
    for (const [index, socket] of sockets.entries()) {
      const name = nameOf(first + index);
      const far = this.#arrived.get(name);
      if (far !== undefined) this.#far.set(name, this.#work(far));
      this.#near.push(this.#work(socket));
    }
  }

  /** Resolves when this many more bytes have arrived; rejects if a connection fails, or they do not arrive in time. */
  received(bytes: number): Promise<void> {
    const enough = new Promise<void>((resolve) => this.#waiters.set(resolve, this.receivedBytes + bytes));
    return within(END_MS, `${bytes} bytes more`, Promise.race([enough, this.#failed.promise]));
  }

  /** Stops all writers, and returns what is wrong with the received bytes. Rejects if a connection fails. */
  async finish(): Promise<string[]> {
    this.#isOver = true;
    const all = this.#near.map(async (one, index) => {
      const near = await one;
      const far = await this.#far.get(nameOf(index));
      if (near.received === far?.sent && near.sent === far.received) return [];
      return [`connection ${index}: ${JSON.stringify({ near, far })}`];
    });
    return (await within(END_MS, 'the end of all connections', Promise.all(all))).flat();
  }

  #work(socket: net.Socket): Promise<Digests> {
    const digests = this.#exchange(socket);
    digests.catch((cause: unknown) => this.#fail(cause));
    return digests;
  }

  #fail(cause: unknown): void {
    this.#failed.reject(new Error('a connection failed', { cause }));
  }

  async #exchange(socket: net.Socket): Promise<Digests> {
    const [sent, received] = [createHash('sha256'), createHash('sha256')];
    socket.on('data', (chunk: Buffer) => {
      received.update(chunk);
      this.#count(chunk.length);
    });
    const ended = once(socket, 'end').then(() => {
      const failure = hiddenReset(socket);
      if (failure !== null) throw failure;
    });
    const write = async (): Promise<void> => {
      for (let at = 0; !this.#isOver && !socket.destroyed; at = (at + 7919) % (WORDS.length - MAX_PIECE_BYTES)) {
        const piece = WORDS.subarray(at, at + 1 + (at % MAX_PIECE_BYTES));
        sent.update(piece);
        if (!socket.write(piece)) await drained(socket);
      }
      socket.end();
    };
    await Promise.all([write(), ended]);
    return { sent: sent.digest('hex'), received: received.digest('hex') };
  }

  #count(bytes: number): void {
    this.receivedBytes += bytes;
    for (const [resolve, fromBytes] of this.#waiters) {
      if (this.receivedBytes < fromBytes) continue;
      this.#waiters.delete(resolve);
      resolve();
    }
  }
}

function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    const goOn = (): void => {
      socket.off('drain', goOn).off('close', goOn);
      resolve();
    };
    socket.on('drain', goOn).on('close', goOn);
  });
}

const nameOf = (index: number): string => String(index).padStart(NAME_BYTES);
