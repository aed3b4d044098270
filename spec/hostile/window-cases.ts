/** Ways to make the process hold bytes: filling windows, and giving credit without reading (R-FLOW-2 to R-FLOW-5, R-FLOW-8). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { Credits, openAll } from '../helpers/credits.js';
import type { SocketPeer } from '../helpers/socket-peer.js';
import {
  ALL_STREAMS_MEMORY_BYTES,
  CANCELLED,
  FLOOD,
  freshIds,
  type HostileCase,
  hostile,
  resetAll,
  WINDOWS_MEMORY_BYTES,
} from './case.js';

/** An unknown type, which needs no credit. */
const UNKNOWN = 0x90;

/** Most of the receive budget of a channel. */
const GROWN_BYTES = 40 * 2 ** 20;

/** Turns after that in which windows could still grow. */
const FURTHER_TURNS = 20;

/** Sends one piece on a stream if the credit suffices. */
function sendPiece(peer: SocketPeer, credits: Credits, id: number, bytes: number): boolean {
  const length = Math.min(bytes, credits.left(id));
  if (length <= 0) return false;
  credits.count(id, length);
  peer.sendData(id, Buffer.alloc(length, id));
  return true;
}

/** Sends pieces on all streams in turn until none has had credit for a while. */
async function fill(peer: SocketPeer, credits: Credits, ids: readonly number[]): Promise<void> {
  for (;;) {
    let hasSent = false;
    for (const id of ids) {
      if (!sendPiece(peer, credits, id, 16_384)) continue;
      hasSent = true;
      await peer.drain();
    }
    await peer.ping(30_000);
    peer.log.take();
    if (!hasSent) return;
  }
}

export const WINDOW_CASES: readonly HostileCase[] = [
  hostile(
    'DATA on 1,000 streams whose local programs do not read, up to the credit of each',
    { code: null, memoryBytes: ALL_STREAMS_MEMORY_BYTES },
    async (peer) => {
      const credits = new Credits();
      peer.onFrame = (frame) => credits.take(frame);
      const ids = await openAll(peer, 'deaf', 1000);
      await fill(peer, credits, ids);
      await resetAll(peer, ids);
    },
  ),
  hostile(
    'late PONGs, so that windows grow, and fills them when the local programs stop to read',
    { code: null, memoryBytes: WINDOWS_MEMORY_BYTES, peer: { pongDelayMs: 3000 } },
    async (peer, { taps }) => {
      const credits = new Credits();
      peer.onFrame = (frame) => credits.take(frame);
      const ids = await openAll(peer, 'tap', 8);
      // A window grows when half of it is released within four round trips, whose duration this peer chooses.
      let turnsSince = 0;
      for (const startedAt = performance.now(); turnsSince < FURTHER_TURNS; ) {
        if (credits.open >= GROWN_BYTES || turnsSince > 0) turnsSince += 1;
        else if (performance.now() > startedAt + 50_000) throw new Error(`windows of ${credits.open} bytes only`);
        for (let piece = 0; piece < 4; piece += 1) for (const id of ids) sendPiece(peer, credits, id, 131_072);
        await peer.ping(30_000);
        peer.log.take();
      }
      for (const socket of taps) socket.pause();
      await fill(peer, credits, ids);
      await resetAll(peer, ids);
      taps.clear();
    },
  ),
  hostile(
    'credit of 2^64-1 on 250 streams whose local programs write for ever, and reads nothing',
    { code: null, peer: { peerLimits: { streamCredit: 2 ** 30, inFlight: 2 ** 30 } } },
    async (peer) => {
      peer.isReading = false;
      const ids = freshIds(peer, 250);
      for (const id of ids) {
        peer.sendOpen(id, 'source');
        peer.sendCredit(id, 2n ** 64n - 1n);
      }
      peer.sendCredit(0, 2n ** 64n - 1n);
      // A process whose output is not read shows nothing, so it gets as long as in other floods.
      await peer.flood(() => peer.frame(UNKNOWN, 0, Buffer.alloc(65_536)), FLOOD);
      peer.onFrame = () => peer.log.take();
      peer.isReading = true;
      for (const id of ids) peer.send(FRAME_TYPE.RESET, id, CANCELLED);
      peer.onFrame = () => undefined;
    },
  ),
];
