/** Two sides in memory whose sessions outlive their links: each has one link after another, which is cut when a spec says so. */
import assert from 'node:assert/strict';
import type { Hash } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import { VproxyError } from '../../lib/errors.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import { Session, type SessionState } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { CHANNEL_BUDGET_BYTES, type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { Budget } from '../../lib/util/bounds.js';
import { MemoryPipe, ProcessSink, seededIdentity } from '../helpers/session-pair.js';
import { ManualClock, ProcessClock } from '../helpers/time.js';
import { Traffic } from '../helpers/traffic.js';

/** How long a session waits for another link. */
export const RESUME_MS = 60_000;

/** What is the same on both sides. */
export interface ResumePairOptions {
  readonly settings?: Partial<SessionSettings>;
  /** Bytes that a side keeps before data waits. Default 1,000,000. */
  readonly memoryBytes?: number;
  /** Bytes that the first link takes each way before it pushes back. Default 1,000,000. */
  readonly capacityBytes?: number;
  /** Of what the nonces and secrets are made: the same number gives the same ones. Default: others for every pair. */
  readonly identity?: number;
}

const LARGE_BYTES = 1_000_000;

/** What becomes of a side's link while another process takes over: it goes on, or is gone. */
export type HandOver = 'with link' | 'without link';

/** One side, which has one link after another. */
export class ResumeSide {
  readonly name: string;
  kept: KeptSessions;
  settings: SessionSettings;
  /** How its sessions ended, as `code message`. */
  readonly endings: string[] = [];
  /** The sessions that it had, the newest last. */
  readonly sessions: Session[] = [];
  services: string[] = [];
  outbound: MemoryPipe;
  loop: SessionLoop;
  resumed = 0;
  /** The loops of links that the other side has lost, and this one does not know it. */
  readonly #stale: SessionLoop[] = [];
  onSession: (session: Session) => void = () => undefined;
  /** That of the process which has it now. */
  processClock: ProcessClock;
  /** Called where another process goes on with a session: each of `streams` is in place of that of `before`. */
  onMoved: Traffic['move'] = () => undefined;
  /** What is carried to the other side, where it is recorded. */
  carried: Hash | null = null;
  /** Whether captures are made, and thrown away, at every step. */
  isCaptured = false;
  readonly #clock: ManualClock;
  readonly #memoryBytes: number;
  #sink: ProcessSink;

  constructor(name: string, clock: ManualClock, options: ResumePairOptions) {
    this.name = name;
    this.#clock = clock;
    this.processClock = new ProcessClock(clock);
    this.#memoryBytes = options.memoryBytes ?? LARGE_BYTES;
    this.kept = new KeptSessions(this.processClock, RESUME_MS);
    this.settings = this.#newSettings(options.settings, options.identity);
    this.outbound = new MemoryPipe(options.capacityBytes ?? LARGE_BYTES);
    this.#sink = new ProcessSink(this.outbound);
    this.loop = this.#newLoop();
  }

  /** The newest session that it had, which may be over. */
  get session(): Session {
    const session = this.sessions.at(-1);
    if (session === undefined) throw new Error(`${this.name} had no session`);
    return session;
  }

  /** The link is gone, and with it every earlier one. */
  disconnect(): void {
    for (const loop of [...this.#stale.splice(0), this.loop])
      loop.handleClosed(new VproxyError('channel-closed', 'cut'));
  }

  /** The link is gone, and only the other side knows it. */
  loseUnawares(): void {
    this.#stale.push(this.loop);
  }

  /** Another process takes the place of this one, whose link is gone; the old one knows nothing of that. */
  replace(settings?: Partial<SessionSettings>): void {
    this.kept = new KeptSessions(this.processClock, RESUME_MS);
    this.settings = this.#newSettings(settings);
    this.endings.length = 0;
  }

  /** Captures the session, where there is one, and throws that away. */
  capture(): void {
    if (this.session.isReady && !this.session.isOver) serialize(this.session.state);
    this.loop.capture();
  }

  /**
   * Another process takes over from this one, with its link, where the session is on that, or without. The newest link is opened
   * afresh where it is there, and not the session's. Throws what the capture throws; then nothing has happened.
   */
  handOver(how: HandOver = 'with link'): void {
    const { session, loop, outbound } = this;
    const loopCapture = how === 'with link' && loop.session === session ? loop.capture() : null;
    const { state } = session;
    const streams = session.streams.listAll();
    const endAtMs = this.kept.endAtMs(session);
    const capture = deserialize(serialize(state)) as SessionState;
    const before = deserialize(serialize(state)) as SessionState;
    const { usedBytes } = this.settings.receiveBudget;
    const seen = visible(session);
    this.processClock.die();
    this.#sink.isDead = true;
    this.#stale.length = 0;

    this.processClock = new ProcessClock(this.#clock);
    this.kept = new KeptSessions(this.processClock, RESUME_MS);
    const resume = this.settings.resume === null ? null : { ...this.settings.resume, kept: this.kept };
    this.settings = { ...this.settings, resume, receiveBudget: new Budget(CHANNEL_BUDGET_BYTES) };
    this.#sink = new ProcessSink(outbound);
    this.loop = this.#newLoop();
    const bytesBefore = outbound.totalBytes;
    const context = { sink: null, clock: this.processClock, settings: this.settings };
    const restored = loopCapture === null ? Session.restore(capture, context) : this.loop.restore(capture, loopCapture);
    if (loopCapture !== null || session.isSuspended) {
      assert.deepEqual(comparable(restored.state), comparable(before));
      assert.deepEqual(visible(restored), seen);
    }
    assert.equal(this.settings.receiveBudget.usedBytes, usedBytes);
    assert.equal(this.processClock.pending, 0, 'a timer runs before the session goes on');

    this.sessions[this.sessions.length - 1] = restored;
    this.#listen(restored);
    this.onMoved(session, restored, streams, restored.streams.listAll());
    assert.equal(outbound.totalBytes, bytesBefore, 'bytes go out before the session goes on');
    if (loopCapture === null) {
      this.kept.adopt(restored, endAtMs);
      restored.goOn();
      if (how === 'with link') this.loop.start();
    } else this.loop.goOn();
  }

  /** A new link, in place of the one that there was. It is to be started. */
  connect(capacityBytes: number): void {
    this.outbound = new MemoryPipe(capacityBytes);
    this.#sink = new ProcessSink(this.outbound);
    this.loop = this.#newLoop();
  }

  #newSettings(settings: Partial<SessionSettings> = {}, identity?: number): SessionSettings {
    const resume = { kept: this.kept, memoryBytes: this.#memoryBytes };
    return sessionSettings({ ...seededIdentity(this.name, identity), name: this.name, resume, ...settings });
  }

  #newLoop(): SessionLoop {
    const loop = new SessionLoop(this.#sink, this.processClock, this.settings);
    loop.on('session', (session) => {
      this.sessions.push(session);
      this.#listen(session);
      session.start(this.services);
    });
    loop.on('abandoned', (reason) => {
      this.#stale.splice(this.#stale.indexOf(loop), this.#stale.includes(loop) ? 1 : 0);
      loop.handleClosed(reason);
    });
    loop.on('resumed', () => {
      this.resumed += 1;
    });
    return loop;
  }

  #listen(session: Session): void {
    this.onSession(session);
    session.on('end', ({ code, message }) => this.endings.push(`${code} ${message}`));
  }
}

/** Two of them, the links between them, and the streams of patterns on those. */
export class ResumePair {
  readonly clock = new ManualClock();
  readonly a: ResumeSide;
  readonly b: ResumeSide;
  readonly traffic: Traffic;

  /** Both are established with each other. */
  constructor(options: ResumePairOptions = {}) {
    const { identity } = options;
    this.a = new ResumeSide('a', this.clock, options);
    this.b = new ResumeSide('b', this.clock, identity === undefined ? options : { ...options, identity: identity + 1 });
    this.traffic = new Traffic(this);
    for (const side of this.sides) side.onMoved = this.traffic.move.bind(this.traffic);
    this.start();
    this.settle();
  }

  get sides(): readonly [ResumeSide, ResumeSide] {
    return [this.a, this.b];
  }

  /** The endings of both sides. */
  get endings(): string[] {
    return this.sides.flatMap(({ name, endings }) => endings.map((ending) => `${name}: ${ending}`));
  }

  start(): void {
    for (const side of this.sides) side.loop.start();
  }

  /** Carries a piece each way. False when there was nothing to carry. */
  step(forthBytes: number, backBytes = forthBytes): boolean {
    const forth = carry(this.a, this.b, forthBytes);
    const back = carry(this.b, this.a, backBytes);
    return forth || back;
  }

  settle(pieceBytes = 65_536): void {
    while (this.step(pieceBytes));
  }

  /** All that is on the way is lost, and both sides know it. */
  disconnect(): void {
    for (const side of this.sides) side.disconnect();
  }

  /** Both sides have a new link. */
  connect(capacityBytes = LARGE_BYTES): void {
    for (const side of this.sides) side.connect(capacityBytes);
    this.start();
  }

  cut(capacityBytes?: number): void {
    this.disconnect();
    this.connect(capacityBytes);
  }
}

/**
 * Carries a piece from one side to the other, as often as it says: a link that is good does so once. False when there was
 * nothing to carry.
 */
export function carry(from: ResumeSide, to: ResumeSide, pieceBytes: number, times = 1): boolean {
  const moves = from.outbound.totalBytes > 0 && !from.outbound.isStalled;
  const { bytes, drained } = from.outbound.take(pieceBytes);
  from.carried?.update(bytes);
  for (let time = 0; time < times && bytes.length > 0; time += 1) deliver(to, times === 1 ? bytes : Buffer.from(bytes));
  if (drained) from.loop.handleDrain();
  for (const side of [from, to]) if (side.isCaptured) side.capture();
  return moves || drained;
}

/** Hands bytes to a side, as a link does: they are overwritten unless they were kept. */
export function deliver(to: ResumeSide, bytes: Buffer): void {
  if (!to.loop.receive(bytes)) bytes.fill(0xee);
}

/** A capture without what may differ: how kept bytes are divided, and turns of streams that are over. */
function comparable(capture: SessionState): unknown {
  const { continuity, scheduler, streams } = capture;
  const ids = new Set(streams.map(({ id }) => id));
  const alive = (row: readonly number[]): number[] => row.filter((id) => ids.has(id));
  const { ready } = scheduler;
  return deserialize(
    serialize({
      ...capture,
      continuity: continuity && {
        ...continuity,
        backlog: { ...continuity.backlog, pieces: Buffer.concat(continuity.backlog.pieces) },
      },
      scheduler: { ...scheduler, ready: { ...ready, small: alive(ready.small), others: alive(ready.others) } },
    }),
  );
}

/** What a session says of itself and its streams. */
function visible(session: Session): unknown {
  const { counters, ageMs, roundTripMs, peerServices, isReady, isDraining, isSuspended, keyId } = session;
  const { unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secret } = session;
  return {
    ...{ counters, ageMs, roundTripMs, peerServices, isReady, isDraining, isSuspended, keyId },
    ...{ unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secretId: secret?.id },
    streamCount: session.streams.size,
    streams: session.streams.list().map((stream) => {
      const { id, service, from, isIncoming, openedAtMs, owner, isAnswered, isOver, isDraining: isLeft } = stream;
      const { sentBytes, grantedBytes, heldBytes, frameBytes, isWaiting, smallFrames } = stream;
      return {
        ...{ id, service, from, isIncoming, openedAtMs, owner, isAnswered, isOver, isLeft },
        ...{ sentBytes, grantedBytes, heldBytes, frameBytes, isWaiting, smallFrames },
        receivedBytes: stream.receivedBytes,
        sendCreditBytes: stream.sendCreditBytes,
        waitsFor: stream.waitsFor(sendCreditBytes),
      };
    }),
  };
}
