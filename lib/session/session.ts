/**
 * An established session: frames ⇄ streams. It does no I/O; it is given bytes, gives bytes, and is given a clock.
 * What a peer can do wrong ends here, with the code that docs/protocol.md states (R-CODE-3, R-CODE-4, R-LIVE-3).
 */

import { EventEmitter } from 'eventemitter3';
import { FrameReader } from '../codec/frame-reader.js';
import type { ByteSink } from '../codec/frame-writer.js';
import { FrameWriter } from '../codec/frame-writer.js';
import { FRAME_TYPE } from '../codec/header.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { encodeGoaway, type Goaway, type OpenRequest } from '../codec/payloads.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import type { Agreement } from './agreement.js';
import { Proof } from './auth.js';
import { ReceiveWindow, SessionCredit } from './flow.js';
import { FrameDispatch, type SessionActions } from './frame-dispatch.js';
import { FrameTimer, Leaving, Liveness } from './liveness.js';
import type { LocalEnd } from './local-end.js';
import { DrainWaiters, Outbox, Sender } from './scheduler.js';
import { OwnServices, PeerServices } from './services.js';
import type { Turn } from './session-loop.js';
import type { SessionSettings } from './settings.js';
import { SessionStream, type StreamHost } from './stream.js';
import { Admission, Retractions, StreamTable } from './streams.js';

interface SessionEvents {
  /** The peer opened a stream to a service of a valid name: attach a sink during the call, or it is refused. */
  stream: [stream: SessionStream];
  /** The two sides agree, and each has proved that it has the key where that is demanded: `start` is to be called. */
  ready: [];
  /** The peer's list of services is complete, or has changed. */
  services: [services: ReadonlySet<string>];
  /** A measurement of the round trip is complete, in milliseconds. */
  measured: [roundTripMs: number];
  /** No more streams are opened either way; the session ends when those that are open have ended. */
  draining: [reason: VproxyError];
  /** The session is over; all its streams have ended before. Emitted once. */
  end: [reason: VproxyError];
}

interface SessionContext {
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly settings: SessionSettings;
  /** Ends `receive` before all is read. Default: nothing does. */
  readonly turn?: Turn;
  /** This side's first stream id, of the parity that the agreement gives it. Default 1 or 2. */
  readonly firstStreamId?: number;
}

/** The peer has so long to prove that it has the key, in milliseconds (R-AUTH-2). */
const PROOF_MS = 10_000;

/** One session, from the HELLOs that established it to its end. */
export class Session extends EventEmitter<SessionEvents> {
  readonly agreement: Agreement;
  readonly #clock: Clock;
  readonly #settings: SessionSettings;
  readonly #writer: FrameWriter;
  readonly #outbox: Outbox;
  readonly #sender: Sender;
  readonly #reader: FrameReader;
  readonly #table: StreamTable;
  readonly #credit: SessionCredit;
  readonly #liveness: Liveness;
  readonly #frameTimer: FrameTimer;
  readonly #admission: Admission;
  readonly #retractions: Retractions;
  readonly #ownServices: OwnServices;
  readonly #peerServices: PeerServices;
  readonly #host: StreamHost;
  readonly #startedAtMs: number;
  #receivedChunks = 0;
  #streamsOpened = 0;
  #streamsFailed = 0;
  readonly #drainWaiters = new DrainWaiters();
  readonly #leaving: Leaving;
  readonly #dispatch: FrameDispatch;
  #proof: Proof | null = null;
  #cancelProof: CancelTimer | null = null;
  #isReady = false;
  #isOver = false;
  /** Whether the session is over and the channel holds nothing of it any more. */
  #isWritten = false;

  constructor(agreement: Agreement, { sink, clock, settings, turn, firstStreamId }: SessionContext) {
    super();
    const nowMs = clock.now();
    const { peer, self, integrity, isOdd } = agreement;
    this.agreement = agreement;
    this.#clock = clock;
    this.#settings = settings;
    this.#startedAtMs = nowMs;
    this.#writer = new FrameWriter(sink, integrity);
    this.#outbox = new Outbox(this.#writer);
    this.#sender = new Sender({
      writer: this.#writer,
      outbox: this.#outbox,
      clock,
      maxFrameBytes: Math.min(self.limits.frame, peer.limits.frame),
      creditBytes: peer.limits.inFlight,
    });
    this.#table = new StreamTable({
      firstId: firstStreamId ?? (isOdd ? 1 : 2),
      peerLimits: peer.limits,
      ownLimits: self.limits,
      isCongested: () => this.#outbox.isCongested,
    });
    this.#dispatch = new FrameDispatch(this.#table, this.#actions());
    this.#reader = new FrameReader({
      handler: this.#dispatch,
      integrity,
      maxDataBytes: self.limits.frame,
      ...(turn && { isTurnOver: turn.countPart }),
    });
    this.#credit = new SessionCredit({
      clock,
      firstBytes: self.limits.inFlight,
      sendPing: (payload) => this.#control(FRAME_TYPE.PING, 0, payload),
    });
    this.#leaving = new Leaving({
      clock,
      drainTimeoutMs: settings.drainTimeoutMs,
      onTimeout: (reason) => this.end(reason),
    });
    this.#frameTimer = new FrameTimer(nowMs);
    this.#admission = new Admission({
      clock,
      limits: self.limits,
      announce: (stream) => this.emit('stream', stream),
    });
    this.#retractions = new Retractions(clock, () => {
      if (!this.#credit.isMeasuring) this.#pingIfIdle();
    });
    this.#ownServices = new OwnServices(
      (payload) => this.#control(FRAME_TYPE.SERVICES, 0, payload),
      () => sink.unwrittenBytes > 0,
      settings.timeOfDay,
    );
    this.#peerServices = new PeerServices(settings.timeOfDay);
    this.#host = new SessionHost({
      clock,
      credit: this.#credit,
      outbox: this.#outbox,
      retractions: this.#retractions,
      sender: this.#sender,
      table: this.#table,
      control: (type, streamId, payload) => this.#control(type, streamId, payload),
      onOver: (reason) => {
        if (reason !== null) this.#streamsFailed += 1;
        this.#endIfDrained();
      },
    });
    this.#liveness = new Liveness({
      clock,
      deadAfterMs: settings.deadAfterMs,
      receivedCount: () => this.#receivedChunks,
      sentCount: () => this.#writer.sequence,
      onPingDue: () => this.#pingIfIdle(),
      onDead: (silentMs) =>
        this.end(new VproxyError('channel-silent', `nothing came for ${Math.round(silentMs / 1000)} s`)),
    });
  }

  /** Proves what has to be proved: `ready` or `end` follows, maybe within the call. Called once, when they are listened to. */
  begin(): void {
    try {
      this.#proof = Proof.of(this.agreement, this.#settings.keys());
    } catch (error) {
      this.end(toVproxyError(error));
      return;
    }
    if (this.#proof === null) {
      this.#isReady = true;
      this.emit('ready');
      return;
    }
    this.#dispatch.awaitsProof = true;
    this.#cancelProof = this.#clock.schedule(PROOF_MS, () =>
      this.end(new VproxyError('auth-failed', `the peer gave no proof of its key within ${PROOF_MS / 1000} s`)),
    );
    this.#control(FRAME_TYPE.AUTH, 0, this.#proof.payload);
  }

  /** Says what this side offers and measures the round trip. Called once, when `ready` has come and listeners are in place. */
  start(services: Iterable<string>): void {
    this.#ownServices.announce(services);
    this.#credit.ping();
  }

  /** The clock that it was given. */
  get clock(): Clock {
    return this.#clock;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether it was established: the two sides agree, and each has proved what it had to. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** The id of the key that both sides have proved to have; null where neither demanded one. */
  get keyId(): string | null {
    return this.#proof?.keyId ?? null;
  }

  get isDraining(): boolean {
    return this.#leaving.drainReason !== null;
  }

  /** What the peer offers now. */
  get peerServices(): ReadonlySet<string> {
    return this.#peerServices.names;
  }

  /** By how much the peer's time of day was ahead when it sent its services last, in milliseconds; null where it is not known. */
  get clockOffsetMs(): number | null {
    return this.#peerServices.clockOffsetMs;
  }

  /** The newest round-trip time, in milliseconds; null before the first measurement. */
  get roundTripMs(): number | null {
    return this.#credit.measuredMs;
  }

  /** Measures the round trip: `measured` follows, unless the session ends. A measurement under way is not begun again. */
  measure(): void {
    if (!this.#isOver && !this.#credit.isMeasuring) this.#credit.ping();
  }

  get counters(): SessionCounters {
    return {
      sentBytes: this.#sender.sentBytes,
      receivedBytes: this.#credit.receivedBytes,
      sentFrames: this.#writer.frameCount,
      receivedFrames: this.#reader.frameCount,
      stallMs: this.#sender.stallMs,
      streamsOpened: this.#streamsOpened,
      streamsFailed: this.#streamsFailed,
    };
  }

  /** What the peer's credit leaves to be sent, all streams together, in bytes. */
  get sendCreditBytes(): number {
    return this.#sender.creditLeftBytes;
  }

  /** What the channel was given and has not written, in bytes. */
  get unwrittenBytes(): number {
    return this.#writer.sink.unwrittenBytes;
  }

  /** How long the session lasts already, in milliseconds. */
  get ageMs(): number {
    return this.#clock.now() - this.#startedAtMs;
  }

  /** Streams open now, both ways. */
  get streamCount(): number {
    return this.#table.size;
  }

  /** The streams that are not over, both ways; those whose opening is held back are the last. */
  listStreams(): SessionStream[] {
    return this.#table.list();
  }

  /** Says what this side offers from now on. */
  setServices(services: Iterable<string>): void {
    if (!this.#isOver) this.#ownServices.announce(services);
  }

  /**
   * Opens a stream to a service of the peer. It may be sent to at once; `sink.handleAccept` or `handleEnd` tells what
   * became of it. Throws `no-session` when the session is over, `shutdown` when it drains.
   */
  open(service: string, from: string | null, sink: LocalEnd): SessionStream {
    if (this.#isOver) throw new VproxyError('no-session', 'the session is over');
    if (this.isDraining) throw new VproxyError('shutdown', 'the session is ending');
    const stream = this.#createStream({ service, from }, sink, false);
    this.#table.addOwn(stream);
    stream.startDeadline(this.#clock.schedule(this.#settings.openTimeoutMs, () => this.#giveUpOpen(stream)));
    if (this.#table.isExhausted) this.#leaving.renew();
    return stream;
  }

  /**
   * Bytes came from the channel. True when a view of them was kept, so that the buffer must not be filled anew. What was
   * not read, `takeRest` gives.
   */
  receive(chunk: Buffer): boolean {
    if (this.#isOver) return false;
    this.#receivedChunks += 1;
    this.#sender.hold();
    let isKept = false;
    try {
      const { sequence, isMidFrame } = this.#reader;
      if (this.#frameTimer.isExceeded(sequence, isMidFrame, this.#clock.now())) {
        this.#reader.leave(chunk);
        throw new VproxyError('desync', `frame ${sequence} has been incomplete for 30 s`);
      }
      isKept = this.#reader.push(chunk);
    } catch (error) {
      this.end(toVproxyError(error));
      // Views of the chunk may have been kept before the error.
      isKept = true;
    }
    this.#sender.resume();
    if (this.isOver) return isKept;
    if (this.#retractions.isWaiting) this.#table.forgetRetracted(this.#retractions.handleReceived());
    this.#table.releaseHeld();
    return isKept;
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    this.#isWritten = this.#isOver;
    this.#drainWaiters.callAll();
    if (this.#isOver) return;
    this.#ownServices.retry();
    this.#sender.handleDrain();
    this.#table.releaseHeld();
  }

  /** After the end: the channel is gone, with all that it had not written. */
  handleClosed(): void {
    this.#isWritten = true;
    this.#drainWaiters.callAll();
  }

  /**
   * Calls back when the channel has written all that it was given, or is gone: buffers are free then. The end of the
   * session alone frees none: what it has handed over goes out as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    if (this.#isWritten || this.#writer.sink.unwrittenBytes === 0) callback();
    else this.#drainWaiters.add(callback);
  }

  /**
   * After `receive`: the bytes behind what ended the session, for the next opening; else those that were left because the
   * turn was over, as a view of the chunk, to be received before all others. Empty as a rule.
   */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** Leaves in an orderly way: no more streams either way, and the end when the open ones have ended. */
  drain(message: string): void {
    if (this.#isOver || this.isDraining) return;
    this.#control(FRAME_TYPE.GOAWAY, 0, this.#goaway('shutdown', message));
    this.#startDraining(new VproxyError('shutdown', message));
  }

  /** Ends the session at once: tells the peer where the code is one for it, and ends every stream. */
  end(reason: VproxyError): void {
    this.#end(reason, reason.row.wire && !SILENT_CODES.has(reason.code));
  }

  #end(reason: VproxyError, tellsPeer: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const streams = this.#table.list();
    // A place that comes free now must not be taken by another OPEN.
    this.#table.takeHeld();
    if (tellsPeer) {
      const isShutdown = reason.code === 'shutdown';
      // RESETs first, however much is unwritten: a peer that drains on `shutdown` finds no stream left to wait for.
      if (isShutdown) for (const stream of streams) stream.reset(reason.code, reason.message);
      this.#outbox.flush(isShutdown ? Number.POSITIVE_INFINITY : undefined);
      this.#writeNow(FRAME_TYPE.GOAWAY, this.#goaway(reason.code, reason.message));
    }
    this.#reader.stop();
    this.#sender.stop();
    this.#outbox.clear();
    this.#liveness.stop();
    this.#leaving.stop();
    this.#cancelProof?.();
    for (const stream of streams) stream.handleEnd(reason);
    this.#retractions.stop();
    if (this.#writer.sink.unwrittenBytes === 0) this.handleClosed();
    this.emit('end', reason);
  }

  #control(type: number, streamId: number, payload: Buffer): void {
    try {
      this.#outbox.add(type, streamId, payload, this.#table.size);
    } catch (error) {
      this.end(toVproxyError(error));
      return;
    }
    this.#sender.flush();
  }

  #writeNow(type: number, payload: Buffer): void {
    const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
    this.#writer.put(frame, 0, type, 0, payload);
    this.#writer.sink.write(frame);
  }

  #goaway(code: string, message: string): Buffer {
    return encodeGoaway({ code, message, last: this.#table.lastPeerId });
  }

  /** While something waits to be written a PING would only wait behind it, and a peer may be paused for days. */
  #pingIfIdle(): void {
    if (this.#isReady && this.#outbox.isEmpty && this.#writer.sink.unwrittenBytes === 0) this.#credit.ping();
  }

  #createStream(request: OpenRequest, sink: LocalEnd | null, isIncoming: boolean): SessionStream {
    const { self, peer } = this.agreement;
    const openedAtMs = this.#clock.now();
    const window = new ReceiveWindow(self.limits.streamCredit, this.#settings.receiveBudget, openedAtMs);
    const creditBytes = peer.limits.streamCredit;
    this.#streamsOpened += 1;
    return new SessionStream(this.#host, request, { sink, isIncoming, openedAtMs, window, creditBytes });
  }

  #giveUpOpen(stream: SessionStream): void {
    stream.reset('open-timeout', `no answer to the opening within ${this.#settings.openTimeoutMs / 1000} s`);
  }

  #startDraining(reason: VproxyError): void {
    this.#leaving.drain(reason);
    for (const stream of this.#table.takeHeld()) stream.handleEnd(reason);
    this.emit('draining', reason);
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.#isOver || this.#table.size > 0) return;
    const { drainReason } = this.#leaving;
    if (drainReason !== null) this.#end(drainReason, false);
    else if (this.#table.isExhausted) this.end(new VproxyError('shutdown', 'the stream ids are used up'));
  }

  #openPeerStream(id: number, request: OpenRequest): void {
    const hasRoom = this.#table.hasPeerRoom;
    const stream = this.#createStream(request, null, true);
    this.#table.addPeer(id, stream);
    this.#admission.admit(stream, hasRoom, this.isDraining);
  }

  #takeGoaway({ code, message, last }: Goaway): void {
    const reason = new VproxyError(code, message);
    if (code !== 'shutdown') {
      this.#end(reason, false);
      return;
    }
    // Draining first: the place of a stream that ends below must not go to an open that was held back.
    if (!this.isDraining) this.#startDraining(reason);
    for (const stream of this.#table.list()) {
      if (!stream.isIncoming && stream.id > last) stream.handleEnd(reason);
    }
  }

  /** What frames do to the session as a whole. */
  #actions(): SessionActions {
    return {
      countData: (bytes) => {
        if (this.#credit.receive(bytes)) this.#outbox.addCredit(this.#credit);
      },
      openPeerStream: (id, request) => this.#openPeerStream(id, request),
      resetStream: (stream, reason) => {
        this.#admission.countReset(stream);
        stream.handleEnd(reason);
      },
      raiseCredit: (totalBytes) => this.#sender.raiseCredit(totalBytes),
      takeServices: (payload) => {
        if (this.#peerServices.receive(payload)) this.emit('services', this.#peerServices.names);
      },
      takePing: (payload) => this.#outbox.addPong(payload),
      takePong: (payload) => {
        if (this.#credit.takePong(payload)) this.emit('measured', this.#credit.roundTripMs);
      },
      takeGoaway: (goaway) => this.#takeGoaway(goaway),
      takeProof: (payload) => {
        this.#proof?.verify(payload);
        this.#dispatch.awaitsProof = false;
        this.#cancelProof?.();
        this.#isReady = true;
        this.emit('ready');
      },
      isKnownHello: ({ nonce, instance }) => {
        const { self, peer } = this.agreement;
        return nonce === peer.nonce || nonce === self.nonce || instance === self.instance;
      },
    };
  }
}

/** After these the peer hears nothing: it does not understand us, or is not there. */
const SILENT_CODES: ReadonlySet<string> = new Set(['peer-restarted', 'desync']);

// The session as its streams see it: what a stream does there passes through here.

/** The parts of a session that its streams have to do with. */
interface SessionParts {
  readonly clock: Clock;
  readonly credit: SessionCredit;
  readonly outbox: Outbox;
  readonly retractions: Retractions;
  readonly sender: Sender;
  readonly table: StreamTable;
  readonly control: StreamHost['control'];
  /** A stream is over: the session may be drained. */
  readonly onOver: (reason: VproxyError | null) => void;
}

class SessionHost implements StreamHost {
  readonly #parts: SessionParts;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  get nowMs(): number {
    return this.#parts.clock.now();
  }

  get roundTripMs(): number {
    return this.#parts.credit.roundTripMs;
  }

  frameBytes(streamId: number): number {
    return this.#parts.sender.frameBytes(streamId);
  }

  offer(stream: SessionStream): void {
    this.#parts.sender.offer(stream);
  }

  control(type: number, streamId: number, payload: Buffer): void {
    this.#parts.control(type, streamId, payload);
  }

  raise(stream: SessionStream): void {
    this.#parts.outbox.addCredit(stream);
    this.#parts.sender.flush();
  }

  answered(stream: SessionStream): void {
    this.#parts.table.answered(stream);
    this.#parts.table.releaseHeld();
  }

  retracted(): void {
    if (this.#parts.retractions.add()) this.#parts.table.forgetRetracted(1);
  }

  over(stream: SessionStream, reason: VproxyError | null): void {
    this.#parts.sender.forget(stream);
    this.#parts.table.over(stream);
    this.#parts.table.releaseHeld();
    this.#parts.onOver(reason);
  }

  drained(stream: SessionStream): void {
    this.#parts.table.drained(stream);
  }
}

// What went through a session, for whoever watches it.

/** Amounts since the session was established. */
export interface SessionCounters {
  /** Payload of DATA, in bytes. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Frames of every type but HELLO. */
  readonly sentFrames: number;
  readonly receivedFrames: number;
  /** For how long the channel took nothing although something waited, in milliseconds. */
  readonly stallMs: number;
  /** Streams that were opened, by either side. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, refused ones included. */
  readonly streamsFailed: number;
}
