/** What a case of these specs is: one way of misbehaving, and its visible effects. */
import type net from 'node:net';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { ErrorCode } from '../../lib/errors.js';
import type { FloodBounds, SocketPeer, SocketPeerOptions } from '../helpers/socket-peer.js';

/** The memory that a peer may make a process hold, above its idle size. */
export const FLOOD_MEMORY_BYTES = 64 * 2 ** 20;

/** The same where the peer fills windows: the receive budget of the channel comes on top (R-FLOW-4). */
export const WINDOWS_MEMORY_BYTES = FLOOD_MEMORY_BYTES + 64 * 2 ** 20;

/** And where it fills the first credit of as many streams as may be open, which the budget does not count. */
export const ALL_STREAMS_MEMORY_BYTES = WINDOWS_MEMORY_BYTES + DEFAULT_LIMITS.streams * DEFAULT_LIMITS.streamCredit;

/** How much a flood writes: this number of bytes, or for this time, whichever is less. */
export const FLOOD: FloodBounds =
  process.env['LONG'] === '1' ? { bytes: 512 * 2 ** 20, ms: 10_000 } : { bytes: 64 * 2 ** 20, ms: 600 };

/** The surroundings of the process under test, for cases that need more than the channel. */
export interface Surroundings {
  /** A local connection to the forward that leads to the peer's service `out`. */
  readonly dial: () => net.Socket;
  /** The connections that the service `tap` was reached by. They read, until they are paused. */
  readonly taps: Set<net.Socket>;
}

/** One way of misbehaving. */
export interface HostileCase {
  /** What the peer does, as the title says it. */
  readonly what: string;
  /**
   * The code that has to appear: one that ends sessions in the log and, unless it is a silent one, in a GOAWAY; any
   * other in a REFUSE or RESET, and the session goes on. Null: nothing happens, and the session goes on.
   */
  readonly code: ErrorCode | null;
  /** Whether the peer is told by a GOAWAY. Default: for every code that ends sessions but the silent ones (R-CODE-3). */
  readonly isTold?: boolean;
  /** Whether the peer begins before a session is established, which is done afterwards, by the same connection. */
  readonly isOpening?: boolean;
  /** The number of sessions, including the one in which the peer behaves at last. Default: as the other fields say. */
  readonly sessionCount?: number;
  /** Default {@link FLOOD_MEMORY_BYTES}. */
  readonly memoryBytes?: number;
  readonly peer?: SocketPeerOptions;
  /** What the log line with the code says. Default: anything. */
  readonly says?: RegExp;
  /** Further codes that have to appear in the log. */
  readonly alsoLogged?: readonly ErrorCode[];
  /** Misbehaves; a returned promise is awaited. The peer reads again when it is done. */
  readonly act: (peer: SocketPeer, surroundings: Surroundings) => unknown;
}

export const CANCELLED = { code: 'cancelled', message: '' };

/** Resets streams, and waits until that is read. */
export async function resetAll(peer: SocketPeer, ids: readonly number[]): Promise<void> {
  for (const id of ids) peer.send(FRAME_TYPE.RESET, id, CANCELLED);
  await peer.ping(30_000);
}

/** The ids of so many streams that this peer can open next. */
export function freshIds(peer: SocketPeer, count: number): number[] {
  const first = peer.highestId + 2;
  return Array.from({ length: count }, (_, index) => first + 2 * index);
}
