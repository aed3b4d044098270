/** Two session loops joined by a channel in memory, without sockets, sleeps or randomness. */

import { setImmediate } from 'node:timers/promises';
import type { ByteSink } from '../../lib/codec/frame-writer.js';
import type { Integrity } from '../../lib/codec/header.js';
import type { Limits } from '../../lib/codec/limits.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { ManualClock } from './time.js';

/** One direction of a channel: keeps what does not fit into its buffer with the writer, as a socket does. */
export class MemoryPipe implements ByteSink {
  /** Bytes that the channel takes before it pushes back. */
  readonly capacityBytes: number;
  #taken: Buffer[] = [];
  #takenBytes = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  /** While true nothing is delivered. */
  isStalled = false;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
  }

  get unwrittenBytes(): number {
    return this.#waitingBytes;
  }

  /** Bytes on the way, written or not. */
  get totalBytes(): number {
    return this.#takenBytes + this.#waitingBytes;
  }

  write(bytes: Buffer): boolean {
    if (this.#waitingBytes === 0 && this.#takenBytes + bytes.length <= this.capacityBytes) {
      // The writer may use its buffer again at once.
      this.#taken.push(Buffer.from(bytes));
      this.#takenBytes += bytes.length;
      return true;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    let isFree = true;
    for (const part of parts) isFree = this.write(part) && isFree;
    return isFree;
  }

  /** Takes up to `maxBytes` out at the far end. `drained` tells that the writer has nothing left waiting. */
  take(maxBytes: number): { readonly bytes: Buffer; readonly drained: boolean } {
    if (this.isStalled) return { bytes: Buffer.alloc(0), drained: false };
    const all = Buffer.concat(this.#taken);
    const bytes = all.subarray(0, maxBytes);
    const rest = all.subarray(maxBytes);
    this.#taken = rest.length > 0 ? [rest] : [];
    this.#takenBytes = rest.length;
    return { bytes: Buffer.from(bytes), drained: this.#refill() };
  }

  /** Changes the bytes that the channel has taken: loses some, repeats some, adds some. */
  mangle(change: (bytes: Buffer) => Buffer): void {
    const bytes = change(Buffer.concat(this.#taken));
    this.#taken = [bytes];
    this.#takenBytes = bytes.length;
  }

  /** Drops what still waits with the writer, as when its process dies: a frame may be left half-written. */
  dropUnwritten(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  /** Drops all bytes on the way. */
  clear(): void {
    this.#taken = [];
    this.#takenBytes = 0;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #refill(): boolean {
    if (this.#waitingBytes === 0) return false;
    while (this.#waiting.length > 0 && this.#takenBytes < this.capacityBytes) {
      const first = this.#waiting[0] as Buffer;
      const piece = first.subarray(0, this.capacityBytes - this.#takenBytes);
      this.#taken.push(Buffer.from(piece));
      this.#takenBytes += piece.length;
      this.#waitingBytes -= piece.length;
      if (piece.length === first.length) this.#waiting.shift();
      else this.#waiting[0] = first.subarray(piece.length);
    }
    return this.#waitingBytes === 0;
  }
}

/** The channel as one process has it: what the process writes after its death is lost. */
export class ProcessSink implements ByteSink {
  readonly #pipe: MemoryPipe;
  isDead = false;

  constructor(pipe: MemoryPipe) {
    this.#pipe = pipe;
  }

  get unwrittenBytes(): number {
    return this.isDead ? 0 : this.#pipe.unwrittenBytes;
  }

  write(bytes: Buffer): boolean {
    return this.isDead || this.#pipe.write(bytes);
  }

  writeParts(parts: readonly Buffer[]): boolean {
    return this.isDead || this.#pipe.writeParts(parts);
  }
}

/** One side of a pair. */
export class Side {
  readonly name: string;
  readonly clock: ManualClock;
  readonly outbound: MemoryPipe;
  readonly settings: SessionSettings;
  readonly sessions: Session[] = [];
  readonly endings: VproxyError[] = [];
  services: string[] = [];
  loop: SessionLoop;
  #sink: ProcessSink;
  onSession: (session: Session) => void = () => undefined;

  constructor(name: string, clock: ManualClock, capacityBytes: number, settings: Partial<SessionSettings>) {
    this.name = name;
    this.clock = clock;
    this.outbound = new MemoryPipe(capacityBytes);
    this.settings = sessionSettings({ ...seededIdentity(name), agent: `test ${name}`, name, ...settings });
    this.#sink = new ProcessSink(this.outbound);
    this.loop = this.#newLoop();
  }

  get session(): Session {
    const { session } = this.loop;
    if (session === null) throw new Error(`${this.name} has no session`);
    return session;
  }

  /** A new process in place of one that was killed, on the same channel. */
  restart(): void {
    this.#sink.isDead = true;
    this.outbound.dropUnwritten();
    this.loop.handleClosed(new VproxyError('shutdown', 'killed'));
    this.#sink = new ProcessSink(this.outbound);
    this.loop = this.#newLoop();
    this.loop.start();
  }

  #newLoop(): SessionLoop {
    const loop = new SessionLoop(this.#sink, this.clock, { ...this.settings, ...seededIdentity(this.name) });
    loop.on('session', (session) => {
      this.sessions.push(session);
      this.onSession(session);
      session.start(this.services);
    });
    loop.on('ended', (_session, reason) => this.endings.push(reason));
    return loop;
  }
}

let identities = 0;

/**
 * An instance of its own for every side and process, and nonces that differ but are not random. The same `number` gives
 * the same ones; without it, each call gives others.
 */
export function seededIdentity(name: string, number?: number): Pick<SessionSettings, 'instance' | 'randomBytes'> {
  if (number === undefined) identities += 1;
  const identity = number ?? identities;
  let state = (identity * 2_654_435_761) >>> 0;
  const randomBytes = (size: number): Buffer => {
    const bytes = Buffer.alloc(size);
    for (let index = 0; index < size; index += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      bytes[index] = state >>> 24;
    }
    return bytes;
  };
  return {
    instance: Buffer.from(name.padEnd(12, '.') + identity.toString().padStart(4, '0'))
      .toString('hex')
      .slice(0, 32),
    randomBytes,
  };
}

export interface PairOptions {
  readonly capacityBytes?: number;
  readonly integrity?: Integrity;
  readonly limits?: Partial<Limits>;
  readonly settings?: Partial<SessionSettings>;
  /** Of `b` only. */
  readonly settingsOfB?: Partial<SessionSettings>;
}

/** Two sides, and the means to move bytes between them. */
export class SessionPair {
  readonly clock = new ManualClock();
  readonly a: Side;
  readonly b: Side;

  constructor({
    capacityBytes = 2 ** 20,
    integrity = 'frame',
    limits = {},
    settings = {},
    settingsOfB,
  }: PairOptions = {}) {
    const common = { integrity, limits: { ...DEFAULT_LIMITS, ...limits }, ...settings };
    this.a = new Side('a', this.clock, capacityBytes, common);
    this.b = new Side('b', this.clock, capacityBytes, { ...common, ...settingsOfB });
  }

  /** Starts both sides and carries bytes until both are established. */
  establish(): void {
    this.a.loop.start();
    this.b.loop.start();
    this.settle();
  }

  /** Carries bytes both ways, at most `pieceBytes` at a time, until nothing moves any more. */
  settle(pieceBytes = 65_536): void {
    while (this.step(pieceBytes));
  }

  /** Carries one piece each way. False when there was nothing to carry. */
  step(pieceBytes = 65_536): boolean {
    const forth = carry(this.a, this.b, pieceBytes);
    const back = carry(this.b, this.a, pieceBytes);
    return forth || back;
  }
}

function carry(from: Side, to: Side, pieceBytes: number): boolean {
  const moves = from.outbound.totalBytes > 0 && !from.outbound.isStalled;
  const { bytes, drained } = from.outbound.take(pieceBytes);
  if (bytes.length > 0) {
    // As a link does: the buffer is overwritten unless it was kept.
    if (!to.loop.receive(bytes)) bytes.fill(0xee);
  }
  if (drained) from.loop.handleDrain();
  return moves || drained;
}

/** Carries bytes while programs at both ends (streams of Node) act in between; until nothing has moved for some turns. */
export async function carryOn(pair: SessionPair, pieceBytes = 65_536): Promise<void> {
  for (let idleTurns = 0; idleTurns < 5; ) {
    idleTurns = pair.step(pieceBytes) ? 0 : idleTurns + 1;
    await setImmediate();
  }
}

/** Carries bytes until a promise has settled, and gives its outcome. */
export async function carryUntil<T>(pair: SessionPair, promise: Promise<T>, pieceBytes = 65_536): Promise<T> {
  const state = { isSettled: false };
  const settle = (): void => {
    state.isSettled = true;
  };
  promise.then(settle, settle);
  while (!state.isSettled) {
    pair.step(pieceBytes);
    await setImmediate();
  }
  return promise;
}
