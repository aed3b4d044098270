/**
 * Cuts the bytes of an established session into frames, and judges every header before anything is buffered
 * (R-FRAME-1 to R-FRAME-8, R-OPEN-14). DATA is handed on as views of what was read.
 */
import { crc32 } from 'node:zlib';
import { VproxyError } from '../errors.js';
import {
  FRAME_TYPE,
  formatFrameType,
  headerCheck,
  isExtensionType,
  LAST_FRAME_TYPE,
  nextSequence,
  streamIdRule,
} from './header.js';
import { decodeHello, type Hello, helloLength, MAGIC } from './hello.js';
import type { DataCheck } from './integrity.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from './limits.js';

/** What a FrameReader calls. What these methods throw leaves `push` unchanged. */
export interface FrameHandler {
  /** A frame that is not DATA. The payload is lent for the time of the call. */
  handleFrame(type: number, streamId: number, payload: Buffer): void;

  /**
   * The payload of a DATA frame, found right. It is lent for the time of the call, unless true is returned: then it is the
   * handler's.
   */
  handleData(streamId: number, bytes: Buffer): boolean;

  /** A HELLO in the middle of a session: true when it is the current peer's and means nothing. */
  handleHello(hello: Hello): boolean;
}

const EMPTY = Buffer.alloc(0);

/** What is being read. */
const STATE = { HEADER: 0, PAYLOAD: 1, SKIP: 2, HELLO_HEADER: 3, HELLO: 4 } as const;
type State = (typeof STATE)[keyof typeof STATE];

export interface FrameReaderOptions {
  readonly handler: FrameHandler;
  /** What DATA of this direction is checked by before it is handed on (R-INTEGRITY-3). */
  readonly check: DataCheck;
  /** The largest DATA payload that this side announced. */
  readonly maxDataBytes: number;
  /** Asked after each header and each payload: true makes `push` return, with the rest left to `takeRest`. Default: never. */
  readonly isTurnOver?: () => boolean;
}

const never = (): boolean => false;

/** Where a reader is, as plain data: between two calls of `push`, with nothing left to `takeRest`. */
export interface FrameReaderCapture {
  readonly state: number;
  readonly sequence: number;
  readonly judgedSequence: number;
  readonly frameCount: number;
  /** The 16 bytes of the header at hand, of which `headerFill` have come where it is not whole. */
  readonly header: Buffer;
  readonly headerFill: number;
  readonly type: number;
  readonly streamId: number;
  readonly bodyBytes: number;
  readonly crc: number;
  readonly left: number;
  /** What has come of a body that is not whole. */
  readonly body: Buffer;
  readonly isBegun: boolean;
  readonly wholeBytes: number;
}

/** Reads the frames of one direction of one session. */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #check: DataCheck;
  readonly #maxDataBytes: number;
  readonly #isTurnOver: () => boolean;

  #state: State = STATE.HEADER;
  /** Of the next header. */
  #sequence = 1;
  /** Of the last header that was judged. */
  #judgedSequence = 0;
  #frameCount = 0;
  readonly #header = Buffer.allocUnsafe(HEADER_BYTES);
  #headerFill = 0;
  #type = 0;
  #streamId = 0;
  /** Of the payload of the current frame, and what is behind it: its body. */
  #bodyBytes = 0;
  #crc = 0;
  /** Bytes of the body that have not come yet. */
  #left = 0;
  /** Where a body is put together that came in pieces; kept from frame to frame. */
  #assembly: Buffer | null = null;
  /** Bytes of earlier chunks that belong to the frame at which reading ended. */
  #restPrefix: Buffer = EMPTY;
  #rest: Buffer = EMPTY;
  #stopped = false;
  /** What shows within the body at hand that some of it is lost; null: nothing is expected. */
  #behind: Buffer | null = null;
  /** Whether the header at hand was judged, and its frame is not whole or not found right yet. */
  #isBegun = false;
  #wholeBytes = 0;

  constructor({ handler, check, maxDataBytes, isTurnOver = never }: FrameReaderOptions) {
    this.#handler = handler;
    this.#check = check;
    this.#maxDataBytes = maxDataBytes;
    this.#isTurnOver = isTurnOver;
  }

  /** The sequence number of the frame at hand, or of the next one. */
  get sequence(): number {
    const isInPayload = this.#state === STATE.PAYLOAD || this.#state === STATE.SKIP;
    return isInPayload ? this.#judgedSequence : this.#sequence;
  }

  /** Frames whose header was valid, of every type. */
  get frameCount(): number {
    return this.#frameCount;
  }

  /** The session's frames that came whole, in bytes; a HELLO between them does not count. */
  get wholeBytes(): number {
    return this.#wholeBytes;
  }

  /** Whether a frame has begun and is not complete. */
  get isMidFrame(): boolean {
    return this.#state !== STATE.HEADER || this.#headerFill > 0;
  }

  /**
   * Has `push` throw `desync` where these bytes come within the body at hand: the peer sends them behind whatever it has begun, so
   * bytes of that body were lost. They are kept, not copied.
   */
  expectBehind(bytes: Buffer): void {
    this.#behind = bytes;
  }

  /** Makes `push` return after the frame at hand: the session is over. */
  stop(): void {
    this.#stopped = true;
  }

  /** Forgets what came behind the last whole frame, right or not: it comes again. Also after `push` threw. */
  rewind(): void {
    if (this.#isBegun) {
      this.#sequence = this.#judgedSequence;
      this.#frameCount -= 1;
      this.#isBegun = false;
    }
    this.#headerFill = 0;
    this.#left = 0;
    this.#restPrefix = EMPTY;
    this.#state = STATE.HEADER;
  }

  /** Where it is, with the bytes of a frame that is not whole. */
  capture(): FrameReaderCapture {
    const isInBody = this.#state === STATE.PAYLOAD || this.#state === STATE.HELLO;
    return {
      state: this.#state,
      sequence: this.#sequence,
      judgedSequence: this.#judgedSequence,
      frameCount: this.#frameCount,
      header: this.#header,
      headerFill: this.#headerFill,
      type: this.#type,
      streamId: this.#streamId,
      bodyBytes: this.#bodyBytes,
      crc: this.#crc,
      left: this.#left,
      body: isInBody ? (this.#assembly ?? EMPTY).subarray(0, this.#bodyBytes - this.#left) : EMPTY,
      isBegun: this.#isBegun,
      wholeBytes: this.#wholeBytes,
    };
  }

  /** Goes on where another one was, with the same direction. Called before `push`. */
  restore(capture: FrameReaderCapture): void {
    this.#state = capture.state as State;
    this.#sequence = capture.sequence;
    this.#judgedSequence = capture.judgedSequence;
    this.#frameCount = capture.frameCount;
    capture.header.copy(this.#header);
    this.#headerFill = capture.headerFill;
    this.#type = capture.type;
    this.#streamId = capture.streamId;
    this.#bodyBytes = capture.bodyBytes;
    this.#crc = capture.crc;
    this.#left = capture.left;
    this.#isBegun = capture.isBegun;
    this.#wholeBytes = capture.wholeBytes;
    if (capture.body.length === 0) return;
    this.#assembly = this.#newAssembly();
    capture.body.copy(this.#assembly);
  }

  /** Takes bytes that are not to be read as frames any more; `takeRest` gives them. */
  leave(chunk: Buffer): void {
    this.#rest = Buffer.from(chunk);
  }

  /**
   * After `push` threw or was stopped: the bytes from the frame on that ended the session, as the next attempt wants them.
   * Else what `push` left of its chunk because the turn was over, as a view of it; empty as a rule.
   */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = EMPTY;
    return rest;
  }

  /**
   * Reads more bytes. True when the handler kept a view of `chunk`, which then must not be filled again; see `takeRest`. Throws
   * `peer-restarted`, `desync` and `protocol-error`, after which only `takeRest` may be called.
   */
  push(chunk: Buffer): boolean {
    let kept = false;
    let at = 0;
    try {
      while (at < chunk.length && !this.#stopped) {
        switch (this.#state) {
          case STATE.HEADER:
          case STATE.HELLO_HEADER:
            at = this.#readHeader(chunk, at);
            break;
          case STATE.SKIP: {
            const end = Math.min(chunk.length, at + this.#left);
            this.#left -= end - at;
            at = end;
            if (this.#left === 0) {
              this.#state = STATE.HEADER;
              this.#countWhole();
            }
            break;
          }
          default: {
            const end = Math.min(chunk.length, at + this.#left);
            const isWhole = this.#left === this.#bodyBytes && end - at === this.#bodyBytes;
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

  /** Takes the header that begins at `at`, or as much of it as is there. */
  #readHeader(chunk: Buffer, at: number): number {
    if (this.#headerFill === 0) {
      if (chunk[at] === 0 && this.#state === STATE.HEADER) {
        throw new VproxyError('peer-restarted', 'the peer began again with a flush');
      }
      if (chunk.length - at >= HEADER_BYTES) {
        this.#judgeHeader(chunk, at);
        return at + HEADER_BYTES;
      }
    }
    const fill = this.#headerFill;
    const end = Math.min(chunk.length, at + HEADER_BYTES - fill);
    chunk.copy(this.#header, fill, at, end);
    this.#headerFill = fill + end - at;
    if (this.#headerFill === HEADER_BYTES) {
      this.#headerFill = 0;
      this.#restPrefix = this.#header.subarray(0, fill);
      this.#judgeHeader(this.#header, 0);
      this.#restPrefix = EMPTY;
    }
    return end;
  }

  /** The order of checks of R-FRAME-6: type, check, then flags, type, length, stream. */
  #judgeHeader(bytes: Buffer, offset: number): void {
    if (this.#state === STATE.HELLO_HEADER) {
      this.#judgeHelloHeader(bytes, offset);
      return;
    }
    const type = bytes[offset] as number;
    if (type === 0xff) {
      if (MAGIC.compare(bytes, offset, offset + HEADER_BYTES) !== 0) {
        throw new VproxyError('desync', 'bytes FF that are no magic where a frame should begin');
      }
      this.#state = STATE.HELLO_HEADER;
      return;
    }
    if (bytes.readUInt16BE(offset + 2) !== headerCheck(bytes, offset, this.#sequence)) {
      throw new VproxyError('desync', `header of frame ${this.#sequence} has a wrong check`);
    }
    this.#behind = null;
    this.#judgedSequence = this.#sequence;
    this.#sequence = nextSequence(this.#sequence);
    this.#frameCount += 1;
    const streamId = bytes.readUInt32BE(offset + 4);
    const length = bytes.readUInt32BE(offset + 8);
    if (bytes[offset + 1] !== 0) throw violation(type, streamId, `has flags ${bytes[offset + 1]}`);
    this.#judgeTypeAndLength(type, streamId, length);

    this.#type = type;
    this.#streamId = streamId;
    this.#bodyBytes = type === FRAME_TYPE.DATA ? length + this.#check.trailerBytes : length;
    this.#left = this.#bodyBytes;
    this.#crc = bytes.readUInt32BE(offset + 12);
    this.#isBegun = true;
    if (length > 0) this.#state = type < 0x80 ? STATE.PAYLOAD : STATE.SKIP;
    else if (type < 0x80) this.#finish(EMPTY);
    else this.#countWhole();
  }

  #judgeTypeAndLength(type: number, streamId: number, length: number): void {
    if (type === FRAME_TYPE.DATA || isExtensionType(type)) {
      if (length > this.#maxDataBytes)
        throw violation(type, streamId, `of ${length} bytes exceeds ${this.#maxDataBytes}`);
      if (type !== FRAME_TYPE.DATA) return;
      if (length === 0) throw violation(type, streamId, 'is empty');
    } else {
      // HELLO comes behind a magic only, and is not counted.
      if (type === FRAME_TYPE.HELLO || type > LAST_FRAME_TYPE) throw violation(type, streamId, 'is not known');
      if (length > MAX_CONTROL_BYTES)
        throw violation(type, streamId, `of ${length} bytes exceeds ${MAX_CONTROL_BYTES}`);
    }
    const rule = streamIdRule(type);
    if (rule === 'zero' && streamId !== 0) throw violation(type, streamId, 'belongs to the session');
    if (rule === 'stream' && streamId === 0) throw violation(type, streamId, 'belongs to a stream');
  }

  #judgeHelloHeader(bytes: Buffer, offset: number): void {
    const length = helloLength(bytes, offset);
    if (length === null || length === 0) throw new VproxyError('desync', 'a magic that no valid HELLO follows');
    this.#type = FRAME_TYPE.HELLO;
    this.#bodyBytes = length;
    this.#left = length;
    this.#crc = bytes.readUInt32BE(offset + 12);
    // Kept for `takeRest`: a HELLO that ends the session opens the next one.
    if (bytes !== this.#header) bytes.copy(this.#header, 0, offset, offset + HEADER_BYTES);
    this.#state = STATE.HELLO;
  }

  /** Adds a piece to a body that has to be whole before anything of it is handed on. */
  #assemble(chunk: Buffer, from: number, end: number): void {
    if (this.#assembly === null || this.#assembly.length < this.#bodyBytes) {
      this.#assembly = this.#newAssembly();
    }
    chunk.copy(this.#assembly, this.#bodyBytes - this.#left, from, end);
    this.#left -= end - from;
    const assembly = this.#assembly;
    if (this.#left > 0) {
      this.#findBehind(assembly, end - from);
      return;
    }
    if (this.#finish(assembly.subarray(0, this.#bodyBytes))) this.#assembly = null;
  }

  /** Whether what is expected behind the body ends among the `count` bytes that came of it now. */
  #findBehind(assembly: Buffer, count: number): void {
    const behind = this.#behind;
    if (behind === null) return;
    const end = this.#bodyBytes - this.#left;
    const found = assembly.subarray(Math.max(0, end - count - behind.length + 1), end).includes(behind);
    if (found) throw new VproxyError('desync', `${describe(this.#type, this.#streamId)} lacks bytes that were lost`);
  }

  #newAssembly(): Buffer {
    return Buffer.allocUnsafeSlow(Math.max(this.#bodyBytes, MAX_CONTROL_BYTES));
  }

  /** Hands a whole payload on, where it is right. True when the handler kept it. */
  #finish(body: Buffer): boolean {
    const isHello = this.#state === STATE.HELLO;
    this.#state = STATE.HEADER;
    this.#left = 0;
    if (isHello) {
      this.#finishHello(body);
      return false;
    }
    const type = this.#type;
    const { trailerBytes } = this.#check;
    if (type !== FRAME_TYPE.DATA || trailerBytes === 0) {
      if (crc32(body) !== this.#crc) throw this.#wrongBody(endsInFlush(body), 'payload', 'checksum');
      this.#countWhole();
      if (type === FRAME_TYPE.DATA) return this.#handler.handleData(this.#streamId, body);
      this.#handler.handleFrame(type, this.#streamId, body);
      return false;
    }
    const end = body.length - trailerBytes;
    const trailer = body.readUInt32BE(end);
    if (trailer !== this.#check.trailerOf(this.#judgedSequence)) throw this.#wrongBody(trailer === 0, 'end', 'trailer');
    this.#countWhole();
    return this.#handler.handleData(this.#streamId, body.subarray(0, end));
  }

  #countWhole(): void {
    this.#isBegun = false;
    this.#wholeBytes += HEADER_BYTES + this.#bodyBytes;
  }

  #wrongBody(isFlush: boolean, part: string, check: string): VproxyError {
    const what = describe(this.#type, this.#streamId);
    return isFlush
      ? new VproxyError('peer-restarted', `${what} was cut short by a restart of the peer`)
      : new VproxyError('desync', `the ${part} of ${what} has a wrong ${check}`);
  }

  #finishHello(payload: Buffer): void {
    let hello: Hello;
    try {
      if (crc32(payload) !== this.#crc) throw new VproxyError('desync', 'a HELLO has a wrong checksum');
      hello = decodeHello(payload);
    } catch (cause) {
      throw new VproxyError('desync', 'a magic that no valid HELLO follows', { cause });
    }
    if (this.#handler.handleHello(hello)) return;
    this.#restPrefix = Buffer.concat([MAGIC, this.#header, payload]);
    throw new VproxyError('peer-restarted', 'the peer began again with another HELLO');
  }
}

/** Zeros that a frame which was left half-written ends in, once the flush of its writer's successor has completed it. */
const FLUSH_TAIL = Buffer.alloc(16);

function endsInFlush(payload: Buffer): boolean {
  const bytes = Math.min(payload.length, FLUSH_TAIL.length);
  return bytes > 0 && FLUSH_TAIL.compare(payload, payload.length - bytes, payload.length, 0, bytes) === 0;
}

const describe = (type: number, streamId: number): string =>
  streamId === 0 ? formatFrameType(type) : `${formatFrameType(type)} on stream ${streamId}`;

const violation = (type: number, streamId: number, what: string): VproxyError =>
  new VproxyError('protocol-error', `${describe(type, streamId)} ${what}`);

const MAX_FRAME_MS = 30_000;

/** Longer gaps between bytes do not count: a paused VM is not slow. */
const MAX_GAP_MS = 15_000;

/** What a {@link FrameTimer} knows, as plain data. */
export interface FrameTimerCapture {
  /** How long ago bytes came last, in milliseconds. */
  readonly gapMs: number;
  readonly frame: number;
  readonly spentMs: number;
}

/** Finds a peer that leaves a frame unfinished while it goes on sending a little (R-FLOW-9). */
export class FrameTimer {
  #atMs: number;
  #frame = -1;
  #spentMs = 0;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** How long ago bytes came last, in milliseconds. */
  gapMs(nowMs: number): number {
    return nowMs - this.#atMs;
  }

  capture(nowMs: number): FrameTimerCapture {
    return { gapMs: this.gapMs(nowMs), frame: this.#frame, spentMs: this.#spentMs };
  }

  restore({ gapMs, frame, spentMs }: FrameTimerCapture, nowMs: number): void {
    this.#atMs = nowMs - gapMs;
    this.#frame = frame;
    this.#spentMs = spentMs;
  }

  /** Before arriving bytes are read: whether the frame with this number, which is unfinished, has taken too long. */
  isExceeded(frame: number, isMidFrame: boolean, nowMs: number): boolean {
    const gapMs = this.gapMs(nowMs);
    this.#atMs = nowMs;
    if (!isMidFrame || frame !== this.#frame) this.#spentMs = 0;
    else if (gapMs < MAX_GAP_MS) this.#spentMs += gapMs;
    this.#frame = frame;
    return this.#spentMs > MAX_FRAME_MS;
  }
}
