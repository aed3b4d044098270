/** What a session has sent and its peer has not acknowledged: kept, and written again on the next link (R-RESUME-5). */
import type { ByteSink } from '../../codec/frame-writer.js';
import { VproxyError } from '../../errors.js';
import { FairBudget } from '../../util/bounds.js';
import { isAlone } from '../../util/bytes/byte-queue.js';
import { giveSlab, SLAB_BYTES, takeSlab } from '../../util/bytes/slabs.js';

/** A shorter piece is copied: so many of them share a block, and the caller has its buffer back. */
const COPY_BYTES = 4096;

const BLOCK_BYTES = 16_384;

/** While less than this waits in the link more is written to it. */
const HIGH_WATER_BYTES = 131_072;

/** What may be kept beyond the limit, as only data waits: a frame of data, and the frames that a peer is sent in a round trip. */
const MAX_BEYOND_BYTES = 4 * 2 ** 20;

/** As much may be kept whatever others keep: more than a peer acknowledges at once, so that it always goes on. */
const LEAST_BYTES = 262_144;

/** What a {@link Backlog} keeps, and how far that is; in bytes since the session began. */
export interface BacklogState {
  /** What is kept, from `acknowledgedBytes` on: only while the backlog is handed over. */
  pieces: readonly Buffer[];
  acknowledgedBytes: number;
  /** What was given to the link that there is, or was: the bytes that are still in it are its own. */
  writtenBytes: number;
  /** The most that any link was given: what the peer cannot have more of. */
  reachedBytes: number;
}

/** Bytes that were sent, in order, and how far the peer has them. It is the sink of a session, and outlives links. */
export class Backlog implements ByteSink {
  readonly #state: BacklogState;
  readonly #limitBytes: number;
  readonly #budget: FairBudget;
  /** Of what is kept, how much was given when no more data should have been. */
  #beyondBytes = 0;
  #link: ByteSink | null;
  /** From `#keptOffset` on, without a gap. */
  #pieces: Buffer[] = [];
  /** Of `#pieces`, the first that is kept, and the first of which something is to be written. */
  #firstKept = 0;
  #firstUnwritten = 0;
  /** Where the piece of each begins, in bytes since the session began. */
  #keptOffset: number;
  #unwrittenOffset: number;
  /** Given, in bytes since the session began. */
  #totalBytes: number;
  /** By their totals. */
  readonly #waiting: { readonly totalBytes: number; readonly callback: () => void }[] = [];
  #block: Buffer | null = null;
  #blockEnd = 0;
  /** As the block, for longer pieces. */
  #slab: Buffer | null = null;
  #slabEnd = 0;

  /** With `limitBytes` or its share of the budget kept it `isFull`. Without a link it waits for `attach`. */
  constructor(
    link: ByteSink | null,
    limitBytes: number,
    budget = new FairBudget(2 * limitBytes),
    state: BacklogState = { pieces: [], acknowledgedBytes: 0, writtenBytes: 0, reachedBytes: 0 },
  ) {
    const { acknowledgedBytes, pieces } = state;
    this.#link = link;
    this.#limitBytes = limitBytes;
    this.#budget = budget;
    this.#state = state;
    this.#keptOffset = acknowledgedBytes;
    this.#unwrittenOffset = acknowledgedBytes;
    this.#totalBytes = acknowledgedBytes;
    state.pieces = [];
    for (const piece of pieces) {
      if (isAlone(piece) && piece.length > COPY_BYTES) this.#keep(piece);
      else this.#copy(piece);
    }
    this.#skipWritten();
  }

  get state(): BacklogState {
    const [first, ...others] = this.#pieces.slice(this.#firstKept);
    const known = this.#state.acknowledgedBytes - this.#keptOffset;
    return { ...this.#state, pieces: first === undefined ? [] : [first.subarray(known), ...others] };
  }

  /** Of what another one kept. */
  #skipWritten(): void {
    for (;;) {
      const piece = this.#pieces[this.#firstUnwritten];
      if (piece === undefined || this.#unwrittenOffset + piece.length > this.#state.writtenBytes) break;
      this.#unwrittenOffset += piece.length;
      this.#firstUnwritten += 1;
    }
  }

  /** What was given to it, in bytes. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** What is kept, in bytes. */
  get keptBytes(): number {
    return this.#totalBytes - this.#state.acknowledgedBytes;
  }

  /** Whether so much is kept that no more data should be sent. */
  get isFull(): boolean {
    return this.keptBytes >= this.#mostBytes;
  }

  get #mostBytes(): number {
    return Math.min(this.#limitBytes, Math.max(LEAST_BYTES, this.#budget.shareOf(this.keptBytes)));
  }

  /** Whether more is kept than a peer explains that acknowledges what comes. */
  get isOverfull(): boolean {
    return this.#beyondBytes > MAX_BEYOND_BYTES;
  }

  /** What no link has written, in bytes. */
  get unwrittenBytes(): number {
    return this.#totalBytes - this.#state.writtenBytes + (this.#link?.unwrittenBytes ?? 0);
  }

  /** A piece that is short, or the lesser part of its buffer, is copied; the buffer of another one is kept until the peer has it. */
  write(bytes: Buffer): boolean {
    const isFree = bytes.length <= COPY_BYTES || bytes.length < bytes.buffer.byteLength / 2;
    if (isFree) this.#copy(bytes);
    else this.#keep(bytes);
    this.flush();
    return isFree;
  }

  /** Unless it `mayKeep` them it copies all parts: among them is what a program wrote, which has its buffer back as soon as it is written. */
  writeParts(parts: readonly Buffer[], mayKeep = false): boolean {
    let isFree = true;
    for (const part of parts) {
      if (mayKeep && part.length > COPY_BYTES) {
        this.#keep(part);
        isFree = false;
      } else this.#copy(part);
    }
    this.flush();
    return isFree;
  }

  /** Writes what the link has room for. To be called when it has written all that it was given. */
  flush(): void {
    const link = this.#link;
    while (link !== null && this.#state.writtenBytes < this.#totalBytes && link.unwrittenBytes < HIGH_WATER_BYTES)
      this.#writeSome(link);
    this.#state.reachedBytes = Math.max(this.#state.reachedBytes, this.#state.writtenBytes);
  }

  /**
   * The peer has the first `totalBytes` bytes. Less than it is known to have is nothing new: an ACK that is written again on
   * another link is older than what the peer said there first. Throws `protocol-error` for more than this link was given.
   */
  acknowledge(totalBytes: number): void {
    if (totalBytes <= this.#state.acknowledgedBytes) return;
    this.#requirePossible(totalBytes, this.#state.writtenBytes);
    this.#budget.release(totalBytes - this.#state.acknowledgedBytes);
    this.#beyondBytes = Math.max(0, this.#beyondBytes - (totalBytes - this.#state.acknowledgedBytes));
    this.#state.acknowledgedBytes = totalBytes;
    for (;;) {
      const piece = this.#pieces[this.#firstKept];
      if (piece === undefined || this.#keptOffset + piece.length > totalBytes) break;
      this.#pieces[this.#firstKept] = NOTHING;
      this.#firstKept += 1;
      this.#keptOffset += piece.length;
    }
    this.#compact();
    while (this.#waiting[0] !== undefined && this.#waiting[0].totalBytes <= totalBytes)
      this.#waiting.shift()?.callback();
  }

  /** Calls back when the peer has all that was given up to now: what was kept of it is free then. */
  afterKept(callback: () => void): void {
    if (this.keptBytes === 0) callback();
    else this.#waiting.push({ totalBytes: this.#totalBytes, callback });
  }

  /**
   * The session is over: what waits is handed to the link, where there is one and `isWritten`, and nothing is kept any more. Gives
   * what waited for the peer, and for the budget; it is to be called back when the link has written all.
   */
  end(isWritten: boolean): (() => void)[] {
    const link = this.#link;
    while (link !== null && isWritten && this.#state.writtenBytes < this.#totalBytes) this.#writeSome(link);
    const { keptBytes } = this;
    this.#totalBytes = this.#state.writtenBytes;
    this.#state.acknowledgedBytes = this.#state.writtenBytes;
    this.#pieces = [];
    this.#firstKept = 0;
    this.#firstUnwritten = 0;
    this.#block = null;
    this.#slab = null;
    const waiting = this.#waiting.splice(0).map(({ callback }) => callback);
    return [...waiting, () => this.#budget.release(keptBytes)];
  }

  /** The link is gone. */
  detach(): void {
    this.#link = null;
  }

  /**
   * Goes on with another link, behind the first `receivedBytes` bytes, which the peer has: what it may not have is written
   * again. Gives how much that is. Throws `protocol-error` for less than it is known to have, too.
   */
  attach(link: ByteSink, receivedBytes: number): number {
    this.#requirePossible(receivedBytes, this.#state.reachedBytes);
    this.#state.writtenBytes = receivedBytes;
    this.acknowledge(receivedBytes);
    this.#link = link;
    const againBytes = this.#state.reachedBytes - receivedBytes;
    this.#firstUnwritten = this.#firstKept;
    this.#unwrittenOffset = this.#keptOffset;
    this.flush();
    return againBytes;
  }

  #requirePossible(totalBytes: number, mostBytes: number): void {
    if (totalBytes >= this.#state.acknowledgedBytes && totalBytes <= mostBytes) return;
    const range = `${this.#state.acknowledgedBytes} to ${mostBytes}`;
    throw new VproxyError('protocol-error', `the peer says it has ${totalBytes} bytes, where it has ${range}`);
  }

  #keep(bytes: Buffer): void {
    this.#count(bytes.length);
    this.#pieces.push(bytes);
  }

  #count(byteCount: number): void {
    this.#totalBytes += byteCount;
    this.#budget.take(byteCount);
    const overBytes = this.keptBytes - this.#mostBytes;
    if (overBytes > 0) this.#beyondBytes += Math.min(byteCount, overBytes);
  }

  #copy(bytes: Buffer): void {
    if (bytes.length > COPY_BYTES) {
      this.#keep(bytes.length > SLAB_BYTES / 2 ? Buffer.from(bytes) : this.#copyIntoSlab(bytes));
      return;
    }
    if (this.#block === null || this.#blockEnd + bytes.length > this.#block.length) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.#blockEnd = 0;
    }
    const start = this.#blockEnd;
    this.#blockEnd += bytes.copy(this.#block, start);
    const newest = this.#pieces.at(-1);
    if (newest === undefined || newest.buffer !== this.#block.buffer || newest.byteOffset + newest.length !== start) {
      this.#keep(this.#block.subarray(start, this.#blockEnd));
      return;
    }
    // Pieces that lie side by side are one: a peer that is sent many small ones costs no more memory than their bytes.
    if (this.#firstUnwritten === this.#pieces.length) {
      this.#firstUnwritten -= 1;
      this.#unwrittenOffset -= newest.length;
    }
    this.#pieces[this.#pieces.length - 1] = this.#block.subarray(newest.byteOffset, this.#blockEnd);
    this.#count(bytes.length);
  }

  #copyIntoSlab(bytes: Buffer): Buffer {
    const full = this.#slab;
    if (full === null || this.#slabEnd + bytes.length > full.length) {
      // All that lies in it was given before.
      if (full !== null) this.afterKept(() => giveSlab(full));
      this.#slab = takeSlab();
      this.#slabEnd = 0;
    }
    const slab = this.#slab as Buffer;
    const start = this.#slabEnd;
    this.#slabEnd += bytes.copy(slab, start);
    return slab.subarray(start, this.#slabEnd);
  }

  /** Writes a piece, or several up to the high-water mark. What the link keeps of it is kept here, too. */
  #writeSome(link: ByteSink): void {
    const first = this.#nextUnwritten();
    if (this.#state.writtenBytes === this.#totalBytes) {
      link.write(first);
      return;
    }
    const parts = [first];
    for (let bytes = first.length; bytes < HIGH_WATER_BYTES && this.#state.writtenBytes < this.#totalBytes; ) {
      const part = this.#nextUnwritten();
      parts.push(part);
      bytes += part.length;
    }
    link.writeParts(parts);
  }

  #nextUnwritten(): Buffer {
    const piece = this.#pieces[this.#firstUnwritten] as Buffer;
    const skippedBytes = this.#state.writtenBytes - this.#unwrittenOffset;
    const part = skippedBytes === 0 ? piece : piece.subarray(skippedBytes);
    this.#state.writtenBytes += part.length;
    this.#unwrittenOffset += piece.length;
    this.#firstUnwritten += 1;
    return part;
  }

  /** Gives back the places of what is kept no more: now and then, as that moves all others. */
  #compact(): void {
    if (this.#firstKept === this.#pieces.length) {
      this.#pieces = [];
      this.#block = null;
      if (this.#slab !== null) giveSlab(this.#slab);
      this.#slab = null;
    } else if (this.#firstKept < 64 || this.#firstKept < this.#pieces.length / 2) {
      return;
    } else {
      this.#pieces.splice(0, this.#firstKept);
    }
    this.#firstUnwritten -= this.#firstKept;
    this.#firstKept = 0;
  }
}

const NOTHING = Buffer.alloc(0);
