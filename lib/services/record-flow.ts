/** Reads the records of a stream in turns of the event loop, with pauses; what follows them waits until they are read. */
import type { Readable } from 'node:stream';
import { type RecordHandler, RecordReader } from '../util/bytes/records.js';
import type { LoopTurns } from '../util/concurrency.js';

/** Receives the records, and nothing after `stop`. Its functions are called without a `this`. */
export interface FlowHandler extends RecordHandler {
  /** The other side has ended its direction, and all before that has been read; also after `stop`. May throw. */
  onEnd(): void;
  /** The handler has thrown this; nothing more is read. */
  onError(error: unknown): void;
}

export class RecordFlow {
  readonly #stream: Readable;
  readonly #handler: FlowHandler;
  readonly #turns: LoopTurns;
  readonly #reader: RecordReader;
  #state: 'flowing' | 'paused' | 'stopped' = 'flowing';
  /** What reads next: this call, or a later turn; null: what the stream gives, or `resume`. */
  #next: 'call' | 'turn' | null = null;
  /** The unread end of the last chunk; the stream is paused meanwhile. */
  #rest: Buffer | null = null;
  readonly #behindRest: (() => void)[] = [];

  /** Starts reading; the owner hears the stream's `error` and `close`. `turns` may be shared with other work. */
  constructor(stream: Readable, handler: FlowHandler, turns: LoopTurns) {
    this.#stream = stream;
    this.#handler = handler;
    this.#turns = turns;
    this.#reader = new RecordReader({ ...handler, isFull: () => this.#isFull || turns.isOver });
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.once('end', () => this.after(() => this.#guard(() => handler.onEnd())));
  }

  /** Whether received bytes wait for a later turn, or for `resume`. */
  get hasRest(): boolean {
    return this.#rest !== null;
  }

  /** Whether a record has started and is incomplete. */
  get isWithinRecord(): boolean {
    return this.#reader.isWithinRecord;
  }

  /** Works once all that was received has been read: at once, or later. */
  after(work: () => void): void {
    if (this.#rest === null) work();
    else this.#behindRest.push(work);
  }

  /** Reads no more chunks; the last one is read to its end, unless the handler is full. */
  pause(): void {
    if (this.#state === 'stopped') return;
    this.#state = 'paused';
    this.#stream.pause();
  }

  /** Resumes reading, after `pause` or once the handler has room. */
  resume(): void {
    if (this.#state === 'paused') this.#state = 'flowing';
    this.#flow();
  }

  /** Discards what was received and what follows. */
  stop(): void {
    this.#state = 'stopped';
    this.#rest = null;
    this.#flow();
  }

  get #isFull(): boolean {
    return this.#state === 'stopped' || this.#handler.isFull?.() === true;
  }

  #read(chunk: Buffer): void {
    if (this.#state === 'stopped') return;
    this.#next = 'call';
    this.#guard(() => {
      const readBytes = this.#reader.push(chunk);
      if (readBytes < chunk.length && this.#state !== 'stopped') this.#rest = chunk.subarray(readBytes);
    });
    this.#next = null;
    this.#flow();
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.stop();
      this.#handler.onError(error);
    }
  }

  #flow(): void {
    if (this.#next !== null) return;
    const rest = this.#rest;
    if (rest === null) for (const work of this.#behindRest.splice(0)) work();
    else if (!this.#isFull && this.#turns.isOver) this.#waitForTurn();
    else if (!this.#isFull) {
      this.#rest = null;
      this.#read(rest);
      return;
    }
    if (this.#state === 'paused' || this.#rest !== null) this.#stream.pause();
    else this.#stream.resume();
  }

  #waitForTurn(): void {
    this.#next = 'turn';
    this.#turns.later(() => {
      this.#next = null;
      this.#flow();
    });
  }
}
