/** One stream to an emulator: a request in one write, its reply, then perhaps the next request. */
import type { Duplex } from 'node:stream';
import { VproxyError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import { escapeText } from '../util/escape.js';
import { decodeReply, MAX_REPLY_BYTES } from './wire.js';

export type LinkOutcome =
  /** The raw reply, and the exit status in it. */
  | { readonly kind: 'reply'; readonly message: Buffer; readonly status: number }
  /** The request failed; `isUnread` if certainly no emulator has read any of it. */
  | { readonly kind: 'failure'; readonly error: VproxyError; readonly isUnread: boolean };

interface LinkRequest {
  readonly message: Buffer;
  /** Bounds the bytes of the reply. */
  readonly budget: Budget;
  /** Called once, unless the request is abandoned. */
  settle(outcome: LinkOutcome): void;
}

/** With these codes the stream was refused before it reached an emulator. */
const REFUSED_UNREAD: readonly string[] = ['unknown-service', 'connect-refused', 'too-many-streams'];

// Emulators that read with a single recv(1024) accept no longer request.
const SINGLE_READ_BYTES = 1024;

export class EmulatorLink {
  /** The name of the emulator in events and messages. */
  readonly name: string;
  readonly #stream: Duplex;
  readonly #onLost: (reason: VproxyError | undefined) => void;
  readonly #scanner = new JsonScanner(MAX_REPLY_BYTES, 'storage-bad-reply', 'the reply');
  #request: LinkRequest | undefined;
  #isLost = false;
  #isFlushed = false;
  #hasReceived = false;

  /**
   * Takes the stream over. Calls `onLost` once when the link becomes unusable; without a reason if the stream just ended.
   * At that time the link is still busy if a request is about to fail with it.
   */
  constructor(name: string, stream: Duplex, onLost: (reason: VproxyError | undefined) => void) {
    this.name = name;
    this.#stream = stream;
    this.#onLost = onLost;
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('end', () => this.#handleEnd());
    stream.on('error', (error) => this.lose(error));
    stream.on('close', () => this.lose(closed()));
    // A stream that was already refused may emit no more events.
    if (stream.destroyed) process.nextTick(() => this.lose(stream.errored ?? closed()));
  }

  get isBusy(): boolean {
    return this.#request !== undefined;
  }

  /** Sends a request; the link must not be busy. */
  send(request: LinkRequest): void {
    this.#request = request;
    this.#isFlushed = false;
    this.#hasReceived = false;
    this.#stream.write(request.message, (error) => {
      if (!error) this.#isFlushed = true;
    });
  }

  /** Cancels the request in flight, and resets the stream so that its reply is never taken for that of another. */
  abandon(): void {
    this.#request = undefined;
    this.lose(new VproxyError('cancelled', 'storage call cancelled after its request was sent'));
  }

  #read(chunk: Buffer): void {
    if (this.#isLost) return;
    const request = this.#request;
    this.#hasReceived = true;
    try {
      if (request && !request.budget.reserve(chunk.length)) {
        throw new VproxyError('storage-unavailable', 'too many bytes buffered for storage calls');
      }
      this.#scanner.push(chunk);
      const message = this.#scanner.next();
      if (request && message === undefined) return;
      const reply = message && request && decodeReply(message);
      // Unsolicited data would be taken for the next reply.
      const isUnasked = (message && !request) || this.#scanner.next() !== undefined || !this.#scanner.isEmpty;
      if (message && reply) {
        this.#request = undefined;
        if (isUnasked) this.lose(unasked());
        request.settle({ kind: 'reply', message, status: reply.status });
      } else if (isUnasked) {
        this.lose(unasked());
      }
    } catch (error) {
      this.lose(error);
    }
  }

  #handleEnd(): void {
    if (this.#isLost) return;
    if (this.#request === undefined) {
      this.#isLost = true;
      this.#stream.end();
      this.#onLost(undefined);
      return;
    }
    try {
      const rest = this.#scanner.end();
      if (rest) decodeReply(rest);
      this.lose(new VproxyError('storage-unavailable', 'it hung up without a reply'));
    } catch (error) {
      this.lose(error);
    }
  }

  /** Resets the stream. A request in flight fails with this reason. */
  lose(cause: unknown): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const reason = cause instanceof VproxyError ? cause : wrap(cause);
    this.#stream.destroy(reason.row.wire ? reason : new VproxyError('cancelled', reason.message, { cause: reason }));
    this.#onLost(reason);
    const request = this.#request;
    this.#request = undefined;
    request?.settle({ kind: 'failure', error: this.#describe(reason, request), isUnread: this.#isUnread(reason) });
  }

  #isUnread({ code }: VproxyError): boolean {
    if (this.#hasReceived) return false;
    // `no-session` also ends open streams, whose request may have arrived.
    return REFUSED_UNREAD.includes(code) || (code === 'no-session' && !this.#isFlushed);
  }

  #describe(reason: VproxyError, { message }: LinkRequest): VproxyError {
    const code = reason.code === 'storage-bad-reply' ? reason.code : 'storage-unavailable';
    const what = reason.code === code ? reason.message : `${reason.code}: ${escapeText(reason.message)}`;
    const bytes = message.length - 1;
    const isLong = code === 'storage-unavailable' && bytes > SINGLE_READ_BYTES && !this.#hasReceived;
    const hint = isLong
      ? `; the request has ${bytes} bytes, too many for an emulator that reads with a single recv(${SINGLE_READ_BYTES})`
      : '';
    return new VproxyError(code, `storage emulator (${this.name}) failed: ${what}${hint}`, { cause: reason });
  }
}

function wrap(cause: unknown): VproxyError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new VproxyError('storage-unavailable', escapeText(message), { cause });
}

const closed = (): VproxyError => new VproxyError('storage-unavailable', 'stream closed');

const unasked = (): VproxyError => new VproxyError('storage-bad-reply', 'it sent data without a request');
