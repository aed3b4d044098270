/** Local ends of streams that send a pattern which depends on stream and position, and check what they receive against it. */
import type { VproxyError } from '../../lib/errors.js';
import { SENT, type SessionStream } from '../../lib/session/session-stream.js';
import type { StreamSink } from '../../lib/session/stream-sink.js';

const ROOM = 16;

/** The byte that a stream has at a position, in one direction. */
function patternByte(seed: number, position: number): number {
  return (position * 31 + (position >> 8) * 7 + seed * 101) & 0xff;
}

/** One end of a stream. Its `other` is the end at the other side, as soon as there is one. */
export class PatternEnd implements StreamSink {
  stream: SessionStream | null = null;
  other: PatternEnd | null = null;
  /** What was found wrong; empty where all is well. */
  readonly faults: string[] = [];
  /** While true nothing is released: the local socket takes no more. */
  isPaused = false;
  isOver = false;
  reason: VproxyError | null = null;
  finReceived = false;
  hasStopped = false;
  receivedBytes = 0;
  /** All that this end means to send. */
  wantedBytes = 0;
  readonly #seed: number;
  #offeredBytes = 0;
  #finAsked = false;
  #hasFinished = false;
  #unreleased: { readonly view: Buffer; readonly at: number }[] = [];

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Sends so many more bytes, as credit and channel permit. */
  send(bytes: number): void {
    if (this.#finAsked) return;
    this.wantedBytes += bytes;
    this.#pump();
  }

  /** Ends this direction behind what was to be sent. */
  finish(): void {
    this.#finAsked = true;
    this.#pump();
  }

  /** Reads no more: nothing is expected any longer. */
  stop(): void {
    this.hasStopped = true;
    this.stream?.stop('local-error', 'the pattern is not read any more');
  }

  resume(): void {
    this.isPaused = false;
    for (const { view, at } of this.#unreleased.splice(0)) {
      this.#check(view, at);
      this.stream?.release(view.length);
    }
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
      this.stream?.release(bytes.length);
      return false;
    }
    // What is kept has to stay as it is until it is released.
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
  }

  handleSent(): void {
    this.#pump();
  }

  handleEnd(reason: VproxyError | null): void {
    if (this.isOver) this.faults.push('two ends');
    this.isOver = true;
    this.reason = reason;
    for (const { view, at } of this.#unreleased) this.#check(view, at);
  }

  #pump(): void {
    const { stream } = this;
    if (stream === null) return;
    while (!stream.isWaiting && this.#offeredBytes < this.wantedBytes && !stream.isOver && !this.#hasFinished) {
      const size = Math.min(this.wantedBytes - this.#offeredBytes, 50_000);
      const buffer = Buffer.alloc(ROOM + size);
      for (let index = 0; index < size; index += 1) {
        buffer[ROOM + index] = patternByte(this.#seed, this.#offeredBytes + index);
      }
      this.#offeredBytes += size;
      const hasRoom = this.#offeredBytes % 3 !== 0;
      const sent = stream.send(buffer, ROOM, ROOM + size, hasRoom);
      // A buffer that is free again is used for something else.
      if (sent === SENT.FREE) buffer.fill(0xdd);
      if (sent === SENT.WAITING) return;
    }
    if (this.#finAsked && !stream.isWaiting && !this.#hasFinished) {
      this.#hasFinished = true;
      stream.finish();
    }
  }

  #check(bytes: Buffer, at: number): void {
    const seed = this.other?.seed ?? this.#seed ^ 1;
    for (let index = 0; index < bytes.length; index += 1) {
      if (bytes[index] !== patternByte(seed, at + index)) {
        this.faults.push(`wrong byte at ${at + index}`);
        return;
      }
    }
  }

  get seed(): number {
    return this.#seed;
  }
}
