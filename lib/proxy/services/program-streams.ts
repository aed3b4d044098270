/** Streams that programs on this side open: as objects of the library, or joined to their sockets. */
import type net from 'node:net';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { KnownStream } from '../../forward/connection.js';
import { endedStreamFields, streamFields } from '../../forward/forward-log.js';
import type { SessionSource } from '../../forward/session-source.js';
import { Splice } from '../../forward/splice.js';
import { MuxStream, type StreamObserver } from '../../session/mux-stream.js';
import { SENT } from '../../session/send-buffer.js';
import type { Session } from '../../session/session.js';
import type { SessionStream } from '../../session/stream.js';
import { isHungUp, type OnRead, readBuffered } from '../../system/sockets/node-sockets.js';
import type { Clock } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { EXEC_SERVICE, type Recordings } from './recordings.js';

interface ProgramStreamsOptions {
  readonly source: SessionSource;
  readonly recordings: Recordings;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a stream waits for a session, in milliseconds. */
  readonly waitMs: number;
  /** Aborted when the channel stops. */
  readonly signal: AbortSignal;
  /** What the channel waits for, as the end of a message; or empty. */
  readonly whyDown: () => string;
}

/** The socket of a program that asked for a stream. */
export interface ProgramSocket {
  /** What follows is for the stream. It may already be half-closed. */
  readonly socket: net.Socket;
  /**
   * Whether to reset the stream when the program on the socket disconnects. A closed unix socket looks half-closed, so
   * otherwise this is detected only by writing to it.
   */
  readonly isAttached: boolean;
  /** Whether the program opens the stream again when it is lost. */
  readonly isReopened: boolean;
  /** Aborted when the program no longer waits for the answer. */
  readonly signal: AbortSignal;
  /** The peer has accepted; nothing else was written to the socket yet. */
  readonly onAccept: (stream: KnownStream) => void;
  /** The stream has ended after that: in order if `reason` is null. The socket is still open. */
  readonly onEnd: (stream: KnownStream, reason: VproxyError | null) => void;
}

export class ProgramStreams {
  readonly #options: ProgramStreamsOptions;
  /** Streams that programs open again when they are lost. */
  readonly reopened = new WeakSet<SessionStream>();
  readonly #joined = new Set<JoinedSocket>();

  constructor(options: ProgramStreamsOptions) {
    this.#options = options;
  }

  /** Whether bytes of a stream for the socket of a program are still here. */
  get isServing(): boolean {
    return this.#joined.size > 0;
  }

  /**
   * Opens a stream as soon as there is a session, without waiting for the peer's answer. Rejects with `no-session` after `waitMs`.
   * `isReopened`: the program opens it again when it is lost.
   */
  async open(service: string, isReopened = false): Promise<MuxStream> {
    const { session, observer } = await this.#prepare(service);
    const stream = MuxStream.open(session, service);
    if (observer !== null) stream.observe(observer);
    let isOpen = false;
    stream.once('connect', () => {
      isOpen = true;
      const opened = session.streams.findAny(stream.id);
      if (isReopened && opened !== null) this.reopened.add(opened);
      this.#logOpened(stream);
    });
    stream.once('close', () =>
      this.#logEnded(stream, stream.errored && toVproxyError(stream.errored, 'cancelled'), isOpen),
    );
    return stream;
  }

  /** Opens a stream as `open` does; resolves when the peer has accepted it and it owns the socket. Else rejects with the reason. */
  async join(service: string, program: ProgramSocket): Promise<void> {
    const { session, observer } = await this.#prepare(service);
    const answer = deferred();
    let isOpen = false;
    const joined = new JoinedSocket((end) => session.open(service, null, end), {
      ...program,
      onDone: () => this.#joined.delete(joined),
      clock: this.#options.clock,
      observer,
      onAccept: (stream) => {
        isOpen = true;
        this.#joined.add(joined);
        this.#logOpened(stream);
        program.onAccept(stream);
        answer.resolve();
      },
      onEnd: (stream, reason) => {
        this.#logEnded(stream, reason, isOpen);
        if (isOpen) program.onEnd(stream, reason);
        else if (reason !== null) answer.reject(reason);
      },
    });
    const { stream } = joined;
    if (program.isReopened) this.reopened.add(stream);
    const { signal } = program;
    const onGone = (): void => stream.reset('cancelled', 'the program that requested the stream has disconnected');
    signal.addEventListener('abort', onGone);
    if (signal.aborted) onGone();
    try {
      await answer.promise;
    } finally {
      signal.removeEventListener('abort', onGone);
    }
  }

  /** Waits for a session, and for what records a stream to the service; null: nothing. */
  async #prepare(service: string): Promise<{ readonly session: Session; readonly observer: StreamObserver | null }> {
    const { recordings, signal, source, waitMs, whyDown } = this.#options;
    const observer = service === EXEC_SERVICE ? await recordings.observer() : null;
    const session = await source.wait(waitMs, signal).catch((error: unknown) => {
      const { code, message } = toVproxyError(error);
      throw new VproxyError(code, `${message}${whyDown()}`, { cause: error });
    });
    return { session, observer };
  }

  #logOpened(stream: KnownStream): void {
    const { id, service } = stream;
    const message = `stream ${id} to ${service} is open`;
    this.#options.log(makeEvent('stream-opened', message, { service, ...streamFields(stream) }));
  }

  #logEnded(stream: KnownStream, reason: VproxyError | null, wasOpen: boolean): void {
    const { clock, log } = this.#options;
    const { id, receivedBytes, sentBytes, service } = stream;
    const amount = `${sentBytes} bytes sent, ${receivedBytes} received`;
    const fields = { service, ...endedStreamFields(clock.now(), stream, reason ?? {}) };
    if (reason === null) {
      log(makeEvent('stream-closed', `stream ${id} to ${service} has ended: ${amount}`, fields));
      return;
    }
    const why = `${escapeText(reason.message)} (${escapeText(reason.code, 64)})`;
    if (wasOpen) log(makeEvent('stream-reset', `stream ${id} to ${service} was reset: ${why}; ${amount}`, fields));
    else log(makeEvent('stream-refused', `stream to ${service} refused: ${why}`, fields, 'warn'));
  }
}

interface JoinedOptions extends ProgramSocket {
  readonly clock: Clock;
  /** Both the stream and the socket have ended. */
  readonly onDone: () => void;
  readonly observer: StreamObserver | null;
}

/** The local end of a stream on the socket of a program: joined to it when the peer accepts. */
class JoinedSocket extends Splice {
  readonly stream: SessionStream;
  readonly #options: JoinedOptions;

  constructor(open: (end: Splice) => SessionStream, options: JoinedOptions) {
    super({ clock: options.clock, onDone: options.onDone });
    this.#options = options;
    this.stream = open(this);
  }

  override handleAccept(): void {
    const { stream } = this;
    const { isAttached, observer, onAccept, socket } = this.#options;
    onAccept(stream);
    if (isAttached) {
      socket.on('end', () => {
        // Disconnecting after the other end has ended is in order.
        if (!socket.writableEnded && isHungUp(socket))
          stream.reset('cancelled', 'the program on the control socket has disconnected');
      });
    }
    // What came with the request.
    const early = socket.read() as Buffer | null;
    this.join(stream, readBuffered(socket, this.#observed));
    if (early === null) return;
    observer?.handleSent(early);
    if (stream.send(early, 0, early.length, false) === SENT.WAITING) socket.pause();
  }

  get #observed(): OnRead {
    const { onread } = this;
    const { observer } = this.#options;
    if (observer === null) return onread;
    return {
      buffer: () => onread.buffer(),
      callback: (byteCount, buffer) => {
        observer.handleSent(Buffer.from(buffer.buffer, buffer.byteOffset, byteCount));
        return onread.callback(byteCount, buffer);
      },
    };
  }

  override handleData(bytes: Buffer): boolean {
    this.#options.observer?.handleReceived(bytes);
    return super.handleData(bytes);
  }

  override handleEnd(reason: VproxyError | null): void {
    this.#options.observer?.handleClose();
    this.#options.onEnd(this.stream, reason);
    super.handleEnd(reason);
  }
}
