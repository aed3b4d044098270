/** Local ends of streams that record their events. */
import type { VproxyError } from '../../lib/errors.js';
import type { LocalEnd } from '../../lib/session/local-end.js';
import { SENT } from '../../lib/session/send-buffer.js';
import type { Session } from '../../lib/session/session.js';
import type { SessionStream } from '../../lib/session/stream.js';

export class RecordingSink implements LocalEnd {
  /** The calls, in order: `accept`, `data`, `fin`, `stop CODE`, `sent`, `end`, `end CODE`. */
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  /** The stream, if bytes are to be released as they come. */
  releases: SessionStream | null = null;
  reason: VproxyError | null = null;
  isOver = false;

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  handleAccept(): void {
    this.events.push('accept');
  }

  handleData(bytes: Buffer): boolean {
    this.events.push('data');
    this.chunks.push(Buffer.from(bytes));
    this.releases?.release(bytes.length);
    return false;
  }

  handleFin(): void {
    this.events.push('fin');
  }

  handleStop(reason: VproxyError): void {
    this.events.push(`stop ${reason.code}`);
  }

  handleSent(): void {
    this.events.push('sent');
  }

  handleEnd(reason: VproxyError | null): void {
    if (this.isOver) throw new Error('the end came twice');
    this.isOver = true;
    this.reason = reason;
    this.events.push(reason === null ? 'end' : `end ${reason.code}`);
  }
}

// Local ends of streams that send a pattern which depends on stream and position, and check what they receive against it.

const ROOM = 16;
const TAILROOM = 4;

/** The number of bytes after which a pattern repeats. */
const PERIOD_BYTES = 65_536;

const CHUNK_BYTES = 50_000;

const patterns = new Map<number, Buffer>();

/** The bytes of a stream at a position, in one direction; at most one period of them. */
function patternAt(seed: number, position: number, bytes: number): Buffer {
  const first = (seed * 101) & 0xff;
  let pattern = patterns.get(first);
  if (pattern === undefined) {
    pattern = Buffer.alloc(2 * PERIOD_BYTES);
    for (let index = 0; index < pattern.length; index += 1) pattern[index] = index * 31 + (index >> 8) * 7 + first;
    patterns.set(first, pattern);
  }
  const start = position % PERIOD_BYTES;
  return pattern.subarray(start, start + bytes);
}

/** One end of a stream. Its `other` is the end at the other side, once there is one. */
export class PatternEnd implements LocalEnd {
  stream: SessionStream | null = null;
  other: PatternEnd | null = null;
  /**
   * The session of the stream, which reports when the channel is done with a buffer; null: the buffers that it keeps are not
   * reused.
   */
  session: Session | null = null;
  /** The faults found; empty if there were none. */
  readonly faults: string[] = [];
  /** While true nothing is released: the local socket takes no more. */
  isPaused = false;
  isOver = false;
  reason: VproxyError | null = null;
  finReceived = false;
  hasStopped = false;
  receivedBytes = 0;
  /** The number of bytes received and released. */
  releasedBytes = 0;
  /** Buffers sent and not returned yet. */
  lentBuffers = 0;
  /** How many bytes this end must send. */
  wantedBytes = 0;
  readonly seed: number;
  #offeredBytes = 0;
  #finAsked = false;
  #hasFinished = false;
  #buffer: Buffer | null = null;
  #unreleased: { readonly view: Buffer; readonly at: number }[] = [];

  constructor(seed: number) {
    this.seed = seed;
  }

  /** The number of bytes received and not released yet. */
  get heldBytes(): number {
    return this.receivedBytes - this.releasedBytes;
  }

  /** Sends this many further bytes, as credit and channel permit. */
  send(bytes: number): void {
    if (this.#finAsked) return;
    this.wantedBytes += bytes;
    this.#pump();
  }

  /** Ends this direction after the pending bytes. */
  finish(): void {
    this.#finAsked = true;
    this.#pump();
  }

  /** Stops reading: nothing is expected any longer. */
  stop(): void {
    this.hasStopped = true;
    this.stream?.stop('local-error', 'the pattern is not read any more');
  }

  resume(): void {
    this.isPaused = false;
    this.release(this.#unreleased.length);
  }

  /** Releases up to `pieces` of the pieces received while it was paused. */
  release(pieces: number): void {
    for (const { view, at } of this.#unreleased.splice(0, pieces)) {
      this.#check(view, at);
      this.#release(view.length);
    }
  }

  /** Another process takes over the session: no buffer is returned. */
  forgetBuffers(): void {
    this.lentBuffers = 0;
    this.#buffer = null;
  }

  /** Another process takes over the stream. Events before an answer come again there, like to another local end. */
  moveTo(stream: SessionStream, session: Session): void {
    this.stream = stream;
    this.session = session;
    if (!stream.isIncoming || stream.isAnswered) return;
    this.receivedBytes = this.releasedBytes;
    this.finReceived = false;
    this.#unreleased = [];
  }

  listHeld(): readonly Buffer[] {
    return this.#unreleased.map(({ view }) => view);
  }

  handleAccept(): void {
    // Nothing depends on it.
  }

  handleData(bytes: Buffer): boolean {
    if (this.isOver) this.faults.push('data after the end');
    if (this.finReceived) this.faults.push('data after FIN');
    const at = this.receivedBytes;
    this.receivedBytes += bytes.length;
    this.#check(bytes, at);
    if (this.other !== null && this.receivedBytes > this.other.wantedBytes) this.faults.push('more than was sent');
    if (!this.isPaused) {
      this.#release(bytes.length);
      return false;
    }
    // Kept buffers must not change until they are released.
    const keepsView = this.receivedBytes % 2 === 0;
    this.#unreleased.push({ view: keepsView ? bytes : Buffer.from(bytes), at });
    return keepsView;
  }

  handleFin(): void {
    if (this.finReceived) this.faults.push('two FINs');
    this.finReceived = true;
    if (this.other !== null && this.receivedBytes !== this.other.wantedBytes) {
      this.faults.push(`FIN after ${this.receivedBytes} of ${this.other.wantedBytes} bytes`);
    }
  }

  handleStop(): void {
    this.#finAsked = true;
    this.#returned(this.stream?.isLent !== true);
  }

  handleSent(isFree: boolean): void {
    this.#returned(isFree);
    this.#pump();
  }

  handleEnd(reason: VproxyError | null): void {
    if (this.isOver) this.faults.push('two ends');
    this.isOver = true;
    this.reason = reason;
    this.#returned(this.stream?.isLent !== true);
    for (const { view, at } of this.#unreleased) this.#check(view, at);
  }

  #pump(): void {
    const { stream } = this;
    if (stream === null) return;
    while (!stream.isWaiting && this.#offeredBytes < this.wantedBytes && !stream.isOver && !this.#hasFinished) {
      const size = Math.min(this.wantedBytes - this.#offeredBytes, CHUNK_BYTES);
      const buffer = Buffer.alloc(ROOM + size + TAILROOM);
      patternAt(this.seed, this.#offeredBytes, size).copy(buffer, ROOM);
      this.#offeredBytes += size;
      const hasRoom = this.#offeredBytes % 3 !== 0;
      const sent = stream.send(buffer, ROOM, ROOM + size, hasRoom);
      this.#buffer = buffer;
      if (sent === SENT.WAITING) return;
      this.#returned(sent === SENT.FREE);
    }
    // Pending bytes are sent before the FIN.
    if (this.#finAsked && this.#offeredBytes === this.wantedBytes && !this.#hasFinished) {
      this.#hasFinished = true;
      stream.finish();
    }
  }

  /** The last buffer was sent: it is reused once it is free. */
  #returned(isFree: boolean): void {
    const buffer = this.#buffer;
    this.#buffer = null;
    if (buffer === null) return;
    if (isFree || this.session === null) {
      if (isFree) buffer.fill(0xdd);
      return;
    }
    this.lentBuffers += 1;
    this.session.afterDrain(() => {
      this.lentBuffers -= 1;
      buffer.fill(0xdd);
    });
  }

  #release(bytes: number): void {
    this.releasedBytes += bytes;
    this.stream?.release(bytes);
  }

  #check(bytes: Buffer, at: number): void {
    const seed = this.other?.seed ?? this.seed ^ 1;
    for (let from = 0; from < bytes.length; from += PERIOD_BYTES) {
      const piece = bytes.subarray(from, from + PERIOD_BYTES);
      if (!piece.equals(patternAt(seed, at + from, piece.length))) this.faults.push(`a wrong byte behind ${at + from}`);
    }
  }
}
