/** Connections to the origin servers of one conversation in absolute form, each kept for its next request. */
import type net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { hiddenReset, readLeft } from '../../system/sockets/node-sockets.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import { Change } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import type { Reached } from './dial.js';
import { BadMessage, HeadTooLarge } from './head.js';
import { type ByteSource, HttpReader } from './message.js';
import { Refusal } from './refusal.js';
import type { Destination, EgressRules } from './rules.js';

/** How a connection to an origin server ended. */
export interface OriginEnding {
  readonly uploadedBytes: number;
  readonly downloadedBytes: number;
  /** Null if it ended in order, or was no longer needed. */
  readonly code: string | null;
}

/** An origin server dropped the connection, or its answer is invalid. */
export class OriginFailure extends Refusal {
  constructor(destination: string, what: string) {
    super('bad-answer', `${destination} ${what}`, { destination });
  }
}

/** A socket to an origin server, read and written with back-pressure. */
export class OriginConnection implements ByteSource {
  readonly destination: Destination;
  readonly #rules: EgressRules | null;
  readonly reader = new HttpReader(this);
  readonly #socket: net.Socket;
  #failure: Error | null = null;
  #hasEnded = false;
  /** What came before a write failed. */
  #left: Buffer | null = null;
  /** Both directions may wait at once. */
  readonly #change = new Change();

  constructor({ destination, rules, socket }: Reached, onClosed: (ending: OriginEnding) => void) {
    this.destination = destination;
    this.#rules = rules;
    this.#socket = socket;
    const wake = (): void => this.#change.announce();
    // A server that refuses early may close with unread input: if a write fails then, Node would drop its answer.
    let leftBytes = 0;
    const destroy = socket._destroy.bind(socket);
    socket._destroy = (error, done) => {
      if (error !== null && !this.isTls) this.#left = readLeft(socket);
      leftBytes = this.#left?.length ?? 0;
      destroy(error, done);
    };
    socket.on('readable', wake);
    socket.on('drain', wake);
    socket.on('end', () => {
      this.#hasEnded = true;
      this.#failure ??= hiddenReset(socket);
      wake();
    });
    socket.on('error', (error) => {
      this.#failure ??= error;
    });
    socket.once('close', () => {
      const code = this.#failure === null ? null : 'local-error';
      const downloadedBytes = socket.bytesRead + leftBytes;
      onClosed({ uploadedBytes: socket.bytesWritten, downloadedBytes, code });
      wake();
    });
  }

  get isTls(): boolean {
    return (this.#socket as Partial<TLSSocket>).encrypted === true;
  }

  /** Whether it can take another request: allowed by these rules, no unexpected bytes received, and not ended. */
  isUsableBy(rules: EgressRules | null): boolean {
    const { destroyed, readableLength } = this.#socket;
    return rules === this.#rules && !destroyed && readableLength === 0 && !this.#hasEnded && !this.reader.hasRest;
  }

  async read(): Promise<Buffer | null> {
    for (;;) {
      const bytes = this.#socket.read() as Buffer | null;
      if (bytes !== null) return bytes;
      const left = this.#left;
      this.#left = null;
      if (left !== null) return left;
      if (this.#failure !== null) throw this.failureOf(this.#failure);
      if (this.#hasEnded) return null;
      if (this.#socket.destroyed) throw this.failed('is no longer connected');
      await this.#change.next();
    }
  }

  /** Resolves when more may be written. */
  async write(bytes: Buffer): Promise<void> {
    let hasRoom = this.#socket.write(bytes);
    while (!hasRoom) {
      if (this.#socket.destroyed) throw this.failed('closed the connection');
      await this.#change.next();
      hasRoom = !this.#socket.writableNeedDrain;
    }
  }

  /** Ends this side's direction. */
  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  failed(what: string): OriginFailure {
    return new OriginFailure(formatHostPort(this.destination), what);
  }

  /** Turns an error of reading it into one of this connection; returns any other as is. */
  failureOf(error: unknown): unknown {
    if (error instanceof BadMessage || error instanceof HeadTooLarge)
      return this.failed(`sent an invalid answer: ${error.message}`);
    return error !== null && error === this.#failure
      ? this.failed(`dropped the connection: ${describeError(error)}`)
      : error;
  }
}

/** Limit on connections kept by one conversation. */
const MAX_KEPT = 4;

/** The same for all conversations of an egress on one channel together. */
const MAX_KEPT_TOGETHER = 64;

/** Connections kept by all conversations of a target, least recently used first. */
export type KeptTogether = Set<OriginConnection>;

/** Unused connections, for further requests. */
export interface Kept {
  /** Removes and returns the connection to a destination; null if there is none usable under these rules. */
  take(destination: Destination, rules: EgressRules | null): OriginConnection | null;
  keep(origin: OriginConnection): void;
  /** The conversation is over. */
  close(): void;
}

/** Those of a conversation, most recently used last. */
export class KeptOrigins implements Kept {
  readonly #kept: OriginConnection[] = [];
  readonly #together: KeptTogether;

  constructor(together: KeptTogether) {
    this.#together = together;
  }

  take({ host, port }: Destination, rules: EgressRules | null): OriginConnection | null {
    const at = this.#kept.findIndex(({ destination }) => destination.host === host && destination.port === port);
    const [origin] = at === -1 ? [] : this.#kept.splice(at, 1);
    if (origin === undefined) return null;
    this.#together.delete(origin);
    if (origin.isUsableBy(rules)) return origin;
    origin.destroy();
    return null;
  }

  keep(origin: OriginConnection): void {
    this.#kept.push(origin);
    this.#together.add(origin);
    if (this.#kept.length > MAX_KEPT) this.#leave(this.#kept.shift());
    // Its conversation will find it closed.
    if (this.#together.size > MAX_KEPT_TOGETHER) this.#leave(this.#together.values().next().value);
  }

  close(): void {
    for (const origin of this.#kept.splice(0)) this.#leave(origin);
  }

  #leave(origin: OriginConnection | undefined): void {
    if (origin === undefined) return;
    this.#together.delete(origin);
    origin.destroy();
  }
}
