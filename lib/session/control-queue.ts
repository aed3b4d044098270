/** The queue of control frames for the channel, and the bound on how many a peer can make this side queue (R-FLOW-6). */
import type { FrameWriter } from '../codec/frame-writer.js';
import { type ControlType, FRAME_TYPE } from '../codec/header.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from '../codec/limits.js';
import { TOTAL_BYTES, writeTotal } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';

/** Has credit to announce to the peer: a stream, or the session itself (id 0). */
export interface Creditor {
  readonly id: number;
  /** Whether its credit is queued already. */
  isCreditDue: boolean;
  readonly grantedBytes: number;
}

/** The most frames besides PONG, CREDIT and those allowed per open stream. */
const MAX_QUEUED_FRAMES = 1024;

/** Frames that may be queued per open stream: OPEN or its answer, FIN, STOP, RESET. */
const FRAMES_PER_STREAM = 4;

/** Control frames are written while no more than this is unwritten in the channel. */
const CONTROL_HIGH_WATER_BYTES = 128 * 1024;

const BATCH_BYTES = 16 * 1024;

/** Shared by all sessions: filled with control frames, written in one go, and replaced if the channel keeps it. */
let batch: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);

interface QueuedFrame {
  readonly type: ControlType;
  readonly streamId: number;
  readonly payload: Buffer;
}

export interface ControlQueueState {
  frames: QueuedFrame[];
  /** The most streams that were open at once since the queue was last empty. */
  peakStreams: number;
  /** Whose credit is queued, with the total to send: only while the queue is handed over. */
  creditors: readonly { readonly id: number; readonly grantedBytes: number }[];
  pong: Buffer | null;
  ackBytes: number | null;
}

/** The queue of one session. Written in the order ACK, PONG, frames, credit. */
export class ControlQueue {
  readonly #writer: FrameWriter;
  readonly #state: ControlQueueState;
  #creditors: Creditor[] = [];
  /** Whether the queue is empty. A field, because it is checked for each frame of DATA. */
  isEmpty: boolean;
  readonly #total = Buffer.allocUnsafe(TOTAL_BYTES);

  /** With the `state` of another queue, call `resumeCredits` next. */
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

  /** Queues the credits that waited in another queue. `creditorOf` returns a creditor by id; null for a stream that is over. */
  resumeCredits(creditorOf: (id: number) => Creditor | null): void {
    for (const one of this.#state.creditors) this.addCredit(creditorOf(one.id) ?? { ...one, isCreditDue: false });
  }

  /** Whether the channel is so far behind that no more streams should be opened. */
  get isCongested(): boolean {
    return this.#state.frames.length >= MAX_QUEUED_FRAMES / 2;
  }

  /** Queues a frame. Throws `flood` if more are queued than the streams open since the queue was empty account for. */
  add(type: ControlType, streamId: number, payload: Buffer, openStreams: number): void {
    this.#state.peakStreams =
      this.#state.frames.length === 0 ? openStreams : Math.max(this.#state.peakStreams, openStreams);
    this.#state.frames.push({ type, streamId, payload });
    this.isEmpty = false;
    if (this.#state.frames.length > MAX_QUEUED_FRAMES + FRAMES_PER_STREAM * this.#state.peakStreams) {
      throw new VproxyError('flood', `too many control frames queued for the peer: ${this.#state.frames.length}`);
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

  /** Queues an ACK; only the newest is sent. */
  addAck(totalBytes: number): void {
    this.#state.ackBytes = totalBytes;
    this.isEmpty = false;
  }

  /** Writes while less than `highWaterBytes` are unwritten in the channel. Returns true when the queue is empty. */
  flush(highWaterBytes: number = CONTROL_HIGH_WATER_BYTES): boolean {
    while (!this.isEmpty && this.#writer.sink.unwrittenBytes < highWaterBytes) {
      const end = this.#fillBatch();
      const written = batch.subarray(0, end);
      if (!this.#writer.sink.write(written)) batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    }
    return this.isEmpty;
  }

  /** Empties the queue: the session is over. */
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
    // A stream's CREDIT must not overtake the OPEN or ACCEPT that creates the stream.
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
