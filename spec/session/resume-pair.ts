/** Two sides in memory whose sessions outlive their links: each has one link after another, which is cut when a spec says so. */
import { VproxyError } from '../../lib/errors.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { MemoryPipe, seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
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
  readonly #clock: ManualClock;
  readonly #memoryBytes: number;

  constructor(name: string, clock: ManualClock, options: ResumePairOptions) {
    this.name = name;
    this.#clock = clock;
    this.#memoryBytes = options.memoryBytes ?? LARGE_BYTES;
    this.kept = new KeptSessions(clock, RESUME_MS);
    this.settings = this.#newSettings(options.settings, options.identity);
    this.outbound = new MemoryPipe(options.capacityBytes ?? LARGE_BYTES);
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
    this.kept = new KeptSessions(this.#clock, RESUME_MS);
    this.settings = this.#newSettings(settings);
    this.endings.length = 0;
  }

  /** A new link, in place of the one that there was. It is to be started. */
  connect(capacityBytes: number): void {
    this.outbound = new MemoryPipe(capacityBytes);
    this.loop = this.#newLoop();
  }

  #newSettings(settings: Partial<SessionSettings> = {}, identity?: number): SessionSettings {
    const resume = { kept: this.kept, memoryBytes: this.#memoryBytes };
    return sessionSettings({ ...seededIdentity(this.name, identity), name: this.name, resume, ...settings });
  }

  #newLoop(): SessionLoop {
    const loop = new SessionLoop(this.outbound, this.#clock, this.settings);
    loop.on('session', (session) => {
      this.sessions.push(session);
      this.onSession(session);
      session.on('end', ({ code, message }) => this.endings.push(`${code} ${message}`));
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
  for (let time = 0; time < times && bytes.length > 0; time += 1) deliver(to, times === 1 ? bytes : Buffer.from(bytes));
  if (drained) from.loop.handleDrain();
  return moves || drained;
}

/** Hands bytes to a side, as a link does: they are overwritten unless they were kept. */
export function deliver(to: ResumeSide, bytes: Buffer): void {
  if (!to.loop.receive(bytes)) bytes.fill(0xee);
}
