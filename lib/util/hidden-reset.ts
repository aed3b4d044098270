/** Tells the end of a socket from a reset, or a close, that looks like one. */
import { readSync, writeSync } from 'node:fs';
import type net from 'node:net';
import { systemCode } from '../errors.js';

/**
 * The error behind an `end` that a socket has just emitted, or null where its peer ended it in order. Where a reset comes
 * close behind the last bytes, libuv takes the hang-up for an end and never asks for the error; it is still there for
 * whoever reads once more. To be called from a listener of `end`, with `allowHalfOpen`; without the descriptor, null.
 */
export function hiddenReset(socket: net.Socket): Error | null {
  const fd = descriptorOf(socket);
  if (fd === null) return null;
  try {
    readSync(fd, ONE_BYTE);
    return null;
  } catch (error) {
    return error instanceof Error && systemCode(error) !== 'EAGAIN' ? error : null;
  }
}

/**
 * Whether the other end of a unix socket was closed, and not only shut down for writing: both are an `end` here. To be
 * called from a listener of `end`, while this side has not ended; false where the system cannot tell.
 */
export function isHungUp(socket: net.Socket): boolean {
  const fd = descriptorOf(socket);
  if (fd === null) return false;
  try {
    writeSync(fd, NO_BYTES);
    return false;
  } catch (error) {
    return systemCode(error) === 'EPIPE';
  }
}

function descriptorOf({ _handle: handle }: net.Socket & { readonly _handle?: unknown }): number | null {
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : null;
}

const NO_BYTES = new Uint8Array(0);

/** Behind an end nothing comes: no byte is ever put here. */
const ONE_BYTE = new Uint8Array(1);
