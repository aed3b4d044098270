/**
 * An established session: frames ⇄ streams. It does no I/O; it is given bytes, gives bytes, and is given a clock.
 * What a peer can do wrong ends here, with the code that docs/protocol.md states (R-CODE-3, R-CODE-4, R-LIVE-3).
 */
import { EventEmitter } from 'eventemitter3';
import { FrameReader, FrameTimer } from '../codec/frame-reader.js';
import type { ByteSink } from '../codec/frame-writer.js';
import { FRAME_TYPE, formatFrameType } from '../codec/header.js';
import type { Hello } from '../codec/hello.js';
import { DataCheck } from '../codec/integrity.js';
import {
  decodeCredit,
  decodeGoaway,
  decodeOpen,
  decodeReasonPayload,
  encodeGoaway,
  type Goaway,
  requireLength,
} from '../codec/payloads.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import type { Agreement } from './agreement.js';
import { Proof } from './auth.js';
import { InFlightCredit } from './flow.js';
import { Leaving, Liveness } from './liveness.js';
import type { LocalEnd } from './local-end.js';
import { Scheduler } from './scheduler.js';
import { OwnServices, PeerServices } from './services.js';
import type { SessionSettings } from './settings.js';
import type { SessionStream } from './stream.js';
import { StreamTable } from './streams.js';

interface SessionEvents {
  /** The peer opened a stream to a service of a valid name: attach a local end during the call, or it is refused. */
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

interface SessionContext {
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly settings: SessionSettings;
  /** Asked after each header and each payload: true ends `receive` before all is read. Default: never. */
  readonly isTurnOver?: () => boolean;
  /** This side's first stream id, of the parity that the agreement gives it. Default 1 or 2. */
  readonly firstStreamId?: number;
}

/** The states of a session, with those that may follow. */
const SESSION_STATES = {
  /** The two sides agree; each has still to prove that it has the key, where that is demanded. */
  proving: ['open', 'refused'],
  open: ['draining', 'ended'],
  /** No more streams are opened either way. */
  draining: ['ended'],
  /** Over, before anything of it was there. */
  refused: [],
  /** Over. */
  ended: [],
} as const;
type SessionState = keyof typeof SESSION_STATES;

/** The peer has so long to prove that it has the key, in milliseconds (R-AUTH-2). */
const PROOF_MS = 10_000;

/** After these the peer hears nothing: it does not understand this side, or is not there. */
const SILENT_CODES: ReadonlySet<string> = new Set(['peer-restarted', 'desync']);

/** One session, from the HELLOs that established it to its end. */
export class Session extends EventEmitter<SessionEvents> {
  readonly agreement: Agreement;
  /** The clock that it was given. */
  readonly clock: Clock;
  readonly #settings: SessionSettings;
  readonly #scheduler: Scheduler;
  readonly #reader: FrameReader;
  readonly #table: StreamTable;
  readonly #credit: InFlightCredit;
  readonly #liveness: Liveness;
  readonly #frameTimer: FrameTimer;
  readonly #leaving: Leaving;
  readonly #ownServices: OwnServices;
  readonly #peerServices: PeerServices;
  readonly #startedAtMs: number;
  #state: SessionState = 'proving';
  #receivedChunks = 0;
  #proof: Proof | null = null;
  #cancelProof: CancelTimer | null = null;

  constructor(agreement: Agreement, { sink, clock, settings, isTurnOver, firstStreamId }: SessionContext) {
    super();
    const nowMs = clock.now();
    const { peer, self, integrity, isOdd } = agreement;
    this.agreement = agreement;
    this.clock = clock;
    this.#settings = settings;
    this.#startedAtMs = nowMs;
    this.#scheduler = new Scheduler({
      sink,
      check: new DataCheck(integrity, self.nonce, peer.nonce),
      clock,
      maxFrameBytes: Math.min(self.limits.frame, peer.limits.frame),
      creditBytes: peer.limits.inFlight,
      openStreams: () => this.#table.size,
      onFlood: (reason) => this.end(reason),
    });
    this.#credit = new InFlightCredit({
      clock,
      firstBytes: self.limits.inFlight,
      sendPing: (payload) => this.#scheduler.control(FRAME_TYPE.PING, 0, payload),
    });
    this.#table = new StreamTable({
      firstId: firstStreamId ?? (isOdd ? 1 : 2),
      peerLimits: peer.limits,
      ownLimits: self.limits,
      settings,
      clock,
      scheduler: this.#scheduler,
      pace: this.#credit,
      onOpened: (stream) => this.emit('stream', stream),
      onOver: () => this.#endIfDrained(),
      askPeer: () => {
        if (!this.#credit.isMeasuring) this.#pingIfIdle();
      },
    });
    this.#reader = new FrameReader({
      handler: {
        handleData: (streamId, bytes) => this.#handleData(streamId, bytes),
        handleFrame: (type, streamId, payload) => this.#handleFrame(type, streamId, payload),
        handleHello: (hello) => this.#isKnownHello(hello),
      },
      check: new DataCheck(integrity, peer.nonce, self.nonce),
      maxDataBytes: self.limits.frame,
      ...(isTurnOver && { isTurnOver }),
    });
    this.#leaving = new Leaving({
      clock,
      drainTimeoutMs: settings.drainTimeoutMs,
      onTimeout: (reason) => this.end(reason),
    });
    this.#frameTimer = new FrameTimer(nowMs);
    this.#ownServices = new OwnServices(
      (payload) => this.#scheduler.control(FRAME_TYPE.SERVICES, 0, payload),
      () => this.unwrittenBytes > 0,
      settings.timeOfDay,
    );
    this.#peerServices = new PeerServices(settings.timeOfDay);
    this.#liveness = new Liveness({
      clock,
      deadAfterMs: settings.deadAfterMs,
      receivedCount: () => this.#receivedChunks,
      sentCount: () => this.#scheduler.sentFrames,
      onPingDue: () => this.#pingIfIdle(),
      onDead: (silentMs) =>
        this.end(new VproxyError('channel-silent', `nothing came for ${Math.round(silentMs / 1000)} s`)),
    });
  }

  // ---- from the beginning -----------------------------------------------------------------------------------------

  /** Proves what has to be proved: `ready` or `end` follows, maybe within the call. Called once, when they are listened to. */
  begin(): void {
    try {
      this.#proof = Proof.of(this.agreement, this.#settings.keys());
    } catch (error) {
      this.end(toVproxyError(error));
      return;
    }
    if (this.#proof === null) {
      this.#becomeReady();
      return;
    }
    this.#cancelProof = this.clock.schedule(PROOF_MS, () =>
      this.end(new VproxyError('auth-failed', `the peer gave no proof of its key within ${PROOF_MS / 1000} s`)),
    );
    this.#scheduler.control(FRAME_TYPE.AUTH, 0, this.#proof.payload);
  }

  /** Says what this side offers and measures the round trip. Called once, when `ready` has come and listeners are in place. */
  start(services: Iterable<string>): void {
    this.#ownServices.announce(services);
    this.#credit.ping();
  }

  /** Says what this side offers from now on. */
  setServices(services: Iterable<string>): void {
    if (!this.isOver) this.#ownServices.announce(services);
  }

  /** Measures the round trip: `measured` follows, unless the session ends. A measurement under way is not begun again. */
  measure(): void {
    if (!this.isOver && !this.#credit.isMeasuring) this.#credit.ping();
  }

  /**
   * Opens a stream to a service of the peer. It may be sent to at once; `localEnd.handleAccept` or `handleEnd` tells what
   * became of it. Throws `no-session` when the session is over, `shutdown` when it drains.
   */
  open(service: string, from: string | null, localEnd: LocalEnd): SessionStream {
    if (this.isOver) throw new VproxyError('no-session', 'the session is over');
    if (this.isDraining) throw new VproxyError('shutdown', 'the session is ending');
    const stream = this.#table.open({ service, from }, localEnd);
    if (this.#table.isExhausted) this.#leaving.renew();
    return stream;
  }

  // ---- bytes of the channel ---------------------------------------------------------------------------------------

  /**
   * Bytes came from the channel. True when a view of them was kept, so that the buffer must not be filled again. What was
   * not read, `takeRest` gives.
   */
  receive(chunk: Buffer): boolean {
    if (this.isOver) return false;
    this.#receivedChunks += 1;
    this.#scheduler.hold();
    let isKept = false;
    try {
      const { sequence, isMidFrame } = this.#reader;
      if (this.#frameTimer.isExceeded(sequence, isMidFrame, this.clock.now())) {
        this.#reader.leave(chunk);
        throw new VproxyError('desync', `frame ${sequence} has been incomplete for 30 s`);
      }
      isKept = this.#reader.push(chunk);
    } catch (error) {
      this.end(toVproxyError(error));
      // Views of the chunk may have been kept before the error.
      isKept = true;
    }
    this.#scheduler.resume();
    this.#table.handleReceived();
    return isKept;
  }

  /**
   * After `receive`: the bytes behind what ended the session, for the next opening; else those that were left because the
   * turn was over, as a view of the chunk, to be received before all others. Empty as a rule.
   */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    this.#scheduler.handleDrain();
    if (this.isOver) return;
    this.#ownServices.retry();
    this.#scheduler.flush();
    this.#table.releaseHeld();
  }

  /** After the end: the channel is gone, with all that it had not written. */
  handleClosed(): void {
    this.#scheduler.handleClosed();
  }

  /**
   * Calls back when the channel has written all that it was given, or is gone: buffers are free then. The end of the
   * session alone frees none: what it has handed over goes out as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    this.#scheduler.afterDrain(callback);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------

  /** Leaves in an orderly way: no more streams either way, and the end when the open ones have ended. */
  drain(message: string): void {
    if (this.isOver || this.isDraining) return;
    this.#scheduler.control(FRAME_TYPE.GOAWAY, 0, this.#goaway('shutdown', message));
    this.#startDraining(new VproxyError('shutdown', message));
  }

  /** Ends the session at once: tells the peer where the code is one for it, and ends every stream. */
  end(reason: VproxyError): void {
    this.#end(reason, reason.row.wire && !SILENT_CODES.has(reason.code));
  }

  #end(reason: VproxyError, tellsPeer: boolean): void {
    if (this.isOver) return;
    this.#enter(this.#state === 'proving' ? 'refused' : 'ended');
    const streams = this.#table.list();
    // A place that comes free now must not be taken by another OPEN.
    this.#table.takeHeld();
    if (tellsPeer) {
      const isShutdown = reason.code === 'shutdown';
      // RESETs first, however much is unwritten: a peer that drains on `shutdown` finds no stream left to wait for.
      if (isShutdown) for (const stream of streams) stream.reset(reason.code, reason.message);
      this.#scheduler.writeLast(FRAME_TYPE.GOAWAY, this.#goaway(reason.code, reason.message), isShutdown);
    }
    this.#reader.stop();
    this.#scheduler.stop();
    this.#liveness.stop();
    this.#leaving.stop();
    this.#cancelProof?.();
    for (const stream of streams) stream.handleEnd(reason);
    this.#table.stop();
    if (this.unwrittenBytes === 0) this.handleClosed();
    this.emit('end', reason);
  }

  #startDraining(reason: VproxyError): void {
    this.#leaving.drain(reason);
    if (this.#state === 'open') this.#enter('draining');
    for (const stream of this.#table.takeHeld()) stream.handleEnd(reason);
    this.emit('draining', reason);
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.isOver || this.#table.size > 0) return;
    const { drainReason } = this.#leaving;
    if (drainReason !== null) this.#end(drainReason, false);
    else if (this.#table.isExhausted) this.end(new VproxyError('shutdown', 'the stream ids are used up'));
  }

  #goaway(code: string, message: string): Buffer {
    return encodeGoaway({ code, message, last: this.#table.lastPeerId });
  }

  // ---- what there is to see ---------------------------------------------------------------------------------------

  get isOver(): boolean {
    return this.#state === 'ended' || this.#state === 'refused';
  }

  /** Whether it was established, over or not: the two sides agree, and each has proved what it had to. */
  get isReady(): boolean {
    return this.#state !== 'proving' && this.#state !== 'refused';
  }

  get isDraining(): boolean {
    return this.#leaving.drainReason !== null;
  }

  /** The id of the key that both sides have proved to have; null where neither demanded one. */
  get keyId(): string | null {
    return this.#proof?.keyId ?? null;
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

  /** Whether one of this side's streams is interactive now (R-FLOW-8). */
  get hasInteractive(): boolean {
    return this.#scheduler.hasInteractive;
  }

  get counters(): SessionCounters {
    return {
      sentBytes: this.#scheduler.sentBytes,
      receivedBytes: this.#credit.receivedBytes,
      sentFrames: this.#scheduler.sentFrames,
      receivedFrames: this.#reader.frameCount,
      stallMs: this.#scheduler.stallMs,
      streamsOpened: this.#table.openedCount,
      streamsFailed: this.#table.failedCount,
    };
  }

  /** What the peer's credit leaves to be sent, all streams together, in bytes. */
  get sendCreditBytes(): number {
    return this.#scheduler.creditLeftBytes;
  }

  /** What the channel was given and has not written, in bytes. */
  get unwrittenBytes(): number {
    return this.#scheduler.unwrittenBytes;
  }

  /** How long the session lasts already, in milliseconds. */
  get ageMs(): number {
    return this.clock.now() - this.#startedAtMs;
  }

  /** Streams open now, both ways. */
  get streamCount(): number {
    return this.#table.size;
  }

  /** The streams that are not over, both ways; those whose opening is held back are the last. */
  listStreams(): SessionStream[] {
    return this.#table.list();
  }

  // ---- what the peer's frames mean --------------------------------------------------------------------------------

  #handleData(streamId: number, bytes: Buffer): boolean {
    if (this.#state === 'proving') throw beforeProof(FRAME_TYPE.DATA);
    if (this.#credit.receive(bytes.length)) this.#scheduler.announceCredit(this.#credit);
    return this.#table.find(streamId, 'DATA')?.handleData(bytes) ?? false;
  }

  #handleFrame(type: number, streamId: number, payload: Buffer): void {
    if (this.#state === 'proving' && type !== FRAME_TYPE.GOAWAY) {
      if (type !== FRAME_TYPE.AUTH) throw beforeProof(type);
      this.#proof?.verify(payload);
      this.#becomeReady();
      return;
    }
    switch (type) {
      case FRAME_TYPE.SERVICES:
        if (this.#peerServices.receive(payload)) this.emit('services', this.#peerServices.names);
        return;
      case FRAME_TYPE.OPEN:
        this.#table.admit(streamId, decodeOpen(payload), this.isDraining);
        return;
      case FRAME_TYPE.PING:
        this.#scheduler.answerPing(requireLength(type, payload, 8));
        return;
      case FRAME_TYPE.PONG:
        if (this.#credit.takePong(requireLength(type, payload, 8))) this.emit('measured', this.#credit.roundTripMs);
        return;
      case FRAME_TYPE.GOAWAY:
        this.#handleGoaway(decodeGoaway(payload));
        return;
      case FRAME_TYPE.AUTH:
        throw new VproxyError('protocol-error', 'AUTH, which was not demanded or is there already');
      case FRAME_TYPE.CREDIT: {
        const totalBytes = decodeCredit(payload);
        if (streamId === 0) this.#scheduler.raiseCredit(totalBytes);
        else this.#table.find(streamId, 'CREDIT')?.handleCredit(totalBytes);
        return;
      }
      default:
        this.#handleStreamFrame(type, streamId, payload);
    }
  }

  #handleStreamFrame(type: number, streamId: number, payload: Buffer): void {
    const name = formatFrameType(type);
    if (type === FRAME_TYPE.ACCEPT) {
      requireLength(type, payload, 0);
      this.#table.find(streamId, name)?.handleAccept();
      return;
    }
    if (type === FRAME_TYPE.FIN) {
      requireLength(type, payload, 0);
      this.#table.find(streamId, name)?.handleFin();
      return;
    }
    const { code, message } = decodeReasonPayload(payload, name);
    const stream = this.#table.find(streamId, name);
    if (stream === null) return;
    const reason = new VproxyError(code, message);
    if (type === FRAME_TYPE.REFUSE) stream.handleRefuse(reason);
    else if (type === FRAME_TYPE.STOP) stream.handleStop(reason);
    else this.#table.handleReset(stream, reason);
  }

  #handleGoaway({ code, message, last }: Goaway): void {
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

  /** Whether a HELLO in the middle of the session is the current peer's, or this side's own. */
  #isKnownHello({ nonce, instance }: Hello): boolean {
    const { self, peer } = this.agreement;
    return nonce === peer.nonce || nonce === self.nonce || instance === self.instance;
  }

  // ---- inside -----------------------------------------------------------------------------------------------------

  #becomeReady(): void {
    this.#cancelProof?.();
    this.#enter('open');
    this.emit('ready');
  }

  /** While something waits to be written a PING would only wait behind it, and a peer may be paused for days. */
  #pingIfIdle(): void {
    if (this.isReady && this.#scheduler.isIdle) this.#credit.ping();
  }

  /** Throws `internal` for a state that cannot follow: a defect of this program. */
  #enter(next: SessionState): void {
    if (!(SESSION_STATES[this.#state] as readonly SessionState[]).includes(next)) {
      throw new VproxyError('internal', `the session goes from ${this.#state} to ${next}`);
    }
    this.#state = next;
  }
}

const beforeProof = (type: number): VproxyError =>
  new VproxyError('protocol-error', `${formatFrameType(type)} before AUTH`);
