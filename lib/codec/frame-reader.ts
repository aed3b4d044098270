/**
 * Cuts the bytes of an established session into frames, and checks every header before anything is buffered
 * (R-FRAME-1 to R-FRAME-8, R-OPEN-14). DATA is handed on as views of the bytes read.
 */
import { protocolError, VproxyError } from '../errors.js';
import { crc32 } from './crc32.js';
import {
  type ControlType,
  type DataCheck,
  FRAME_TYPE,
  formatFrameType,
  headerCheck,
  isControlType,
  isExtensionType,
  nextSequence,
  STREAM_ID_RULE,
} from './header.js';
import { decodeHello, type Hello, helloLength, MAGIC } from './hello.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from './limits.js';

/** The callbacks of a FrameReader. Errors they throw come out of `push` unchanged. */
export interface FrameHandler {
  /** A frame other than DATA. The payload is lent for the duration of the call. */
  handleFrame(type: ControlType, streamId: number, payload: Buffer): void;

  /**
   * The verified payload of a DATA frame. It is lent for the duration of the call; a handler that returns true takes it
   * over.
   */
  handleData(streamId: number, bytes: Buffer): boolean;

  /** A HELLO in the middle of a session: true for a harmless repeat by the current peer. */
  handleHello(hello: Hello): boolean;
}

const EMPTY = Buffer.alloc(0);

/** The part of a frame that is being read. */
const PHASE = { HEADER: 0, PAYLOAD: 1, HELLO_HEADER: 3, HELLO: 4 } as const;
type Phase = (typeof PHASE)[keyof typeof PHASE];

export interface FrameReaderOptions {
  readonly handler: FrameHandler;
  /** Checks DATA of this direction before it is handed on (R-INTEGRITY-3). */
  readonly check: DataCheck;
  /** The largest DATA payload that this side announced. */
  readonly maxDataBytes: number;
  /** Asked after each header and each payload: true makes `push` return and leave the rest to `takeRest`. Default: never. */
  readonly isTurnOver?: () => boolean;
}

export interface FrameReaderState {
  phase: Phase;
  /** Of the next header. */
  sequence: number;
  /** Of the last header that was checked. */
  judgedSequence: number;
  /** Frames whose header was valid, of every type. */
  frameCount: number;
  /** The 16 bytes of the current header; of an incomplete one, `headerFill` bytes have come. */
  readonly header: Buffer;
  headerFill: number;
  type: number;
  streamId: number;
  /** Length of the body of the current frame: the payload and its trailer. */
  bodyBytes: number;
  crc: number;
  /** Bytes of the body that have not come yet. */
  left: number;
  /** The part of an incomplete body that has come: only while the reader is handed over. */
  body: Buffer;
  /** Whether the current header was checked, but its frame is not yet complete and verified. */
  isBegun: boolean;
  /** The session's complete frames, in bytes; a HELLO between them does not count. */
  wholeBytes: number;
}

const newState = (): FrameReaderState => ({
  phase: PHASE.HEADER,
  sequence: 1,
  judgedSequence: 0,
  frameCount: 0,
  header: Buffer.allocUnsafe(HEADER_BYTES),
  headerFill: 0,
  type: 0,
  streamId: 0,
  bodyBytes: 0,
  crc: 0,
  left: 0,
  body: EMPTY,
  isBegun: false,
  wholeBytes: 0,
});

/** Reads the frames of one direction of one session. */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #check: DataCheck;
  readonly #maxDataBytes: number;
  readonly #isTurnOver: () => boolean;

  readonly #state: FrameReaderState;
  /** Assembles a body that came in pieces; kept from frame to frame. */
  #assembly: Buffer | null = null;
  /** Bytes of earlier chunks that belong to the frame at which reading stopped. */
  #restPrefix: Buffer = EMPTY;
  #rest: Buffer = EMPTY;
  #stopped = false;
  /** Bytes whose appearance within the current body shows that some of it was lost; null: not watching. */
  #behind: Buffer | null = null;

  /** With the `state` of another reader of the same direction, continues where that one stopped. */
  constructor({ handler, check, maxDataBytes, isTurnOver = () => false }: FrameReaderOptions, state = newState()) {
    this.#handler = handler;
    this.#check = check;
    this.#maxDataBytes = maxDataBytes;
    this.#isTurnOver = isTurnOver;
    this.#state = state;
    if (state.body.length === 0) return;
    this.#assembly = this.#newAssembly();
    state.body.copy(this.#assembly);
    state.body = EMPTY;
  }

  /** Read it only between two `push` calls, with nothing left to `takeRest`. */
  get state(): FrameReaderState {
    const { phase, bodyBytes, left } = this.#state;
    const isInBody = phase === PHASE.PAYLOAD || phase === PHASE.HELLO;
    return { ...this.#state, body: isInBody ? (this.#assembly ?? EMPTY).subarray(0, bodyBytes - left) : EMPTY };
  }

  /** The sequence number of the current frame, or of the next one between frames. */
  get sequence(): number {
    return this.#state.phase === PHASE.PAYLOAD ? this.#state.judgedSequence : this.#state.sequence;
  }

  get frameCount(): number {
    return this.#state.frameCount;
  }

  get wholeBytes(): number {
    return this.#state.wholeBytes;
  }

  get isMidFrame(): boolean {
    return this.#state.phase !== PHASE.HEADER || this.#state.headerFill > 0;
  }

  /**
   * Makes `push` throw `desync` if these bytes come within the current body: the peer sends them after whatever it has begun, so
   * bytes of that body were lost. They are kept, not copied.
   */
  expectBehind(bytes: Buffer): void {
    this.#behind = bytes;
  }

  /** Makes `push` return after the current frame: the session is over. */
  stop(): void {
    this.#stopped = true;
  }

  /** Forgets everything after the last complete frame, valid or not: the peer sends it again. Also after `push` threw. */
  rewind(): void {
    const state = this.#state;
    if (state.isBegun) {
      state.sequence = state.judgedSequence;
      state.frameCount -= 1;
      state.isBegun = false;
    }
    state.headerFill = 0;
    state.left = 0;
    this.#restPrefix = EMPTY;
    state.phase = PHASE.HEADER;
  }

  /** Takes bytes that will not be read as frames; `takeRest` returns them. */
  leave(chunk: Buffer): void {
    this.#rest = Buffer.from(chunk);
  }

  /**
   * After `push` threw or was stopped: the bytes from the frame that ended the session on, for the next handshake.
   * Otherwise a view of the part of its chunk that `push` left because the turn was over; usually empty.
   */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = EMPTY;
    return rest;
  }

  /**
   * Reads more bytes. Returns true if the handler kept a view of `chunk`, which must not be refilled then; see `takeRest`. Throws
   * `peer-restarted`, `desync` and `protocol-error`, after which only `takeRest` may be called.
   */
  push(chunk: Buffer): boolean {
    const state = this.#state;
    let kept = false;
    let at = 0;
    try {
      while (at < chunk.length && !this.#stopped) {
        switch (state.phase) {
          case PHASE.HEADER:
          case PHASE.HELLO_HEADER:
            at = this.#readHeader(chunk, at);
            break;
          default: {
            const end = Math.min(chunk.length, at + state.left);
            const isWhole = state.left === state.bodyBytes && end - at === state.bodyBytes;
            const from = at;
            at = end;
            if (isWhole) {
              if (this.#finish(chunk.subarray(from, end))) kept = true;
            } else {
              this.#assemble(chunk, from, end);
            }
          }
        }
        if (this.#isTurnOver()) break;
      }
    } catch (error) {
      this.#rest = Buffer.concat([this.#restPrefix, chunk.subarray(at)]);
      throw error;
    }
    if (this.#stopped) this.#rest = Buffer.from(chunk.subarray(at));
    else if (at < chunk.length) this.#rest = chunk.subarray(at);
    return kept;
  }

  /** Reads the header that begins at `at`, or as much of it as has come. */
  #readHeader(chunk: Buffer, at: number): number {
    if (this.#state.headerFill === 0) {
      if (chunk[at] === 0 && this.#state.phase === PHASE.HEADER) {
        throw new VproxyError('peer-restarted', 'the peer restarted: it sent a flush');
      }
      if (chunk.length - at >= HEADER_BYTES) {
        this.#checkHeader(chunk, at);
        return at + HEADER_BYTES;
      }
    }
    const fill = this.#state.headerFill;
    const end = Math.min(chunk.length, at + HEADER_BYTES - fill);
    chunk.copy(this.#state.header, fill, at, end);
    this.#state.headerFill = fill + end - at;
    if (this.#state.headerFill === HEADER_BYTES) {
      this.#state.headerFill = 0;
      this.#restPrefix = this.#state.header.subarray(0, fill);
      this.#checkHeader(this.#state.header, 0);
      this.#restPrefix = EMPTY;
    }
    return end;
  }

  /** Checks in the order of R-FRAME-6: type, check, then flags, type, length, stream. */
  #checkHeader(bytes: Buffer, offset: number): void {
    const state = this.#state;
    if (state.phase === PHASE.HELLO_HEADER) {
      this.#checkHelloHeader(bytes, offset);
      return;
    }
    const type = bytes[offset] as number;
    if (type === 0xff) {
      if (MAGIC.compare(bytes, offset, offset + HEADER_BYTES) !== 0) {
        throw new VproxyError('desync', 'FF without a magic where a frame should begin');
      }
      state.phase = PHASE.HELLO_HEADER;
      return;
    }
    if (bytes.readUInt16BE(offset + 2) !== headerCheck(bytes, offset, state.sequence)) {
      throw new VproxyError('desync', `frame ${state.sequence}: header check failed`);
    }
    this.#behind = null;
    state.judgedSequence = state.sequence;
    state.sequence = nextSequence(state.sequence);
    state.frameCount += 1;
    const streamId = bytes.readUInt32BE(offset + 4);
    const length = bytes.readUInt32BE(offset + 8);
    if (bytes[offset + 1] !== 0) throw violation(type, streamId, `has flags ${bytes[offset + 1]}`);
    this.#checkTypeAndLength(type, streamId, length);

    state.type = type;
    state.streamId = streamId;
    state.bodyBytes = type === FRAME_TYPE.DATA ? length + this.#check.trailerBytes : length;
    state.left = state.bodyBytes;
    state.crc = bytes.readUInt32BE(offset + 12);
    state.isBegun = true;
    if (length > 0) state.phase = PHASE.PAYLOAD;
    else this.#finish(EMPTY);
  }

  #checkTypeAndLength(type: number, streamId: number, length: number): void {
    const isControl = isControlType(type);
    if (!isControl && type !== FRAME_TYPE.DATA && !isExtensionType(type)) throw violation(type, streamId, 'is unknown');
    const maxBytes = isControl ? MAX_CONTROL_BYTES : this.#maxDataBytes;
    if (length > maxBytes) throw violation(type, streamId, `too long: ${length} bytes (max ${maxBytes})`);
    if (!isControl && type !== FRAME_TYPE.DATA) return;
    if (!isControl && length === 0) throw violation(type, streamId, 'is empty');
    const rule = STREAM_ID_RULE[type];
    if (rule === 'zero' && streamId !== 0) throw violation(type, streamId, 'must have stream id 0');
    if (rule === 'stream' && streamId === 0) throw violation(type, streamId, 'must not have stream id 0');
  }

  #checkHelloHeader(bytes: Buffer, offset: number): void {
    const length = helloLength(bytes, offset);
    if (length === null || length === 0) throw new VproxyError('desync', 'no valid HELLO after the magic');
    this.#state.type = FRAME_TYPE.HELLO;
    this.#state.bodyBytes = length;
    this.#state.left = length;
    this.#state.crc = bytes.readUInt32BE(offset + 12);
    // Kept for `takeRest`: a HELLO that ends the session opens the next one.
    if (bytes !== this.#state.header) bytes.copy(this.#state.header, 0, offset, offset + HEADER_BYTES);
    this.#state.phase = PHASE.HELLO;
  }

  /** Adds a piece to a body that must be complete before any of it is handed on. */
  #assemble(chunk: Buffer, from: number, end: number): void {
    if (this.#assembly === null || this.#assembly.length < this.#state.bodyBytes) this.#assembly = this.#newAssembly();
    chunk.copy(this.#assembly, this.#state.bodyBytes - this.#state.left, from, end);
    this.#state.left -= end - from;
    const assembly = this.#assembly;
    if (this.#state.left > 0) {
      this.#findBehind(assembly, end - from);
      return;
    }
    if (this.#finish(assembly.subarray(0, this.#state.bodyBytes))) this.#assembly = null;
  }

  /** Throws if the bytes that `expectBehind` watches for end among the last `count` bytes of the body. */
  #findBehind(assembly: Buffer, count: number): void {
    const behind = this.#behind;
    if (behind === null) return;
    const end = this.#state.bodyBytes - this.#state.left;
    const found = assembly.subarray(Math.max(0, end - count - behind.length + 1), end).includes(behind);
    if (found) throw new VproxyError('desync', `bytes lost within ${describe(this.#state.type, this.#state.streamId)}`);
  }

  #newAssembly(): Buffer {
    return Buffer.allocUnsafeSlow(Math.max(this.#state.bodyBytes, MAX_CONTROL_BYTES));
  }

  /** Verifies a complete payload and hands it on. Returns true if the handler kept it. */
  #finish(body: Buffer): boolean {
    const { type } = this.#state;
    this.#state.phase = PHASE.HEADER;
    this.#state.left = 0;
    if (type === FRAME_TYPE.HELLO) {
      this.#finishHello(body);
      return false;
    }
    if (isExtensionType(type)) {
      this.#countWhole();
      return false;
    }
    const { trailerBytes } = this.#check;
    if (type !== FRAME_TYPE.DATA || trailerBytes === 0) {
      if (crc32(body) !== this.#state.crc) throw this.#wrongBody(endsInFlush(body), 'payload checksum');
      this.#countWhole();
      if (type === FRAME_TYPE.DATA) return this.#handler.handleData(this.#state.streamId, body);
      if (isControlType(type)) this.#handler.handleFrame(type, this.#state.streamId, body);
      return false;
    }
    const end = body.length - trailerBytes;
    const trailer = body.readUInt32BE(end);
    if (trailer !== this.#check.trailerOf(this.#state.judgedSequence)) throw this.#wrongBody(trailer === 0, 'trailer');
    this.#countWhole();
    return this.#handler.handleData(this.#state.streamId, body.subarray(0, end));
  }

  #countWhole(): void {
    this.#state.isBegun = false;
    this.#state.wholeBytes += HEADER_BYTES + this.#state.bodyBytes;
  }

  #wrongBody(isFlush: boolean, check: string): VproxyError {
    const what = describe(this.#state.type, this.#state.streamId);
    return isFlush
      ? new VproxyError('peer-restarted', `${what} was cut off: the peer restarted`)
      : new VproxyError('desync', `${what}: wrong ${check}`);
  }

  #finishHello(payload: Buffer): void {
    let hello: Hello;
    try {
      if (crc32(payload) !== this.#state.crc) throw new VproxyError('desync', 'HELLO: wrong checksum');
      hello = decodeHello(payload);
    } catch (cause) {
      throw new VproxyError('desync', 'no valid HELLO after the magic', { cause });
    }
    if (this.#handler.handleHello(hello)) return;
    this.#restPrefix = Buffer.concat([MAGIC, this.#state.header, payload]);
    throw new VproxyError('peer-restarted', 'the peer restarted: it sent another HELLO');
  }
}

/** The zeros at the end of a half-written frame, once the flush of its writer's successor has completed it. */
const FLUSH_TAIL = Buffer.alloc(16);

function endsInFlush(payload: Buffer): boolean {
  const bytes = Math.min(payload.length, FLUSH_TAIL.length);
  return bytes > 0 && FLUSH_TAIL.compare(payload, payload.length - bytes, payload.length, 0, bytes) === 0;
}

const describe = (type: number, streamId: number): string =>
  streamId === 0 ? formatFrameType(type) : `${formatFrameType(type)} on stream ${streamId}`;

const violation = (type: number, streamId: number, what: string): VproxyError =>
  protocolError(`${describe(type, streamId)} ${what}`);

const MAX_FRAME_MS = 30_000;

/** Longer gaps between bytes do not count: a paused VM is not slow. */
const MAX_GAP_MS = 15_000;

export interface FrameTimerState {
  /** When bytes came last. */
  atMs: number;
  /** The number of the frame that was incomplete then, and the time it has taken so far. */
  frame: number;
  spentMs: number;
}

/** Detects a peer that leaves a frame incomplete while it keeps sending a little (R-FLOW-9). */
export class FrameTimer {
  readonly state: FrameTimerState;

  constructor(nowMs: number, state = { atMs: nowMs, frame: -1, spentMs: 0 }) {
    this.state = state;
  }

  /** How long ago bytes came last, in milliseconds. */
  gapMs(nowMs: number): number {
    return nowMs - this.state.atMs;
  }

  /** Call before arriving bytes are read: whether the incomplete frame with this number has taken too long. */
  isExceeded(frame: number, isMidFrame: boolean, nowMs: number): boolean {
    const { state } = this;
    const gapMs = this.gapMs(nowMs);
    state.atMs = nowMs;
    if (!isMidFrame || frame !== state.frame) state.spentMs = 0;
    else if (gapMs < MAX_GAP_MS) state.spentMs += gapMs;
    state.frame = frame;
    return state.spentMs > MAX_FRAME_MS;
  }
}
