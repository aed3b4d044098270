/**
 * An established session: frames ⇄ streams. It does no I/O; it is given bytes, gives bytes, and is given a clock.
 * What a peer can do wrong ends here, with the code that docs/protocol.md states (R-CODE-3, R-CODE-4, R-LIVE-3).
 */
import { EventEmitter } from 'eventemitter3';
import { FrameReader } from '../codec/frame-reader.js';
import { FRAME_TYPE } from '../codec/frame-type.js';
import { HEADER_BYTES, SERVICE_NAME } from '../codec/limits.js';
import { encodeGoaway, type Goaway, type OpenRequest } from '../codec/payloads.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { Agreement } from './agreement.js';
import type { ByteSink } from './byte-sink.js';
import { FrameDispatch, type SessionActions } from './frame-dispatch.js';
import { FrameTimer } from './frame-timer.js';
import { FrameWriter } from './frame-writer.js';
import { InFlightWindow } from './in-flight-window.js';
import { Liveness } from './liveness.js';
import { type Creditor, Outbox } from './outbox.js';
import { ReceiveWindow } from './receive-window.js';
import { RoundTrip } from './round-trip.js';
import { Sender } from './sender.js';
import { OwnServices, PeerServices } from './services.js';
import { SessionStream } from './session-stream.js';
import type { SessionSettings } from './settings.js';
import type { StreamHost } from './stream-host.js';
import type { StreamSink } from './stream-sink.js';
import { StreamTable } from './stream-table.js';
import { TokenBucket } from './token-bucket.js';

export interface SessionEvents {
  /** The peer opened a stream to a service of a valid name: attach a sink during the call, or it is refused. */
  stream: [stream: SessionStream];
  /** The peer's list of services is complete, or has changed. */
  services: [services: ReadonlySet<string>];
  /** No more streams are opened either way; the session ends when those that are open have ended. */
  draining: [reason: VproxyError];
  /** The session is over; all its streams have ended before. Emitted once. */
  end: [reason: VproxyError];
}

export interface SessionContext {
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly settings: SessionSettings;
  /** This side's first stream id, of the parity that the agreement gives it. Default 1 or 2. */
  readonly firstStreamId?: number;
}

/** Streams that are opened and reset by their opener before an answer: so many a second, and at once (R-FLOW-6). */
const RESETS_PER_SECOND = 200;
const RESETS_BURST = 1000;

/** When the stream ids are used up, the session is renewed at the latest after this time (R-STREAM-6). */
const RENEW_MS = 3_600_000;

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
  readonly #inFlight: InFlightWindow;
  readonly #roundTrip = new RoundTrip();
  readonly #liveness: Liveness;
  readonly #frameTimer: FrameTimer;
  readonly #resets: TokenBucket;
  readonly #ownServices: OwnServices;
  readonly #peerServices = new PeerServices();
  readonly #host: StreamHost;
  readonly #credit: Creditor;
  readonly #startedAtMs: number;
  #receivedChunks = 0;
  #afterDrain: (() => void)[] = [];
  #drainReason: VproxyError | null = null;
  #cancelDeadline: CancelTimer | null = null;
  #growsOnPong = false;
  #isOver = false;

  constructor(agreement: Agreement, { sink, clock, settings, firstStreamId }: SessionContext) {
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
    const handler = new FrameDispatch(this.#table, this.#actions());
    this.#reader = new FrameReader({ handler, integrity, maxDataBytes: self.limits.frame });
    this.#inFlight = new InFlightWindow(self.limits.inFlight, nowMs);
    this.#frameTimer = new FrameTimer(nowMs);
    this.#resets = new TokenBucket(RESETS_PER_SECOND, RESETS_BURST, nowMs);
    this.#ownServices = new OwnServices((payload) => this.#control(FRAME_TYPE.SERVICES, 0, payload));
    this.#host = this.#streamHost();
    const inFlight = this.#inFlight;
    this.#credit = {
      id: 0,
      isCreditDue: false,
      get grantedBytes() {
        return inFlight.grantedBytes;
      },
    };
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

  /** Says what this side offers and measures the round trip. Called once, when listeners are in place. */
  start(services: Iterable<string>): void {
    const refusal = this.#refusal();
    if (refusal !== null) {
      this.end(refusal);
      return;
    }
    this.#ownServices.announce(services);
    this.#ping();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get isDraining(): boolean {
    return this.#drainReason !== null;
  }

  /** What the peer offers now. */
  get peerServices(): ReadonlySet<string> {
    return this.#peerServices.names;
  }

  /** The newest round-trip time, in milliseconds. */
  get roundTripMs(): number {
    return this.#roundTrip.latestMs;
  }

  /** How long the session lasts already, in milliseconds. */
  get ageMs(): number {
    return this.#clock.now() - this.#startedAtMs;
  }

  /** Streams open now, both ways. */
  get streamCount(): number {
    return this.#table.size;
  }

  /** Says what this side offers from now on. */
  setServices(services: Iterable<string>): void {
    if (!this.#isOver) this.#ownServices.announce(services);
  }

  /**
   * Opens a stream to a service of the peer. It may be sent to at once; `sink.handleAccept` or `handleEnd` tells what
   * became of it. Throws `no-session` when the session is over, `shutdown` when it drains.
   */
  open(service: string, from: string | null, sink: StreamSink): SessionStream {
    if (this.#isOver) throw new VproxyError('no-session', 'the session is over');
    if (this.#drainReason !== null) throw new VproxyError('shutdown', 'the session is ending');
    const stream = this.#createStream({ service, from }, sink, false);
    this.#table.addOwn(stream);
    stream.startDeadline(this.#clock.schedule(this.#settings.openTimeoutMs, () => this.#giveUpOpen(stream)));
    if (this.#table.isExhausted) this.#renewWhenIdle();
    return stream;
  }

  /** Bytes came from the channel. True when a view of them was kept, so that the buffer must not be filled anew. */
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
    if (!this.isOver) this.#table.releaseHeld();
    return isKept;
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    if (this.#isOver) return;
    const callbacks = this.#afterDrain;
    if (callbacks.length > 0) {
      this.#afterDrain = [];
      for (const callback of callbacks) callback();
    }
    this.#sender.flush();
    this.#table.releaseHeld();
  }

  /** Calls back when the channel has written all that it was given, or the session is over: buffers are free then. */
  afterDrain(callback: () => void): void {
    if (this.#isOver || this.#writer.sink.unwrittenBytes === 0) callback();
    else this.#afterDrain.push(callback);
  }

  /** After the end: the bytes that came behind it, for the next opening. */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** Leaves in an orderly way: no more streams either way, and the end when the open ones have ended. */
  drain(message: string): void {
    if (this.#isOver || this.#drainReason !== null) return;
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
      // RESETs first, so that a peer that drains on `shutdown` finds no stream left to wait for.
      if (reason.code === 'shutdown') for (const stream of streams) stream.reset(reason.code, reason.message);
      this.#outbox.flush();
      this.#writeNow(FRAME_TYPE.GOAWAY, this.#goaway(reason.code, reason.message));
    }
    this.#reader.stop();
    this.#sender.stop();
    this.#outbox.clear();
    this.#liveness.stop();
    this.#cancelDeadline?.();
    for (const stream of streams) stream.handleEnd(reason);
    for (const callback of this.#afterDrain.splice(0)) callback();
    this.emit('end', reason);
  }

  /** Why this session cannot be: no common version, or a protection that this side does not have. */
  #refusal(): VproxyError | null {
    const { self, peer, version } = this.agreement;
    if (version === null) {
      const ranges = `${self.version.min}–${self.version.max} here, ${peer.version.min}–${peer.version.max} at the peer`;
      return new VproxyError('version-mismatch', `no common version of the protocol: ${ranges}`);
    }
    if (peer.auth !== null)
      return new VproxyError('auth-failed', 'the peer demands authentication and this side has no key');
    if (peer.tls)
      return new VproxyError('auth-failed', 'the peer demands TLS inside the channel, which this side does not have');
    return null;
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

  #ping(): void {
    this.#control(FRAME_TYPE.PING, 0, this.#roundTrip.begin(this.#clock.now()));
  }

  /** While something waits to be written a PING would only wait behind it, and a peer may be paused for days. */
  #pingIfIdle(): void {
    if (this.#outbox.isEmpty && this.#writer.sink.unwrittenBytes === 0) this.#ping();
  }

  #createStream(request: OpenRequest, sink: StreamSink | null, isIncoming: boolean): SessionStream {
    const { self, peer } = this.agreement;
    const window = new ReceiveWindow(self.limits.streamCredit, this.#settings.receiveBudget, this.#clock.now());
    return new SessionStream(this.#host, request, { sink, isIncoming, window, creditBytes: peer.limits.streamCredit });
  }

  #giveUpOpen(stream: SessionStream): void {
    stream.reset('open-timeout', `no answer to the opening within ${this.#settings.openTimeoutMs / 1000} s`);
  }

  #startDraining(reason: VproxyError): void {
    this.#drainReason = reason;
    for (const stream of this.#table.takeHeld()) stream.handleEnd(reason);
    this.emit('draining', reason);
    this.#setDeadline(this.#settings.drainTimeoutMs);
    this.#endIfDrained();
  }

  /** Stream ids do not come back: the session is renewed as soon as it is idle, or after an hour. */
  #renewWhenIdle(): void {
    if (this.#drainReason !== null || this.#cancelDeadline !== null) return;
    this.#setDeadline(RENEW_MS);
  }

  #setDeadline(delayMs: number): void {
    this.#cancelDeadline?.();
    const reason = this.#drainReason ?? new VproxyError('shutdown', 'the stream ids are used up');
    this.#cancelDeadline = this.#clock.schedule(delayMs, () => this.end(reason));
  }

  #endIfDrained(): void {
    if (this.#isOver || this.#table.size > 0) return;
    if (this.#drainReason !== null) this.#end(this.#drainReason, false);
    else if (this.#table.isExhausted) this.end(new VproxyError('shutdown', 'the stream ids are used up'));
  }

  #openPeerStream(id: number, request: OpenRequest): void {
    const hasRoom = this.#table.hasPeerRoom;
    const stream = this.#createStream(request, null, true);
    this.#table.addPeer(id, stream);
    if (!hasRoom) {
      const { streams, opens } = this.#settings.limits;
      stream.refuse('too-many-streams', `${streams} streams or ${opens} unanswered ones are open`);
    } else if (this.#drainReason !== null) {
      stream.refuse('shutdown', 'the session is ending');
    } else if (!SERVICE_NAME.test(request.service)) {
      stream.refuse('unknown-service', `${escapeText(request.service, 64)} is no name of a service`);
    } else {
      this.emit('stream', stream);
      if (!stream.isAttached) stream.refuse('unknown-service', `service ${request.service} is not offered`);
    }
  }

  #takeGoaway({ code, message, last }: Goaway): void {
    const reason = new VproxyError(code, message);
    if (code !== 'shutdown') {
      this.#end(reason, false);
      return;
    }
    for (const stream of this.#table.list()) {
      if (!stream.isIncoming && stream.id > last) stream.handleEnd(reason);
    }
    if (this.#drainReason === null) this.#startDraining(reason);
  }

  /** What frames do to the session as a whole. */
  #actions(): SessionActions {
    return {
      countData: (bytes) => {
        if (this.#inFlight.receive(bytes)) this.#outbox.addCredit(this.#credit);
        if (this.#inFlight.isHoldingBack(this.#clock, this.#roundTrip.smallestMs) && !this.#growsOnPong) {
          this.#growsOnPong = true;
          this.#ping();
        }
      },
      openPeerStream: (id, request) => this.#openPeerStream(id, request),
      resetStream: (stream, reason) => {
        if (stream.isIncoming && !stream.isAnswered && !this.#resets.take(this.#clock.now())) {
          throw new VproxyError('flood', `more than ${RESETS_PER_SECOND} streams a second are opened and reset`);
        }
        stream.handleEnd(reason);
      },
      raiseCredit: (totalBytes) => this.#sender.raiseCredit(totalBytes),
      takeServices: (payload) => {
        if (this.#peerServices.receive(payload)) this.emit('services', this.#peerServices.names);
      },
      takePing: (payload) => this.#outbox.addPong(payload),
      takePong: (payload) => {
        if (!this.#roundTrip.finish(payload, this.#clock.now()) || !this.#growsOnPong) return;
        this.#growsOnPong = false;
        // A round trip that has become longer shows a queue: more in flight would only make it longer.
        if (this.#roundTrip.latestMs < 2 * this.#roundTrip.smallestMs) this.#inFlight.grow();
      },
      takeGoaway: (goaway) => this.#takeGoaway(goaway),
      isKnownHello: ({ nonce, instance }) => {
        const { self, peer } = this.agreement;
        return nonce === peer.nonce || nonce === self.nonce || instance === self.instance;
      },
    };
  }

  /** The session as its streams see it. */
  #streamHost(): StreamHost {
    const clock = this.#clock;
    const roundTrip = this.#roundTrip;
    return {
      get nowMs() {
        return clock.now();
      },
      get roundTripMs() {
        return roundTrip.smallestMs;
      },
      frameBytes: (streamId) => this.#sender.frameBytes(streamId),
      offer: (stream) => this.#sender.offer(stream),
      control: (type, streamId, payload) => this.#control(type, streamId, payload),
      raise: (stream) => {
        this.#outbox.addCredit(stream);
        this.#sender.flush();
      },
      answered: (stream) => {
        this.#table.answered(stream);
        this.#table.releaseHeld();
      },
      over: (stream) => {
        this.#table.over(stream);
        this.#table.releaseHeld();
        this.#endIfDrained();
      },
      drained: (stream) => this.#table.drained(stream),
    };
  }
}

/** After these the peer hears nothing: it does not understand us, or is not there. */
const SILENT_CODES: ReadonlySet<string> = new Set(['peer-restarted', 'desync']);
