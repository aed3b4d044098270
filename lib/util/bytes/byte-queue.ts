/** Bytes that wait, in the order in which they came, in memory of about their own size however small the pieces were. */

/** The sizes of the blocks that pieces are gathered in: an eighth of what waits already, within these bounds. */
const SMALLEST_BLOCK_BYTES = 1024;
const LARGEST_BLOCK_BYTES = 65_536;
const BLOCK_SHARE = 8;

/** A shorter piece is copied: that costs less than a read buffer that cannot be used again. */
const SMALLEST_VIEW_BYTES = 16_384;

/**
 * A view keeps the whole read buffer of a channel alive, up to 128 KiB, whatever its own length. So this is the number of
 * views that all queues of the process hold together; what comes beyond them is copied.
 */
const MAX_VIEWS = 32;

let viewCount = 0;

/**
 * Takes a place for a view of `bytes`. False where the bytes are to be copied, because they are few, or because all places are
 * taken. The taker gives it back with {@link dropView}.
 */
export function keepView(bytes: Buffer): boolean {
  if (bytes.length < SMALLEST_VIEW_BYTES || viewCount >= MAX_VIEWS) return false;
  viewCount += 1;
  return true;
}

/** Gives the place of a view back, which is not used any more. */
export function dropView(): void {
  viewCount -= 1;
}

/** A copy that keeps nothing else alive: one of Node's pool would keep the whole pool, which is up to 64 KiB. */
export function copyAlone(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** Whether bytes keep nothing else alive. */
export const isAlone = ({ buffer, length }: Buffer): boolean => buffer.byteLength === length;

/** A piece of what waits. */
interface QueuedBlock {
  readonly bytes: Buffer;
  /** Whether it has a place of {@link keepView}, which is now the caller's to give back. */
  readonly isView: boolean;
}

/** A queue of bytes. What it holds exceeds the bytes by an eighth at most, and by a block of 1 KiB. */
export class ByteQueue {
  readonly #blocks: QueuedBlock[] = [];
  /** The newest block where it has room: the memory, and how much of it is used. */
  #open: Buffer | null = null;
  #openBytes = 0;
  #byteCount = 0;

  /** The number of bytes that wait. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Views of what waits, in order. */
  list(): Buffer[] {
    const closed = this.#blocks.map(({ bytes }) => bytes);
    return this.#open === null ? closed : [...closed, this.#open.subarray(0, this.#openBytes)];
  }

  /** Appends bytes, which are lent for the call unless it returns true: then a view of them is kept. */
  push(bytes: Buffer): boolean {
    const isView = keepView(bytes);
    if (isView) this.#add({ bytes, isView });
    else this.pushCopy(bytes);
    return isView;
  }

  /** Appends bytes that are the queue's own from now on. */
  pushOwned(bytes: Buffer): void {
    if (bytes.length < SMALLEST_VIEW_BYTES) this.pushCopy(bytes);
    else this.#add({ bytes, isView: false });
  }

  /** Appends what another queue listed: what is alone as it is, the rest as a copy. */
  restore(pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      if (isAlone(piece)) this.pushOwned(piece);
      else this.pushCopy(piece);
    }
  }

  /** Appends a copy. */
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

  /** Takes the oldest bytes, at most `maxBytes` of them and at most a block; null where none wait. */
  shift(maxBytes = Number.POSITIVE_INFINITY): QueuedBlock | null {
    if (this.#blocks.length === 0) this.#close();
    const block = this.#blocks[0];
    if (block === undefined || maxBytes <= 0) return null;
    if (block.bytes.length <= maxBytes) {
      this.#blocks.shift();
      this.#byteCount -= block.bytes.length;
      return block;
    }
    // The place of a view goes with the last part of it.
    this.#blocks[0] = { bytes: block.bytes.subarray(maxBytes), isView: block.isView };
    this.#byteCount -= maxBytes;
    return { bytes: block.bytes.subarray(0, maxBytes), isView: false };
  }

  /** Takes all that waits, in one piece. */
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

  /** Drops all that waits. */
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

  #newBlock(neededBytes: number): Buffer {
    const size = Math.max(SMALLEST_BLOCK_BYTES, neededBytes, Math.floor(this.#byteCount / BLOCK_SHARE));
    // Not of Node's pool, as above.
    return Buffer.allocUnsafeSlow(Math.min(size, LARGEST_BLOCK_BYTES));
  }

  /** The open block is filled no more. */
  #close(): void {
    if (this.#open === null) return;
    this.#blocks.push({ bytes: this.#open.subarray(0, this.#openBytes), isView: false });
    this.#open = null;
    this.#openBytes = 0;
  }
}
