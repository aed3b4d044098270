/** The control frames that wait for the channel, and the bound on how many a peer can make this side queue (R-FLOW-6). */
import type { FrameWriter } from '../codec/frame-writer.js';
import { FRAME_TYPE } from '../codec/header.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from '../codec/limits.js';
import { TOTAL_BYTES, writeTotal } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';

/** What the peer should hear the newest credit of: a stream, or the session itself (id 0). */
export interface Creditor {
  readonly id: number;
  /** Whether its credit waits to be sent already. */
  isCreditDue: boolean;
  readonly grantedBytes: number;
}

/** Frames that are neither a PONG, nor CREDIT, nor one of those that each open stream may have. */
const MAX_QUEUED_FRAMES = 1024;

/** Of each open stream at most this many frames wait: OPEN or its answer, FIN, STOP, RESET. */
const FRAMES_PER_STREAM = 4;

/** Control frames go out while no more than this waits unwritten in the channel. */
const CONTROL_HIGH_WATER_BYTES = 128 * 1024;

const BATCH_BYTES = 16 * 1024;

/** What control frames are put into, of all sessions: filled and written in one go, and replaced where the channel keeps it. */
let batch: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);

interface QueuedFrame {
  readonly type: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** What waits in a {@link ControlQueue}. */
export interface ControlQueueState {
  frames: QueuedFrame[];
  /** The most streams that were open since nothing waited. */
  peakStreams: number;
  /** Whose credit waits, with the total that is to be sent: only while the queue is handed over. */
  creditors: readonly { readonly id: number; readonly grantedBytes: number }[];
  pong: Buffer | null;
  ackBytes: number | null;
}

/** One session's. It is written in the order ACK, PONG, frames, credit. */
export class ControlQueue {
  readonly #writer: FrameWriter;
  readonly #state: ControlQueueState;
  #creditors: Creditor[] = [];
  /** Whether nothing waits. A field: it is asked for each frame of DATA. */
  isEmpty: boolean;
  readonly #total = Buffer.allocUnsafe(TOTAL_BYTES);

  /** With the `state` of another one `resumeCredits` is to follow. */
  constructor(
    writer: FrameWriter,
    state: ControlQueueState = { frames: [], peakStreams: 0, creditors: [], pong: null, ackBytes: null },
  ) {
    this.#writer = writer;
    this.#state = state;
    this.isEmpty = state.frames.length === 0 && state.pong === null && state.ackBytes === null;
  }

  get state(): ControlQueueState {
    return { ...this.#state, creditors: this.#creditors.map(({ id, grantedBytes }) => ({ id, grantedBytes })) };
  }

  /** Queues the credits that waited in another one. `creditorOf` gives a creditor by its id; null for a stream that is over. */
  resumeCredits(creditorOf: (id: number) => Creditor | null): void {
    for (const one of this.#state.creditors) this.addCredit(creditorOf(one.id) ?? { ...one, isCreditDue: false });
  }

  /** Whether the channel is so far behind that no more streams should be opened. */
  get isCongested(): boolean {
    return this.#state.frames.length >= MAX_QUEUED_FRAMES / 2;
  }

  /** Queues a frame. Throws `flood` when more wait than the streams explain that were open since nothing waited. */
  add(type: number, streamId: number, payload: Buffer, openStreams: number): void {
    this.#state.peakStreams =
      this.#state.frames.length === 0 ? openStreams : Math.max(this.#state.peakStreams, openStreams);
    this.#state.frames.push({ type, streamId, payload });
    this.isEmpty = false;
    if (this.#state.frames.length > MAX_QUEUED_FRAMES + FRAMES_PER_STREAM * this.#state.peakStreams) {
      throw new VproxyError('flood', `${this.#state.frames.length} control frames wait to be written for the peer`);
    }
  }

  /** Queues the newest credit of a stream or the session: one frame, however often it is raised. */
  addCredit(creditor: Creditor): void {
    if (creditor.isCreditDue) return;
    creditor.isCreditDue = true;
    this.#creditors.push(creditor);
    this.isEmpty = false;
  }

  /** Queues the answer to the newest PING. */
  addPong(payload: Buffer): void {
    this.#state.pong = Buffer.from(payload);
    this.isEmpty = false;
  }

  /** Queues an ACK; of several the newest is sent. */
  addAck(totalBytes: number): void {
    this.#state.ackBytes = totalBytes;
    this.isEmpty = false;
  }

  /** Writes what waits, while less than `highWaterBytes` are unwritten in the channel. True when nothing waits any more. */
  flush(highWaterBytes: number = CONTROL_HIGH_WATER_BYTES): boolean {
    while (!this.isEmpty && this.#writer.sink.unwrittenBytes < highWaterBytes) {
      const end = this.#fillBatch();
      const written = batch.subarray(0, end);
      if (!this.#writer.sink.write(written)) batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    }
    return this.isEmpty;
  }

  /** Forgets what waits: the session is over. */
  clear(): void {
    this.#state.frames = [];
    this.#creditors = [];
    this.#state.pong = null;
    this.#state.ackBytes = null;
    this.isEmpty = true;
  }

  #fillBatch(): number {
    const room = BATCH_BYTES - HEADER_BYTES - MAX_CONTROL_BYTES;
    let end = 0;
    if (this.#state.ackBytes !== null) {
      writeTotal(this.#total, 0, this.#state.ackBytes);
      end = this.#writer.put(batch, end, FRAME_TYPE.ACK, 0, this.#total);
      this.#state.ackBytes = null;
    }
    if (this.#state.pong !== null) {
      end = this.#writer.put(batch, end, FRAME_TYPE.PONG, 0, this.#state.pong);
      this.#state.pong = null;
    }
    let count = 0;
    for (; count < this.#state.frames.length && end <= room; count += 1) {
      const { type, streamId, payload } = this.#state.frames[count] as QueuedFrame;
      end = this.#writer.put(batch, end, type, streamId, payload);
    }
    this.#state.frames.splice(0, count);
    // A stream's CREDIT must not overtake the OPEN or ACCEPT that makes the stream.
    if (this.#state.frames.length > 0) return end;
    for (count = 0; count < this.#creditors.length && end <= room; count += 1) {
      const creditor = this.#creditors[count] as Creditor;
      creditor.isCreditDue = false;
      writeTotal(this.#total, 0, creditor.grantedBytes);
      end = this.#writer.put(batch, end, FRAME_TYPE.CREDIT, creditor.id, this.#total);
    }
    this.#creditors.splice(0, count);
    this.isEmpty = this.#creditors.length === 0;
    return end;
  }
}
