/** Makes HELLOs and frames by hand, right and wrong: the common part of all peers that can break a rule. */
import { createHash, createHmac } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { DataCheck, encodeFrame, FRAME_TYPE, headerCheck, type Integrity, nextSequence } from '../lib/codec/header.js';
import { type Hello, MAGIC } from '../lib/codec/hello.js';
import { DEFAULT_LIMITS, type Limits } from '../lib/codec/limits.js';
import type { FrameLog } from './frame-log.js';

/** The ways in which a frame can be wrong. Fields not given are right. */
export interface FrameFaults {
  readonly flags?: number;
  readonly length?: number;
  readonly sequence?: number;
  readonly crc?: number;
  /** What follows the payload of DATA in `frame`. */
  readonly trailer?: number;
  readonly hasWrongCheck?: boolean;
  /** How many sequence numbers are skipped; negative: used again. */
  readonly skip?: number;
  /** The offset of a byte that is changed in place. */
  readonly flip?: number;
  /** The first byte that is lost, and how many are. */
  readonly lostFrom?: number;
  readonly lost?: number;
  /** How much of the frame is written: its start. */
  readonly cut?: number;
}

export interface FrameMakerOptions {
  /** The level that the peer requests, and assumes to be in effect. Default `full`. */
  readonly integrity?: Integrity;
  readonly peerLimits?: Partial<Limits>;
  /** Whether its stream ids are odd: its nonces are the largest possible. Default true. */
  readonly isOdd?: boolean;
  readonly features?: readonly string[];
  /** The number of its first nonce. Default 0. */
  readonly attempt?: number;
}

/** A text, a number of bytes, or `hex:00ff`, as a step of a conversation has it. */
export function bytesOf(what = 'x'): Buffer {
  if (/^\d+$/.test(what)) return Buffer.alloc(Number(what), 'pattern');
  return what.startsWith('hex:') ? Buffer.from(what.slice(4), 'hex') : Buffer.from(what);
}

/** The payloads of frames by the text after their stream ids. */
const PAYLOADS: Readonly<Record<string, (what: readonly string[]) => Buffer | object>> = {
  AUTH: ([bytes = '32']) => Buffer.alloc(Number(bytes)),
  SERVICES: (services) => ({ services }),
  OPEN: ([service = 'target', kind]) => ({ service, ...(kind === 'datagram' && { datagram: true }) }),
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

type Frame = readonly [type: number, streamId: number, payload?: Buffer | object | undefined, faults?: FrameFaults];

/** Faults as texts: `!crc=1`, `!hasWrongCheck`. */
const faultsOf = (words: readonly string[]): FrameFaults =>
  Object.fromEntries(
    words.flatMap((word) => {
      const [, name = '', value] = /^!(\w+)(?:=(-?\d+))?$/.exec(word) ?? [];
      return name === '' ? [] : [[name, value === undefined ? true : Number(value)]];
    }),
  );

/**
 * Frames as texts: `OPEN 1 echo, DATA 1 hello, DATA 1 500, PING`; an unnamed type is hexadecimal. A payload may also be JSON
 * without spaces, or `hex:00ff`, and a frame may have faults: `FIN 1 !flags=1`.
 */
export const framesOf = (text: string): Frame[] =>
  text.split(', ').map((frame) => {
    const words = frame.split(' ');
    const [word = '', id = '0', ...what] = words.filter((one) => !one.startsWith('!'));
    const isRaw = /^(?:[{[]|hex:)/.test(what[0] ?? '');
    const payload = (isRaw ? undefined : PAYLOADS[word]?.(what)) ?? (what.length > 0 ? bytesOf(what[0]) : undefined);
    return [TYPES[word] ?? Number.parseInt(word, 16), Number(id), payload, faultsOf(words)];
  });

/** HMAC-SHA256 over byte strings, each preceded by its length. */
export function hmacOf(key: Buffer, parts: readonly Buffer[]): Buffer {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(Buffer.from(part.length.toString(16).padStart(8, '0'), 'hex')).update(part);
  return hmac.digest();
}

/** The payload of AUTH (R-AUTH-2). */
export const proofOf = (sender: Buffer, receiver: Buffer): Buffer =>
  hmacOf(KEY, [Buffer.from('vproxy-auth-v1'), sender, receiver]);

/** The key of both sides in conversations in which the side under test has one. */
export const KEY = Buffer.alloc(32, 0x1f);

/** One direction of a channel, written frame by frame. */
export abstract class FrameMaker {
  sequence = 1;
  readonly #integrity: Integrity;
  readonly #isOdd: boolean;
  readonly #peerLimits: Limits;
  readonly #features: readonly string[];
  #attempts: number;
  /** The payload of its newest HELLO. */
  ownHello: Buffer = EMPTY;
  /** What it has sent in the session (R-RESUME-2), and the next sequence number there, on this channel and on the one before. */
  #stream: Buffer[] = [];
  #before: { readonly stream: readonly Buffer[]; readonly sequence: number } | null = null;

  constructor({ integrity = 'full', isOdd = true, peerLimits = {}, features = [], attempt = 0 }: FrameMakerOptions) {
    this.#attempts = attempt;
    this.#features = features;
    this.#integrity = integrity;
    this.#isOdd = isOdd;
    this.#peerLimits = { ...DEFAULT_LIMITS, ...peerLimits };
  }

  abstract write(bytes: Buffer): void;

  /** The output of the side under test. */
  abstract readonly log: FrameLog;

  protected get readerNonce(): string {
    return this.log.hellos.at(-1)?.nonce ?? '';
  }

  /** This peer's nonce: a new one after every `renew`. */
  get nonce(): string {
    return (this.#isOdd ? 'f' : '0').repeat(24) + this.#attempts.toString(16).padStart(8, '0');
  }

  /** Takes a new nonce and restarts the count, like a restarted process. */
  renew(): void {
    this.#attempts += 1;
    if (this.#stream.length > 0) this.#before = { stream: this.#stream, sequence: this.sequence };
    this.#stream = [];
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
    this.ownHello = payload;
    return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0)]);
  }

  /** The next frame, right or wrong, as bytes. It counts as sent. */
  frame(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): Buffer {
    const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
    const sequence = faults.sequence ?? this.sequence + (faults.skip ?? 0);
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
    if (this.#features.includes('resume') && type !== FRAME_TYPE.RESUME) this.#stream.push(Buffer.from(frame));
    return damaged(frame, faults);
  }

  send(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): void {
    this.write(this.frame(type, streamId, payload, faults));
  }

  say(frames: string): void {
    for (const frame of framesOf(frames)) this.send(...frame);
  }

  /** A step of the peer in a conversation (`converse`); false if it is one of another side. */
  perform(step: string): boolean {
    const { nonce = '', instance } = this.log.hellos.at(-1) ?? {};
    const named = step.includes('$session') ? step.replace('$session', this.#expectResume()) : step;
    const [word = '', ...what] = named.replace('$nonce', nonce).replace('$instance', String(instance)).split(' ');
    if (word === 'HELLO') this.write(this.#helloOf(nonce, what));
    else if (word === 'renew') this.renew();
    else if (word === 'pong') this.send(FRAME_TYPE.PONG, 0, this.log.newestPing);
    else if (word === 'prove') this.send(FRAME_TYPE.AUTH, 0, proofOf(this.ownHello, this.log.helloPayload));
    else if (word === 'resume') this.#resume();
    else if (word === 'BYTES') {
      const [hex = '', count = '1'] = (what[0] ?? '').split('*');
      this.write(Buffer.from(hex.repeat(Number(count)), 'hex'));
    } else if (isFrame(word) || /^[\dA-Fa-f]{2}$/.test(word)) this.say(step);
    else return false;
    return true;
  }

  /** Magic and HELLO that answer `nonce`, with `{"field":value}` replaced, `-field` left out, or another payload, and faults. */
  #helloOf(nonce: string, words: readonly string[]): Buffer {
    const fields: Record<string, unknown> = { ack: nonce };
    for (const word of words) {
      if (word.startsWith('hex:')) return this.rawHello(bytesOf(word));
      if (word.startsWith('-')) fields[word.slice(1)] = undefined;
      else if (!word.startsWith('!')) Object.assign(fields, JSON.parse(word));
    }
    return damaged(this.hello(fields), faultsOf(words));
  }

  /** The key of the session (R-RESUME-1). */
  get #key(): Buffer {
    const secrets = [Buffer.alloc(32, 0x5a), this.log.secret];
    return createHash('sha256')
      .update(Buffer.concat(this.#isOdd ? secrets : secrets.reverse()))
      .digest();
  }

  /** The id of the session that the channel before had, whose frames continue after RESUME. */
  #expectResume(): string {
    this.log.behindResume = { sequence: this.log.countedBefore.length + 1, begun: EMPTY };
    return hmacOf(this.#key, [Buffer.from('vproxy-resume-id')]).toString('hex', 0, 8);
  }

  /** Proves that it has the session, as the other side has, and continues with what that side has not received (R-RESUME-3). */
  #resume(): void {
    const hellos = [this.ownHello, this.log.helloPayload];
    const proof = (total: Buffer, names: readonly Buffer[]): Buffer =>
      hmacOf(this.#key, [Buffer.from('vproxy-resume-v1'), ...names, total]);
    const [theirs, received] = [this.log.resume.subarray(0, 8), Buffer.concat(this.log.countedBefore).length];
    if (!this.log.resume.subarray(8).equals(proof(theirs, hellos.toReversed()))) throw new Error('a wrong RESUME');
    const total = creditPayload(received);
    this.send(FRAME_TYPE.RESUME, 0, Buffer.concat([total, proof(total, hellos)]));
    const { stream = [], sequence = 1 } = this.#before ?? {};
    this.sequence = sequence;
    this.write(Buffer.concat(stream).subarray(Number(theirs.readBigUInt64BE())));
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

/** The bytes with the faults that happen to them on their way. */
function damaged(bytes: Buffer, { flip, lostFrom = 0, lost = 0, cut = bytes.length }: FrameFaults): Buffer {
  if (flip !== undefined) bytes[flip] = (bytes[flip] ?? 0) ^ 1;
  if (lost === 0 && cut === bytes.length) return bytes;
  return Buffer.concat([bytes.subarray(0, lostFrom), bytes.subarray(lostFrom + lost, cut)]);
}

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
