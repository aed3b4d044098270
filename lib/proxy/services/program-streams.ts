/** Streams that programs on this side open: as objects of the library, or joined to their sockets. */
import type net from 'node:net';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import {
  captureSpliced,
  findHandedOver,
  type IndexOfStream,
  type Inheritance,
  isHeld,
  type KnownStream,
  type SplicedState,
  unwrittenObstacle,
} from '../../forward/connection.js';
import { endedStreamFields, streamFields } from '../../forward/forward-log.js';
import type { SessionSource } from '../../forward/session-source.js';
import { Splice, type SpliceState } from '../../forward/splice.js';
import { MuxStream, type StreamObserver } from '../../session/mux-stream.js';
import { SENT } from '../../session/send-buffer.js';
import type { Session } from '../../session/session.js';
import { SessionStream } from '../../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../../system/descriptors.js';
import { isHungUp, type OnRead, readBuffered } from '../../system/sockets/node-sockets.js';
import type { Clock } from '../../util/clock.js';
import { deferred, onAbort } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { EXEC_SERVICE, type Recordings } from './recordings.js';
import { STORAGE_SERVICE } from './storage.js';
import type { StreamEnds } from './stream-ends.js';

/** An upgrade waits this long for the session or the answer that a program waits for, in milliseconds; then that gets an error. */
const OPENING_MS = 2000;

/** How often it is looked whether a program has gone, in milliseconds. */
const LOOK_MS = 1000;

interface ProgramStreamsOptions {
  readonly source: SessionSource;
  readonly recordings: Recordings;
  /** Those of the whole process. */
  readonly ends: StreamEnds;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a stream waits for a session, in milliseconds. */
  readonly waitMs: number;
  /** Aborted when the channel stops. */
  readonly signal: AbortSignal;
  /** What the channel waits for, as the end of a message; or empty. */
  readonly whyDown: () => string;
}

/** How a program opens a stream. */
export interface OpenOptions {
  /** Whether the program opens it again when it is lost: an upgrade resets it instead of waiting for its end. Default false. */
  readonly isReopened?: boolean;
  /** Aborted when the program no longer waits for a session. */
  readonly signal?: AbortSignal;
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
  /** The peer has accepted; nothing else was written to the socket yet. `end`: see {@link StreamEnds}. */
  readonly onAccept: (stream: KnownStream, end: number) => void;
}

/** State of a program's socket that is handed over, with its stream. */
export interface ProgramSocketState extends SplicedState, Pick<ProgramSocket, 'isAttached' | 'isReopened'> {
  /** See {@link StreamEnds}. */
  readonly end: number;
}

export class ProgramStreams {
  readonly #options: ProgramStreamsOptions;
  /** Streams that programs open again when they are lost. */
  readonly #reopened = new WeakSet<SessionStream>();
  /** The sockets of programs whose streams the peer has accepted. */
  readonly #joined = new Map<KnownStream, JoinedSocket>();
  /** The services that programs wait for a session to reach, and since when. */
  readonly #waiting = new Set<{ readonly service: string; readonly sinceMs: number }>();

  constructor(options: ProgramStreamsOptions) {
    this.#options = options;
  }

  /** Whether bytes of a stream for the socket of a program are still here. */
  get isServing(): boolean {
    return this.#joined.size > 0;
  }

  /**
   * Opens a stream as soon as there is a session, without waiting for the peer's answer. Rejects with `no-session` after `waitMs`.
   */
  async open(service: string, { isReopened = false, signal }: OpenOptions = {}): Promise<MuxStream> {
    const { session, observer } = await this.#prepare(service, signal);
    const stream = MuxStream.open(session, service);
    if (observer !== null) stream.observe(observer);
    let isOpen = false;
    stream.once('connect', () => {
      isOpen = true;
      const opened = session.streams.findAny(stream.id);
      if (isReopened && opened !== null) this.#reopened.add(opened);
      this.#logOpened(stream);
    });
    stream.once('close', () =>
      this.#logEnded(stream, stream.errored && toVproxyError(stream.errored, 'cancelled'), isOpen),
    );
    return stream;
  }

  /** Opens a stream as `open` does; resolves when the peer has accepted it and it owns the socket. Else rejects with the reason. */
  async join(service: string, program: ProgramSocket): Promise<void> {
    const { isReopened, signal, socket } = program;
    const { session, observer } = await this.#prepare(service, signal);
    const answer = deferred();
    const joined = new JoinedSocket({
      ...this.#joinedHooks(program, observer),
      streamOf: (splice) => session.open(service, null, splice),
      onAccept: () => {
        const end = this.#options.ends.add();
        joined.end = end;
        this.#joined.set(stream, joined);
        if (isReopened) this.#reopened.add(stream);
        this.#logOpened(stream);
        program.onAccept(stream, end);
        answer.resolve();
        joined.begin(stream, socket);
      },
      onRefused: (reason) => answer.reject(reason),
    });
    const { stream } = joined;
    const forget = onAbort(signal, () =>
      stream.reset('cancelled', 'the program that requested the stream has disconnected'),
    );
    try {
      await answer.promise;
    } finally {
      forget();
    }
  }

  #joinedHooks({ isAttached }: Pick<ProgramSocket, 'isAttached'>, observer: StreamObserver | null) {
    return {
      clock: this.#options.clock,
      isAttached,
      observer,
      onEnd: ({ end, stream }: JoinedSocket, reason: VproxyError | null) => {
        this.#logEnded(stream, reason, end !== null);
        // Recorded before the connection closes: a program that sees it close may ask at once.
        if (end !== null) this.#options.ends.end(end, reason && describeReset(stream, reason));
      },
      onDone: ({ stream }: JoinedSocket) => void this.#joined.delete(stream),
    };
  }

  /** Waits for a session, and for what records a stream to the service; null: nothing. */
  async #prepare(
    service: string,
    gone: AbortSignal | undefined,
  ): Promise<{ readonly session: Session; readonly observer: StreamObserver | null }> {
    const { clock, recordings, signal, source, waitMs, whyDown } = this.#options;
    const waiting = { service, sinceMs: clock.now() };
    this.#waiting.add(waiting);
    try {
      const observer = service === EXEC_SERVICE ? await recordings.observer() : null;
      return { session: await source.wait(waitMs, signal, gone), observer };
    } catch (error) {
      const { code, message } = toVproxyError(error);
      throw new VproxyError(code, `${message}${whyDown()}`, { cause: error });
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  /**
   * Whether an upgrade resets the stream instead of waiting for its end: its program opens it again, or the peer has not accepted
   * it for too long.
   */
  isCut(stream: SessionStream): boolean {
    if (!stream.isIncoming && !stream.isAnswered) return isOfProgram(stream) && !this.#isRecent(stream.openedAtMs);
    return this.#reopened.has(stream) && this.#joined.get(stream)?.isRecorded !== false;
  }

  /**
   * How many of the obstacles may be gone in a moment, or are cut. `isCutting`: without those that may as well stay, for which
   * nothing else may be cut.
   */
  passingCount(isCutting: boolean): number {
    const recorded = [...this.#joined].filter(([stream, { isRecorded }]) => isRecorded && isHeld(stream));
    const cut = recorded.filter(([stream]) => this.isCut(stream as SessionStream));
    const isBrief = (one: SessionStream): boolean => this.#isRecent(one.openedAtMs) && !(isCutting && one.isAnswered);
    const others = this.#others.filter((one) => isBrief(one) || this.isCut(one));
    return this.#early.length + cut.length + others.length;
  }

  /** What cannot be handed over now, each as a human-readable line. */
  obstacles(): string[] {
    const joined = [...this.#joined].map(([{ id, service }, socket]) =>
      socket.isRecorded ? `stream ${id} to ${service}, which is recorded` : unwrittenObstacle(socket, id, service),
    );
    const why = (stream: SessionStream) =>
      stream.isAnswered ? 'which belongs to no forward' : 'which the peer has not accepted yet';
    return [
      ...this.#early.map(({ service }) => `a program that waits for a stream to ${service}`),
      ...joined.filter((text) => text !== null),
      ...this.#others.map((stream) => `stream ${stream.id} to ${stream.service}, ${why(stream)}`),
    ];
  }

  /** Streams of programs that have no socket here. */
  get #others(): SessionStream[] {
    const streams = this.#options.source.current?.streams.list() ?? [];
    return streams.filter((stream) => isOfProgram(stream) && !this.#joined.has(stream));
  }

  get #early() {
    return [...this.#waiting].filter(({ sinceMs }) => this.#isRecent(sinceMs));
  }

  #isRecent(sinceMs: number): boolean {
    return this.#options.clock.now() - sinceMs < OPENING_MS;
  }

  /** Throws `upgrade-failed` if one of them cannot be handed over. */
  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ProgramSocketState[] {
    return [...this.#joined].map(([stream, socket]) => ({
      ...captureSpliced(stream, socket, keep, indexOf),
      isAttached: socket.isAttached,
      isReopened: stream instanceof SessionStream && this.#reopened.has(stream),
      end: socket.end ?? 0,
    }));
  }

  /** Restores the sockets that a predecessor handed over; call `goOn` afterwards. Throws `upgrade-failed`. */
  restore(states: readonly ProgramSocketState[], { take, streams }: Inheritance): void {
    for (const { stream: known, splice: state, end, isReopened, ...program } of states) {
      const stream = findHandedOver(known, streams);
      const joined = new JoinedSocket({ ...this.#joinedHooks(program, null), streamOf: () => stream }, state);
      joined.end = end;
      if (!state.isStreamOver) this.#options.ends.addAgain(end);
      this.#joined.set(stream, joined);
      if (isReopened && stream instanceof SessionStream) this.#reopened.add(stream);
      joined.joinAgain(isHeld(stream) ? stream : null, take);
    }
  }

  /** Starts to read, write and report, after `restore`. */
  goOn(): void {
    for (const joined of this.#joined.values()) joined.goOn(false);
  }

  // ---- log ------------------------------------------------------------------------------------------------------

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

/**
 * Whether the local end of a stream is a program, such as a command. Excludes unanswered streams, which are offered to their
 * services again, and those of emulators, which open them again.
 */
export const isOfProgram = ({ owner, service, isIncoming, isAnswered, isOver }: SessionStream): boolean =>
  owner === null && service !== STORAGE_SERVICE && !isOver && !(isIncoming && !isAnswered);

function describeReset({ id, service }: KnownStream, { code, message }: VproxyError): VproxyError {
  return new VproxyError(code, `stream ${id} to ${service} was reset: ${message} (${code})`);
}

interface JoinedOptions<Stream> extends Pick<ProgramSocket, 'isAttached'> {
  readonly clock: Clock;
  readonly observer: StreamObserver | null;
  readonly streamOf: (splice: Splice) => Stream;
  /** The peer has accepted: call `begin`. Default: it has accepted already. */
  readonly onAccept?: () => void;
  /** The peer has refused. */
  readonly onRefused?: (reason: VproxyError) => void;
  /** The stream has ended: in order if `reason` is null. The socket is still open. */
  readonly onEnd: (joined: JoinedSocket, reason: VproxyError | null) => void;
  /** Both the stream and the socket have ended. */
  readonly onDone: (joined: JoinedSocket) => void;
}

/** The local end of a stream on the socket of a program: joined to it when the peer accepts. */
class JoinedSocket<Stream extends KnownStream = KnownStream> extends Splice {
  readonly stream: Stream;
  /** See {@link StreamEnds}; null before the peer has accepted. */
  end: number | null = null;
  readonly #options: JoinedOptions<Stream>;

  constructor(options: JoinedOptions<Stream>, state?: SpliceState) {
    const { clock, onAccept } = options;
    super({ clock, ...(onAccept && { onAccept }), onDone: () => options.onDone(this) }, state);
    this.#options = options;
    this.stream = options.streamOf(this);
  }

  get isAttached(): boolean {
    return this.#options.isAttached;
  }

  get isRecorded(): boolean {
    return this.#options.observer?.isWatching === true;
  }

  /** Joins the two once the peer has accepted. */
  begin(stream: SessionStream, socket: net.Socket): void {
    const { observer } = this.#options;
    this.#watch(stream, socket);
    // What came with the request.
    const early = socket.read() as Buffer | null;
    this.join(stream, readBuffered(socket, this.#observed));
    if (early === null) return;
    observer?.handleSent(early);
    if (stream.send(early, 0, early.length, false) === SENT.WAITING) socket.pause();
  }

  override joinAgain(stream: SessionStream | null, take: TakeDescriptor): net.Socket | null {
    const socket = super.joinAgain(stream, take);
    if (stream !== null && socket !== null) this.#watch(stream, socket);
    return socket;
  }

  #watch(stream: SessionStream, socket: net.Socket): void {
    if (!this.isAttached) return;
    const look = (): void => {
      // Disconnecting after the other end has ended is in order.
      if (!socket.writableEnded && isHungUp(socket))
        stream.reset('cancelled', 'the program on the control socket has disconnected');
    };
    // Before the splice, which ends the stream in order.
    socket.prependListener('end', look);
    // While the service takes nothing, the socket is not read, and does not end.
    const { clock } = this.#options;
    const lookOften = (): void => {
      look();
      cancel = clock.schedule(LOOK_MS, lookOften, LOOK_MS / 2);
    };
    let cancel = clock.schedule(LOOK_MS, lookOften, LOOK_MS / 2);
    socket.once('close', () => cancel());
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
    const { observer, onEnd, onRefused } = this.#options;
    observer?.handleClose();
    onEnd(this, reason);
    if (this.end === null && reason !== null) onRefused?.(reason);
    super.handleEnd(reason);
  }
}
