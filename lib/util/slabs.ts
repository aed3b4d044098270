/** Memory that local programs are read into: what was kept until a peer had it is given back here, for the next read. */

/** As many are kept for the whole process, of the largest size that was asked for; what comes beyond them is garbage. */
const MAX_SLABS = 16;

const slabs: Buffer[] = [];
let slabBytes = 0;

/** Memory of this size, with whatever is in it: what was given back, or new. */
export function takeSlab(bytes: number): Buffer {
  if (bytes > slabBytes) {
    slabBytes = bytes;
    slabs.length = 0;
  }
  return (bytes === slabBytes ? slabs.pop() : undefined) ?? Buffer.allocUnsafeSlow(bytes);
}

/** Gives memory back, which nobody uses any more. */
export function giveSlab(slab: Buffer): void {
  if (slab.length === slabBytes && slabs.length < MAX_SLABS) slabs.push(slab);
}
