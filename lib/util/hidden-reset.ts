/** Tells the end of a socket from a reset that looks like one. */
import { readSync } from 'node:fs';
import type net from 'node:net';
import { systemCode } from '../errors.js';

/**
 * The error behind an `end` that a socket has just emitted, or null where its peer ended it in order. Where a reset comes
 * close behind the last bytes, libuv takes the hang-up for an end and never asks for the error; it is still there for
 * whoever reads once more. To be called from a listener of `end`, with `allowHalfOpen`; without the descriptor, null.
 */
export function hiddenReset(socket: net.Socket & { readonly _handle?: unknown }): Error | null {
  const { _handle: handle } = socket;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  if (typeof handle.fd !== 'number' || handle.fd < 0) return null;
  try {
    readSync(handle.fd, ONE_BYTE);
    return null;
  } catch (error) {
    return error instanceof Error && systemCode(error) !== 'EAGAIN' ? error : null;
  }
}

/** Behind an end nothing comes: no byte is ever put here. */
const ONE_BYTE = new Uint8Array(1);
