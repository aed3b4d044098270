/** Floods in a session: frames of every kind in any number, with and without reading the answers (R-FLOW-6, R-SERVICES-2). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { ErrorCode } from '../../lib/errors.js';
import { creditPayload } from '../helpers/frame-maker.js';
import type { FloodBounds, SocketPeer } from '../helpers/socket-peer.js';
import { FLOOD, type HostileCase } from './case.js';

const { SERVICES, OPEN, DATA, CREDIT, RESET, PING, PONG, GOAWAY } = FRAME_TYPE;

const REASON = { code: 'cancelled', message: '\u001b[31m'.repeat(100) };
const SHORT_REASON = { code: 'cancelled', message: '' };

/** Batches of some 64 KiB: `frames` gives the next few frames. */
function batches(frames: () => readonly Buffer[]): () => Buffer {
  return () => {
    const batch: Buffer[] = [];
    for (let bytes = 0; bytes < 65_536; ) {
      const next = frames();
      batch.push(...next);
      bytes += next.reduce((sum, { length }) => sum + length, 0);
    }
    return Buffer.concat(batch);
  };
}

/** Ids that were not used: 1, or what is above the highest, then every second one. */
function freshIds(peer: SocketPeer): () => number {
  return () => peer.highestId + 2;
}

/** A flood that is the same whether its answers are read or not. */
interface Flood {
  readonly what: string;
  /** Whether the process answers it. Default false. */
  readonly isAnswered?: boolean;
  readonly frames: (peer: SocketPeer) => () => readonly Buffer[];
}

/** Floods that queue nothing, or one answer for all: the session goes on. */
const HARMLESS: readonly Flood[] = [
  { what: 'PINGs', isAnswered: true, frames: (peer) => () => [peer.frame(PING, 0, Buffer.from('pingping'))] },
  { what: 'PONGs that answer nothing', frames: (peer) => () => [peer.frame(PONG, 0, Buffer.from('pongpong'))] },
  { what: 'RESETs of an id that has ended', frames: (peer) => () => [peer.frame(RESET, 1, REASON)] },
  {
    what: 'DATA of an id that has ended',
    isAnswered: true,
    frames: (peer) => () => [peer.frame(DATA, 1, Buffer.alloc(32_768))],
  },
  { what: 'unknown types, empty', frames: (peer) => () => [peer.frame(0x80, 77)] },
  { what: 'unknown types, large', frames: (peer) => () => [peer.frame(0xfe, 0, Buffer.alloc(131_072))] },
  { what: 'its HELLO again', frames: (peer) => () => [peer.hello({ ack: '0'.repeat(32) })] },
  {
    what: 'lists of services',
    frames: (peer) => {
      const services = Array.from({ length: 50 }, (_, index) => `${'x'.repeat(60)}${index}`);
      let turn = 0;
      return () => {
        turn += 1;
        return [peer.frame(SERVICES, 0, { services: [...services, `s${turn}`] })];
      };
    },
  },
  {
    what: 'credit for the session and for a stream',
    frames: (peer) => {
      let total = 0;
      return () => {
        total += 1;
        return [peer.frame(CREDIT, 0, creditPayload(total)), peer.frame(CREDIT, 1, creditPayload(total))];
      };
    },
  },
];

/** Opens stream 1 and resets it, so that its id has ended. */
async function endStreamOne(peer: SocketPeer): Promise<void> {
  peer.sendOpen(1);
  peer.send(RESET, 1, SHORT_REASON);
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

/** OPENs of a service, as fast as they are taken, one batch after the other without waiting for an answer. */
const opens = (peer: SocketPeer, service: string): (() => Buffer) => {
  const freshId = freshIds(peer);
  return batches(() => [peer.frame(OPEN, freshId(), { service })]);
};

/** OPENs of a service, again each time those before were read: for a time, and `leastCount` of them. */
async function openInStep(peer: SocketPeer, service: string, { ms = FLOOD.ms, leastCount = 1 } = {}): Promise<void> {
  const freshId = freshIds(peer);
  const startedAt = performance.now();
  let count = 0;
  do {
    const frames = Array.from({ length: OPENS_IN_STEP }, () => peer.frame(OPEN, freshId(), { service, from: FROM }));
    peer.write(Buffer.concat(frames));
    await peer.ping();
    count += OPENS_IN_STEP;
  } while (performance.now() - startedAt < ms || count < leastCount);
}

/**
 * Sends OPENs that are withdrawn, a batch each time the last one was read, until the process leaves: nothing has to be
 * refused.
 */
async function resetInStep(peer: SocketPeer, service: string): Promise<void> {
  const freshId = freshIds(peer);
  const isOver = isTold(peer);
  for (const startedAt = performance.now(); !isOver() && performance.now() - startedAt < 10_000; ) {
    const frames = Array.from({ length: RESETS_IN_STEP }, () => {
      const id = freshId();
      return [peer.frame(OPEN, id, { service }), peer.frame(RESET, id, SHORT_REASON)];
    });
    peer.write(Buffer.concat(frames.flat()));
    await Promise.race([peer.ping(), peer.seen(/^GOAWAY/)]).catch(() => undefined);
  }
}

/** Whether the process has sent a GOAWAY. */
const isTold = (peer: SocketPeer) => () => peer.goawayCodes().length > 0;

/** Enough OPENs that the system does not hold the answers, 1 MiB, though it may take its time on a busy machine. */
const FLOOD_OF_OPENS: FloodBounds = { bytes: 2 * 2 ** 20, ms: 30_000 };

/** OPENs of services that no stream can lead to, in step with the answers. */
const REFUSED: readonly [what: string, code: ErrorCode, service: string, ms: number][] = [
  ['OPENs of a service that is not there, in step with the answers', 'unknown-service', 'no-such-service', FLOOD.ms],
  ['OPENs of a service that refuses', 'connect-refused', 'gone', 0],
  ['OPENs of a service that cannot be reached', 'connect-failed', 'broken', 0],
];

export const FLOOD_CASES: readonly HostileCase[] = [
  ...HARMLESS.flatMap(({ what, isAnswered = false, frames }) =>
    (isAnswered ? [true, false] : [true]).map(
      (isReading): HostileCase => ({
        what: `${what}, and reads${isReading ? '' : ' nothing'}`,
        code: null,
        act: async (peer) => {
          await endStreamOne(peer);
          peer.isReading = isReading;
          await peer.flood(batches(frames(peer)), FLOOD);
          if (isReading) await peer.drain();
        },
      }),
    ),
  ),
  ...REFUSED.map(
    ([what, code, service, ms]): HostileCase => ({ what, code, act: (peer) => openInStep(peer, service, { ms }) }),
  ),
  {
    what: 'OPENs of a service that is not there, and reads nothing',
    code: 'flood',
    act: async (peer) => {
      peer.isReading = false;
      await peer.flood(opens(peer, 'no-such-service'), FLOOD_OF_OPENS);
    },
  },
  {
    what: 'OPENs of a service that does not answer',
    code: 'too-many-streams',
    act: async (peer) => {
      await openInStep(peer, 'hang');
      for (let id = 1; id <= 2 * 256; id += 2) peer.send(RESET, id, REASON);
      // The target of the service has to see them end before it serves others.
      await peer.ping();
    },
  },
  {
    what: 'OPENs of a service that answers, more than may be open',
    code: 'too-many-streams',
    act: async (peer) => {
      await openInStep(peer, 'echo', { leastCount: DEFAULT_LIMITS.streams + 1 });
      for (let id = 1; id <= peer.highestId; id += 2) peer.send(RESET, id, REASON);
      await peer.ping();
    },
  },
  {
    what: 'OPENs that are reset before the answer, and reads',
    code: 'flood',
    says: /opened and reset/,
    act: (peer) => resetInStep(peer, 'hang'),
  },
  {
    what: 'OPENs that are reset after the answer',
    code: null,
    act: async (peer) => {
      peer.onFrame = ({ type, streamId }) => {
        if (type === FRAME_TYPE.ACCEPT) peer.send(RESET, streamId, REASON);
      };
      const freshId = freshIds(peer);
      const isOver = performance.now() + FLOOD.ms;
      while (performance.now() < isOver) {
        const ids = Array.from({ length: 100 }, () => {
          const id = freshId();
          peer.sendOpen(id);
          return id;
        });
        await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${ids.at(-1) ?? 0}`));
        peer.log.take();
      }
      peer.onFrame = () => undefined;
      await peer.ping();
    },
  },
  {
    what: 'a list of 5,000 services',
    code: 'flood',
    act: (peer) => {
      for (let part = 0; part < 50; part += 1) {
        peer.send(SERVICES, 0, {
          services: Array.from({ length: 100 }, (_, index) => `s${part}.${index}`),
          more: true,
        });
      }
    },
  },
  {
    what: 'GOAWAYs, while a stream is open',
    code: 'shutdown',
    isTold: false,
    act: async (peer) => {
      peer.sendOpen(1, 'deaf');
      const goaway = { code: 'shutdown', message: '\u001b[31m', last: 0 };
      await peer.flood(
        batches(() => [peer.frame(GOAWAY, 0, goaway)]),
        FLOOD,
      );
      peer.send(RESET, 1, REASON);
    },
  },
];
