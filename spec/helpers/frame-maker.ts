/** Makes HELLOs and frames by hand, right and wrong: the common part of all peers in the specs that can break a rule. */
import { crc32 } from 'node:zlib';
import {
  DataCheck,
  encodeFrame,
  FRAME_TYPE,
  headerCheck,
  type Integrity,
  nextSequence,
} from '../../lib/codec/header.js';
import { type Hello, MAGIC } from '../../lib/codec/hello.js';
import { DEFAULT_LIMITS, type Limits } from '../../lib/codec/limits.js';

/** The ways in which a frame can be wrong. Fields not given are right. */
export interface FrameFaults {
  readonly flags?: number;
  readonly length?: number;
  readonly sequence?: number;
  readonly crc?: number;
  /** What follows the payload of DATA in `frame`. */
  readonly trailer?: number;
  readonly hasWrongCheck?: boolean;
}

export interface FrameMakerOptions {
  /** The level that the peer requests, and assumes to be in effect. Default `full`. */
  readonly integrity?: Integrity;
  readonly peerLimits?: Partial<Limits>;
  /** Whether its stream ids are odd: its nonces are the largest possible. Default true. */
  readonly isOdd?: boolean;
  readonly features?: readonly string[];
}

export const bytesOf = (what = 'x'): Buffer => (/^\d+$/.test(what) ? Buffer.alloc(Number(what)) : Buffer.from(what));

/** The payloads of frames by the text after their stream ids. */
const PAYLOADS: Readonly<Record<string, (what: readonly string[]) => Buffer | object>> = {
  AUTH: ([bytes = '32']) => Buffer.alloc(Number(bytes)),
  SERVICES: (services) => ({ services }),
  OPEN: ([service = 'echo', kind]) => ({ service, ...(kind === 'datagram' && { datagram: true }) }),
  DATA: ([what]) => bytesOf(what),
  CREDIT: ([total = '0']) => creditPayload(BigInt(total)),
  PING: () => Buffer.from('12345678'),
  PONG: () => Buffer.from('12345678'),
  GOAWAY: ([code, last = '0']) => ({ code, message: 'bye', last: Number(last) }),
  SECRET: ([bytes = '32']) => Buffer.alloc(Number(bytes), 0x5a),
  ACK: ([total = '0']) => creditPayload(BigInt(total)),
  ...Object.fromEntries(
    ['REFUSE', 'STOP', 'RESET'].map((name) => [name, ([code = 'denied']) => ({ code, message: 'no' })]),
  ),
};

const TYPES: Readonly<Record<string, number>> = FRAME_TYPE;

export const isFrame = (word: string): boolean => TYPES[word] !== undefined;

type Frame = readonly [type: number, streamId: number, payload?: Buffer | object | undefined];

/** Frames as texts: `OPEN 1 echo, DATA 1 hello, DATA 1 500, PING`; an unnamed type is hexadecimal. */
export const framesOf = (text: string): Frame[] =>
  text.split(', ').map((frame) => {
    const [word = '', id = '0', ...what] = frame.split(' ');
    const payload = PAYLOADS[word]?.(what) ?? (what.length > 0 ? bytesOf(what[0]) : undefined);
    return [TYPES[word] ?? Number.parseInt(word, 16), Number(id), payload];
  });

/** One direction of a channel, written frame by frame. */
export abstract class FrameMaker {
  sequence = 1;
  readonly #integrity: Integrity;
  readonly #isOdd: boolean;
  readonly #peerLimits: Limits;
  readonly #features: readonly string[];
  #attempts = 0;

  constructor({ integrity = 'full', isOdd = true, peerLimits = {}, features = [] }: FrameMakerOptions) {
    this.#features = features;
    this.#integrity = integrity;
    this.#isOdd = isOdd;
    this.#peerLimits = { ...DEFAULT_LIMITS, ...peerLimits };
  }

  abstract write(bytes: Buffer): void;

  protected abstract get readerNonce(): string;

  /** This peer's nonce: a new one after every `renew`. */
  get nonce(): string {
    return (this.#isOdd ? 'f' : '0').repeat(24) + this.#attempts.toString(16).padStart(8, '0');
  }

  /** Takes a new nonce and restarts the count, like a restarted process. */
  renew(): void {
    this.#attempts += 1;
    this.sequence = 1;
  }

  get helloFields(): Hello {
    return {
      version: { min: 1, max: 1 },
      nonce: this.nonce,
      ack: null,
      instance: 'abcdef01'.repeat(4),
      agent: 'frame peer',
      name: null,
      limits: this.#peerLimits,
      integrity: this.#integrity,
      auth: null,
      tls: false,
      features: this.#features,
    };
  }

  /** Magic and HELLO; any field may be anything, and undefined omits it. */
  hello(fields: Readonly<Record<string, unknown>> = {}): Buffer {
    return this.rawHello(Buffer.from(JSON.stringify({ ...this.helloFields, ...fields })));
  }

  /** Magic and a HELLO frame with these bytes as its payload. */
  rawHello(payload: Buffer): Buffer {
    return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0)]);
  }

  /** The next frame, right or wrong, as bytes. It counts as sent. */
  frame(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): Buffer {
    const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
    const sequence = faults.sequence ?? this.sequence;
    const check = new DataCheck(this.#integrity, this.nonce, this.readerNonce);
    const isData = type === FRAME_TYPE.DATA;
    const frame = Buffer.alloc(16 + body.length + (isData ? check.trailerBytes : 0));
    frame[0] = type;
    frame[1] = faults.flags ?? 0;
    frame.writeUInt32BE(streamId, 4);
    frame.writeUInt32BE(faults.length ?? body.length, 8);
    frame.writeUInt32BE(faults.crc ?? (isData ? check.crcOf(body) : crc32(body)), 12);
    frame.writeUInt16BE(headerCheck(frame, 0, sequence) ^ (faults.hasWrongCheck === true ? 0x0100 : 0), 2);
    body.copy(frame, 16);
    if (frame.length > 16 + body.length)
      frame.writeUInt32BE(faults.trailer ?? check.trailerOf(sequence), 16 + body.length);
    this.sequence = nextSequence(sequence);
    return frame;
  }

  send(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): void {
    this.write(this.frame(type, streamId, payload, faults));
  }

  say(frames: string): void {
    for (const frame of framesOf(frames)) this.send(...frame);
  }

  sendOpen(streamId: number, service = 'echo'): void {
    this.send(FRAME_TYPE.OPEN, streamId, { service });
  }

  sendOpenFlow(streamId: number, service = 'echo'): void {
    this.send(FRAME_TYPE.OPEN, streamId, { service, datagram: true });
  }

  sendData(streamId: number, data: Buffer | string): void {
    this.send(FRAME_TYPE.DATA, streamId, Buffer.from(data));
  }

  sendCredit(streamId: number, total: number | bigint): void {
    this.send(FRAME_TYPE.CREDIT, streamId, creditPayload(total));
  }
}

export function creditPayload(total: number | bigint): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64BE(BigInt(total));
  return payload;
}

const EMPTY = Buffer.alloc(0);

// Frames written repeatedly with only their sequence numbers changed: a flood that costs its peer next to nothing.

export class FrameStamp {
  readonly #batch: Buffer;
  readonly #frameBytes: number;

  /** `frame` is any frame of the kind; the batch has about `batchBytes` of them. */
  constructor(frame: Buffer, batchBytes: number) {
    this.#frameBytes = frame.length;
    const count = Math.max(1, Math.floor(batchBytes / frame.length));
    this.#batch = Buffer.concat(Array.from({ length: count }, () => frame));
  }

  get count(): number {
    return this.#batch.length / this.#frameBytes;
  }

  /** The next frames of `peer`, at most `maxCount`. They are valid until the next call. */
  next(peer: FrameMaker, maxCount: number = this.count): Buffer {
    const end = Math.min(maxCount, this.count) * this.#frameBytes;
    for (let at = 0; at < end; at += this.#frameBytes) {
      this.#batch.writeUInt16BE(headerCheck(this.#batch, at, peer.sequence), at + 2);
      peer.sequence = nextSequence(peer.sequence);
    }
    return this.#batch.subarray(0, end);
  }
}
