/**
 * A passive third party on the simulated link: reads what each side writes, records what has arrived at the other one,
 * and judges every frame by that alone. It shares no accounting with the session.
 */
import { crc32 } from 'node:zlib';
import { FRAME_TYPE, type Integrity } from '../lib/codec/header.js';
import { type Hello, MAGIC } from '../lib/codec/hello.js';
import { readFrame, type SeenFrame } from './frame-log.js';

/** The fields of a HELLO on which a session depends. */
type ObservedHello = Pick<Hello, 'nonce' | 'ack' | 'integrity' | 'limits'>;

/** The actions of one side on one stream, and what it has received from the other about it. */
class StreamHalf {
  readonly written = new Set<number>();
  readonly heard = new Set<number>();
  sentBytes = 0;
  /** The newest total that this side granted the other one. */
  grantedBytes: number;
  /** The newest total of the other side that has arrived here. */
  creditBytes: number;

  constructor(grantedBytes: number, creditBytes: number) {
    this.grantedBytes = grantedBytes;
    this.creditBytes = creditBytes;
  }

  get hasAnswer(): boolean {
    return this.heard.has(FRAME_TYPE.ACCEPT) || this.heard.has(FRAME_TYPE.REFUSE);
  }

  get hasRefused(): boolean {
    return this.written.has(FRAME_TYPE.REFUSE) || this.written.has(FRAME_TYPE.RESET);
  }

  /** Whether the stream is over, as far as this side can know. */
  get isOver(): boolean {
    const { written, heard } = this;
    if (written.has(FRAME_TYPE.FIN) && heard.has(FRAME_TYPE.FIN)) return true;
    return this.hasRefused || heard.has(FRAME_TYPE.REFUSE) || heard.has(FRAME_TYPE.RESET);
  }
}

export class ObservedHalf {
  readonly hello: ObservedHello;
  readonly streams = new Map<number, StreamHalf>();
  other!: ObservedHalf;
  /** Whether this side may receive something else than the other one wrote. */
  hearsDoubtfully = false;
  frames = 0;
  sentBytes = 0;
  arrivedBytes = 0;
  grantedBytes: number;
  creditBytes: number;
  services: string[] = [];
  #partialServices: string[] = [];
  #lastOwnId = 0;
  #newestPing: Buffer | null = null;
  #pongsHeard = 0;
  #isLeaving = false;
  #hasHeardGoaway = false;
  #hasLeft = false;

  constructor(hello: ObservedHello, otherHello: ObservedHello) {
    this.hello = hello;
    this.grantedBytes = hello.limits.inFlight;
    this.creditBytes = otherHello.limits.inFlight;
  }

  get isOdd(): boolean {
    return this.hello.nonce > this.other.hello.nonce;
  }

  get integrity(): Integrity {
    return this.hello.integrity === 'full' ? 'full' : this.other.hello.integrity;
  }

  /** The tag in the trailers of this side; null if there are none. */
  get tag(): number | null {
    return this.integrity === 'full' ? null : crc32(this.hello.nonce + this.other.hello.nonce);
  }

  get maxFrameBytes(): number {
    return Math.min(this.hello.limits.frame, this.other.hello.limits.frame);
  }

  /** This side's streams that count for the other one, and how many of them are unanswered, as this side knows it. */
  countOwn(): { readonly open: number; readonly unanswered: number } {
    let open = 0;
    let unanswered = 0;
    for (const [id, stream] of this.streams) {
      if (!this.#isOwn(id) || stream.isOver) continue;
      open += 1;
      if (!stream.hasAnswer) unanswered += 1;
    }
    return { open, unanswered };
  }

  write(frame: SeenFrame): string[] {
    const { type, streamId: id, payload } = frame;
    const faults: string[] = [];
    const demand = (isRight: boolean, fault: string): void => {
      if (!isRight) faults.push(fault);
    };
    this.frames += 1;
    demand(!this.#hasLeft, 'a frame behind the last GOAWAY');
    if (this.frames === 1) demand(type === FRAME_TYPE.SERVICES || type === FRAME_TYPE.GOAWAY, 'SERVICES is not first');
    demand(type === FRAME_TYPE.DATA || payload.length <= 4096, 'a control frame is too large');
    switch (type) {
      case FRAME_TYPE.SERVICES:
        this.#writeServices(payload);
        return faults;
      case FRAME_TYPE.PING:
        return faults;
      case FRAME_TYPE.PONG:
        if (!this.hearsDoubtfully)
          demand(this.#newestPing?.equals(payload) === true, 'PONG is not for the newest PING');
        this.#newestPing = null;
        return faults;
      case FRAME_TYPE.GOAWAY: {
        const { code } = JSON.parse(payload.toString()) as { readonly code: string };
        // A side that drains already sends GOAWAY again only as its last frame.
        const isLast = this.#isLeaving || this.#hasHeardGoaway;
        if (code === 'shutdown' && isLast && !this.hearsDoubtfully) {
          demand(![...this.streams.values()].some(({ isOver }) => !isOver), 'the last GOAWAY without a RESET before');
        }
        this.#hasLeft = code !== 'shutdown' || isLast;
        this.#isLeaving = true;
        return faults;
      }
      case FRAME_TYPE.CREDIT:
        if (id === 0) {
          const total = Number(payload.readBigUInt64BE());
          demand(total > this.grantedBytes, `session credit went from ${this.grantedBytes} to ${total}`);
          this.grantedBytes = total;
          // The window may have doubled with each answer to a PING, and not otherwise.
          const window = this.hello.limits.inFlight * 2 ** Math.min(this.#pongsHeard, 16);
          demand(total <= this.arrivedBytes + window, `session credit ${total} after ${this.arrivedBytes} bytes came`);
          return faults;
        }
        break;
      case FRAME_TYPE.OPEN:
        this.#writeOpen(id, demand);
        return faults;
      default:
    }
    const stream = this.streams.get(id);
    if (stream === undefined) return [...faults, 'a frame for a stream that was never opened'];
    this.#writeStreamFrame(frame, stream, demand);
    return faults.map((fault) => `${fault} (stream ${id})`);
  }

  /** Notes a frame of the other side that has arrived completely. */
  hear({ type, streamId: id, payload }: SeenFrame): void {
    if (type === FRAME_TYPE.OPEN) {
      this.streams.set(id, this.#newStream());
    } else if (type === FRAME_TYPE.PING) {
      this.#newestPing = payload;
    } else if (type === FRAME_TYPE.PONG) {
      this.#pongsHeard += 1;
    } else if (type === FRAME_TYPE.CREDIT) {
      const total = Number(payload.readBigUInt64BE());
      const target = id === 0 ? this : this.streams.get(id);
      if (target !== undefined) target.creditBytes = Math.max(target.creditBytes, total);
    } else if (type === FRAME_TYPE.GOAWAY) {
      this.#hasHeardGoaway = true;
      const { last } = JSON.parse(payload.toString()) as { readonly last: number };
      for (const [own, stream] of this.streams) if (this.#isOwn(own) && own > last) stream.heard.add(FRAME_TYPE.REFUSE);
    } else if (id !== 0) {
      this.streams.get(id)?.heard.add(type);
    }
  }

  #writeServices(payload: Buffer): void {
    const list = JSON.parse(payload.toString()) as { readonly services: string[]; readonly more?: boolean };
    this.#partialServices.push(...list.services);
    if (list.more === true) return;
    this.services = this.#partialServices;
    this.#partialServices = [];
  }

  #writeOpen(id: number, demand: (isRight: boolean, fault: string) => void): void {
    const { streams, opens } = this.other.hello.limits;
    demand(this.#isOwn(id), `OPEN of ${id}, which has the wrong parity`);
    demand(id > this.#lastOwnId, `OPEN of ${id} behind ${this.#lastOwnId}`);
    demand(!this.#isLeaving, `OPEN of ${id} behind GOAWAY`);
    this.#lastOwnId = id;
    this.streams.set(id, this.#newStream());
    const { open, unanswered } = this.countOwn();
    demand(open <= streams, `${open} streams are open where ${streams} may be`);
    demand(unanswered <= opens, `${unanswered} opens wait where ${opens} may`);
  }

  #writeStreamFrame(
    { type, name, streamId: id, payload }: SeenFrame,
    stream: StreamHalf,
    demand: (isRight: boolean, fault: string) => void,
  ): void {
    const { written, heard } = stream;
    const isOwn = this.#isOwn(id);
    const isAnswer = type === FRAME_TYPE.ACCEPT || type === FRAME_TYPE.REFUSE;
    if (type !== FRAME_TYPE.CREDIT) demand(!stream.hasRefused, `${name} behind RESET or REFUSE`);
    if (type !== FRAME_TYPE.DATA && type !== FRAME_TYPE.CREDIT) demand(!written.has(type), `a second ${name}`);
    if (isAnswer) demand(!isOwn && !written.has(FRAME_TYPE.ACCEPT), `${name} is no answer, or a second one`);
    if (type === FRAME_TYPE.DATA || type === FRAME_TYPE.FIN) {
      demand(!written.has(FRAME_TYPE.FIN), `${name} behind FIN`);
      demand(isOwn || written.has(FRAME_TYPE.ACCEPT), `${name} before ACCEPT`);
    }
    if (type === FRAME_TYPE.CREDIT) {
      const total = Number(payload.readBigUInt64BE());
      demand(total > stream.grantedBytes, `credit went from ${stream.grantedBytes} to ${total}`);
      stream.grantedBytes = total;
    }
    if (type === FRAME_TYPE.DATA) {
      const bytes = payload.length;
      this.sentBytes += bytes;
      stream.sentBytes += bytes;
      demand(bytes > 0 && bytes <= this.maxFrameBytes, `DATA of ${bytes} bytes`);
      demand(this.sentBytes <= this.creditBytes, `${this.sentBytes} bytes exceed session credit ${this.creditBytes}`);
      demand(stream.sentBytes <= stream.creditBytes, `${stream.sentBytes} bytes exceed credit ${stream.creditBytes}`);
      if (isOwn && !heard.has(FRAME_TYPE.ACCEPT)) demand(stream.sentBytes <= 16_384, 'too much DATA before the answer');
      if (!this.hearsDoubtfully) {
        const end = [FRAME_TYPE.STOP, FRAME_TYPE.RESET, FRAME_TYPE.REFUSE].find((code) => heard.has(code));
        demand(end === undefined, 'DATA after a STOP, RESET or REFUSE came');
      }
    }
    written.add(type);
  }

  #newStream(): StreamHalf {
    return new StreamHalf(this.hello.limits.streamCredit, this.other.hello.limits.streamCredit);
  }

  #isOwn(id: number): boolean {
    return (id % 2 === 1) === this.isOdd;
  }
}

interface FrameOnWay {
  readonly frame: SeenFrame;
  readonly half: ObservedHalf;
  readonly endsAt: number;
}

/** The state of one direction of the current link. */
class Direction {
  writtenTo = 0;
  arrivedTo = 0;
  onWay: FrameOnWay[] = [];
}

export type SideName = 'a' | 'b';

const opposite = (name: SideName): SideName => (name === 'a' ? 'b' : 'a');

export class WireObserver {
  readonly faults: string[] = [];
  frameCount = 0;
  readonly #flushBytes: Record<SideName, number>;
  readonly #directions: Record<SideName, Direction> = { a: new Direction(), b: new Direction() };
  readonly #hellos: Record<SideName, Map<string, ObservedHello>> = { a: new Map(), b: new Map() };
  readonly #newestHello: Record<SideName, ObservedHello | null> = { a: null, b: null };
  readonly #sessions = new Map<string, Record<SideName, ObservedHalf>>();
  /** The session that each side writes frames of; null between its HELLO and its first frame. */
  readonly #current: Record<SideName, ObservedHalf | null> = { a: null, b: null };
  /** Whether a side has written a flush since its last HELLO. */
  readonly #hasFlushed: Record<SideName, boolean> = { a: false, b: false };
  /** Whether bytes of a direction were changed in flight since its writer's session began. */
  readonly #isDoubtful: Record<SideName, boolean> = { a: false, b: false };

  /** `frameBytes`: the largest DATA payload that each side sends. */
  constructor(frameBytes: Readonly<Record<SideName, number>>) {
    this.#flushBytes = { a: frameBytes.a + 16, b: frameBytes.b + 16 };
  }

  /** The session with these two nonces; null if no frame of it was seen. */
  session(nonces: Readonly<Record<SideName, string>>): Record<SideName, ObservedHalf> | null {
    return this.#sessions.get(`${nonces.a} ${nonces.b}`) ?? null;
  }

  relink(): void {
    for (const name of ['a', 'b'] as const) {
      this.#directions[name] = new Direction();
      this.#isDoubtful[name] = false;
      this.#current[name] = null;
    }
  }

  restart(name: SideName): void {
    this.#current[name] = null;
    this.#newestHello[name] = null;
  }

  /** Whether bytes that a side wrote to this link were changed, lost or repeated. */
  isDoubtful(name: SideName): boolean {
    return this.#isDoubtful[name];
  }

  /** Bytes that a side wrote were changed, lost or repeated. */
  mangle(name: SideName): void {
    this.#isDoubtful[name] = true;
    for (const { half } of this.#directions[name].onWay) half.other.hearsDoubtfully = true;
    const current = this.#current[name];
    if (current !== null) current.other.hearsDoubtfully = true;
  }

  /** The last `bytes` that a side has written never arrive: its process died before the channel took them. */
  cutUnwritten(name: SideName, bytes: number): void {
    const direction = this.#directions[name];
    direction.writtenTo -= bytes;
    direction.onWay = direction.onWay.filter(({ endsAt }) => endsAt <= direction.writtenTo);
  }

  /** A side hands complete frames to its channel, in which `unwrittenBytes` wait. */
  write(name: SideName, bytes: Buffer, unwrittenBytes: number): void {
    let at = 0;
    if (bytes[0] === 0) at = this.#readFlush(name, bytes);
    let isFirst = true;
    while (at < bytes.length) {
      const end = bytes[at] === 0xff ? this.#readHello(name, bytes, at) : this.#readFrame(name, bytes, at);
      if (end === null) return;
      if (isFirst && bytes[at] === FRAME_TYPE.DATA) this.#judgeBacklog(name, unwrittenBytes);
      isFirst = false;
      at = end;
    }
  }

  /** Everything that a side had written up to `writtenTo` has reached the other one. */
  arrive(from: SideName, writtenTo: number): void {
    const direction = this.#directions[from];
    direction.arrivedTo = Math.max(direction.arrivedTo, writtenTo);
    while (direction.onWay.length > 0) {
      const [first] = direction.onWay as [FrameOnWay];
      const { frame, half, endsAt } = first;
      if (endsAt > direction.arrivedTo) return;
      const listener = half.other;
      // A payload must be checked, and counts when it is complete.
      if (frame.type === FRAME_TYPE.DATA) listener.arrivedBytes += frame.payload.length;
      listener.hear(frame);
      direction.onWay.shift();
    }
  }

  #readFlush(name: SideName, bytes: Buffer): number {
    this.#directions[name].writtenTo += bytes.length;
    this.#hasFlushed[name] = true;
    this.#current[name] = null;
    const isFlush = bytes.length === this.#flushBytes[name] && bytes.equals(Buffer.alloc(bytes.length));
    if (!isFlush) this.#blame(name, `a flush of ${bytes.length} bytes`);
    return bytes.length;
  }

  #readHello(name: SideName, bytes: Buffer, at: number): number | null {
    const start = at + MAGIC.length;
    if (!bytes.subarray(at, start).equals(MAGIC)) return this.#blame(name, 'FF without a magic');
    const frame = this.#read(name, bytes.subarray(start), 0, null);
    if (frame === null) return null;
    const hello = JSON.parse(frame.payload.toString()) as ObservedHello;
    const end = start + frame.end;
    this.#directions[name].writtenTo += end - at;
    if (hello.ack !== null && !this.#hellos[opposite(name)].has(hello.ack))
      this.#blame(name, 'acknowledges a stranger');
    const isFresh = !this.#hellos[name].has(hello.nonce);
    if (isFresh && !this.#hasFlushed[name]) this.#blame(name, 'a fresh HELLO without a flush');
    this.#hasFlushed[name] = false;
    this.#hellos[name].set(hello.nonce, hello);
    this.#newestHello[name] = hello;
    this.#current[name] = null;
    return end;
  }

  #readFrame(name: SideName, bytes: Buffer, at: number): number | null {
    const half = this.#current[name] ?? this.#begin(name);
    if (half === null) return this.#blame(name, 'a frame before it was established');
    const frame = this.#read(name, bytes.subarray(at), half.frames + 1, half.tag);
    if (frame === null) return null;
    this.frameCount += 1;
    for (const fault of half.write(frame)) this.#blame(name, fault);
    const direction = this.#directions[name];
    direction.writtenTo += frame.end;
    direction.onWay.push({ frame, half, endsAt: direction.writtenTo });
    return at + frame.end;
  }

  #read(name: SideName, bytes: Buffer, sequence: number, tag: number | null): ReturnType<typeof readFrame> {
    try {
      return readFrame(bytes, sequence, tag) ?? this.#blame(name, `frame ${sequence} is not whole`);
    } catch (error) {
      return this.#blame(name, String(error));
    }
  }

  /** The first frame of a session, which is identified by the newest HELLO of its writer. */
  #begin(name: SideName): ObservedHalf | null {
    const own = this.#newestHello[name];
    const peer = this.#hellos[opposite(name)].get(own?.ack ?? '');
    if (own === null || peer === undefined) return null;
    const nonces = { [name]: own.nonce, [opposite(name)]: peer.nonce } as Record<SideName, string>;
    const key = `${nonces.a} ${nonces.b}`;
    let halves = this.#sessions.get(key);
    if (halves === undefined) {
      const half = new ObservedHalf(own, peer);
      half.other = new ObservedHalf(peer, own);
      half.other.other = half;
      halves = { [name]: half, [opposite(name)]: half.other } as Record<SideName, ObservedHalf>;
      this.#sessions.set(key, halves);
    }
    this.#current[name] = halves[name];
    if (this.#isDoubtful[name] && this.#directions[name].onWay.length > 0)
      halves[opposite(name)].hearsDoubtfully = true;
    return halves[name];
  }

  #judgeBacklog(name: SideName, unwrittenBytes: number): void {
    const maxBytes = (this.#current[name]?.maxFrameBytes ?? 0) <= 4096 ? 1024 : 131_072;
    if (unwrittenBytes >= maxBytes) this.#blame(name, `DATA while ${unwrittenBytes} bytes wait in the channel`);
  }

  #blame(name: SideName, fault: string): null {
    this.faults.push(`${name} wrote ${fault}`);
    return null;
  }
}
