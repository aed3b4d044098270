/** A hostile peer that respects its credit: how much it may send, and opening many streams. */

import type { SeenFrame } from '../../conformance/frame-log.js';
import { FrameStamp } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { SocketPeer } from './socket-peer.js';
import { eventually } from './time.js';

const { ACCEPT, CREDIT, DATA } = FRAME_TYPE;

const BATCH_BYTES = 131_072;
const FIRST_CREDIT_BYTES = 65_536;

/** How much this peer may still send, as granted by the process. */
export class Credits {
  readonly #totals = new Map<number, number>([[0, 2 ** 20]]);
  readonly #sent = new Map<number, number>();

  take({ type, streamId, payload }: SeenFrame): void {
    if (type === CREDIT) this.#totals.set(streamId, Number(payload.readBigUInt64BE()));
  }

  left(id: number): number {
    const own = (this.#totals.get(id) ?? FIRST_CREDIT_BYTES) - (this.#sent.get(id) ?? 0);
    return Math.min(own, (this.#totals.get(0) ?? 0) - (this.#sent.get(0) ?? 0));
  }

  /** Credit granted to streams beyond what was sent on them, in bytes. */
  get open(): number {
    let sum = 0;
    for (const [id, total] of this.#totals) if (id !== 0) sum += total - (this.#sent.get(id) ?? 0);
    return sum;
  }

  count(id: number, bytes: number): void {
    for (const key of [0, id]) this.#sent.set(key, (this.#sent.get(key) ?? 0) + bytes);
  }
}

/** Opens streams and waits for the answers, in groups within the limits of the process. */
export async function openAll(peer: SocketPeer, service: string, count: number): Promise<number[]> {
  const first = peer.highestId + 2;
  const ids = Array.from({ length: count }, (_, index) => first + 2 * index);
  for (let from = 0; from < count; from += 200) {
    const group = ids.slice(from, from + 200);
    for (const id of group) peer.sendOpen(id, service);
    const accepted = () => peer.log.frames.filter(({ type }) => type === ACCEPT).length;
    await eventually(() => accepted() >= group.length, { intervalMs: 2, what: `${group.length} ACCEPTs` });
    peer.log.take();
  }
  return ids;
}

/** Sends bytes on a stream, `frameBytes` per frame, as far as the credit allows. */
export async function dribble(peer: SocketPeer, credits: Credits, id: number, bytes: number, frameBytes: number) {
  const stamp = new FrameStamp(peer.frame(DATA, id, Buffer.alloc(frameBytes, '\n')), BATCH_BYTES);
  peer.sequence -= 1;
  for (let left = Math.floor(bytes / frameBytes); left > 0; ) {
    const room = Math.min(left, stamp.count, Math.floor(credits.left(id) / frameBytes));
    if (room < 1) {
      await peer.ping(30_000);
      continue;
    }
    peer.write(stamp.next(peer, room));
    credits.count(id, room * frameBytes);
    left -= room;
    await peer.drain(30_000);
  }
  peer.log.take();
}
