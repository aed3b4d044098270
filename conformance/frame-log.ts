/** Reads the output of a side under test strictly, frame by frame: every byte must be explained. */
import { crc32 } from 'node:zlib';
import { crc16, FRAME_TYPE, formatFrameType, type Integrity } from '../lib/codec/header.js';
import { decodeHello, type Hello, MAGIC } from '../lib/codec/hello.js';

export interface SeenFrame {
  readonly type: number;
  readonly name: string;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function jsonOf(frame: SeenFrame): Record<string, unknown> {
  return JSON.parse(frame.payload.toString()) as Record<string, unknown>;
}

/** Takes the bytes of one direction: flush, HELLOs, and the counted frames of one session after another. */
export class FrameLog {
  readonly hellos: Hello[] = [];
  /** The newest HELLO, byte for byte. */
  helloPayload: Buffer = Buffer.alloc(0);
  readonly frames: SeenFrame[] = [];
  /** The payload of the newest PING. */
  newestPing: Buffer = Buffer.alloc(8);
  /** The payloads of the newest SECRET and RESUME. */
  secret: Buffer = Buffer.alloc(0);
  resume: Buffer = Buffer.alloc(0);
  flushedBytes = 0;
  /** The level in effect. */
  integrity: Integrity;
  /** If not null: the bytes of each counted frame since the newest flush; of a resumed session, those after RESUME. */
  counted: Buffer[] | null = null;
  /** The same, before that flush. */
  countedBefore: readonly Buffer[] = [];
  /** The state after RESUME: the sequence number of the next frame, and bytes of that frame that came on another channel. */
  behindResume: { readonly sequence: number; readonly begun: Buffer } | null = null;
  readonly #readerNonce: () => string;
  #sequence = 1;
  #bytes: Buffer = Buffer.alloc(0);

  /** `readerNonce`: that of the side that reads this direction, as in effect. */
  constructor(integrity: Integrity, readerNonce: () => string) {
    this.integrity = integrity;
    this.#readerNonce = readerNonce;
  }

  /** Continues reading. Throws for anything that the protocol does not allow a side to write. */
  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    let at = 0;
    for (let size = this.#read(at); size > 0; size = this.#read(at)) {
      at += size;
      if (this.frames.at(-1)?.type !== FRAME_TYPE.RESUME || this.behindResume === null) continue;
      const { sequence, begun } = this.behindResume;
      this.behindResume = null;
      this.#sequence = sequence;
      this.counted?.splice(0);
      this.#bytes = Buffer.concat([begun, this.#bytes.subarray(at)]);
      at = 0;
    }
    this.#bytes = this.#bytes.subarray(at);
  }

  take(): SeenFrame[] {
    return this.frames.splice(0);
  }

  /** Records the item at `at`, and returns its size; 0 if it is incomplete. */
  #read(at: number): number {
    const bytes = this.#bytes.subarray(at);
    if (bytes.length === 0) return 0;
    if (bytes[0] === 0) {
      let zeros = 0;
      while (bytes[zeros] === 0) zeros += 1;
      this.flushedBytes += zeros;
      this.#sequence = 1;
      if ((this.counted?.length ?? 0) > 0) this.countedBefore = this.counted?.splice(0) ?? [];
      return zeros;
    }
    if (bytes[0] === 0xff) {
      if (bytes.length < 32) return 0;
      if (!bytes.subarray(0, 16).equals(MAGIC)) throw new Error('FF without a magic');
      const size = this.#readFrame(bytes.subarray(16), 0);
      return size === 0 ? 0 : 16 + size;
    }
    return this.#readFrame(bytes, this.#sequence);
  }

  #readFrame(bytes: Buffer, sequence: number): number {
    const nonces = `${this.hellos.at(-1)?.nonce}${this.#readerNonce()}`;
    const frame = readFrame(bytes, sequence, this.integrity === 'frame' ? crc32(nonces) : null);
    if (frame === null) return 0;
    const { type, payload, end } = frame;
    if (type === FRAME_TYPE.HELLO) {
      if (sequence !== 0) throw new Error('a HELLO is counted');
      this.hellos.push(decodeHello(payload));
      this.helloPayload = payload;
    } else {
      this.frames.push(frame);
      if (type === FRAME_TYPE.PING) this.newestPing = payload;
      if (type === FRAME_TYPE.SECRET) this.secret = payload;
      if (type === FRAME_TYPE.RESUME) this.resume = payload;
      this.#sequence = sequence === 0xffff_ffff ? 1 : sequence + 1;
      this.counted?.push(Buffer.from(bytes.subarray(0, end)));
    }
    return end;
  }
}

/**
 * The frame at the start of the bytes, and where it ends; null if it is incomplete. `tag` is the key of the trailers of DATA, if
 * it has some. Throws for anything wrong.
 */
export function readFrame(
  bytes: Buffer,
  sequence: number,
  tag: number | null,
): (SeenFrame & { readonly end: number }) | null {
  if (bytes.length < 16) return null;
  const [type, flags] = bytes as unknown as [number, number];
  const [streamId, length, crc] = [4, 8, 12].map((offset) => bytes.readUInt32BE(offset)) as [number, number, number];
  const counted = Buffer.alloc(4);
  counted.writeUInt32BE(sequence);
  const check = crc16(Buffer.concat([counted, bytes.subarray(0, 2), bytes.subarray(4, 16)]));
  if (check !== bytes.readUInt16BE(2)) throw new Error(`frame ${sequence} has a wrong check`);
  if (flags !== 0) throw new Error(`frame ${sequence} has flags`);
  const trailer = type === FRAME_TYPE.DATA && tag !== null ? (tag ^ sequence) >>> 0 : null;
  const end = 16 + length + (trailer === null ? 0 : 4);
  if (bytes.length < end) return null;
  const payload = Buffer.from(bytes.subarray(16, 16 + length));
  if (crc !== (trailer === null ? crc32(payload) : 0)) throw new Error(`frame ${sequence} has a wrong CRC`);
  if (trailer !== null && bytes.readUInt32BE(end - 4) !== trailer)
    throw new Error(`frame ${sequence} has a wrong trailer`);
  return { type, name: formatFrameType(type), streamId, payload, end };
}

export function formatSeen(frame: SeenFrame): string {
  const { type, name, streamId, payload } = frame;
  switch (type) {
    case FRAME_TYPE.DATA:
      return `${name} ${streamId} ${payload.length}`;
    case FRAME_TYPE.CREDIT:
      return `${name} ${streamId} ${payload.readBigUInt64BE()}`;
    case FRAME_TYPE.REFUSE:
    case FRAME_TYPE.STOP:
    case FRAME_TYPE.RESET:
    case FRAME_TYPE.GOAWAY:
      return `${name} ${streamId} ${String(jsonOf(frame)['code'])}`;
    case FRAME_TYPE.OPEN:
      return `${name} ${streamId} ${String(jsonOf(frame)['service'])}`;
    default:
      return `${name} ${streamId}`;
  }
}

/** The same, and for GOAWAY the highest id served, if there is one. */
export const formatWithLast = (frame: SeenFrame): string =>
  frame.type === FRAME_TYPE.GOAWAY && jsonOf(frame)['last'] !== 0
    ? `${formatSeen(frame)} ${String(jsonOf(frame)['last'])}`
    : formatSeen(frame);
