/**
 * A passive third party on the simulated link: reads what each side writes, records what has arrived at the other one,
 * and judges every frame by that alone. It shares no accounting with the session.
 */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';
import { readFrame, type SeenFrame } from '../helpers/frame-log.js';
import { ObservedHalf, type ObservedHello } from './observed-session.js';

interface FrameOnWay {
  readonly frame: SeenFrame;
  readonly half: ObservedHalf;
  readonly endsAt: number;
}

/** What is known of one direction of the current link. */
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
  /** Whether bytes of a direction were changed on the way since its writer's session began. */
  readonly #isDoubtful: Record<SideName, boolean> = { a: false, b: false };

  /** `frameBytes`: the largest DATA payload that each side sends. */
  constructor(frameBytes: Readonly<Record<SideName, number>>) {
    this.#flushBytes = { a: frameBytes.a + 16, b: frameBytes.b + 16 };
  }

  /** The session with these two nonces; null where no frame of it was seen. */
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

  /** A side hands whole frames to its channel, in which `unwrittenBytes` wait. */
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

  /** All that a side had written up to `writtenTo` has come to the other one. */
  arrive(from: SideName, writtenTo: number): void {
    const direction = this.#directions[from];
    direction.arrivedTo = Math.max(direction.arrivedTo, writtenTo);
    while (direction.onWay.length > 0) {
      const [first] = direction.onWay as [FrameOnWay];
      const { frame, half, endsAt } = first;
      if (endsAt > direction.arrivedTo) return;
      const listener = half.other;
      // A payload has to be checked, and counts when it is complete.
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

  /** The first frame of a session: which one it is follows from the newest HELLO of its writer. */
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
