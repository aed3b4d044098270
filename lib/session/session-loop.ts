/**
 * All sessions on one link, one after another: performs the handshake, passes bytes to the session, and starts over when it ends
 * while the channel stays open (R-OPEN-11 to R-OPEN-13).
 */

import { EventEmitter } from 'eventemitter3';
import type { ByteSink } from '../codec/frame-writer.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import {
  type Agreement,
  busyRefusal,
  channelBusy,
  commonSession,
  outerRefusal,
  protectionRefusal,
  refusal,
} from './opening/agreement.js';
import type { SecureLayer, SecureLayerFactory } from './opening/auth.js';
import { Opening } from './opening/opening.js';
import { OpeningPause } from './opening/opening-pause.js';
import { KeptSessions, type SessionHolder } from './resume/kept-sessions.js';
import { Resumption } from './resume/resumption.js';
import { NOWHERE, Session, type SessionState } from './session.js';
import type { SessionSettings } from './settings.js';

export interface SessionLoopEvents {
  /** A session is established, and the peer authenticated if required; listeners can be attached before it reads anything. */
  session: [session: Session];
  /** A session is over. Another one follows while the loop runs. */
  ended: [session: Session, reason: VproxyError];
  /** A session left this link and waits for another, or has it already; with a reason, it waits to be resumed on this one. */
  suspended: [session: Session, reason: VproxyError | null];
  /** A session continues on this link. `againBytes` are sent again, as the peer may not have them. */
  resumed: [session: Session, againBytes: number];
  /** The session heard nothing on this link, or moved to another: close the link. */
  abandoned: [reason: VproxyError];
  /** Nothing valid has come from a peer for a while: there is no peer, or another process has the channel. */
  quiet: [skippedBytes: number];
  /** Our own HELLO came back: the channel echoes. */
  echo: [];
}

/** A HELLO is searched for in pieces of this size, so that other bytes do not exceed a turn. */
const SEARCH_BYTES = 256;

const NOTHING = Buffer.alloc(0);

const displaced = (): VproxyError => new VproxyError('channel-displaced', 'the session moved to another link');

/**
 * A peer that refuses this side's certificate may do so without an alert: it begins again, as it does once after a restart. One with
 * keys in place of certificates, or the reverse, sends what is no TLS record here.
 */
function asRefusal({ self, peer }: Agreement, canBeRefused: boolean, reason: VproxyError): VproxyError {
  const isMixed = (self.auth === null) !== (peer.auth === null);
  if (reason.code === 'auth-failed' || !(isMixed || (canBeRefused && reason.code === 'peer-restarted'))) return reason;
  const message = `the peer seems to refuse this side: twice it said nothing inside TLS (${reason.message})`;
  return new VproxyError('auth-failed', message);
}

/** Grace period in which a TLS layer hands on what its ended session wrote; the channel may be stuck. */
const LAYER_END_MS = 300;

/** The context of a handshake on a layer. */
interface Inside {
  readonly outer: Agreement;
  readonly sink: ByteSink;
}

/** The current use of the link. */
type LoopState =
  /** HELLOs are exchanged: in the clear, or a second time on a layer. */
  | { readonly name: 'opening'; readonly opening: Opening; readonly inside: Inside | null }
  /** The layer performs its handshake. */
  | { readonly name: 'securing' }
  /** Both sides prove that they have a session that continues here. */
  | { readonly name: 'resuming'; readonly resumption: Resumption }
  | { readonly name: 'running'; readonly session: Session; readonly joinedAtMs: number }
  /** Nothing happens until the next handshake. */
  | { readonly name: 'pausing' }
  /** A session is over and its layer flushes; `isLast`: the loop stops afterwards. */
  | {
      readonly name: 'leaving';
      readonly layer: SecureLayer;
      readonly isLast: boolean;
      readonly finish: () => void;
      readonly onFlushed: () => void;
    }
  | { readonly name: 'stopped' };

const PAUSING: LoopState = { name: 'pausing' };
const STOPPED: LoopState = { name: 'stopped' };

/** The outcome of reading: whether a view of the bytes was kept, and the rest still to be read. */
interface Taken {
  readonly isKept: boolean;
  readonly rest: Buffer;
}

/** Runs sessions on one open channel. It does no I/O. */
export class SessionLoop extends EventEmitter<SessionLoopEvents> implements SessionHolder {
  readonly #sink: ByteSink;
  readonly #clock: Clock;
  readonly #settings: SessionSettings;
  readonly #kept: KeptSessions;
  readonly #onUnread: (unread: Buffer) => void;
  readonly #pause: OpeningPause;
  #state: LoopState = PAUSING;
  /** The secure layer, from the handshake in the clear to the session's end. */
  #layer: SecureLayer | null = null;
  /** How many layers in a row the peer has said nothing on. */
  #unheardLayers = 0;
  #skippedBytes = 0;
  #stranger: string | null = null;
  readonly #turn: Turn;
  /** The link's hooks for its session. */
  readonly #hooks = {
    isTurnOver: () => this.#turn.countPart(),
    isMidRecord: () => this.#layer?.isMidRecord ?? false,
  };
  #unread: Buffer = NOTHING;
  /** Output of the layer left to another turn: comes before `#unread`. */
  #unreadInside: Buffer = NOTHING;
  #isReceiving = false;
  /** Whether bytes given out by `takeUnread` have not been received since. */
  #isBehind = false;
  /** Sessions that are over but have bytes unwritten in the channel. */
  readonly #unwritten = new Set<Session>();

  /** `onUnread` takes the bytes that `onBytes` leaves to another turn. */
  constructor(
    sink: ByteSink,
    clock: Clock,
    settings: SessionSettings,
    onUnread: (unread: Buffer) => void = () => undefined,
  ) {
    super();
    this.#sink = sink;
    this.#clock = clock;
    this.#settings = settings;
    this.#kept = settings.resume?.kept ?? new KeptSessions(clock, 0);
    this.#onUnread = onUnread;
    this.#turn = new Turn(clock);
    this.#pause = new OpeningPause(clock, settings);
  }

  /** The established session, or null. */
  get session(): Session | null {
    return this.#state.name === 'running' ? this.#state.session : null;
  }

  /** Whether the peer has answered our HELLO: a session is running, or being secured or proved. */
  get isAnswered(): boolean {
    const { name } = this.#state;
    return name === 'running' || name === 'resuming' || this.#layer !== null;
  }

  /** Bytes that belonged to no session. */
  get skippedBytes(): number {
    const opening = this.#state.name === 'opening' ? this.#state.opening.skippedBytes : 0;
    return this.#skippedBytes + opening + this.#pause.skippedBytes;
  }

  /** What the other end seemed to be in the last handshake, if it is no vproxy of this version; null if that cannot be told. */
  get stranger(): string | null {
    return this.#state.name === 'opening' ? this.#state.opening.stranger : this.#stranger;
  }

  get #isStopped(): boolean {
    const state = this.#state;
    return state.name === 'stopped' || (state.name === 'leaving' && state.isLast);
  }

  /**
   * Since when its session has had this link, by the clock, for `restore`; null if the session cannot continue on it in another
   * process: it is not established, or on a layer.
   */
  get joinedAtMs(): number | null {
    const state = this.#state;
    return state.name === 'running' && this.#layer === null && state.session.wasEstablished ? state.joinedAtMs : null;
  }

  /**
   * Instead of `start`: takes over the link of another loop with its session, and adds that to the kept ones. Returns and throws
   * like `Session.restore`. Call `goOn` afterwards.
   */
  restore(state: SessionState, joinedAtMs: number): Session {
    const session = Session.restore(state, {
      sink: this.#sink,
      clock: this.#clock,
      settings: this.#settings,
      ...this.#hooks,
    });
    this.#join(session, joinedAtMs);
    return session;
  }

  /** After `restore`: continues the session. `isBehind`: bytes that came before must be received first. */
  goOn(isBehind = false): void {
    this.#isBehind = isBehind;
    this.session?.goOn();
  }

  /** Begins the first handshake. Called once. */
  start(): void {
    this.#open();
  }

  // ---- called by the link -----------------------------------------------------------------------------------------

  /** Like `receive`, but in order: bytes left to another turn, and any that come before those are read, go to `onUnread`. */
  onBytes(bytes: Buffer): boolean {
    if (this.#isBehind) {
      this.#onUnread(bytes);
      return false;
    }
    const isKept = this.receive(bytes);
    const unread = this.takeUnread();
    if (unread !== null) this.#onUnread(unread);
    return isKept;
  }

  hasInteractive(): boolean {
    return this.session?.hasInteractive ?? false;
  }

  /**
   * Takes bytes from the channel. Returns true if a stream kept a view of them. If they exceed one turn of
   * the event loop, the rest is left to `takeUnread`, as a view of them or of what was kept.
   */
  receive(chunk: Buffer): boolean {
    this.#turn.begin();
    this.#isReceiving = true;
    this.#readInside(this.#takeInside());
    const isKept = this.#read(chunk);
    this.#isReceiving = false;
    return isKept;
  }

  /**
   * After `receive`: the bytes to be received in the next turn, before all later ones; usually null. They may be
   * empty: then the rest is inside the loop.
   */
  takeUnread(): Buffer | null {
    const unread = this.#unread;
    this.#unread = NOTHING;
    this.#isBehind = unread.length + this.#unreadInside.length > 0;
    return this.#isBehind ? unread : null;
  }

  /** The channel has written everything it was given. */
  handleDrain(): void {
    if (this.#state.name === 'leaving') this.#state.layer.handleDrain();
    if (this.#layer === null) this.#handleSinkDrain();
    else this.#layer.handleDrain();
  }

  #handleSinkDrain(): void {
    for (const session of this.#unwritten) session.handleDrain();
    this.#unwritten.clear();
    if (this.#state.name === 'opening') this.#state.opening.handleDrain();
    if (this.#state.name === 'running') this.#state.session.handleDrain();
  }

  /** Ends the loop and its session for good. Call `handleClosed` when the channel has closed. */
  stop(reason: VproxyError): void {
    if (this.#isStopped) return;
    const state = this.#state;
    if (state.name === 'leaving') {
      this.#state = { ...state, isLast: true };
      return;
    }
    this.#enter(STOPPED);
    this.#pause.stop();
    if (state.name === 'running') state.session.end(reason);
    this.#takeLayer()?.destroy();
  }

  /** After `stop`: calls back when the channel has everything for the peer, and may be closed. */
  afterFlush(onFlushed: () => void): void {
    if (this.#state.name === 'leaving') this.#state = { ...this.#state, onFlushed };
    else onFlushed();
  }

  /** The channel has closed: suspends a resumable session, else ends it, and frees buffers that the channel had not written. */
  handleClosed(reason: VproxyError): void {
    const { session } = this;
    if (session !== null && session.secret !== null && !this.#kept.isStopped) {
      this.#enter(STOPPED);
      session.suspend();
      this.#takeLayer()?.destroy();
    }
    this.stop(reason);
    if (this.#state.name === 'leaving') this.#state.finish();
    for (const each of this.#unwritten) each.handleClosed();
    this.#unwritten.clear();
  }

  // ---- reading ----------------------------------------------------------------------------------------------------

  #read(chunk: Buffer): boolean {
    let isKept = false;
    let bytes = chunk;
    while (bytes.length > 0 && !this.#isStopped) {
      if (this.#turn.isOver) {
        this.#unread = bytes;
        return isKept;
      }
      if (this.#layer !== null) {
        bytes = this.#layer.receive(bytes, this.#turn.look);
      } else {
        const taken = this.#pass(bytes);
        if (taken.isKept) isKept = true;
        bytes = taken.rest;
      }
    }
    return isKept;
  }

  /** Takes output of the layer. Returns true if a view of it was kept. */
  #receiveInside(bytes: Buffer): boolean {
    this.#unheardLayers = 0;
    if (!this.#isReceiving) return this.#readAllInside(bytes);
    if (this.#unreadInside.length === 0) return this.#readInside(bytes);
    this.#unreadInside = Buffer.concat([this.#unreadInside, bytes]);
    return false;
  }

  /** Reads output that the layer gives unasked or at its end, regardless of turns. */
  #readAllInside(bytes: Buffer): boolean {
    let isKept = false;
    for (let rest = bytes; rest.length > 0; rest = this.#takeInside()) {
      this.#turn.begin();
      if (this.#readInside(rest)) isKept = true;
    }
    return isKept;
  }

  #readInside(bytes: Buffer): boolean {
    const layer = this.#layer;
    let isKept = false;
    let rest = bytes;
    while (rest.length > 0 && this.#layer === layer) {
      if (this.#turn.isOver) {
        // A copy: the layer reads into the same memory again.
        this.#unreadInside = Buffer.from(rest);
        return isKept;
      }
      const taken = this.#pass(rest);
      if (taken.isKept) isKept = true;
      rest = taken.rest;
    }
    return isKept;
  }

  #takeInside(): Buffer {
    const unread = this.#unreadInside;
    this.#unreadInside = NOTHING;
    return unread;
  }

  /** Passes bytes to whatever reads in this state. */
  #pass(bytes: Buffer): Taken {
    const state = this.#state;
    switch (state.name) {
      case 'running':
        return { isKept: state.session.receive(bytes), rest: state.session.takeRest() };
      case 'resuming':
        state.resumption.receive(bytes);
        return { isKept: false, rest: state.resumption.takeRest() };
      case 'opening':
      case 'pausing':
      case 'leaving':
        return { isKept: false, rest: this.#search(state, bytes) };
      case 'securing':
      case 'stopped':
        return { isKept: false, rest: NOTHING };
    }
  }

  /** Searches the first of these bytes for a HELLO. Returns the rest. */
  #search(state: LoopState, bytes: Buffer): Buffer {
    const piece = bytes.subarray(0, SEARCH_BYTES);
    const behind = bytes.subarray(piece.length);
    this.#turn.look();
    if (state.name !== 'opening') {
      this.#pause.receive(piece);
      return behind;
    }
    const established = state.opening.receive(piece);
    if (established === null) return behind;
    this.#enter(PAUSING);
    this.#establish(established.agreement, state.inside);
    return Buffer.concat([established.rest, behind]);
  }

  // ---- from one state to the next ---------------------------------------------------------------------------------

  #enter(next: LoopState): void {
    const state = this.#state;
    this.#state = next;
    if (state.name === 'opening') {
      this.#skippedBytes += state.opening.skippedBytes;
      this.#stranger = state.opening.stranger;
      state.opening.stop();
    }
    if (state.name === 'resuming') state.resumption.stop();
  }

  #open(inside: Inside | null = null): void {
    this.#skippedBytes += this.#pause.skippedBytes;
    const opening = new Opening({
      sink: inside?.sink ?? this.#sink,
      clock: this.#clock,
      settings: this.#settings,
      firstHello: this.#pause.end(),
      outerNonces: inside === null ? null : [inside.outer.self.nonce, inside.outer.peer.nonce],
      onEcho: () => inside ?? this.emit('echo'),
      onQuiet: () => inside ?? this.emit('quiet', opening.skippedBytes),
    });
    this.#enter({ name: 'opening', opening, inside });
    opening.start();
  }

  #establish(agreement: Agreement, inside: Inside | null): void {
    const refused = refusal(agreement);
    if (inside !== null) {
      this.#begin(agreement, inside.sink, refused ?? outerRefusal(agreement, inside.outer));
      return;
    }
    const { secure } = this.#settings;
    const unprotected = refused ?? protectionRefusal(agreement);
    if (unprotected === null && secure !== null) this.#secure(agreement, secure);
    else this.#begin(agreement, this.#sink, unprotected);
  }

  /** Puts the session on a layer: a second handshake on it, bound to the one in the clear (R-AUTH-3). */
  #secure(outer: Agreement, makeLayer: SecureLayerFactory): void {
    this.#enter({ name: 'securing' });
    this.#unheardLayers += 1;
    try {
      this.#layer = makeLayer(outer, this.#sink, {
        onReady: (sink) => this.#open({ outer, sink }),
        onBytes: (bytes) => this.#receiveInside(bytes),
        onDrain: () => this.#handleSinkDrain(),
        onFailed: (reason, rest) => this.#handleLayerEnd(outer, reason, rest),
      });
    } catch (error) {
      this.#begin(outer, this.#sink, toVproxyError(error));
    }
  }

  /** The layer failed, before or in the session on it. */
  #handleLayerEnd(outer: Agreement, reason: VproxyError, rest: Buffer): void {
    const layer = this.#layer;
    // It may contain the peer's last words.
    this.#readAllInside(this.#takeInside());
    if (this.#layer === layer) this.#endInside(outer, reason);
    if (rest.length > 0) this.#read(rest);
  }

  #endInside(outer: Agreement, reason: VproxyError): void {
    const { session } = this;
    const { canBeRefused = false } = this.#takeLayer() ?? {};
    if (session === null) {
      this.#begin(outer, NOWHERE, this.#unheardLayers > 1 ? asRefusal(outer, canBeRefused, reason) : reason);
    } else if (session.secret !== null) {
      session.suspend(reason);
    } else {
      session.end(reason);
      // What the layer held is lost.
      session.handleClosed();
    }
  }

  /** Takes the layer from the session; null if it has none. */
  #takeLayer(): SecureLayer | null {
    const layer = this.#layer;
    this.#layer = null;
    this.#unreadInside = NOTHING;
    return layer;
  }

  /** Resumes a session that both sides have, else begins one, which ends at once if it is refused. */
  #begin(agreement: Agreement, sink: ByteSink, refused: VproxyError | null): void {
    const id = refused === null ? commonSession(agreement) : null;
    const known = id === null ? null : this.#kept.find(id);
    if (known !== null) {
      this.#resume(known, agreement, sink);
      return;
    }
    const session = new Session(agreement, {
      sink,
      clock: this.#clock,
      settings: this.#settings,
      ...this.#hooks,
    });
    this.#join(session);
    session.once('ready', () => {
      // Another peer may have been faster.
      if (this.#settings.isTaken(agreement.peer)) {
        session.end(channelBusy());
        return;
      }
      this.#kept.displaceSuspended(session);
      this.emit('session', session);
    });
    const reason = refused ?? busyRefusal(agreement);
    if (reason === null) session.begin();
    else session.end(reason);
  }

  /** Makes it the session of this link, until it ends or leaves. */
  #join(session: Session, joinedAtMs = this.#clock.now()): void {
    this.#enter({ name: 'running', session, joinedAtMs });
    this.#kept.attach(session, this);
  }

  /** Verifies the peer; then `session` continues on this link. */
  #resume(session: Session, agreement: Agreement, sink: ByteSink): void {
    const resumption = new Resumption({
      session,
      kept: this.#kept,
      agreement,
      sink,
      clock: this.#clock,
      keys: this.#settings.keys,
      onProved: (peerReceivedBytes) => {
        this.#join(session);
        let againBytes = 0;
        try {
          againBytes = session.resume({ agreement, sink, ...this.#hooks }, peerReceivedBytes);
        } catch (error) {
          session.end(toVproxyError(error));
        }
        if (!session.isOver) this.emit('resumed', session, againBytes);
      },
      // A frame of another session would have a wrong sequence number here.
      onFailed: (reason) => this.#begin(agreement, NOWHERE, reason),
      onDisplaced: () => {
        this.#enter(PAUSING);
        this.emit('abandoned', displaced());
      },
    });
    this.#enter({ name: 'resuming', resumption });
    resumption.begin();
  }

  // ---- called by the sessions of the channel ----------------------------------------------------------------------

  handleEnded(session: Session, reason: VproxyError): void {
    if (!this.#isStopped) this.#enter(PAUSING);
    const layer = this.#takeLayer();
    if (layer === null && this.#sink.unwrittenBytes > 0) this.#unwritten.add(session);
    this.#openBehind(layer, session.ageMs, reason, () => session.handleClosed());
    // Who hears of it may stop the loop.
    this.emit('ended', session, reason);
  }

  /** The session waits for another link; with a reason, for this one to be back in step. */
  handleSuspended(session: Session, reason: VproxyError | null): void {
    const hereMs = this.#state.name === 'running' ? this.#clock.now() - this.#state.joinedAtMs : 0;
    const isClosed = this.#isStopped;
    if (!isClosed) this.#enter(PAUSING);
    const layer = reason === null ? null : this.#takeLayer();
    this.emit('suspended', session, reason);
    if (reason !== null) this.#openBehind(layer, hereMs, reason, () => undefined);
    else if (!isClosed) this.emit('abandoned', displaced());
  }

  handleSilent(reason: VproxyError): void {
    this.emit('abandoned', reason);
  }

  // ---- one handshake after another --------------------------------------------------------------------------------

  /** Starts a handshake, at once or after a pause, after a session that had the link for `hereMs`. Its layer is flushed first. */
  #openBehind(layer: SecureLayer | null, hereMs: number, { code }: VproxyError, onLayerOver: () => void): void {
    const open = (): void => this.#pause.begin(hereMs, code, () => this.#open());
    if (layer === null) {
      if (!this.#isStopped) open();
      return;
    }
    // The peer may start over meanwhile.
    this.#pause.listen();
    const finish = (): void => {
      const state = this.#state;
      if (state.name !== 'leaving' || state.layer !== layer) return;
      this.#enter(state.isLast ? STOPPED : PAUSING);
      cancel();
      layer.destroy();
      onLayerOver();
      if (!this.#isStopped) open();
      state.onFlushed();
    };
    const cancel = this.#clock.schedule(LAYER_END_MS, finish);
    this.#enter({ name: 'leaving', layer, isLast: this.#isStopped, finish, onFlushed: () => undefined });
    layer.close(finish);
  }
}

/**
 * Time spent on one channel before the other sockets of the process get their turn of the event loop. The peer decides what a
 * chunk costs: 128 KiB of tiny frames take up to a hundred milliseconds. Frames of the usual size never come near this.
 */
const TURN_MS = 0.1;

/**
 * The same if no other channel has begun a turn for `ALONE_MS`: then only sockets of this one wait. A read holds fifty frames when
 * fifty connections have small messages, and to end the turn among them costs as much as many of them.
 */
const TURN_ALONE_MS = 1;
const ALONE_MS = 100;

/** The clock is checked once per this many headers and payloads: that is four frames. */
const PARTS_PER_LOOK = 8;

/** The channel of the process that began the latest turn, and when. */
const latest: { turn: Turn | null; atMs: number } = { turn: null, atMs: Number.NEGATIVE_INFINITY };

/** A channel's turn. With a clock that is stopped, as in some tests, it never ends. */
export class Turn {
  readonly #clock: Clock;
  /** When another channel last began a turn. */
  #otherAtMs = Number.NEGATIVE_INFINITY;
  #endsAtMs = 0;
  #parts = 0;
  #isOver = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the turn's time is used up. */
  get isOver(): boolean {
    return this.#isOver;
  }

  begin(): void {
    const nowMs = this.#clock.now();
    if (latest.turn !== this) this.#otherAtMs = latest.atMs;
    latest.turn = this;
    latest.atMs = nowMs;
    this.#endsAtMs = nowMs + (nowMs - this.#otherAtMs > ALONE_MS ? TURN_ALONE_MS : TURN_MS);
    this.#parts = 0;
    this.#isOver = false;
  }

  /** Checks the clock: whether the time is used up. */
  readonly look = (): boolean => {
    this.#isOver = this.#clock.now() >= this.#endsAtMs;
    return this.#isOver;
  };

  /** Counts a header or payload that was read, and checks the clock now and then: whether the time is used up. */
  readonly countPart = (): boolean => {
    this.#parts += 1;
    return this.#parts % PARTS_PER_LOOK === 0 ? this.look() : this.#isOver;
  };
}
