/**
 * An established session: frames ⇄ streams. It does no I/O: it takes bytes, returns bytes, and uses the clock it was given.
 * Every peer violation is handled here, with the code that docs/protocol.md states (R-CODE-3, R-CODE-4, R-LIVE-3).
 */
import { EventEmitter } from 'eventemitter3';
import { FrameReader, type FrameReaderState, FrameTimer, type FrameTimerState } from '../codec/frame-reader.js';
import type { ByteSink } from '../codec/frame-writer.js';
import { type ControlType, DataCheck, FRAME_TYPE, type FrameType, formatFrameType } from '../codec/header.js';
import type { Hello } from '../codec/hello.js';
import {
  type AnnouncedPort,
  decodeGoaway,
  decodeOpen,
  decodeTotal,
  encodeGoaway,
  type Goaway,
  type OpenRequest,
  requireLength,
} from '../codec/payloads.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { InFlightCredit, type InFlightCreditState } from './flow.js';
import { Leaving, type LeavingState, Liveness, type LivenessState } from './liveness.js';
import type { LocalEnd } from './local-end.js';
import { type Agreement, hasDatagrams, isResumable } from './opening/agreement.js';
import { PROOF_MS, Proof, type SecretKey } from './opening/auth.js';
import { Continuity, type ContinuityState, type KeptBounds } from './resume/continuity.js';
import { type ResumeSecret, SECRET_BYTES } from './resume/secret.js';
import { Scheduler, type SchedulerState } from './scheduler.js';
import { OwnServices, type OwnServicesState, PeerServices, type PeerServicesState } from './services.js';
import type { SessionCounters, SessionEvents } from './session-events.js';
import type { SessionStream, StreamState } from './stream.js';
import { type StreamSettings, StreamTable, type StreamTableState } from './streams.js';

/** Settings that apply once two HELLOs agree. */
export interface EstablishedSettings extends StreamSettings {
  /** This side's current keys, preferred first; with one it accepts no peer without (R-AUTH-2). Default: none. */
  readonly keys: () => readonly SecretKey[];
  /** Ends a session after this much silence; null: never (R-LIVE-2). */
  readonly deadAfterMs: number | null;
  /** How sessions outlive their links; null: they do not (R-RESUME-1). Default null. */
  readonly resume: KeptBounds | null;
  /** How long streams may continue after GOAWAY `shutdown`. */
  readonly drainTimeoutMs: number;
  /** The time of day in milliseconds since 1970, sent to the peer (R-SERVICES-1); null: not sent. Default null. */
  readonly timeOfDay: (() => number) | null;
  /** Random bytes for nonces. */
  readonly randomBytes: (size: number) => Buffer;
}

/** The link of a session, as the session sees it. */
interface SessionLink {
  /** The outcome of the HELLOs on this link. */
  readonly agreement: Agreement;
  readonly sink: ByteSink;
  /** Asked after each header and each payload: true ends `receive` before all is read. Default: never. */
  readonly isTurnOver?: () => boolean;
  /** Whether its secure layer, if any, has an incomplete record. Default: never. */
  readonly isMidRecord?: () => boolean;
}

interface SessionContext extends Omit<SessionLink, 'agreement' | 'sink'> {
  /** The sink of its link, which continues after the last byte of a restored session; null: it has no link, or loses it now. */
  readonly sink: ByteSink | null;
  readonly clock: Clock;
  readonly settings: EstablishedSettings;
  /** The state of a session that continues here. Default: a new session. */
  readonly state?: SessionState;
  /** This side's first stream id, of the parity that the agreement gives it. Default 1 or 2. */
  readonly firstStreamId?: number;
}

/** The state of an established session: consistent between any two calls, with or without a link. */
export interface SessionState extends SessionFacts {
  readonly reader: FrameReaderState;
  readonly frameTimer: FrameTimerState;
  readonly scheduler: SchedulerState;
  readonly credit: InFlightCreditState;
  readonly liveness: LivenessState;
  readonly leaving: LeavingState;
  readonly ownServices: OwnServicesState;
  readonly peerServices: PeerServicesState;
  /** Null if the session ends with its link. Includes the secret of a resumable session. */
  readonly continuity: ContinuityState | null;
  readonly table: StreamTableState;
  /** In the order of `StreamTable.listAll`. */
  readonly streams: readonly StreamState[];
}

/** The part of the state kept by the session itself. */
interface SessionFacts {
  /** The agreement that established it, and the one on its current or last link. */
  readonly agreement: Agreement;
  link: Agreement;
  phase: SessionPhase;
  /** The id of the key that both sides have proved; null if neither required one. */
  keyId: string | null;
  startedAtMs: number;
  receivedChunks: number;
  /** Whether `measured` is still to be emitted. */
  isMeasureDue: boolean;
}

/** The states of a session, with their possible successors. */
const SESSION_STATES = {
  /** The two sides agree; each has yet to prove its key, if one is required. */
  proving: ['open', 'refused'],
  open: ['draining', 'suspended', 'ended'],
  /** No more streams are opened either way. */
  draining: ['suspended', 'ended'],
  /** It has no link: its streams wait for the next one. */
  suspended: ['open', 'draining', 'ended'],
  /** Over before it was established. */
  refused: [],
  /** Over. */
  ended: [],
} as const;
type SessionPhase = keyof typeof SESSION_STATES;

const never = (): boolean => false;

/** After this long without an answer to what was sent, bytes may have been lost. */
const DOUBT_AFTER_MS = 1500;

/** For a session without a link, or one that ended before it began and whose peer would not understand it. */
export const NOWHERE: ByteSink = { unwrittenBytes: 0, write: () => true, writeParts: () => true };

/** After these the peer is sent nothing: it would not understand this side, or has gone away. */
const SILENT_CODES: ReadonlySet<string> = new Set(['peer-restarted', 'desync']);

const factsOf = (agreement: Agreement, nowMs: number, state?: SessionFacts): SessionFacts => {
  const { link = agreement, phase = 'proving', keyId = null, receivedChunks = 0, isMeasureDue = false } = state ?? {};
  const { startedAtMs = nowMs } = state ?? {};
  return { agreement, link, phase, keyId, startedAtMs, receivedChunks, isMeasureDue };
};

/** One session, from the HELLOs that established it to its end. */
export class Session extends EventEmitter<SessionEvents> {
  readonly agreement: Agreement;
  readonly clock: Clock;
  /** Read-only outside the session. */
  readonly streams: StreamTable;
  readonly #settings: EstablishedSettings;
  readonly #scheduler: Scheduler;
  readonly #reader: FrameReader;
  readonly #credit: InFlightCredit;
  /** Null if the session ends with its link. */
  readonly #continuity: Continuity | null;
  #liveness: Liveness;
  #frameTimer: FrameTimer;
  readonly #leaving: Leaving;
  readonly #ownServices: OwnServices;
  readonly #peerServices: PeerServices;
  readonly #facts: SessionFacts;
  /** Frames that had been sent when bytes last came. */
  #answeredFrames = 0;
  #proof: Proof | null = null;
  #cancelProof: CancelTimer | null = null;
  #isTurnOver: () => boolean;
  #isMidRecord: () => boolean;

  constructor(
    agreement: Agreement,
    { sink, clock, settings, state, isTurnOver = never, isMidRecord = never, firstStreamId }: SessionContext,
  ) {
    super();
    const nowMs = clock.now();
    const { peer, self, integrity, isOdd } = agreement;
    this.agreement = agreement;
    this.#facts = factsOf(agreement, nowMs, state);
    this.clock = clock;
    this.#settings = settings;
    this.#isTurnOver = isTurnOver;
    this.#isMidRecord = isMidRecord;
    const resume = isResumable(agreement) ? settings.resume : null;
    this.#continuity =
      resume === null
        ? null
        : new Continuity(
            {
              ...resume,
              sink,
              clock,
              isOdd,
              receivedBytes: () => this.receivedBytes,
              sendAck: (totalBytes) => this.#scheduler.acknowledge(totalBytes),
            },
            state?.continuity ?? undefined,
          );
    this.#scheduler = new Scheduler(
      {
        sink: this.#continuity?.backlog ?? sink ?? NOWHERE,
        check: new DataCheck(integrity, self.nonce, peer.nonce),
        clock,
        maxFrameBytes: Math.min(self.limits.frame, peer.limits.frame),
        creditBytes: peer.limits.inFlight,
        openStreams: () => this.streams.size,
        onFlood: (reason) => this.end(reason),
      },
      state?.scheduler,
    );
    this.#credit = new InFlightCredit(
      {
        clock,
        firstBytes: self.limits.inFlight,
        sendPing: (payload) => this.#scheduler.control(FRAME_TYPE.PING, 0, payload),
        randomBytes: settings.randomBytes,
      },
      state?.credit,
    );
    this.streams = new StreamTable(
      {
        firstId: firstStreamId ?? (isOdd ? 1 : 2),
        peerLimits: peer.limits,
        ownLimits: self.limits,
        settings,
        clock,
        scheduler: this.#scheduler,
        pace: this.#credit,
        onOpened: (stream) => this.emit('stream', stream),
        onOver: () => this.#endIfDrained(),
        peerServices: () => this.peerServices.names,
        askPeer: () => {
          if (!this.#credit.roundTrip.isMeasuring) this.#pingIfIdle();
        },
      },
      state?.table,
      state?.streams,
    );
    this.#reader = new FrameReader(
      {
        handler: {
          handleData: (streamId, bytes) => this.#handleData(streamId, bytes),
          handleFrame: (type, streamId, payload) => this.#handleFrame(type, streamId, payload),
          handleHello: (hello) => this.#isKnownHello(hello),
        },
        check: new DataCheck(integrity, peer.nonce, self.nonce),
        maxDataBytes: self.limits.frame,
        isTurnOver: () => this.#isTurnOver(),
      },
      state?.reader,
    );
    this.#leaving = new Leaving(
      {
        clock,
        drainTimeoutMs: settings.drainTimeoutMs,
        onTimeout: (reason) => this.end(reason),
      },
      state?.leaving,
    );
    this.#frameTimer = new FrameTimer(nowMs, state?.frameTimer);
    this.#ownServices = new OwnServices(
      (payload) => this.#scheduler.control(FRAME_TYPE.SERVICES, 0, payload),
      () => this.unwrittenBytes > 0,
      settings.timeOfDay,
      state?.ownServices,
    );
    this.#peerServices = new PeerServices(settings.timeOfDay, state?.peerServices);
    this.#liveness = this.#watch(state?.liveness);
    if (state !== undefined) this.#takeUp(state, sink);
  }

  // ---- from the beginning -----------------------------------------------------------------------------------------

  /** Proves the key if required: `ready` or `end` follows, maybe within the call. Called once, with listeners in place. */
  begin(): void {
    this.#liveness.start();
    try {
      this.#proof = Proof.of(this.agreement, this.#settings.keys());
      this.#facts.keyId = this.#proof?.keyId ?? null;
    } catch (error) {
      this.end(toVproxyError(error));
      return;
    }
    if (this.#proof === null) {
      this.#becomeReady();
      return;
    }
    this.#cancelProof = this.clock.schedule(PROOF_MS, () =>
      this.end(new VproxyError('auth-failed', `the peer did not prove its key within ${PROOF_MS / 1000} s`)),
    );
    this.#scheduler.control(FRAME_TYPE.AUTH, 0, this.#proof.payload);
  }

  /** Announces this side's services and measures the round trip. Called once, after `ready`, with listeners in place. */
  start(services: Iterable<string>, ports: readonly AnnouncedPort[] | null = null): void {
    this.#ownServices.announce(services, ports);
    this.#credit.ping();
  }

  /** Announces a new list of services, and the ports of this machine; null: no list of ports. */
  setServices(services: Iterable<string>, ports: readonly AnnouncedPort[] | null = null): void {
    if (!this.isOver) this.#ownServices.announce(services, ports);
  }

  /**
   * Measures the round trip: `measured` follows, unless the session ends. Does not restart a running measurement, unless its link
   * was lost: then it waits for the next link.
   */
  measure(): void {
    this.#facts.isMeasureDue = true;
    if (!this.isOver && !this.isSuspended && !this.#credit.roundTrip.isMeasuring) this.#credit.ping();
  }

  /**
   * Opens a stream to a service of the peer. Data may be sent at once; `localEnd.handleAccept` or `handleEnd` reports the
   * outcome. Throws `no-session` if the session is over, `shutdown` if it is draining.
   */
  open(service: string, from: string | null, localEnd: LocalEnd): SessionStream {
    return this.#open({ service, from }, localEnd);
  }

  /** Whether both sides support datagrams (R-DGRAM-1). */
  get hasDatagrams(): boolean {
    return hasDatagrams(this.agreement);
  }

  /** Like `open`, for a flow: its bytes are messages (R-DGRAM-3). Also throws `unknown-service` if the peer has no datagrams. */
  openFlow(service: string, from: string | null, localEnd: LocalEnd): SessionStream {
    if (!this.hasDatagrams) throw new VproxyError('unknown-service', 'the peer does not support datagrams');
    return this.#open({ service, from, isDatagram: true }, localEnd);
  }

  #open(request: OpenRequest, localEnd: LocalEnd): SessionStream {
    if (this.isOver) throw new VproxyError('no-session', 'the session is over');
    if (this.isDraining) throw new VproxyError('shutdown', 'the session is shutting down');
    const stream = this.streams.open(request, localEnd);
    if (this.streams.isExhausted) this.#leaving.renew();
    return stream;
  }

  // ---- bytes of the channel ---------------------------------------------------------------------------------------

  /**
   * Takes bytes from the channel. Returns true if a view of them was kept, so that the buffer must not be refilled. Unread
   * bytes are left to `takeRest`.
   */
  receive(chunk: Buffer): boolean {
    if (this.isOver) return false;
    this.#facts.receivedChunks += 1;
    this.#scheduler.hold();
    let isKept = false;
    try {
      const { sequence, isMidFrame } = this.#reader;
      if (this.#frameTimer.isExceeded(sequence, isMidFrame, this.clock.now())) {
        this.#reader.leave(chunk);
        throw new VproxyError('desync', `frame ${sequence} has been incomplete for 30 s`);
      }
      isKept = this.#reader.push(chunk);
      this.#continuity?.handleReceived();
    } catch (error) {
      this.#leave(toVproxyError(error));
      // Views of the chunk may have been kept before the error.
      isKept = true;
    }
    this.#scheduler.resume();
    this.streams.handleReceived();
    this.#answeredFrames = this.#scheduler.sentFrames;
    return isKept;
  }

  /**
   * After `receive`: the bytes that ended the session and those after them, for the next handshake; or those left because the
   * turn was over, as a view of the chunk, to be received before all others. Usually empty.
   */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** The channel has written everything it was given. */
  handleDrain(): void {
    this.#continuity?.backlog.flush();
    if (this.unwrittenBytes > 0) return;
    this.#scheduler.handleDrain();
    if (this.isOver) return;
    this.#ownServices.retry();
    this.#scheduler.flush();
    this.streams.releaseHeld();
  }

  /** After the end: the channel has closed, and its unwritten bytes are lost. */
  handleClosed(): void {
    this.#scheduler.handleClosed();
  }

  /**
   * Calls back when the channel has written everything it was given, or has closed: buffers are free then. The end of the
   * session alone frees none: what it handed over is still written as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    if (this.#continuity !== null && !this.isOver) this.#continuity.backlog.afterKept(callback);
    else this.#scheduler.afterDrain(callback);
  }

  // ---- another link -----------------------------------------------------------------------------------------------

  /** The secret that makes it resumable; null before both sides have sent their part, and if it ends with its link. */
  get secret(): ResumeSecret | null {
    return this.#continuity?.secret ?? null;
  }

  /** Whether streams can be opened now: it is established, has a link, and is not draining. */
  get canOpen(): boolean {
    return this.#facts.phase === 'open';
  }

  /** How long nothing has come from the peer, in milliseconds, to within some seconds. */
  get silentMs(): number {
    return this.#liveness.state.silentMs;
  }

  /** Whether it has no link. */
  get isSuspended(): boolean {
    return this.#facts.phase === 'suspended';
  }

  /** Bytes of the complete frames received, of every type. */
  get receivedBytes(): number {
    return this.#reader.wholeBytes;
  }

  /**
   * Detaches it from its link: streams wait, and nothing is received. Requires a `secret`. With a `reason`
   * the link is still open, but out of step with the session.
   */
  suspend(reason: VproxyError | null = null): void {
    if (this.isOver || this.isSuspended) return;
    this.#loseLink();
    this.emit('suspended', reason);
  }

  #loseLink(): void {
    this.#enter('suspended');
    this.#continuity?.suspend();
    this.#reader.rewind();
    this.#liveness.stop();
    this.#credit.roundTrip.abandon();
  }

  /** Handles invalid input: a resumable session waits for a link to continue on, as the peer may just have lost its own. */
  #leave(reason: VproxyError): void {
    if (this.secret !== null && SILENT_CODES.has(reason.code)) this.suspend(reason);
    else this.end(reason);
  }

  /**
   * Continues on another link, where the peer has received `peerReceivedBytes` of what this side sent. Returns how many bytes
   * are sent again, as the peer may not have them. Throws `protocol-error` for an impossible count.
   */
  resume({ agreement, sink, isTurnOver = never, isMidRecord = never }: SessionLink, peerReceivedBytes: number): number {
    if (this.#continuity === null || this.isOver) throw new VproxyError('internal', 'the session cannot be resumed');
    const againBytes = this.#continuity.resume(sink, peerReceivedBytes);
    this.#enter(this.isDraining ? 'draining' : 'open');
    this.#facts.link = agreement;
    this.#isTurnOver = isTurnOver;
    this.#isMidRecord = isMidRecord;
    this.#frameTimer = new FrameTimer(this.clock.now());
    this.#liveness = this.#watch();
    this.#liveness.start();
    if (this.#facts.isMeasureDue) this.#credit.ping();
    this.emit('resumed', againBytes);
    if (this.unwrittenBytes === 0) this.handleDrain();
    return againBytes;
  }

  // ---- handing over -----------------------------------------------------------------------------------------------

  /**
   * The state for another process, at any time except from within one of its events. Throws `upgrade-failed` for a session
   * that is not established or is over, and for a stream that cannot be handed over.
   */
  get state(): SessionState {
    if (!this.isReady || this.isOver)
      throw new VproxyError('upgrade-failed', 'the session is still being opened, or is over');
    return {
      ...this.#facts,
      reader: this.#reader.state,
      frameTimer: this.#frameTimer.state,
      scheduler: this.#scheduler.state,
      credit: this.#credit.state,
      liveness: this.#liveness.state,
      leaving: this.#leaving.state,
      ownServices: this.#ownServices.state,
      peerServices: this.#peerServices.state,
      continuity: this.#continuity?.state ?? null,
      table: this.streams.state,
      streams: this.streams.listAll().map((stream) => stream.state),
    };
  }

  /**
   * Restores a session of another process, which takes `state` over; its streams keep the order of those of the state. Give every
   * stream its local end; incoming unanswered streams without one are announced again. Then call `goOn`:
   * nothing is written and no timer runs before. A session without a sink, or that had no link before, is suspended. Throws
   * `upgrade-failed` if it would end with its link, and if `resume` is on in only one of the state and the settings.
   */
  static restore(state: SessionState, context: Omit<SessionContext, 'state'>): Session {
    return new Session(state.agreement, { ...context, state });
  }

  #takeUp({ continuity }: SessionState, sink: ByteSink | null): void {
    if ((continuity === null) !== (this.#continuity === null))
      throw new VproxyError(
        'upgrade-failed',
        'the session is resumable and the settings do not allow that, or the reverse',
      );
    this.#scheduler.resumeTurns((id) => this.streams.findAny(id), this.#credit);
    if (sink !== null && this.isSuspended)
      throw new VproxyError('internal', 'a suspended session cannot be restored with a link');
    if (sink === null && this.secret === null)
      throw new VproxyError('upgrade-failed', 'the session ends with its link, which cannot be handed over');
    if (sink === null && !this.isSuspended) this.#loseLink();
  }

  /** Call after `restore`, once, with listeners in place: starts timers and writing. */
  goOn(): void {
    if (!this.isSuspended) this.#liveness.start();
    this.#leaving.goOn();
    this.#continuity?.goOn();
    this.streams.goOn();
    this.#scheduler.resume();
    // A drain event of the channel may have been lost in the hand-over.
    if (this.unwrittenBytes === 0) this.handleDrain();
  }

  // ---- the end ----------------------------------------------------------------------------------------------------

  /**
   * Drains: no more streams either way, and the end once the open ones have ended. Without a link the peer
   * cannot be informed, and the session ends at once; if it loses its link later, it drains on with the next, within its timeout.
   */
  drain(message: string): void {
    if (this.isOver) return;
    if (this.isSuspended) {
      this.end(new VproxyError('shutdown', message));
      return;
    }
    if (this.isDraining) return;
    this.#scheduler.control(FRAME_TYPE.GOAWAY, 0, this.#goaway('shutdown', message));
    this.#startDraining(new VproxyError('shutdown', message));
  }

  /** Ends the session and every stream at once. Informs the peer if there is a link and the code may go on the wire. */
  end(reason: VproxyError): void {
    this.#end(reason, reason.row.wire && !SILENT_CODES.has(reason.code) && !this.isSuspended);
  }

  #end(reason: VproxyError, tellsPeer: boolean): void {
    if (this.isOver) return;
    this.#enter(this.#facts.phase === 'proving' ? 'refused' : 'ended');
    const streams = this.streams.list();
    // A slot that becomes free now must not be taken by another OPEN.
    this.streams.takeHeld();
    if (tellsPeer) {
      const isShutdown = reason.code === 'shutdown';
      // RESETs first, however much is unwritten: a peer that drains on `shutdown` finds no stream left to wait for.
      if (isShutdown) for (const stream of streams) stream.reset(reason.code, reason.message);
      this.#scheduler.writeLast(FRAME_TYPE.GOAWAY, this.#goaway(reason.code, reason.message), isShutdown);
    }
    this.#reader.stop();
    this.#scheduler.stop();
    const isWritten = !SILENT_CODES.has(reason.code);
    for (const callback of this.#continuity?.end(isWritten) ?? []) this.#scheduler.afterDrain(callback);
    this.#liveness.stop();
    this.#leaving.stop();
    this.#cancelProof?.();
    for (const stream of streams) stream.handleEnd(reason);
    this.streams.stop();
    if (this.unwrittenBytes === 0) this.handleClosed();
    this.emit('end', reason);
  }

  #startDraining(reason: VproxyError): void {
    this.#leaving.drain(reason);
    if (this.#facts.phase === 'open') this.#enter('draining');
    for (const stream of this.streams.takeHeld()) stream.handleEnd(reason);
    this.emit('draining', reason);
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.isOver || this.streams.size > 0) return;
    const { drainReason } = this.#leaving;
    if (drainReason !== null) this.#end(drainReason, false);
    else if (this.streams.isExhausted) this.end(new VproxyError('shutdown', 'out of stream ids'));
  }

  #goaway(code: string, message: string): Buffer {
    return encodeGoaway({ code, message, last: this.streams.counts.lastPeerId });
  }

  // ---- inspection -------------------------------------------------------------------------------------------------

  get isOver(): boolean {
    return this.#facts.phase === 'ended' || this.#facts.phase === 'refused';
  }

  /** Whether it was ever established: the two sides agreed, and each proved its key if required. */
  get isReady(): boolean {
    return this.#facts.phase !== 'proving' && this.#facts.phase !== 'refused';
  }

  get isDraining(): boolean {
    return this.#leaving.state.drainReason !== null;
  }

  /** The id of the key that both sides have proved; null if neither required one. */
  get keyId(): string | null {
    return this.#facts.keyId;
  }

  /** The peer's current services, ports and time of day. */
  get peerServices(): Readonly<PeerServicesState> {
    return this.#peerServices.state;
  }

  /** The newest round-trip time, in milliseconds; null before the first measurement. */
  get roundTripMs(): number | null {
    return this.#credit.roundTrip.measuredMs;
  }

  /** Whether one of this side's streams is interactive now (R-FLOW-8). */
  get hasInteractive(): boolean {
    return this.#scheduler.hasInteractive;
  }

  get counters(): SessionCounters {
    return {
      sentBytes: this.#scheduler.sentBytes,
      receivedBytes: this.#credit.state.receivedBytes,
      sentFrames: this.#scheduler.sentFrames,
      receivedFrames: this.#reader.frameCount,
      stallMs: this.#scheduler.stallMs,
      streamsOpened: this.streams.counts.openedCount,
      streamsFailed: this.streams.counts.failedCount,
    };
  }

  /** The credit that the peer leaves to be sent, all streams together, in bytes. */
  get sendCreditBytes(): number {
    return this.#scheduler.creditLeftBytes;
  }

  /** Bytes given to the channel and not yet written. */
  get unwrittenBytes(): number {
    return this.#scheduler.unwrittenBytes;
  }

  /** The age of the session, in milliseconds. */
  get ageMs(): number {
    return this.clock.now() - this.#facts.startedAtMs;
  }

  // ---- frames of the peer -----------------------------------------------------------------------------------------

  #handleData(streamId: number, bytes: Buffer): boolean {
    if (this.#facts.phase === 'proving') throw beforeProof(FRAME_TYPE.DATA);
    if (this.#credit.receive(bytes.length)) this.#scheduler.announceCredit(this.#credit);
    return this.streams.find(streamId, 'DATA')?.handleData(bytes) ?? false;
  }

  #handleFrame(type: ControlType, streamId: number, payload: Buffer): void {
    if (this.#facts.phase === 'proving' && type !== FRAME_TYPE.GOAWAY) {
      if (type !== FRAME_TYPE.AUTH) throw beforeProof(type);
      this.#proof?.verify(payload);
      this.#becomeReady();
      return;
    }
    switch (type) {
      case FRAME_TYPE.SERVICES:
        if (this.#peerServices.receive(payload)) this.emit('services', this.peerServices.names);
        return;
      case FRAME_TYPE.OPEN:
        this.streams.admit(streamId, this.#decodeOpen(payload), this.isDraining);
        return;
      case FRAME_TYPE.PING:
        this.#scheduler.answerPing(requireLength(type, payload, 8));
        return;
      case FRAME_TYPE.PONG:
        this.#handlePong(requireLength(type, payload, 8));
        return;
      case FRAME_TYPE.GOAWAY:
        this.#handleGoaway(decodeGoaway(payload));
        return;
      case FRAME_TYPE.SECRET:
        this.#requireContinuity(type).takeSecret(requireLength(type, payload, SECRET_BYTES));
        return;
      case FRAME_TYPE.ACK:
        this.#requireContinuity(type).takeAck(decodeTotal(type, payload));
        // The backlog may have been full.
        this.#scheduler.flush();
        return;
      case FRAME_TYPE.RESUME:
        throw new VproxyError('protocol-error', 'RESUME within a session');
      case FRAME_TYPE.AUTH:
        throw new VproxyError('protocol-error', 'unexpected or duplicate AUTH');
      case FRAME_TYPE.CREDIT: {
        const totalBytes = decodeTotal(type, payload);
        if (streamId === 0) this.#scheduler.raiseCredit(totalBytes);
        else this.streams.find(streamId, 'CREDIT')?.handleCredit(totalBytes);
        return;
      }
      case FRAME_TYPE.ACCEPT:
      case FRAME_TYPE.REFUSE:
      case FRAME_TYPE.FIN:
      case FRAME_TYPE.STOP:
      case FRAME_TYPE.RESET:
        this.streams.handleFrame(type, streamId, payload);
        return;
      default:
        return type satisfies never;
    }
  }

  #decodeOpen(payload: Buffer): OpenRequest {
    const request = decodeOpen(payload);
    if (!request.isDatagram || this.hasDatagrams) return request;
    throw new VproxyError('protocol-error', 'OPEN of a datagram flow: not supported by both sides');
  }

  #handlePong(payload: Buffer): void {
    if (!this.#credit.takePong(payload)) return;
    this.#facts.isMeasureDue = false;
    this.emit('measured', this.#credit.roundTripMs);
  }

  #handleGoaway({ code, message, last }: Goaway): void {
    const reason = new VproxyError(code, message);
    if (code !== 'shutdown') {
      this.#end(reason, false);
      return;
    }
    // Drain first: the slot of a stream that ends below must not go to an open that was held back.
    if (!this.isDraining) this.#startDraining(reason);
    for (const stream of this.streams.list()) {
      if (!stream.isIncoming && stream.id > last) stream.handleEnd(reason);
    }
  }

  /** Whether a HELLO in the middle of the session is from the current peer, or an echo of our own. */
  #isKnownHello({ nonce, instance }: Hello): boolean {
    const { self, peer } = this.#facts.link;
    return nonce === peer.nonce || nonce === self.nonce || instance === self.instance;
  }

  // ---- inside -----------------------------------------------------------------------------------------------------

  #becomeReady(): void {
    this.#cancelProof?.();
    this.#enter('open');
    if (this.#continuity !== null) {
      const part = this.#settings.randomBytes(SECRET_BYTES);
      this.#continuity.giveSecret(part);
      this.#scheduler.control(FRAME_TYPE.SECRET, 0, part);
    }
    this.emit('ready');
  }

  #watch(state?: LivenessState): Liveness {
    return new Liveness(
      {
        clock: this.clock,
        deadAfterMs: this.#settings.deadAfterMs,
        receivedCount: () => this.#facts.receivedChunks,
        sentCount: () => this.#scheduler.sentFrames,
        isInDoubt: () => this.#isInDoubt(),
        onPingDue: () => this.#pingIfIdle(),
        onDoubt: () => this.#askForLoss(),
        onDead: (silentMs) => {
          const reason = new VproxyError('channel-silent', `nothing received for ${Math.round(silentMs / 1000)} s`);
          if (this.secret === null) this.end(reason);
          else this.emit('silent', reason);
        },
      },
      state,
    );
  }

  /** While something waits to be written a PING would only queue behind it, and a peer may be paused for days. */
  #pingIfIdle(): void {
    if (this.isReady && !this.isSuspended && this.#scheduler.isIdle) this.#credit.ping();
  }

  /** Whether a frame or record is incomplete, or something sent has gone unanswered for too long (R-LIVE-4). */
  #isInDoubt(): boolean {
    if (this.#reader.isMidFrame || this.#isMidRecord()) return true;
    return (
      this.#scheduler.sentFrames > this.#answeredFrames && this.#frameTimer.gapMs(this.clock.now()) >= DOUBT_AFTER_MS
    );
  }

  /** Asks the peer for an answer that shows whether the current frame lost bytes (R-LIVE-4). False if that has to wait. */
  #askForLoss(): boolean {
    const canAsk = this.isReady && !this.isSuspended && (this.#scheduler.isIdle || !this.#credit.roundTrip.isMeasuring);
    if (canAsk) this.#reader.expectBehind(this.#credit.ping());
    return canAsk;
  }

  /** Throws `protocol-error` for a frame of a resumable session if this one is not. */
  #requireContinuity(type: ControlType): Continuity {
    if (this.#continuity !== null) return this.#continuity;
    throw new VproxyError('protocol-error', `${formatFrameType(type)} in a session that is not resumable`);
  }

  /** Throws `internal` for an impossible transition: a defect of this program. */
  #enter(next: SessionPhase): void {
    if (!(SESSION_STATES[this.#facts.phase] as readonly SessionPhase[]).includes(next)) {
      throw new VproxyError('internal', `the session goes from ${this.#facts.phase} to ${next}`);
    }
    this.#facts.phase = next;
  }
}

const beforeProof = (type: FrameType): VproxyError =>
  new VproxyError('protocol-error', `${formatFrameType(type)} before AUTH`);
