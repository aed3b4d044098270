/** What a peer can do with flows of datagrams (R-DGRAM-1 to R-DGRAM-4). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { Credits } from '../helpers/credits.js';
import type { SocketPeer } from '../helpers/socket-peer.js';
import type { HostileCase } from './case.js';

const { OPEN, DATA, FIN, RESET } = FRAME_TYPE;

const WITH_DATAGRAMS = { features: ['datagram'] } as const;

/** What the first part of a message of the largest size is. */
const BEGUN = Buffer.concat([Buffer.from([0xff, 0xe3]), Buffer.alloc(50_000)]);

/** Flows that are opened at a time: fewer than may be without an answer. */
const BATCH = 200;

const REASON = { code: 'cancelled', message: '' };

/** Opens flows to the target, and does with each what `framesOf` says; `perBatch` when they were answered. */
async function openFlows(
  peer: SocketPeer,
  count: number,
  framesOf: (id: number) => readonly Buffer[],
  perBatch: (ids: readonly number[]) => readonly Buffer[] = () => [],
): Promise<void> {
  for (let done = 0; done < count; done += BATCH) {
    const ids = Array.from({ length: BATCH }, (_, index) => Math.max(1, peer.highestId + 2) + 2 * index);
    const frames = ids.flatMap((id) => [
      peer.frame(OPEN, id, { service: 'datagrams', datagram: true }),
      ...framesOf(id),
    ]);
    peer.write(Buffer.concat(frames));
    // Two turns: a flow is answered when its socket is there.
    await peer.ping(30_000);
    await peer.ping(30_000);
    peer.write(Buffer.concat(perBatch(ids)));
    peer.log.take();
  }
  await peer.ping(30_000);
}

/** Random messages, or bytes that are none, as fast as the credit of one flow lets them. */
async function floodOneFlow(peer: SocketPeer, bytesOf: (turn: number) => Buffer, ms = 1000): Promise<void> {
  const credits = new Credits();
  peer.onFrame = (frame) => credits.take(frame);
  const id = Math.max(1, peer.highestId + 2);
  peer.send(OPEN, id, { service: 'datagrams', datagram: true });
  const startedAt = performance.now();
  for (let turn = 0; performance.now() - startedAt < ms; turn += 1) {
    for (let bytes = bytesOf(turn); bytes.length > 0; ) {
      const part = bytes.subarray(0, Math.max(0, credits.left(id)));
      bytes = bytes.subarray(part.length);
      credits.count(id, part.length);
      if (part.length > 0) peer.sendData(id, part);
      else await peer.ping(30_000);
      peer.log.take();
    }
  }
  await peer.ping(30_000);
}

/** A message of that size with its length. */
function message(size: number): Buffer {
  const bytes = Buffer.alloc(2 + size);
  bytes.writeUInt16BE(size);
  return bytes;
}

export const DATAGRAM_CASES: readonly HostileCase[] = [
  {
    what: 'an OPEN of a flow where flows were not agreed on',
    code: 'protocol-error',
    act: (peer) => peer.sendOpenFlow(1, 'datagrams'),
  },
  {
    what: 'a length of a message that there is not',
    code: null,
    peer: WITH_DATAGRAMS,
    act: async (peer) => {
      peer.sendOpenFlow(1, 'datagrams');
      peer.sendData(1, Buffer.from([0xff, 0xff, 1, 2, 3]));
      await peer.seen(/^(?:REFUSE|RESET) 1 protocol-error$/);
    },
  },
  {
    what: 'a flow to a service that takes streams',
    code: 'unknown-service',
    peer: WITH_DATAGRAMS,
    act: (peer) => peer.sendOpenFlow(1, 'echo'),
  },
  {
    what: '100,000 flows, and leaves them open',
    code: 'too-many-streams',
    peer: WITH_DATAGRAMS,
    act: async (peer) => {
      await openFlows(peer, 100_000, () => []);
      peer.sendOpenFlow(peer.highestId + 2, 'datagrams');
      await peer.seen(/^REFUSE \d+ too-many-streams$/);
      for (let id = 1; id < 3000; id += 2) peer.send(RESET, id, REASON);
    },
  },
  {
    what: '20,000 flows with a message each, and ends them',
    code: null,
    peer: WITH_DATAGRAMS,
    act: (peer) =>
      openFlows(
        peer,
        20_000,
        (id) => [peer.frame(DATA, id, message(20))],
        (ids) => ids.map((id) => peer.frame(FIN, id)),
      ),
  },
  {
    what: 'messages that never come whole, on as many flows as may be',
    code: null,
    peer: { ...WITH_DATAGRAMS },
    act: async (peer) => {
      const ids: number[] = [];
      // The credit of the session is 1 MiB: it comes back with each batch.
      for (let flows = 0; flows < 1000; flows += 10) {
        const group = Array.from({ length: 10 }, (_, index) => Math.max(1, peer.highestId + 2) + 2 * index);
        ids.push(...group);
        const frames = group.flatMap((id) => [
          peer.frame(OPEN, id, { service: 'datagrams', datagram: true }),
          peer.frame(DATA, id, BEGUN),
        ]);
        peer.write(Buffer.concat(frames));
        await peer.ping(30_000);
        await peer.ping(30_000);
        peer.log.take();
      }
      for (const id of ids) peer.send(RESET, id, REASON);
      await peer.ping(30_000);
    },
  },
  {
    what: 'messages of every size on one flow, as fast as it may',
    code: null,
    peer: WITH_DATAGRAMS,
    act: (peer) => floodOneFlow(peer, (turn) => message((turn * 7919) % 60_000)),
  },
  {
    what: 'empty messages on one flow, as fast as it may',
    code: null,
    peer: WITH_DATAGRAMS,
    act: (peer) => floodOneFlow(peer, () => Buffer.alloc(32_000)),
  },
];
