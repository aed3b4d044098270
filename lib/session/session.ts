/**
 * An established session: frames ⇄ streams. It does no I/O: it takes bytes, returns bytes, and uses the clock it was given.
 * Every peer violation is handled here, with the code that docs/protocol.md states (R-CODE-3, R-CODE-4, R-LIVE-3).
 */
import { EventEmitter } from 'eventemitter3';
import { FrameReader } from '../codec/frame-reader.js';
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
import { protocolError, successorOf, toVproxyError, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { InFlightCredit } from './flow.js';
import { Leaving, Liveness } from './liveness.js';
import type { LocalEnd } from './local-end.js';
import { type Agreement, hasDatagrams, isResumable } from './opening/agreement.js';
import { PROOF_MS, Proof } from './opening/auth.js';
import { Continuity } from './resume/continuity.js';
import { type ResumeSecret, SECRET_BYTES } from './resume/secret.js';
import { Scheduler } from './scheduler.js';
import { OwnServices, PeerServices, type PeerServicesState } from './services.js';
import {
  type EstablishedSettings,
  factsOf,
  SESSION_STATES,
  type SessionContext,
  type SessionCounters,
  type SessionEvents,
  type SessionFacts,
  type SessionLink,
  type SessionPhase,
  type SessionState,
} from './session-state.js';
import type { SessionStream } from './stream.js';
import { StreamTable } from './streams.js';

export type { SessionState } from './session-state.js';

const never = (): boolean => false;

/** For a session without a link, or one that ended before it began and whose peer would not understand it. */
export const NOWHERE: ByteSink = { unwrittenBytes: 0, write: () => true, writeParts: () => true };

/** After these the peer is sent nothing: it would not understand this side, or has gone away. */
const SILENT_CODES: ReadonlySet<string> = new Set(['peer-restarted', 'desync']);

/** One session, from the HELLOs that established it to its end. */
export class Session extends EventEmitter<SessionEvents> {
  readonly agreement: Agreement;
  readonly clock: Clock;
  /** Read-only outside the session. */
  readonly streams: StreamTable;
  /** Serves the peer's streams to services of valid names: attaches a local end during the call, or they are refused. */
  server: { serve(stream: SessionStream, session: Session): void } | null = null;
  readonly #settings: EstablishedSettings;
  readonly #scheduler: Scheduler;
  readonly #reader: FrameReader;
  readonly #credit: InFlightCredit;
  /** Null if the session ends with its link. */
  readonly #continuity: Continuity | null;
  readonly #liveness: Liveness;
  readonly #leaving: Leaving;
  readonly #ownServices: OwnServices;
  readonly #peerServices: PeerServices;
  readonly #facts: SessionFacts;
  #proof: Proof | null = null;
  #cancelProof: CancelTimer | null = null;
  #isTurnOver: () => boolean;
  #isMidRecord: () => boolean;

  constructor(
    agreement: Agreement,
    { sink, clock, settings, state, isTurnOver = never, isMidRecord = never, firstStreamId }: SessionContext,
  ) {
    super();
    this.agreement = agreement;
    this.clock = clock;
    this.#settings = settings;
    this.#facts = factsOf(agreement, clock.now(), state);
    this.#isTurnOver = isTurnOver;
    this.#isMidRecord = isMidRecord;
    this.#continuity = this.#createContinuity(sink, state);
    this.#scheduler = this.#createScheduler(this.#continuity?.backlog ?? sink ?? NOWHERE, state);
    const sendPing = (payload: Buffer): void => this.#scheduler.control(FRAME_TYPE.PING, 0, payload);
    const creditOptions = { clock, firstBytes: agreement.self.limits.inFlight, randomBytes: settings.randomBytes };
    this.#credit = new InFlightCredit({ ...creditOptions, sendPing }, state?.credit);
    this.streams = this.#createTable(firstStreamId, state);
    this.#reader = this.#createReader(state);
    this.#leaving = new Leaving(clock, (reason) => this.end(reason), state?.leaving);
    this.#ownServices = new OwnServices(this.#scheduler, settings.timeOfDay, state?.ownServices);
    this.#peerServices = new PeerServices(settings.timeOfDay, state?.peerServices);
    this.#liveness = this.#createLiveness(state);
    if (state !== undefined) this.#restore(state, sink);
  }

  // ---- its parts --------------------------------------------------------------------------------------------------

  #createContinuity(sink: ByteSink | null, state?: SessionState): Continuity | null {
    const { resume } = this.#settings;
    if (resume === null || !isResumable(this.agreement)) return null;
    const receivedBytes = (): number => this.receivedBytes;
    const sendAck = (totalBytes: number): void => this.#scheduler.acknowledge(totalBytes);
    const options = { ...resume, sink, clock: this.clock, isOdd: this.agreement.isOdd, receivedBytes, sendAck };
    return new Continuity(options, state?.continuity ?? undefined);
  }

  #createScheduler(sink: ByteSink, state?: SessionState): Scheduler {
    const { integrity, peer, self } = this.agreement;
    return new Scheduler(
      {
        sink,
        check: new DataCheck(integrity, self.nonce, peer.nonce),
        clock: this.clock,
        maxFrameBytes: Math.min(self.limits.frame, peer.limits.frame),
        creditBytes: peer.limits.inFlight,
        openStreams: () => this.streams.size,
        onFlood: (reason) => this.end(reason),
      },
      state?.scheduler,
    );
  }

  #createTable(firstId: number | undefined, state?: SessionState): StreamTable {
    const { isOdd, peer, self } = this.agreement;
    return new StreamTable(
      {
        firstId: firstId ?? (isOdd ? 1 : 2),
        peerLimits: peer.limits,
        ownLimits: self.limits,
        settings: this.#settings,
        clock: this.clock,
        scheduler: this.#scheduler,
        pace: this.#credit,
        onOver: () => this.#endIfDrained(),
        peerServices: () => this.peerServices.names,
        askPeer: () => this.#liveness.ask(),
      },
      state?.table,
      state?.streams,
    );
  }

  #createReader(state?: SessionState): FrameReader {
    const { integrity, peer, self } = this.agreement;
    const handler = {
      handleData: (streamId: number, bytes: Buffer) => this.#handleData(streamId, bytes),
      handleFrame: (type: ControlType, streamId: number, payload: Buffer) => this.#handleFrame(type, streamId, payload),
      handleHello: (hello: Hello) => this.#isKnownHello(hello),
    };
    const check = new DataCheck(integrity, peer.nonce, self.nonce);
    const isTurnOver = (): boolean => this.#isTurnOver();
    return new FrameReader({ handler, check, maxDataBytes: self.limits.frame, isTurnOver }, state?.reader);
  }

  #createLiveness(state?: SessionState): Liveness {
    return new Liveness(
      {
        clock: this.clock,
        deadAfterMs: this.#settings.deadAfterMs,
        reader: this.#reader,
        scheduler: this.#scheduler,
        credit: this.#credit,
        receivedCount: () => this.#facts.receivedChunks,
        isLinked: () => this.wasEstablished && !this.isSuspended,
        isMidRecord: () => this.#isMidRecord(),
        onDead: (reason) => {
          if (this.secret === null) this.end(reason);
          else this.emit('silent', reason);
        },
      },
      state?.liveness,
      state?.frameTimer,
    );
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
    this.#scheduler.cork();
    let isKept = false;
    try {
      if (this.#liveness.isFrameOverdue()) {
        this.#reader.leave(chunk);
        throw new VproxyError('desync', `frame ${this.#reader.sequence} has been incomplete for 30 s`);
      }
      isKept = this.#reader.push(chunk);
      this.#continuity?.handleReceived();
    } catch (error) {
      this.#leave(toVproxyError(error));
      // Views of the chunk may have been kept before the error.
      isKept = true;
    }
    this.#scheduler.uncork();
    this.streams.handleReceived();
    this.#liveness.handleReceived();
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
    this.streams.openQueued();
    this.#endIfDrained();
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

  /** The time since the peer's last byte if an answer is overdue, in milliseconds; otherwise null. */
  get overdueMs(): number | null {
    return this.isSuspended ? null : this.#liveness.overdueMs;
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
    this.#liveness.restart();
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
    if (!this.wasEstablished || this.isOver)
      throw new VproxyError('upgrade-failed', 'the session is still being opened, or is over');
    return {
      reader: this.#reader.state,
      frameTimer: this.#liveness.timerState,
      scheduler: this.#scheduler.state,
      credit: this.#credit.state,
      liveness: this.#liveness.state,
      leaving: this.#leaving.state,
      ownServices: this.#ownServices.state,
      peerServices: this.#peerServices.state,
      continuity: this.#continuity?.state ?? null,
      table: this.streams.state,
      streams: this.streams.listAll().map((stream) => stream.state),
      ...this.#facts,
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

  #restore({ continuity }: SessionState, sink: ByteSink | null): void {
    if ((continuity === null) !== (this.#continuity === null))
      throw new VproxyError(
        'upgrade-failed',
        'the session is resumable and the settings do not allow that, or the reverse',
      );
    this.#scheduler.restoreTurns((id) => this.streams.findAny(id), this.#credit);
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
    this.streams.goOn((stream) => this.#serve(stream));
    this.#scheduler.uncork();
    // A drain event of the channel may have been lost in the hand-over.
    if (this.unwrittenBytes === 0) this.handleDrain();
  }

  // ---- the end ----------------------------------------------------------------------------------------------------

  /**
   * Drains: no more streams either way, and the end once the open ones have ended and all is written. Without a link the peer cannot
   * be informed, and the session ends at once; if it loses its link later, it drains on with the next, within its timeout.
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
    this.streams.takeQueued();
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
    for (const stream of this.streams.takeQueued()) stream.handleEnd(reason);
    this.emit('draining', reason);
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.isOver || this.streams.size > 0) return;
    const { drainReason } = this.#leaving;
    if (drainReason === null) {
      if (this.streams.isExhausted) this.end(new VproxyError('shutdown', 'out of stream ids'));
    } else if (this.#scheduler.flushControl()) this.#end(drainReason, false);
  }

  #goaway(code: string, message: string): Buffer {
    return encodeGoaway({ code, message, last: this.streams.counts.lastPeerId });
  }

  // ---- inspection -------------------------------------------------------------------------------------------------

  get isOver(): boolean {
    return this.#facts.phase === 'ended' || this.#facts.phase === 'refused';
  }

  /** Whether it was ever established: the two sides agreed, and each proved its key if required. */
  get wasEstablished(): boolean {
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
        this.#serve(this.streams.admit(streamId, this.#decodeOpen(payload), this.isDraining));
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
        this.#requireContinuity(type).handleSecret(requireLength(type, payload, SECRET_BYTES));
        return;
      case FRAME_TYPE.ACK:
        this.#requireContinuity(type).handleAck(decodeTotal(type, payload));
        // The backlog may have been full.
        this.#scheduler.flush();
        return;
      case FRAME_TYPE.RESUME:
        throw protocolError('RESUME within a session');
      case FRAME_TYPE.AUTH:
        throw protocolError('unexpected or duplicate AUTH');
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

  #serve(stream: SessionStream | null): void {
    if (stream === null) return;
    this.server?.serve(stream, this);
    if (!stream.isAttached) stream.refuse('unknown-service', `service ${stream.service} is not offered`);
  }

  #decodeOpen(payload: Buffer): OpenRequest {
    const request = decodeOpen(payload);
    if (!request.isDatagram || this.hasDatagrams) return request;
    throw protocolError('OPEN of a datagram flow: not supported by both sides');
  }

  #handlePong(payload: Buffer): void {
    if (!this.#credit.handlePong(payload)) return;
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
    for (const stream of this.streams.list()) if (!stream.isIncoming && stream.id > last) stream.handleEnd(reason);
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

  /** Throws `protocol-error` for a frame of a resumable session if this one is not. */
  #requireContinuity(type: ControlType): Continuity {
    if (this.#continuity !== null) return this.#continuity;
    throw protocolError(`${formatFrameType(type)} in a session that is not resumable`);
  }

  #enter(next: SessionPhase): void {
    this.#facts.phase = successorOf('the session', SESSION_STATES, this.#facts.phase, next);
  }
}

const beforeProof = (type: FrameType): VproxyError => protocolError(`${formatFrameType(type)} before AUTH`);
