/** Buffers for data in flight to a peer, or waiting for a local end: returned here once that has the data, and reused. */

/** 128 KiB, plus a header and a trailer. */
export const SLAB_BYTES = 131_092;

/** Limit on the buffers kept for the whole process; further ones become garbage. */
const MAX_SLABS = 64;

const slabs: Buffer[] = [];

/** A slab with arbitrary contents, reused or new. */
export const takeSlab = (): Buffer => slabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);

/** Returns a slab that is no longer used. */
export function giveSlab(slab: Buffer): void {
  if (slabs.length < MAX_SLABS) slabs.push(slab);
}
