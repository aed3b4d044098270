/** A case of these specs: one way of misbehaving, and its visible effects. */
import type net from 'node:net';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { ErrorCode } from '../../lib/errors.js';
import type { FloodBounds, SocketPeer, SocketPeerOptions } from '../helpers/socket-peer.js';

/** The memory that a peer may make a process hold, above its idle size. */
export const FLOOD_MEMORY_BYTES = 64 * 2 ** 20;

/** The same if the peer fills windows: the receive budget of the channel comes on top (R-FLOW-4). */
export const WINDOWS_MEMORY_BYTES = FLOOD_MEMORY_BYTES + 64 * 2 ** 20;

/** And if it fills the initial credit of as many streams as may be open, which the budget does not count. */
export const ALL_STREAMS_MEMORY_BYTES = WINDOWS_MEMORY_BYTES + DEFAULT_LIMITS.streams * DEFAULT_LIMITS.streamCredit;

/** The size of a flood: this many bytes, or this much time, whichever is less. */
export const FLOOD: FloodBounds =
  process.env['LONG'] === '1' ? { bytes: 512 * 2 ** 20, ms: 10_000 } : { bytes: 64 * 2 ** 20, ms: 600 };

/** The surroundings of the process under test, for cases that need more than the channel. */
export interface Surroundings {
  /** A local connection to the forward that leads to the peer's service `out`. */
  readonly dial: () => net.Socket;
  /** The connections to the service `tap`. They read until they are paused. */
  readonly taps: Set<net.Socket>;
}

/** The visible effects of a case. */
interface Effects {
  /**
   * The expected code: one that ends sessions appears in the log and, unless it is a silent one, in a GOAWAY; any
   * other in a REFUSE or RESET, and the session continues. Null: nothing happens, and the session continues.
   */
  readonly code: ErrorCode | null;
  /** Whether a GOAWAY informs the peer. Default: for every code that ends sessions except the silent ones (R-CODE-3). */
  readonly isTold?: boolean;
  /** Whether the peer begins before a session is established; that follows on the same connection. */
  readonly isOpening?: boolean;
  /** The number of sessions, including the last one, in which the peer behaves. Default: derived from the other fields. */
  readonly sessionCount?: number;
  /** Default {@link FLOOD_MEMORY_BYTES}. */
  readonly memoryBytes?: number;
  readonly peer?: SocketPeerOptions;
  /** The text of the log line with the code. Default: any. */
  readonly says?: RegExp;
  /** Further codes expected in the log. */
  readonly alsoLogged?: readonly ErrorCode[];
}

/** Misbehaves; a returned promise is awaited. The peer reads again when it is done. */
type Act = (peer: SocketPeer, surroundings: Surroundings) => unknown;

/** One way of misbehaving; `what` is the peer's action, as used in the title. */
export type HostileCase = Effects & { readonly what: string; readonly act: Act };

export function hostile(what: string, effects: ErrorCode | null | Effects, act: Act): HostileCase {
  return { ...(effects === null || typeof effects === 'string' ? { code: effects } : effects), what, act };
}

export const CANCELLED = { code: 'cancelled', message: '' };

/** Resets streams, and waits until the resets are read. */
export async function resetAll(peer: SocketPeer, ids: readonly number[]): Promise<void> {
  for (const id of ids) peer.send(FRAME_TYPE.RESET, id, CANCELLED);
  await peer.ping(30_000);
}

/** The ids of the next `count` streams that this peer can open. */
export function freshIds(peer: SocketPeer, count: number): number[] {
  const first = peer.highestId + 2;
  return Array.from({ length: count }, (_, index) => first + 2 * index);
}
