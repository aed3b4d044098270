/** Ways of misbehaving with flows of datagrams (R-DGRAM-1 to R-DGRAM-4). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { Credits } from '../helpers/credits.js';
import type { SocketPeer } from '../helpers/socket-peer.js';
import { FLOOD, freshIds, type HostileCase, hostile, resetAll } from './case.js';

const { OPEN, DATA } = FRAME_TYPE;

const WITH_DATAGRAMS = { features: ['datagram'] } as const;

/** The first part of a message of the largest size. */
const BEGUN = Buffer.concat([Buffer.from([0xff, 0xe3]), Buffer.alloc(50_000)]);

/** Flows opened at a time: fewer than may be unanswered. */
const BATCH = 200;

/** Opens flows to the target, and sends these bytes on each. */
async function openFlows(peer: SocketPeer, count: number, bytes?: Buffer, batch = BATCH): Promise<number[]> {
  const ids = freshIds(peer, count);
  for (let done = 0; done < count; done += batch) {
    for (const id of ids.slice(done, done + batch)) {
      peer.send(OPEN, id, { service: 'datagrams', datagram: true });
      if (bytes !== undefined) peer.send(DATA, id, bytes);
    }
    // Two turns: a flow is answered when its socket exists.
    await peer.ping(30_000);
    await peer.ping(30_000);
    peer.log.take();
  }
  return ids;
}

/** Empty messages, as fast as the credit of one flow allows. */
async function floodOneFlow(peer: SocketPeer): Promise<void> {
  const credits = new Credits();
  peer.onFrame = (frame) => credits.take(frame);
  const id = peer.highestId + 2;
  peer.sendOpenFlow(id, 'datagrams');
  for (const startedAt = performance.now(); performance.now() - startedAt < FLOOD.ms; peer.log.take()) {
    const part = Buffer.alloc(Math.min(32_000, Math.max(0, credits.left(id))));
    credits.count(id, part.length);
    if (part.length > 0) peer.sendData(id, part);
    else await peer.ping(30_000);
  }
  await peer.ping(30_000);
}

export const DATAGRAM_CASES: readonly HostileCase[] = [
  hostile('100,000 flows, and leaves them open', { code: 'too-many-streams', peer: WITH_DATAGRAMS }, async (peer) => {
    const ids = await openFlows(peer, 100_000);
    peer.sendOpenFlow(peer.highestId + 2, 'datagrams');
    await peer.seen(/^REFUSE \d+ too-many-streams$/);
    await resetAll(peer, ids.slice(0, 1500));
  }),
  hostile(
    'messages that are never complete, on as many flows as allowed',
    { code: null, peer: WITH_DATAGRAMS },
    async (peer) => {
      // The credit of the session is 1 MiB: it comes back with each batch.
      await resetAll(peer, await openFlows(peer, 1000, BEGUN, 10));
    },
  ),
  hostile('empty messages on one flow, as fast as allowed', { code: null, peer: WITH_DATAGRAMS }, floodOneFlow),
];
