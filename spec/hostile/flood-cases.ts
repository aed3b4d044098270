/** Floods in a session: frames of every kind in any number, with and without reading the answers (R-FLOW-6, R-SERVICES-2). */

import { creditPayload } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { ErrorCode } from '../../lib/errors.js';
import type { FloodBounds, SocketPeer } from '../helpers/socket-peer.js';
import { CANCELLED, FLOOD, freshIds, type HostileCase, hostile, resetAll } from './case.js';

const { SERVICES, OPEN, DATA, CREDIT, RESET, PING, PONG, GOAWAY } = FRAME_TYPE;

const REASON = { code: 'cancelled', message: '\u001b[31m'.repeat(100) };

/** Batches of some 64 KiB: `frames` gives the next few frames. */
function batches(frames: (turn: number) => readonly Buffer[]): () => Buffer {
  let turn = 0;
  return () => {
    const batch: Buffer[] = [];
    for (let bytes = 0; bytes < 65_536; ) {
      turn += 1;
      const next = frames(turn);
      batch.push(...next);
      bytes += next.reduce((sum, { length }) => sum + length, 0);
    }
    return Buffer.concat(batch);
  };
}

/** The next frames of a flood, the same whether or not its answers are read; `turn` counts from 1. */
type NextFrames = (peer: SocketPeer, turn: number) => readonly Buffer[];

const MANY_SERVICES = Array.from({ length: 50 }, (_, index) => `${'x'.repeat(60)}${index}`);

/** Floods that queue nothing, or one answer for all: the session continues. */
const HARMLESS: readonly [what: string, isAnswered: boolean, next: NextFrames][] = [
  ['PINGs', true, (peer) => [peer.frame(PING, 0, Buffer.from('pingping'))]],
  ['PONGs that answer nothing', false, (peer) => [peer.frame(PONG, 0, Buffer.from('pongpong'))]],
  ['RESETs of an id that has ended', false, (peer) => [peer.frame(RESET, 1, REASON)]],
  ['DATA of an id that has ended', true, (peer) => [peer.frame(DATA, 1, Buffer.alloc(32_768))]],
  ['unknown types, empty', false, (peer) => [peer.frame(0x80, 77)]],
  ['unknown types, large', false, (peer) => [peer.frame(0xfe, 0, Buffer.alloc(131_072))]],
  ['its HELLO again', false, (peer) => [peer.hello({ ack: '0'.repeat(32) })]],
  ['lists of services', false, (peer, turn) => [peer.frame(SERVICES, 0, { services: [...MANY_SERVICES, `s${turn}`] })]],
  [
    'credit for the session and for a stream',
    false,
    (peer, turn) => [0, 1].map((id) => peer.frame(CREDIT, id, creditPayload(turn))),
  ],
];

/** Opens stream 1 and resets it, so that its id has ended. */
async function endStreamOne(peer: SocketPeer): Promise<void> {
  peer.sendOpen(1);
  peer.send(RESET, 1, CANCELLED);
  await peer.ping();
}

const FROM = '\u001b]0;owned\u0007';

/** This number of OPENs is not a flood, however many are read at once (R-FLOW-6). */
const OPENS_IN_STEP = 500;

/**
 * This number of withdrawn OPENs is less than what is allowed per second in the long run, and a part of what may come
 * at once.
 */
const RESETS_IN_STEP = 150;

/** OPENs of a service, again whenever the previous ones were read: for a time, and at least `leastCount`. */
async function openInStep(peer: SocketPeer, service: string, { ms = FLOOD.ms, leastCount = 1 } = {}): Promise<void> {
  const startedAt = performance.now();
  let count = 0;
  do {
    const ids = freshIds(peer, OPENS_IN_STEP);
    peer.write(Buffer.concat(ids.map((id) => peer.frame(OPEN, id, { service, from: FROM }))));
    await peer.ping();
    count += OPENS_IN_STEP;
  } while (performance.now() - startedAt < ms || count < leastCount);
}

/** Sends withdrawn OPENs whenever the last ones were read, until the process leaves: no refusals needed. */
async function resetInStep(peer: SocketPeer, service: string): Promise<void> {
  for (const startedAt = performance.now(); peer.goawayCodes().length === 0; ) {
    if (performance.now() - startedAt > 30_000) throw new Error('the process goes on');
    const frames = freshIds(peer, RESETS_IN_STEP).flatMap((id) => [
      peer.frame(OPEN, id, { service }),
      peer.frame(RESET, id, CANCELLED),
    ]);
    peer.write(Buffer.concat(frames));
    await Promise.race([peer.ping(), peer.seen(/^GOAWAY/)]).catch(() => undefined);
  }
}

const idsUpTo = (highest: number): number[] =>
  Array.from({ length: Math.ceil(highest / 2) }, (_, index) => 1 + 2 * index);

/** More OPENs than the system has buffers for the answers (1 MiB), though this may take a while on a busy machine. */
const FLOOD_OF_OPENS: FloodBounds = { bytes: 2 * 2 ** 20, ms: 30_000 };

/** OPENs of services that no stream can lead to, in step with the answers. */
const REFUSED: readonly [what: string, code: ErrorCode, service: string, ms: number][] = [
  ['OPENs of a service that does not exist, in step with the answers', 'unknown-service', 'no-such-service', FLOOD.ms],
  ['OPENs of a service that refuses', 'connect-refused', 'gone', 0],
  ['OPENs of a service that cannot be reached', 'connect-failed', 'broken', 0],
];

export const FLOOD_CASES: readonly HostileCase[] = [
  ...HARMLESS.flatMap(([what, isAnswered, next]) =>
    (isAnswered ? [true, false] : [true]).map((isReading) =>
      hostile(`${what}, and reads${isReading ? '' : ' nothing'}`, null, async (peer) => {
        await endStreamOne(peer);
        peer.isReading = isReading;
        const frames = batches((turn) => next(peer, turn));
        await peer.flood(frames, FLOOD);
        if (isReading) await peer.drain();
      }),
    ),
  ),
  ...REFUSED.map(([what, code, service, ms]) => hostile(what, code, (peer) => openInStep(peer, service, { ms }))),
  hostile('OPENs of a service that does not exist, and reads nothing', 'flood', async (peer) => {
    peer.isReading = false;
    const next = batches(() => [peer.frame(OPEN, peer.highestId + 2, { service: 'no-such-service' })]);
    await peer.flood(next, FLOOD_OF_OPENS);
  }),
  hostile('OPENs of a service that does not answer', 'too-many-streams', async (peer) => {
    await openInStep(peer, 'hang');
    // The target of the service must see them end before it serves others.
    await resetAll(peer, idsUpTo(2 * 256));
  }),
  hostile('OPENs of a service that answers, more than may be open', 'too-many-streams', async (peer) => {
    await openInStep(peer, 'echo', { leastCount: DEFAULT_LIMITS.streams + 1 });
    await resetAll(peer, idsUpTo(peer.highestId));
  }),
  hostile('OPENs that are reset before the answer, and reads', { code: 'flood', says: /opened and reset/ }, (peer) =>
    resetInStep(peer, 'hang'),
  ),
  hostile('OPENs that are reset after the answer', null, async (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type === FRAME_TYPE.ACCEPT) peer.send(RESET, streamId, REASON);
    };
    for (const startedAt = performance.now(); performance.now() - startedAt < FLOOD.ms; ) {
      const ids = freshIds(peer, 100);
      for (const id of ids) peer.sendOpen(id);
      await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${ids.at(-1) ?? 0}`));
      peer.log.take();
    }
    peer.onFrame = () => undefined;
    await peer.ping();
  }),
  hostile('a list of 5,000 services', 'flood', (peer) => {
    for (let part = 0; part < 50; part += 1) {
      const services = Array.from({ length: 100 }, (_, index) => `s${part}.${index}`);
      peer.send(SERVICES, 0, { services, more: true });
    }
  }),
  hostile('GOAWAYs, while a stream is open', { code: 'shutdown', isTold: false }, async (peer) => {
    peer.sendOpen(1, 'deaf');
    const goaway = { code: 'shutdown', message: '\u001b[31m', last: 0 };
    await peer.flood(
      batches(() => [peer.frame(GOAWAY, 0, goaway)]),
      FLOOD,
    );
    peer.send(RESET, 1, REASON);
  }),
];
