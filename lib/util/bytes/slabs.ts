/** Memory for what is on its way to a peer: what was kept until the peer had it is given back here, and used again. */

/** 128 KiB, with a header in front and a trailer behind. */
export const SLAB_BYTES = 131_092;

/** As many are kept for the whole process; what comes beyond them is garbage. */
const MAX_SLABS = 64;

const slabs: Buffer[] = [];

/** A slab, with whatever is in it: one that was given back, or a new one. */
export const takeSlab = (): Buffer => slabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);

/** Gives a slab back, which nobody uses any more. */
export function giveSlab(slab: Buffer): void {
  if (slabs.length < MAX_SLABS) slabs.push(slab);
}
