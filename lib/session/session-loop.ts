/**
 * All sessions on one link, one after another: opens, hands the bytes to the session, and opens again when it ends while
 * the channel stays open (R-OPEN-11 to R-OPEN-13).
 */

import { EventEmitter } from 'eventemitter3';
import type { ByteSink } from '../codec/frame-writer.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { type Agreement, commonSession, outerRefusal, protectionRefusal, refusal } from './agreement.js';
import type { SecureLayer, SecureLayerFactory } from './auth.js';
import type { SessionCapture } from './capture.js';
import { type Established, Opening } from './opening.js';
import { OpeningPause } from './opening-pause.js';
import { Resumption } from './resume/resumption.js';
import { NOWHERE, type RestoredSession, Session } from './session.js';
import type { SessionSettings } from './settings.js';

export interface SessionLoopEvents {
  /** A session is established, and the peer authenticated where that is demanded; its events can be listened to before anything is read for it. */
  session: [session: Session];
  /** A session is over, for this reason. Another one will follow while the loop runs. */
  ended: [session: Session, reason: VproxyError];
  /** A session has left this link, and waits for another one, or has it already; or, with a reason, it waits to be taken up again on this one. */
  suspended: [session: Session, reason: VproxyError | null];
  /** A session goes on with this link. So many bytes are written again, as the peer may not have them. */
  resumed: [session: Session, againBytes: number];
  /** The session on it hears nothing, or goes on with another link: the link should be closed, for this reason. */
  abandoned: [reason: VproxyError];
  /** Nothing valid has come from a peer for a while: nobody is there, or another process has the channel. */
  quiet: [skippedBytes: number];
  /** This side's own HELLO came back: the channel echoes. */
  echo: [];
}

/** A HELLO is searched for in pieces of this size, so that other bytes do not take more than a turn. */
const SEARCH_BYTES = 256;

const NOTHING = Buffer.alloc(0);

const displaced = (): VproxyError => new VproxyError('channel-displaced', 'its session goes on with another link');

/** A layer whose session is over may take so long to hand on what it was given: the channel may take nothing any more. */
const LAYER_END_MS = 300;

/** What of a {@link SessionLoop} lives on beside its session, as plain data. */
export interface LoopCapture {
  readonly skippedBytes: number;
  /** How long its session has had this link, in milliseconds. */
  readonly joinedAgoMs: number;
}

/** Keeps sessions going on one open channel. It does no I/O. */
export class SessionLoop extends EventEmitter<SessionLoopEvents> {
  readonly #sink: ByteSink;
  readonly #clock: Clock;
  readonly #settings: SessionSettings;
  readonly #pause: OpeningPause;
  #session: Session | null = null;
  #joinedAtMs = 0;
  /** What makes sure of the peer, where a session is to go on with this link. */
  #resumption: Resumption | null = null;
  #opening: Opening | null = null;
  #isStopped = false;
  #isClosed = false;
  #skippedBytes = 0;
  /** What protects the session, from the opening in clear to the session's end. */
  #layer: SecureLayer | null = null;
  /** The layer of a session that is over, while it hands on what it was given. */
  #ending: { readonly layer: SecureLayer; readonly finish: () => void } | null = null;
  #onFlushed: (() => void) | null = null;
  /** Where the session is while there is a layer. */
  #inside: { readonly outer: Agreement; readonly sink: ByteSink } | null = null;
  readonly #turn: Turn;
  /** What a session asks of the link that it is on. */
  readonly #hooks = {
    isTurnOver: () => this.#turn.countPart(),
    isMidRecord: () => this.#layer?.isMidRecord ?? false,
  };
  #unread: Buffer = NOTHING;
  /** What came out of the layer, and is left to another turn: before what is unread. */
  #unreadInside: Buffer = NOTHING;
  #isReceiving = false;
  /** Sessions that are over while the channel has not written all of theirs. */
  readonly #unwritten = new Set<Session>();

  constructor(sink: ByteSink, clock: Clock, settings: SessionSettings) {
    super();
    this.#sink = sink;
    this.#clock = clock;
    this.#settings = settings;
    this.#turn = new Turn(clock);
    this.#pause = new OpeningPause(clock, settings);
  }

  /** The established session, or null. */
  get session(): Session | null {
    return this.#session;
  }

  /** Whether the peer has answered this side's HELLO: there is a session, or one that is being protected or proved. */
  get isAnswered(): boolean {
    return this.#session !== null || this.#resumption !== null || this.#layer !== null;
  }

  /** Bytes that belonged to no session, in bytes. */
  get skippedBytes(): number {
    return this.#skippedBytes + (this.#opening?.skippedBytes ?? 0) + this.#pause.skippedBytes;
  }

  /** Null where its session cannot go on with this link in another process: there is none, or it is being opened, or is on a layer. */
  capture(): LoopCapture | null {
    const isPlain = this.#layer === null && this.#ending === null && !this.#isStopped;
    if (!isPlain || this.#session?.isReady !== true) return null;
    return { skippedBytes: this.skippedBytes, joinedAgoMs: this.#clock.now() - this.#joinedAtMs };
  }

  /**
   * In place of `start`: takes over the link of another one, with its session, which the kept ones have then. Gives it and its streams as
   * `Session.restore` does, and throws what that throws. `goOn` is to follow.
   */
  restore(capture: SessionCapture, { skippedBytes, joinedAgoMs }: LoopCapture): RestoredSession {
    const restored = Session.restore(capture, {
      sink: this.#sink,
      clock: this.#clock,
      settings: this.#settings,
      ...this.#hooks,
    });
    this.#settings.resume?.kept.adopt(restored.session);
    this.#skippedBytes = skippedBytes;
    this.#follow(restored.session, this.#clock.now() - joinedAgoMs);
    return restored;
  }

  /** After `restore`: the session goes on. */
  goOn(): void {
    this.#session?.goOn();
  }

  /** Begins the first opening. Called once. */
  start(): void {
    this.#open();
  }

  /**
   * Bytes came from the channel. True when a view of them was kept by a stream. Where they cost too much for one turn of
   * the event loop, the rest of them is left to `takeUnread`, as a view of them or of what was kept.
   */
  receive(chunk: Buffer): boolean {
    this.#turn.begin();
    this.#isReceiving = true;
    this.#readInside(this.#takeInside());
    const isKept = this.#read(chunk);
    this.#isReceiving = false;
    return isKept;
  }

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
      } else if (this.#session !== null) {
        const session = this.#session;
        if (session.receive(bytes)) isKept = true;
        bytes = session.takeRest();
      } else if (this.#resumption !== null) {
        const resumption = this.#resumption;
        resumption.receive(bytes);
        bytes = resumption.takeRest();
      } else {
        bytes = this.#search(bytes);
        this.#turn.look();
      }
    }
    return isKept;
  }

  /**
   * After `receive`: what is to be received next, before all that comes later, in another turn; null as a rule. It may be
   * empty: then what is left lies in the loop.
   */
  takeUnread(): Buffer | null {
    const unread = this.#unread;
    this.#unread = NOTHING;
    return unread.length + this.#unreadInside.length === 0 ? null : unread;
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    this.#ending?.layer.handleDrain();
    if (this.#layer !== null) {
      this.#layer.handleDrain();
      return;
    }
    this.#handleSinkDrain();
  }

  #handleSinkDrain(): void {
    for (const session of this.#unwritten) session.handleDrain();
    this.#unwritten.clear();
    this.#opening?.handleDrain();
    this.#session?.handleDrain();
  }

  /** Ends the loop and its session: for good, with this reason. `handleClosed` is to follow when the channel is closed. */
  stop(reason: VproxyError): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#stopOpening();
    this.#resumption?.stop();
    this.#pause.stop();
    this.#session?.end(reason);
    this.#takeLayer()?.destroy();
  }

  /** After `stop`: calls back when all that is for the peer is with the channel, which may be closed then. */
  afterFlush(callback: () => void): void {
    if (this.#ending === null) callback();
    else this.#onFlushed = callback;
  }

  /** The channel is gone: ends what `stop` ends, and gives back the buffers that the channel had not written. */
  handleClosed(reason: VproxyError): void {
    const session = this.#session;
    this.#isClosed = true;
    const isKept = this.#settings.resume?.kept.isStopped === false;
    if (!this.#isStopped && isKept && session !== null && session.secret !== null) session.suspend();
    this.stop(reason);
    this.#ending?.finish();
    for (const session of this.#unwritten) session.handleClosed();
    this.#unwritten.clear();
  }

  #open(): void {
    this.#skippedBytes += this.#pause.skippedBytes;
    const firstHello = this.#pause.end();
    this.#opening = new Opening({
      sink: this.#sink,
      clock: this.#clock,
      settings: this.#settings,
      firstHello,
      onEcho: () => this.emit('echo'),
      onQuiet: () => this.emit('quiet', this.#opening?.skippedBytes ?? 0),
    });
    this.#opening.start();
  }

  #stopOpening(): void {
    this.#skippedBytes += this.#opening?.skippedBytes ?? 0;
    this.#opening?.stop();
    this.#opening = null;
  }

  #establish({ agreement }: Established): void {
    this.#stopOpening();
    const refused = refusal(agreement) ?? protectionRefusal(agreement);
    if (refused === null && this.#settings.secure !== null) this.#secure(agreement, this.#settings.secure);
    else this.#begin(agreement, this.#sink, refused);
  }

  /** Puts the session on a layer: a fresh opening on it, bound to the one in clear (R-AUTH-3). */
  #secure(outer: Agreement, makeLayer: SecureLayerFactory): void {
    try {
      this.#layer = makeLayer(outer, this.#sink, {
        onReady: (sink) => this.#openInside(outer, sink),
        onBytes: (bytes) => this.#receiveInside(bytes),
        onDrain: () => this.#handleSinkDrain(),
        onFailed: (reason, rest) => this.#handleLayerEnd(outer, reason, rest),
      });
    } catch (error) {
      this.#begin(outer, this.#sink, toVproxyError(error));
    }
  }

  #openInside(outer: Agreement, sink: ByteSink): void {
    this.#inside = { outer, sink };
    this.#opening = new Opening({
      sink,
      clock: this.#clock,
      settings: this.#settings,
      firstHello: null,
      outerNonces: [outer.self.nonce, outer.peer.nonce],
      onEcho: () => undefined,
      onQuiet: () => undefined,
    });
    this.#opening.start();
  }

  /** Bytes came out of the layer. True when a view of them was kept. */
  #receiveInside(bytes: Buffer): boolean {
    if (!this.#isReceiving) return this.#readAllInside(bytes);
    if (this.#unreadInside.length === 0) return this.#readInside(bytes);
    this.#unreadInside = Buffer.concat([this.#unreadInside, bytes]);
    return false;
  }

  /** What the layer gives by itself, or at its end, waits for no other turn. */
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
    while (rest.length > 0 && layer !== null && this.#layer === layer) {
      if (this.#turn.isOver) {
        // A copy: the layer reads into the same memory again.
        this.#unreadInside = Buffer.from(rest);
        return isKept;
      }
      if (this.#session !== null) {
        const session = this.#session;
        if (session.receive(rest)) isKept = true;
        rest = session.takeRest();
      } else if (this.#resumption !== null) {
        const resumption = this.#resumption;
        resumption.receive(rest);
        rest = resumption.takeRest();
      } else {
        rest = this.#openWith(rest);
      }
    }
    return isKept;
  }

  #takeInside(): Buffer {
    const unread = this.#unreadInside;
    this.#unreadInside = NOTHING;
    return unread;
  }

  /** Hands bytes to the opening on the layer; what is left of them when it has established a session. */
  #openWith(bytes: Buffer): Buffer {
    const established = this.#opening?.receive(bytes) ?? null;
    if (established === null || this.#inside === null) return NOTHING;
    const { agreement, rest } = established;
    const { outer, sink } = this.#inside;
    this.#stopOpening();
    this.#begin(agreement, sink, refusal(agreement) ?? outerRefusal(agreement, outer));
    return rest;
  }

  /** The layer failed, before or in the session on it. */
  #handleLayerEnd(outer: Agreement, reason: VproxyError, rest: Buffer): void {
    const layer = this.#layer;
    // The peer's last words may be among it.
    this.#readAllInside(this.#takeInside());
    if (this.#layer === layer) this.#endInside(outer, reason);
    if (rest.length > 0) this.#read(rest);
  }

  #endInside(outer: Agreement, reason: VproxyError): void {
    const session = this.#session;
    this.#takeLayer();
    this.#stopOpening();
    this.#resumption?.stop();
    this.#resumption = null;
    if (session === null) this.#begin(outer, NOWHERE, reason);
    else if (session.secret !== null) session.suspend(reason);
    else {
      session.end(reason);
      // What the layer held goes nowhere any more.
      session.handleClosed();
    }
  }

  /** Takes the layer from the session; null where it has none. */
  #takeLayer(): SecureLayer | null {
    const layer = this.#layer;
    this.#layer = null;
    this.#inside = null;
    this.#unreadInside = NOTHING;
    return layer;
  }

  /** Lets a layer hand on what it was given: the peer's last words from this side, and why it ends. Then calls `next`. */
  #endLayer(layer: SecureLayer, next: () => void): void {
    const finish = (): void => {
      if (this.#ending?.layer !== layer) return;
      this.#ending = null;
      cancel();
      layer.destroy();
      next();
      this.#onFlushed?.();
      this.#onFlushed = null;
    };
    const cancel = this.#clock.schedule(LAYER_END_MS, finish);
    this.#ending = { layer, finish };
    layer.close(finish);
  }

  /** Takes a session up again where both sides have one, else begins one, which ends at once where it is refused. */
  #begin(agreement: Agreement, sink: ByteSink, refused: VproxyError | null): void {
    const kept = this.#settings.resume?.kept;
    const id = refused === null ? commonSession(agreement) : null;
    const known = id === null ? null : (kept?.find(id) ?? null);
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
    kept?.add(session);
    this.#follow(session);
    session.once('ready', () => this.emit('session', session));
    if (refused === null) session.begin();
    else session.end(refused);
  }

  /** The session of this link, until it ends or leaves. */
  #follow(session: Session, joinedAtMs = this.#clock.now()): void {
    this.#session = session;
    this.#joinedAtMs = joinedAtMs;
    const onEnd = (reason: VproxyError): void => {
      leave();
      this.#ended(session, reason);
    };
    const onSuspended = (reason: VproxyError | null): void => {
      // Whoever heard of it before may have ended it.
      if (session.isOver) return;
      leave();
      this.#session = null;
      const layer = reason === null ? null : this.#takeLayer();
      this.emit('suspended', session, reason);
      if (reason !== null) this.#openBehind(layer, this.#clock.now() - joinedAtMs, reason, () => undefined);
      else if (!this.#isClosed) this.emit('abandoned', displaced());
    };
    const onSilent = (reason: VproxyError): void => void this.emit('abandoned', reason);
    const leave = (): void => {
      session.off('end', onEnd).off('suspended', onSuspended).off('silent', onSilent);
    };
    session.on('end', onEnd).on('suspended', onSuspended).on('silent', onSilent);
  }

  /** Makes sure of the peer; then `session` goes on with this link. */
  #resume(session: Session, agreement: Agreement, sink: ByteSink): void {
    const resumption = new Resumption({
      session,
      agreement,
      sink,
      clock: this.#clock,
      keys: this.#settings.keys,
      onProved: (peerReceivedBytes) => {
        this.#resumption = null;
        this.#follow(session);
        let againBytes = 0;
        try {
          againBytes = session.resume({ agreement, sink, ...this.#hooks }, peerReceivedBytes);
        } catch (error) {
          session.end(toVproxyError(error));
        }
        if (!session.isOver) this.emit('resumed', session, againBytes);
      },
      onFailed: (reason) => {
        this.#resumption = null;
        // A frame of another session would have a wrong number here.
        this.#begin(agreement, NOWHERE, reason);
      },
      onDisplaced: () => {
        this.#resumption = null;
        this.emit('abandoned', displaced());
      },
    });
    this.#resumption = resumption;
    resumption.begin();
  }

  #ended(session: Session, reason: VproxyError): void {
    this.#session = null;
    const layer = this.#takeLayer();
    if (layer === null && this.#sink.unwrittenBytes > 0) this.#unwritten.add(session);
    this.emit('ended', session, reason);
    this.#openBehind(layer, session.ageMs, reason, () => session.handleClosed());
  }

  /**
   * Opens again behind a session that was here for so long, and behind its layer, which hands on what it was given, and is
   * over then: at once, or after a pause.
   */
  #openBehind(layer: SecureLayer | null, hereMs: number, { code }: VproxyError, onLayerOver: () => void): void {
    const open = (): void => {
      if (!this.#isStopped) this.#pause.begin(hereMs, code, () => this.#open());
    };
    if (layer === null) {
      open();
      return;
    }
    // The peer may begin again meanwhile.
    this.#pause.listen();
    this.#endLayer(layer, () => {
      onLayerOver();
      open();
    });
  }

  /** Searches the first of these bytes for a HELLO; what is left of them. */
  #search(bytes: Buffer): Buffer {
    const piece = bytes.subarray(0, SEARCH_BYTES);
    const behind = bytes.subarray(piece.length);
    if (this.#opening === null) {
      this.#pause.receive(piece);
      return behind;
    }
    const established = this.#opening.receive(piece);
    if (established === null) return behind;
    this.#establish(established);
    return Buffer.concat([established.rest, behind]);
  }
}

/**
 * How long a channel is worked on before the other sockets of the process have their turn of the event loop. What a chunk of tiny frames costs is decided by the peer: 128 KiB of them are up to a hundred milliseconds. Frames with
 * much in them never come near this.
 */
const TURN_MS = 0.1;

/** The clock is looked at once in this number of headers and payloads: that is four frames. */
const PARTS_PER_LOOK = 8;

/** One channel's turn. A clock that is stopped, as a test's may be, never ends one. */
export class Turn {
  readonly #clock: Clock;
  #endsAtMs = 0;
  #parts = 0;
  #isOver = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the time is used up. */
  get isOver(): boolean {
    return this.#isOver;
  }

  begin(): void {
    this.#endsAtMs = this.#clock.now() + TURN_MS;
    this.#parts = 0;
    this.#isOver = false;
  }

  /** Looks at the clock: whether the time is used up. */
  readonly look = (): boolean => {
    this.#isOver = this.#clock.now() >= this.#endsAtMs;
    return this.#isOver;
  };

  /** Counts a part of a frame that was read, and looks at the clock now and then: whether the time is used up. */
  readonly countPart = (): boolean => {
    this.#parts += 1;
    return this.#parts % PARTS_PER_LOOK === 0 ? this.look() : this.#isOver;
  };
}
