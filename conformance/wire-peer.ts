/** The peer of a program under test: it writes frames by hand over a channel, and judges every byte that comes. */
import { randomInt } from 'node:crypto';
import { FRAME_TYPE } from '../lib/codec/header.js';
import type { Hello } from '../lib/codec/hello.js';
import { FrameLog, formatWithLast, jsonOf, type SeenFrame } from './frame-log.js';
import { FrameMaker, type FrameMakerOptions, proofOf } from './frame-maker.js';
import type { Channel } from './program.js';
import { ObservedHalf } from './wire-observer.js';

const { ACK, AUTH, CREDIT, DATA, OPEN, PING, PONG, RESUME, SECRET, SERVICES } = FRAME_TYPE;

/** Frames that the observer does not know. */
const UNJUDGED: readonly number[] = [AUTH, SECRET, RESUME, ACK];

export class WirePeer extends FrameMaker {
  readonly log: FrameLog;
  /** The first thing that was wrong with the output, whatever the conversation expects. */
  fault: string | null = null;
  isClosed = false;
  /** The services of the newest session; null before its list is complete. */
  services: readonly string[] | null = null;
  pings = 0;
  /** What came before the first HELLO. */
  head: Buffer = Buffer.alloc(0);
  /** The ids of the streams that the program has opened in the session, in order. */
  readonly opened: number[] = [];
  /** The payloads of the right DATA frames that were sent, and of those that came, by stream. */
  readonly sent = new Map<number, Buffer>();
  readonly received = new Map<number, Buffer>();
  readonly #channel: Channel;
  readonly #pingsSent = new Set<string>();
  readonly #credits = new Map<number, number>();
  #half: ObservedHalf | null = null;
  /** The session before the newest flush: it continues after RESUME. */
  #before: { readonly half: ObservedHalf; readonly services: readonly string[] | null } | null = null;
  #hellos = 0;
  #flushedBytes = 0;

  constructor(channel: Channel, options: FrameMakerOptions) {
    super({ ...options, attempt: randomInt(2 ** 24) });
    this.#channel = channel;
    this.log = new FrameLog(options.integrity ?? 'full', () => this.nonce);
    this.log.counted = [];
    channel.input.on('data', (chunk: Buffer) => this.#read(chunk)).resume();
    for (const event of ['end', 'close', 'error']) channel.input.on(event, () => (this.isClosed = true));
    channel.output.on('error', () => undefined);
  }

  /** The newest HELLO of the program. */
  get other(): Hello | undefined {
    return this.log.hellos.at(-1);
  }

  override write(bytes: Buffer): void {
    this.#channel.output.write(bytes);
  }

  override frame(...parameters: Parameters<FrameMaker['frame']>): Buffer {
    const [type, streamId, body = Buffer.alloc(0), faults = {}] = parameters;
    const bytes = super.frame(...parameters);
    if (type === RESUME) this.services = this.#before?.services ?? null;
    // In `frame`, neither a wrong CRC of DATA nor a changed byte of it can be detected; in a resumable session a cut frame comes again.
    const isHidden = type === DATA && this.log.integrity === 'frame';
    const harmless = [...(isHidden ? ['crc', 'flip'] : []), ...(this.log.secret.length > 0 ? ['cut'] : [])];
    if (!Object.keys(faults).every((fault) => harmless.includes(fault))) return bytes;
    const whole = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const payload = faults.flip === undefined ? whole : bytes.subarray(16, 16 + whole.length);
    if (type === PING) this.#pingsSent.add(payload.toString('hex'));
    if (type === DATA) this.sent.set(streamId, Buffer.concat([this.sent.get(streamId) ?? Buffer.alloc(0), payload]));
    if (this.#half === null) return bytes;
    if (type === DATA) this.#half.arrivedBytes += payload.length;
    try {
      this.#half.hear({ type, name: '', streamId, payload });
    } catch {
      // A payload of the wrong form says nothing.
    }
    return bytes;
  }

  /** How much DATA may still be sent on a stream. */
  creditLeft(streamId: number): number {
    const total = (id: number, first = 0): number => Math.max(first, this.#credits.get(id) ?? 0);
    const all = [...this.sent.values()].reduce((sum, { length }) => sum + length, 0);
    const { streamCredit, inFlight } = this.other?.limits ?? {};
    return Math.min(total(0, inFlight) - all, total(streamId, streamCredit) - (this.sent.get(streamId)?.length ?? 0));
  }

  close(): void {
    this.#channel.input.removeAllListeners('data').resume();
    this.#channel.output.end();
    this.#channel.input.destroy();
  }

  #read(chunk: Buffer): void {
    if (this.other === undefined) this.head = Buffer.concat([this.head, chunk]);
    if (this.fault !== null) return;
    const before = this.log.frames.length;
    try {
      this.log.push(chunk);
      this.#judgeHellos();
      for (const frame of this.log.frames.slice(before)) this.#judge(frame);
    } catch (error) {
      this.fault = (error as Error).message;
    }
  }

  /** A fresh nonce follows a flush (R-OPEN-1), and its session is counted from the start. */
  #judgeHellos(): void {
    const { hellos, flushedBytes } = this.log;
    for (; this.#hellos < hellos.length; this.#hellos += 1) {
      const [before, hello] = [hellos[this.#hellos - 1], hellos[this.#hellos] as Hello];
      if (before?.nonce === hello.nonce) continue;
      const flush = flushedBytes - this.#flushedBytes;
      this.#flushedBytes = flushedBytes;
      if (flush !== hello.limits.frame + 16) throw new Error(`R-OPEN-1: a flush of ${flush} bytes`);
      if (this.#half !== null) this.#before = { half: this.#half, services: this.services };
      this.#half = null;
      this.services = null;
      this.#credits.clear();
      this.opened.splice(0);
    }
  }

  #judge(frame: SeenFrame): void {
    const { type, streamId, payload } = frame;
    if (type === AUTH && !payload.equals(proofOf(this.log.helloPayload, this.ownHello)))
      throw new Error('a wrong AUTH');
    if (type === RESUME) this.#half = this.#before?.half ?? null;
    if (UNJUDGED.includes(type)) return;
    if (type === SERVICES && this.services === null) for (const map of [this.sent, this.received]) map.clear();
    this.#half ??= this.#observed();
    const [fault] = this.#half.write(frame);
    if (fault !== undefined) throw new Error(`${formatWithLast(frame)}: ${fault}`);
    if (type === PING) this.pings += 1;
    if (type === OPEN) this.opened.push(streamId);
    if (type === PONG && !this.#pingsSent.has(payload.toString('hex'))) throw new Error('a PONG with other bytes');
    if (type === CREDIT) this.#credits.set(streamId, Number(payload.readBigUInt64BE()));
    if (type === DATA)
      this.received.set(streamId, Buffer.concat([this.received.get(streamId) ?? Buffer.alloc(0), payload]));
    if (type === SERVICES && jsonOf(frame)['more'] !== true) this.services = this.#half.services;
  }

  /** What the program has written and heard; when a frame arrived there cannot be known. */
  #observed(): ObservedHalf {
    const own = JSON.parse(this.ownHello.toString()) as Hello;
    const half = new ObservedHalf(this.other as Hello, own);
    half.other = new ObservedHalf(own, this.other as Hello);
    half.other.other = half;
    half.hearsDoubtfully = true;
    return half;
  }
}
