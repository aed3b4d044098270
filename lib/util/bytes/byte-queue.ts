/** A FIFO of bytes that takes about as much memory as its contents, however small the pieces were. */
import { giveSlab, SLAB_BYTES, takeSlab } from './slabs.js';

/** The sizes of blocks that gather pieces: an eighth of the queue, within these bounds. */
const SMALLEST_BLOCK_BYTES = 1024;
const LARGEST_BLOCK_BYTES = 65_536;
const BLOCK_SHARE = 8;

/** From this size on, a block is a slab: a frame of the usual largest size, which nearly fills one. */
const SLAB_BLOCK_BYTES = 131_072;

/** Shorter pieces are copied: that is cheaper than a read buffer that cannot be reused. */
const SMALLEST_VIEW_BYTES = 16_384;

/**
 * Limit on the views that all queues of the process hold; beyond it, bytes are copied. A view keeps a whole read buffer of a
 * channel alive, up to 128 KiB, however short it is.
 */
const MAX_VIEWS = 32;

let viewCount = 0;

/**
 * Reserves a place for a view of `bytes` that has to wait. False if the bytes must be copied, because they are few or all places
 * are taken. Return the place with {@link dropView}.
 */
export const keepView = (bytes: Buffer): boolean => bytes.length >= SMALLEST_VIEW_BYTES && lendView();

/** The same for bytes that are written now, which the system usually takes at once: even a few are not copied. */
export function lendView(): boolean {
  if (viewCount >= MAX_VIEWS) return false;
  viewCount += 1;
  return true;
}

/** Returns the place of a view that is no longer used. */
export function dropView(): void {
  viewCount -= 1;
}

/** A copy that keeps nothing else alive: one from Node's pool would retain the whole pool, up to 64 KiB. */
export function copyAlone(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** Whether bytes keep nothing else alive. */
export const isAlone = ({ buffer, length }: Buffer): boolean => buffer.byteLength === length;

export interface QueuedBlock {
  readonly bytes: Buffer;
  /** Whether it holds a place from {@link keepView}, which the caller must now return. */
  readonly isView: boolean;
}

/** Has the memory of a whole block reused, if it is a slab: nothing may refer to it any longer. */
export function recycleBlock({ bytes: { buffer }, isView }: QueuedBlock): void {
  if (!isView && buffer.byteLength === SLAB_BYTES) giveSlab(Buffer.from(buffer));
}

/** A queue of bytes. It exceeds its contents by at most an eighth, plus a block of 1 KiB. */
export class ByteQueue {
  readonly #usesSlabs: boolean;
  readonly #blocks: QueuedBlock[] = [];
  /** The newest block while it has room, and how much of it is used. */
  #open: Buffer | null = null;
  #openBytes = 0;
  #byteCount = 0;

  /** With `usesSlabs`, large blocks are slabs: the caller returns shifted blocks with {@link recycleBlock}. Default false. */
  constructor(usesSlabs = false) {
    this.#usesSlabs = usesSlabs;
  }

  /** The number of queued bytes. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Views of the contents, in order. */
  list(): Buffer[] {
    const closed = this.#blocks.map(({ bytes }) => bytes);
    return this.#open === null ? closed : [...closed, this.#open.subarray(0, this.#openBytes)];
  }

  /** Appends bytes, lent for the call unless it returns true: then the queue keeps a view of them. */
  push(bytes: Buffer): boolean {
    // Copying into a slab that is reused costs less than a new read buffer.
    const isView = !this.#needsSlab(bytes.length) && keepView(bytes);
    if (isView) this.#add({ bytes, isView });
    else this.pushCopy(bytes);
    return isView;
  }

  /** Appends bytes, and takes ownership of them. */
  pushOwned(bytes: Buffer): void {
    if (bytes.length < SMALLEST_VIEW_BYTES) this.pushCopy(bytes);
    else this.#add({ bytes, isView: false });
  }

  /** Appends what another queue listed: standalone buffers directly, the rest as copies. */
  restore(pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      if (isAlone(piece)) this.pushOwned(piece);
      else this.pushCopy(piece);
    }
  }

  pushCopy(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      this.#open ??= this.#newBlock(bytes.length);
      const copied = bytes.copy(this.#open, this.#openBytes, at);
      this.#openBytes += copied;
      if (this.#openBytes === this.#open.length) this.#close();
      at += copied;
    }
    this.#byteCount += bytes.length;
  }

  /** Takes the oldest bytes: at most `maxBytes`, and at most a block; null if empty. */
  shift(maxBytes = Number.POSITIVE_INFINITY): QueuedBlock | null {
    if (this.#blocks.length === 0) this.#close();
    const block = this.#blocks[0];
    if (block === undefined || maxBytes <= 0) return null;
    if (block.bytes.length <= maxBytes) {
      this.#blocks.shift();
      this.#byteCount -= block.bytes.length;
      return block;
    }
    // The last part of a view returns its place.
    this.#blocks[0] = { bytes: block.bytes.subarray(maxBytes), isView: block.isView };
    this.#byteCount -= maxBytes;
    return { bytes: block.bytes.subarray(0, maxBytes), isView: false };
  }

  /** Takes everything, in one piece. */
  shiftAll(): Buffer {
    this.#close();
    const [first] = this.#blocks;
    const isOne = first !== undefined && this.#blocks.length === 1 && !first.isView;
    const bytes = isOne ? first.bytes : Buffer.allocUnsafeSlow(this.#byteCount);
    if (!isOne) {
      let at = 0;
      for (const block of this.#blocks) at += block.bytes.copy(bytes, at);
    }
    this.clear();
    return bytes;
  }

  clear(): void {
    for (const { isView } of this.#blocks) if (isView) dropView();
    this.#blocks.length = 0;
    this.#open = null;
    this.#openBytes = 0;
    this.#byteCount = 0;
  }

  #add(block: QueuedBlock): void {
    this.#close();
    this.#blocks.push(block);
    this.#byteCount += block.bytes.length;
  }

  /** Whether the next block is a slab: it must not exceed its share of the contents. */
  #needsSlab(neededBytes: number): boolean {
    return this.#usesSlabs && Math.max(neededBytes, this.#byteCount / BLOCK_SHARE) >= SLAB_BLOCK_BYTES;
  }

  #newBlock(neededBytes: number): Buffer {
    if (this.#needsSlab(neededBytes)) return takeSlab();
    const size = Math.max(SMALLEST_BLOCK_BYTES, neededBytes, Math.floor(this.#byteCount / BLOCK_SHARE));
    // Not from Node's pool, see above.
    return Buffer.allocUnsafeSlow(Math.min(size, LARGEST_BLOCK_BYTES));
  }

  /** Seals the open block. */
  #close(): void {
    if (this.#open === null) return;
    this.#blocks.push({ bytes: this.#open.subarray(0, this.#openBytes), isView: false });
    this.#open = null;
    this.#openBytes = 0;
  }
}
