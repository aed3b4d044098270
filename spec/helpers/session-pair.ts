/**
 * Two sides in memory, without sockets, sleeps or randomness: links with faults between them, one after another, on a manual
 * clock, and processes that die or hand over.
 */
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { deserialize, serialize } from 'node:v8';
import type { ByteSink } from '../../lib/codec/frame-writer.js';
import type { Integrity } from '../../lib/codec/header.js';
import type { Limits } from '../../lib/codec/limits.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import { Session, type SessionState } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { CHANNEL_BUDGET_BYTES, type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { Budget } from '../../lib/util/bounds.js';
import { ManualClock, ProcessClock, within } from './time.js';
import type { Traffic } from './traffic.js';

interface Piece {
  readonly bytes: Buffer;
  /** The total number of bytes written, up to the end of these. */
  readonly writtenTo: number;
  readonly readyAtMs: number;
  /** Whether the bytes were changed: their original positions are then unknown. */
  readonly isMangled: boolean;
}

/** One direction of a link: keeps what does not fit into its buffer with the writer, like a socket. */
export class MemoryPipe implements ByteSink {
  isStalled = false;
  /** How far into everything written the taken bytes reach. */
  takenTo = 0;
  readonly #capacityBytes: number;
  readonly #latencyMs: number;
  readonly #nowMs: () => number;
  #way: Piece[] = [];
  #wayBytes = 0;
  #writtenTo = 0;
  /** The bytes that wait with the writer, and a copy from when they were handed over. */
  #waiting: { readonly bytes: Buffer; readonly written: Buffer }[] = [];
  #waitingBytes = 0;

  /** Takes `capacityBytes` before back-pressure. A byte is in flight for `latencyMs`. */
  constructor(capacityBytes: number, latencyMs = 0, nowMs: () => number = () => 0) {
    this.#capacityBytes = capacityBytes;
    this.#latencyMs = latencyMs;
    this.#nowMs = nowMs;
  }

  get unwrittenBytes(): number {
    return this.#waitingBytes;
  }

  get totalBytes(): number {
    return this.#wayBytes + this.#waitingBytes;
  }

  /** When the next bytes come out, or infinity. */
  get readyAtMs(): number {
    return this.isStalled ? Number.POSITIVE_INFINITY : (this.#way[0]?.readyAtMs ?? Number.POSITIVE_INFINITY);
  }

  write(bytes: Buffer): boolean {
    if (this.#waitingBytes === 0 && this.#wayBytes + bytes.length <= this.#capacityBytes) {
      this.#send(bytes);
      return true;
    }
    this.#waiting.push({ bytes, written: Buffer.from(bytes) });
    this.#waitingBytes += bytes.length;
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    return parts.map((part) => this.write(part)).every(Boolean);
  }

  /** Takes up to `maxBytes` that have arrived. `drained` reports that the writer has nothing left waiting. */
  take(maxBytes: number): { readonly bytes: Buffer; readonly drained: boolean } {
    if (this.isStalled) return { bytes: Buffer.alloc(0), drained: false };
    const parts: Buffer[] = [];
    let size = 0;
    let whole = 0;
    for (let piece = this.#way[0]; piece !== undefined && size < maxBytes; piece = this.#way[whole]) {
      if (piece.readyAtMs > this.#nowMs()) break;
      const part = piece.bytes.subarray(0, maxBytes - size);
      const left = piece.bytes.length - part.length;
      if (left === 0) whole += 1;
      else this.#way[whole] = { ...piece, bytes: piece.bytes.subarray(part.length) };
      parts.push(part);
      size += part.length;
      // A repeated piece begins again before its end.
      this.takenTo = Math.max(this.takenTo, piece.isMangled ? piece.writtenTo : piece.writtenTo - left);
    }
    this.#way.splice(0, whole);
    this.#wayBytes -= size;
    return { bytes: Buffer.concat(parts), drained: this.#refill() };
  }

  /** Changes the bytes in flight: loses, repeats or adds some. */
  mangle(change: (bytes: Buffer) => Buffer): void {
    const bytes = change(Buffer.concat(this.#way.map((piece) => piece.bytes)));
    const readyAtMs = this.#way[0]?.readyAtMs ?? this.#nowMs() + this.#latencyMs;
    this.#way = bytes.length > 0 ? [{ bytes, writtenTo: this.#writtenTo, readyAtMs, isMangled: true }] : [];
    this.#wayBytes = bytes.length;
  }

  /** Repeats a write `times` times: mostly whole frames. */
  repeatPiece(at: number, times: number): void {
    const index = at % Math.max(this.#way.length, 1);
    const piece = this.#way[index];
    if (piece === undefined) return;
    this.#way.splice(index, 1, ...Array.from({ length: times }, () => piece));
    this.#wayBytes += (times - 1) * piece.bytes.length;
  }

  /** Drops what still waits with the writer, as when its process dies: a frame may be left half-written. */
  dropUnwritten(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  clear(): void {
    this.dropUnwritten();
    this.#way = [];
    this.#wayBytes = 0;
  }

  /** Throws if a buffer was changed while it waited: its owner had it back too early. */
  #refill(): boolean {
    if (this.#waitingBytes === 0) return false;
    for (
      let [first] = this.#waiting;
      first !== undefined && this.#wayBytes < this.#capacityBytes;
      [first] = this.#waiting
    ) {
      const { bytes, written } = first;
      const size = Math.min(bytes.length, this.#capacityBytes - this.#wayBytes);
      if (bytes.compare(written, 0, size, 0, size) !== 0) throw new Error('a buffer was changed before it was written');
      this.#send(bytes.subarray(0, size));
      this.#waitingBytes -= size;
      if (size === bytes.length) this.#waiting.shift();
      else this.#waiting[0] = { bytes: bytes.subarray(size), written: written.subarray(size) };
    }
    return this.#waitingBytes === 0;
  }

  #send(bytes: Buffer): void {
    this.#writtenTo += bytes.length;
    this.#wayBytes += bytes.length;
    const readyAtMs = this.#nowMs() + this.#latencyMs;
    // The writer may reuse its buffer at once.
    this.#way.push({ bytes: Buffer.from(bytes), writtenTo: this.#writtenTo, readyAtMs, isMangled: false });
  }
}

/** Watches the output of a process: whole frames, and how much waited before them. */
type WriteWatcher = (bytes: Buffer, unwrittenBytes: number) => void;

class ProcessSink implements ByteSink {
  readonly #pipe: MemoryPipe;
  readonly #watch: WriteWatcher | null;
  /** The bytes unwritten when the process died, which still count; null while it lives. */
  #leftBytes: number | null = null;

  constructor(pipe: MemoryPipe, watch: WriteWatcher | null) {
    this.#pipe = pipe;
    this.#watch = watch;
  }

  get unwrittenBytes(): number {
    return this.#leftBytes ?? this.#pipe.unwrittenBytes;
  }

  write(bytes: Buffer): boolean {
    return this.writeParts([bytes]);
  }

  writeParts(parts: readonly Buffer[]): boolean {
    if (this.#leftBytes !== null) return true;
    if (parts.length > 0) this.#watch?.(Buffer.concat(parts), this.#pipe.unwrittenBytes);
    return this.#pipe.writeParts(parts);
  }

  die(): void {
    this.#leftBytes ??= this.#pipe.unwrittenBytes;
  }
}

export interface SideOptions {
  readonly settings: () => Partial<SessionSettings>;
  readonly outbound: MemoryPipe;
  /** Makes the sessions outlive their links: the bytes kept before data waits. Default: they do not. */
  readonly memoryBytes?: number | undefined;
  /** The seed of each process's nonces and secrets; see `seededIdentity`. */
  readonly nextIdentity?: (() => number) | undefined;
  readonly watch?: WriteWatcher;
}

export const RESUME_MS = 60_000;

/** The fate of a side's link while another process takes over: it stays, or is lost. */
export type HandOver = 'with link' | 'without link';

/** One side of a pair: one process after another, on one link after another. */
export class Side {
  readonly name: string;
  readonly clock: ManualClock;
  readonly sessions: Session[] = [];
  /** How its sessions ended, and openings that failed. */
  readonly endings: VproxyError[] = [];
  readonly ended: string[] = [];
  services: string[] = [];
  onSession: (session: Session) => void = () => undefined;
  /** Called when another process takes over a session: each of `streams` replaces that of `before`. */
  onMoved: Traffic['move'] = () => undefined;
  /** Sees the bytes carried to the other side, before they are. */
  tap: (bytes: Buffer) => void = () => undefined;
  settings: SessionSettings;
  kept: KeptSessions;
  processClock: ProcessClock;
  outbound: MemoryPipe;
  loop: SessionLoop;
  resumed = 0;
  readonly #options: SideOptions;
  #sink: ProcessSink;
  /** The loops of links that the other side has lost without this one knowing. */
  readonly #stale: SessionLoop[] = [];

  constructor(name: string, clock: ManualClock, options: SideOptions) {
    this.name = name;
    this.clock = clock;
    this.#options = options;
    this.processClock = new ProcessClock(clock);
    this.kept = new KeptSessions(this.processClock, RESUME_MS);
    this.settings = this.#newSettings();
    this.outbound = options.outbound;
    this.#sink = new ProcessSink(this.outbound, options.watch ?? null);
    this.loop = this.#newLoop();
  }

  /** The session on the newest link; otherwise the newest one, which may be over. */
  get session(): Session {
    const session = this.loop.session ?? this.sessions.at(-1);
    if (session === undefined) throw new Error(`${this.name} had no session`);
    return session;
  }

  /** Passes bytes to it, like a link: they are overwritten unless they were kept. */
  deliver(bytes: Buffer): void {
    if (!this.loop.receive(bytes)) bytes.fill(0xee);
  }

  /** Loses the link, and every earlier one. */
  disconnect(reason = new VproxyError('channel-closed', 'cut')): void {
    for (const loop of [...this.#stale.splice(0), this.loop]) loop.handleClosed(reason);
  }

  loseUnawares(): void {
    this.#stale.push(this.loop);
  }

  /** A new link, replacing the previous one. The caller starts it. */
  connect(outbound: MemoryPipe): void {
    this.outbound = outbound;
    this.#sink = new ProcessSink(outbound, this.#options.watch ?? null);
    this.loop = this.#newLoop();
  }

  /** Kills the process, perhaps in the middle of a frame. */
  kill(): void {
    this.#sink.die();
    this.disconnect(new VproxyError('shutdown', 'killed'));
    this.outbound.dropUnwritten();
  }

  /** Another process replaces this one, which does not know it. It has no link yet. */
  replace(settings: Partial<SessionSettings> = {}): void {
    this.processClock.die();
    this.processClock = new ProcessClock(this.clock);
    this.kept = new KeptSessions(this.processClock, RESUME_MS);
    this.settings = this.#newSettings(settings);
  }

  /** A new process replaces a killed one, on its link or on another. */
  spawn(outbound = this.outbound): void {
    this.replace();
    this.connect(outbound);
    this.loop.start();
  }

  restart(): void {
    this.kill();
    this.spawn();
  }

  /** Captures the session, if there is one, and discards the capture. */
  capture(): void {
    if (this.session.wasEstablished && !this.session.isOver) serialize(this.session.state);
  }

  /**
   * Another process takes over, with the link if the session is on it, or without. If the newest link exists but is not the
   * session's, it is opened again. Throws what the capture throws; then nothing has happened.
   */
  handOver(how: HandOver = 'with link'): void {
    const { session, loop, outbound } = this;
    const joinedAtMs = how === 'with link' && loop.session === session ? loop.joinedAtMs : null;
    const { state } = session;
    const streams = session.streams.listAll();
    const endAtMs = this.kept.endAtMs(session);
    const [capture, before] = [copyOf(state), copyOf(state)];
    const { usedBytes } = this.settings.receiveBudget;
    const seen = visible(session);
    this.#sink.die();
    this.#stale.length = 0;

    const { settings } = this;
    this.replace();
    const resume = settings.resume === null ? null : { ...settings.resume, kept: this.kept };
    this.settings = { ...settings, resume, receiveBudget: new Budget(CHANNEL_BUDGET_BYTES) };
    this.connect(outbound);
    const bytesBefore = outbound.totalBytes;
    const context = { sink: null, clock: this.processClock, settings: this.settings };
    const restored = joinedAtMs === null ? Session.restore(capture, context) : this.loop.restore(capture, joinedAtMs);
    if (joinedAtMs !== null || session.isSuspended) {
      assert.deepEqual(comparable(restored.state), comparable(before));
      assert.deepEqual(visible(restored), seen);
    }
    assert.equal(this.settings.receiveBudget.usedBytes, usedBytes);
    assert.equal(this.processClock.pending, 0, 'a timer runs before the session goes on');

    this.sessions[this.sessions.length - 1] = restored;
    this.#listen(restored);
    this.onMoved(session, restored, streams, restored.streams.listAll());
    assert.equal(outbound.totalBytes, bytesBefore, 'bytes go out before the session goes on');
    if (joinedAtMs === null) {
      this.kept.adopt(restored, endAtMs);
      restored.goOn();
      if (how === 'with link') this.loop.start();
    } else this.loop.goOn();
  }

  protected noteEnd(reason: VproxyError): void {
    this.endings.push(reason);
  }

  #newSettings(given: Partial<SessionSettings> = {}): SessionSettings {
    const { settings, memoryBytes, nextIdentity } = this.#options;
    const resume = memoryBytes === undefined ? null : { kept: this.kept, memoryBytes };
    const { name } = this;
    const identity = seededIdentity(name, nextIdentity?.());
    return sessionSettings({ ...identity, agent: `test ${name}`, name, resume, ...settings(), ...given });
  }

  #newLoop(): SessionLoop {
    const loop = new SessionLoop(this.#sink, this.processClock, this.settings);
    loop.on('session', (session) => {
      this.sessions.push(session);
      this.#listen(session);
      session.start(this.services);
    });
    loop.on('ended', (_session, reason) => this.noteEnd(reason));
    loop.on('abandoned', (reason) => {
      if (this.#stale.includes(loop)) this.#stale.splice(this.#stale.indexOf(loop), 1);
      if (this.settings.resume !== null) loop.handleClosed(reason);
    });
    loop.on('resumed', () => void (this.resumed += 1));
    return loop;
  }

  #listen(session: Session): void {
    this.onSession(session);
    session.on('end', ({ code, message }) => this.ended.push(`${code} ${message}`));
  }
}

// The part of a session that must be the same in the process that takes it over.

const copyOf = (state: SessionState): SessionState => deserialize(serialize(state)) as SessionState;

/** A capture without what may differ: how kept bytes are divided, and turns of finished streams. */
function comparable(capture: SessionState): unknown {
  const { continuity, scheduler, streams } = capture;
  const ids = new Set(streams.map(({ id }) => id));
  const alive = (row: readonly number[]): number[] => row.filter((id) => ids.has(id));
  const { ready } = scheduler;
  const backlog = continuity && { ...continuity.backlog, pieces: Buffer.concat(continuity.backlog.pieces) };
  const turns = { ...scheduler, ready: { ...ready, small: alive(ready.small), others: alive(ready.others) } };
  return deserialize(serialize({ ...capture, continuity: continuity && { ...continuity, backlog }, scheduler: turns }));
}

const VISIBLE = [
  ...(['id', 'service', 'from', 'isIncoming', 'openedAtMs', 'owner', 'isAnswered', 'isOver', 'isDraining'] as const),
  ...(['sentBytes', 'grantedBytes', 'unreadBytes', 'frameBytes', 'isWaiting', 'smallFrames'] as const),
  ...(['receivedBytes', 'sendCreditBytes'] as const),
];

function visible(session: Session): unknown {
  const { counters, ageMs, roundTripMs, peerServices, wasEstablished, isDraining, isSuspended, keyId } = session;
  const { unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secret, streams } = session;
  return {
    ...{ counters, ageMs, roundTripMs, peerServices, wasEstablished, isDraining, isSuspended, keyId },
    ...{ unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secretId: secret?.id },
    streamCount: streams.size,
    streams: streams.list().map((stream) => ({
      ...Object.fromEntries(VISIBLE.map((name) => [name, stream[name]])),
      waitsFor: stream.waitsFor(sendCreditBytes),
    })),
  };
}

let identities = 0;

/**
 * An instance for every side and process, with nonces that differ but are not random. The same `number` gives the same ones;
 * without it, each call gives others.
 */
export function seededIdentity(name: string, number?: number): Pick<SessionSettings, 'instance' | 'randomBytes'> {
  const identity = number ?? (identities += 1);
  let state = (identity * 2_654_435_761) >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  };
  const instance = Buffer.from(name.padEnd(12, '.') + identity.toString().padStart(4, '0'));
  return {
    instance: instance.toString('hex', 0, 16),
    randomBytes: (size) => Buffer.from(Array.from({ length: size }, next)),
  };
}

const CAPACITY_BYTES = 2 ** 20;

export interface PairOptions extends Pick<SideOptions, 'memoryBytes'> {
  /** Bytes that the first link takes each way before back-pressure. Default 1 MiB. */
  readonly capacityBytes?: number;
  readonly integrity?: Integrity;
  readonly limits?: Partial<Limits>;
  readonly settings?: Partial<SessionSettings>;
  readonly settingsOfB?: Partial<SessionSettings>;
  /** The seed of the nonces and secrets: the same number gives the same ones. Default: others for every pair. */
  readonly identity?: number | undefined;
}

export class SessionPair {
  readonly clock = new ManualClock();
  readonly a: Side;
  readonly b: Side;

  constructor(options: PairOptions = {}) {
    const { capacityBytes = CAPACITY_BYTES, integrity = 'frame', limits, settings, settingsOfB, memoryBytes } = options;
    const { identity } = options;
    let next = identity ?? 0;
    const common = { integrity, limits: { ...DEFAULT_LIMITS, ...limits }, ...settings };
    const nextIdentity = identity === undefined ? undefined : () => next++;
    const newSide = (name: string, given: Partial<SessionSettings>): Side => {
      const outbound = new MemoryPipe(capacityBytes);
      return new Side(name, this.clock, { settings: () => given, outbound, memoryBytes, nextIdentity });
    };
    this.a = newSide('a', common);
    this.b = newSide('b', { ...common, ...settingsOfB });
  }

  static established(options?: PairOptions): SessionPair {
    const pair = new SessionPair(options);
    pair.establish();
    return pair;
  }

  get sides(): readonly [Side, Side] {
    return [this.a, this.b];
  }

  /** How the sessions of both sides ended, as `side: code message`. */
  get ended(): string[] {
    return this.sides.flatMap(({ name, ended }) => ended.map((ending) => `${name}: ${ending}`));
  }

  start(): void {
    for (const { loop } of this.sides) loop.start();
  }

  establish(): void {
    this.start();
    this.settle();
  }

  /** Carries bytes both ways, at most `pieceBytes` at a time, until nothing moves. */
  settle(pieceBytes = 65_536): void {
    while (this.step(pieceBytes));
  }

  /** Carries one piece each way. False if there was nothing to carry. */
  step(forthBytes = 65_536, backBytes = forthBytes): boolean {
    const forth = carry(this.a, this.b, forthBytes);
    const back = carry(this.b, this.a, backBytes);
    return forth || back;
  }

  disconnect(): void {
    for (const side of this.sides) side.disconnect();
  }

  connect(capacityBytes = CAPACITY_BYTES): void {
    for (const side of this.sides) side.connect(new MemoryPipe(capacityBytes));
    this.start();
  }

  cut(capacityBytes?: number): void {
    this.disconnect();
    this.connect(capacityBytes);
  }
}

/** Carries a piece from one side to the other, as often as it says: once for a good link. False if there was nothing to carry. */
export function carry(from: Side, to: Side, pieceBytes: number, times = 1): boolean {
  const moves = from.outbound.totalBytes > 0 && !from.outbound.isStalled;
  const { bytes, drained } = from.outbound.take(pieceBytes);
  from.tap(bytes);
  for (let time = 0; time < times && bytes.length > 0; time += 1) to.deliver(times === 1 ? bytes : Buffer.from(bytes));
  if (drained) from.loop.handleDrain();
  return moves || drained;
}

/** Carries bytes while programs at both ends (Node streams) act in between; until nothing has moved for some turns. */
export async function carryOn(pair: SessionPair, pieceBytes = 65_536): Promise<void> {
  for (let idleTurns = 0; idleTurns < 5; ) {
    idleTurns = pair.step(pieceBytes) ? 0 : idleTurns + 1;
    await setImmediate();
  }
}

/** Carries bytes until a promise has settled, and returns its outcome; it fails if that never comes. */
export async function carryUntil<T>(pair: SessionPair, awaited: Promise<T>, pieceBytes = 65_536): Promise<T> {
  const promise = within(60_000, 'what the two are carried on for', awaited);
  const state = { isSettled: false };
  const settle = (): void => void (state.isSettled = true);
  promise.then(settle, settle);
  while (!state.isSettled) {
    pair.step(pieceBytes);
    await setImmediate();
  }
  return promise;
}
