/** A peer that writes the protocol frame by frame, by hand, and can break its every rule. In memory, on a manual clock. */

import { FrameLog, formatSeen } from '../../conformance/frame-log.js';
import { FrameMaker, type FrameMakerOptions } from '../../conformance/frame-maker.js';
import { DEFAULT_LIMITS, type Limits } from '../../lib/codec/limits.js';
import type { VproxyError } from '../../lib/errors.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { RecordingSink } from './local-ends.js';
import { MemoryPipe, seededIdentity } from './session-pair.js';
import { ManualClock } from './time.js';

/** `integrity` is also the level that the side under test requests. */
export interface FramePeerOptions extends FrameMakerOptions {
  readonly limits?: Partial<Limits>;
  readonly settings?: Partial<SessionSettings>;
  /** Bytes that the channel takes from the side under test before back-pressure. */
  readonly capacityBytes?: number;
  readonly clock?: ManualClock;
  readonly services?: readonly string[];
}

export class FramePeer extends FrameMaker {
  readonly clock: ManualClock;
  readonly outbound: MemoryPipe;
  readonly settings: SessionSettings;
  readonly loop: SessionLoop;
  readonly log: FrameLog;
  readonly sessions: Session[] = [];
  readonly endings: VproxyError[] = [];
  /** The streams that this peer opened, as seen by the side under test, by id. */
  readonly streams = new Map<number, SessionStream>();
  readonly sinks = new Map<number, RecordingSink>();
  /** The number of event loop turns in which the side under test has read the written bytes. */
  turns = 0;
  /** While false nothing is taken from the channel. */
  isReading = true;
  /** The size of the pieces in which its bytes arrive. Default: whole. */
  pieceBytes: number | undefined;
  /** Called for an announced stream whose sink is attached. Default: accepts it. */
  onStream: (stream: SessionStream) => void = (stream) => stream.accept();

  constructor(options: FramePeerOptions = {}) {
    super(options);
    const { integrity = 'full', limits = {}, settings = {}, capacityBytes = 2 ** 24 } = options;
    this.clock = options.clock ?? new ManualClock();
    this.outbound = new MemoryPipe(capacityBytes);
    this.log = new FrameLog(integrity, () => this.nonce);
    if (options.features?.includes('resume') === true) this.log.counted = [];
    this.settings = sessionSettings({
      ...seededIdentity('side'),
      integrity,
      limits: { ...DEFAULT_LIMITS, ...limits },
      ...settings,
    });
    this.loop = new SessionLoop(this.outbound, this.clock, this.settings);
    this.loop.on('session', (session) => {
      this.sessions.push(session);
      session.server = { serve: (stream) => this.#attach(stream) };
      session.start(options.services ?? []);
    });
    this.loop.on('ended', (_session, reason) => this.endings.push(reason));
  }

  /** A peer of a side that has started to open, whose first output has been read. */
  static opening(options: FramePeerOptions = {}): FramePeer {
    const peer = new FramePeer(options);
    peer.loop.start();
    peer.pump();
    return peer;
  }

  /** An established peer; the frames with which the side under test begins a session are removed from its log. */
  static established(options: FramePeerOptions = {}): FramePeer {
    const peer = FramePeer.opening(options);
    peer.establish();
    peer.log.take();
    return peer;
  }

  get codes(): string[] {
    return this.endings.map(({ code }) => code);
  }

  get session(): Session {
    const { session } = this.loop;
    if (session === null) throw new Error('there is no session');
    return session;
  }

  get otherNonce(): string {
    const hello = this.log.hellos.at(-1);
    if (hello === undefined) throw new Error('no HELLO was seen');
    return hello.nonce;
  }

  /** Answers the newest HELLO; `fields` are more of this peer's own, or others. */
  establish(fields: Readonly<Record<string, unknown>> = {}): void {
    this.pump();
    this.write(this.hello({ ack: this.otherNonce, ...fields }));
  }

  /** Makes the side under test send this many bytes, or a text, on a stream; returns the stream's answer. */
  sendFrom(streamId: number, what: number | string): number | undefined {
    const bytes = typeof what === 'number' ? Buffer.alloc(what) : Buffer.from(what);
    return this.streams.get(streamId)?.send(bytes, 0, bytes.length, false);
  }

  /** Passes bytes to the side under test, in pieces, and reads its answers. */
  override write(bytes: Buffer, pieceBytes: number = this.pieceBytes ?? bytes.length): void {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      // Like a link: the buffer is overwritten unless it was kept.
      const piece = Buffer.from(bytes.subarray(at, at + pieceBytes));
      const isKept = this.loop.receive(piece);
      // Bytes left for another turn were copied by then.
      const left = this.loop.takeUnread();
      const unread = Buffer.from(left ?? []);
      if (!isKept) piece.fill(0xee);
      this.turns += 1;
      let isUnreadKept = false;
      for (let rest: Buffer | null = left === null ? null : unread; rest !== null; rest = this.loop.takeUnread()) {
        if (this.loop.receive(rest)) isUnreadKept = true;
        this.turns += 1;
      }
      if (!isUnreadKept) unread.fill(0xee);
    }
    this.pump();
  }

  /** Reads the output of the side under test until it writes no more. */
  pump(): void {
    while (this.isReading) {
      const { bytes, drained } = this.outbound.take(2 ** 20);
      this.log.push(bytes);
      if (drained) this.loop.handleDrain();
      if (this.outbound.totalBytes === 0 && !drained) return;
    }
  }

  /** Advances the clock, and reads the output of the side under test meanwhile. */
  advance(ms: number): void {
    this.clock.advance(ms);
    this.pump();
  }

  /** Takes the received frames, as texts: `FIN 1`, `REFUSE 3 too-many-streams`, `DATA 1 5` (bytes), `CREDIT 0 4096`. */
  takeTexts(): string[] {
    return this.log.take().map(formatSeen);
  }

  #attach(stream: SessionStream): void {
    const sink = new RecordingSink();
    stream.attach(sink);
    this.streams.set(stream.id, stream);
    this.sinks.set(stream.id, sink);
    this.onStream(stream);
  }
}
