/** Transfers of a known pattern from end to end, which may be cut: what came has to be a prefix, and its end has to be honest. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { hiddenReset } from '../../lib/system/sockets.js';
import { within } from './eventually.js';

/** How one end of a transfer came out. */
export interface Outcome {
  /** `ended`: the other side said that this was all; `reset`: something went wrong. */
  readonly end: 'ended' | 'reset';
  readonly receivedBytes: number;
  /** Whether what came is what the pattern begins with. */
  readonly isPrefix: boolean;
}

/** What every transfer carries, cut to its length. */
const PATTERN = randomBytes(4_000_037);

export const MAX_TRANSFER_BYTES = PATTERN.length;

/** The first `byteCount` bytes of the pattern. */
export function pattern(byteCount: number): Buffer {
  return PATTERN.subarray(0, byteCount);
}

/** Reads a socket until it ends or fails, comparing as the bytes come. Rejects after `timeoutMs` (default 20,000). */
export function outcomeOf(socket: net.Socket, options: { timeoutMs?: number } = {}): Promise<Outcome> {
  const { timeoutMs = 20_000 } = options;
  let receivedBytes = 0;
  let isPrefix = true;
  socket.on('data', (chunk: Buffer) => {
    isPrefix &&= chunk.equals(PATTERN.subarray(receivedBytes, receivedBytes + chunk.length));
    receivedBytes += chunk.length;
  });
  const outcome = new Promise<Outcome>((resolve) => {
    socket.once('end', () => resolve({ end: hiddenReset(socket) ? 'reset' : 'ended', receivedBytes, isPrefix }));
    socket.once('close', () => resolve({ end: 'reset', receivedBytes, isPrefix }));
    socket.on('error', () => undefined);
  });
  return within(timeoutMs, 'the end of a transfer', outcome);
}
