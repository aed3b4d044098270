/** What a session has sent and its peer has not acknowledged: kept, and sent again on the next link (R-RESUME-5). */
import type { ByteSink } from '../../codec/frame-writer.js';
import { protocolError } from '../../errors.js';
import { FairBudget } from '../../util/bounds.js';
import { isAlone } from '../../util/bytes/byte-queue.js';
import { giveSlab, SLAB_BYTES, takeSlab } from '../../util/bytes/slabs.js';
import { assertInvariants } from '../../util/invariant.js';

/** A shorter piece is copied: many share a block, and the caller gets its buffer back. */
const COPY_BYTES = 4096;

const BLOCK_BYTES = 16_384;

/** More is written to the link while less than this waits in it. */
const HIGH_WATER_BYTES = 131_072;

/** The most kept beyond the limit, at which only data stops: a frame of data, and the frames sent to a peer in a round trip. */
const MAX_BEYOND_BYTES = 4 * 2 ** 20;

/** Each session may keep this much whatever others keep: more than a peer acknowledges at once, so that it never stalls. */
const LEAST_BYTES = 262_144;

/** The state of a {@link Backlog}; offsets in bytes since the session began. */
export interface BacklogState {
  /** The kept bytes from `acknowledgedBytes` on: only while the backlog is handed over. */
  pieces: readonly Buffer[];
  acknowledgedBytes: number;
  /** How much was given to the current or last link; bytes still in that link belong to it. */
  writtenBytes: number;
  /** The most that any link was given: the peer cannot have more. */
  reachedBytes: number;
}

/** Bytes sent, in order, and how many of them the peer has. The sink of a session, which outlives its links. */
export class Backlog implements ByteSink {
  readonly #state: BacklogState;
  readonly #limitBytes: number;
  readonly #budget: FairBudget;
  /** How much of what is kept was written while it was full. */
  #beyondBytes = 0;
  #link: ByteSink | null;
  /** Contiguous, from `#keptOffset` on. */
  #pieces: Buffer[] = [];
  /** Indexes in `#pieces`: of the first kept piece, and of the first with unwritten bytes. */
  #firstKept = 0;
  #firstUnwritten = 0;
  /** Where each of these pieces begins, in bytes since the session began. */
  #keptOffset: number;
  #unwrittenOffset: number;
  /** Bytes taken since the session began. */
  #totalBytes: number;
  /** In the order of their totals. */
  readonly #waiting: { readonly totalBytes: number; readonly callback: () => void }[] = [];
  #block: Buffer | null = null;
  #blockEnd = 0;
  /** Like the block, for longer pieces. */
  #slab: Buffer | null = null;
  #slabEnd = 0;

  /** It `isFull` once it keeps `limitBytes` or its share of the budget. Without a link it waits for `attach`. */
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

  /** Skips the pieces that were written before. */
  #skipWritten(): void {
    for (;;) {
      const piece = this.#pieces[this.#firstUnwritten];
      if (piece === undefined || this.#unwrittenOffset + piece.length > this.#state.writtenBytes) break;
      this.#unwrittenOffset += piece.length;
      this.#firstUnwritten += 1;
    }
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

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

  /** Whether more is kept than can be explained with a peer that acknowledges what comes. */
  get isOverfull(): boolean {
    return this.#beyondBytes > MAX_BEYOND_BYTES;
  }

  /** Bytes that no link has written. */
  get unwrittenBytes(): number {
    return this.#totalBytes - this.#state.writtenBytes + (this.#link?.unwrittenBytes ?? 0);
  }

  /** A piece that is short, or less than half of its buffer, is copied; otherwise the buffer is kept until the peer has it. */
  write(bytes: Buffer): boolean {
    const isFree = bytes.length <= COPY_BYTES || bytes.length < bytes.buffer.byteLength / 2;
    if (isFree) this.#copy(bytes);
    else this.#keep(bytes);
    this.flush();
    return isFree;
  }

  /** Copies all parts unless it `mayKeep` them: they may include a program's buffer, which it gets back once it is written. */
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

  /** Writes what the link has room for. Call when the link has drained. */
  flush(): void {
    const link = this.#link;
    while (link !== null && this.#state.writtenBytes < this.#totalBytes && link.unwrittenBytes < HIGH_WATER_BYTES)
      this.#writeSome(link);
    this.#state.reachedBytes = Math.max(this.#state.reachedBytes, this.#state.writtenBytes);
    INVARIANT: this.#assert();
  }

  /**
   * The peer has the first `totalBytes` bytes. Less than is known is ignored: an ACK that is sent again on
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
    INVARIANT: this.#assert();
    while (this.#waiting[0] !== undefined && this.#waiting[0].totalBytes <= totalBytes)
      this.#waiting.shift()?.callback();
  }

  /** Calls back when the peer has everything taken so far: what was kept of it is free then. */
  afterKept(callback: () => void): void {
    if (this.keptBytes === 0) callback();
    else this.#waiting.push({ totalBytes: this.#totalBytes, callback });
  }

  /**
   * Ends with the session: hands what waits to the link, if there is one and `isWritten`, and keeps nothing more. Returns
   * the callbacks that waited for the peer, and for the budget; call them when the link has drained.
   */
  end(isWritten: boolean): (() => void)[] {
    const link = this.#link;
    while (link !== null && isWritten && this.#state.writtenBytes < this.#totalBytes) this.#writeSome(link);
    const { keptBytes } = this;
    this.#totalBytes = this.#state.writtenBytes;
    this.#state.acknowledgedBytes = this.#state.writtenBytes;
    this.#keptOffset = this.#state.writtenBytes;
    this.#unwrittenOffset = this.#state.writtenBytes;
    this.#pieces = [];
    this.#firstKept = 0;
    this.#firstUnwritten = 0;
    this.#block = null;
    this.#slab = null;
    const waiting = this.#waiting.splice(0).map(({ callback }) => callback);
    return [...waiting, () => this.#budget.release(keptBytes)];
  }

  /** The link has closed. */
  detach(): void {
    this.#link = null;
  }

  /**
   * Continues on another link after the first `receivedBytes` bytes, which the peer has; the rest is sent
   * again. Returns how much that is. Throws `protocol-error` for less than the peer is known to have, too.
   */
  attach(link: ByteSink, receivedBytes: number): number {
    this.#requirePossible(receivedBytes, this.#state.reachedBytes);
    this.#state.writtenBytes = receivedBytes;
    this.#firstUnwritten = this.#firstKept;
    this.#unwrittenOffset = this.#keptOffset;
    this.#skipWritten();
    this.acknowledge(receivedBytes);
    this.#link = link;
    const againBytes = this.#state.reachedBytes - receivedBytes;
    this.flush();
    return againBytes;
  }

  #requirePossible(totalBytes: number, mostBytes: number): void {
    if (totalBytes >= this.#state.acknowledgedBytes && totalBytes <= mostBytes) return;
    const range = `${this.#state.acknowledgedBytes} to ${mostBytes}`;
    throw protocolError(`the peer acknowledges ${totalBytes} bytes, but can have ${range}`);
  }

  #keep(bytes: Buffer): void {
    this.#count(bytes.length);
    this.#pieces.push(bytes);
  }

  #count(byteCount: number): void {
    this.#totalBytes += byteCount;
    this.#budget.reserve(byteCount);
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
    // Adjacent pieces are joined: many small ones cost no more memory than their bytes.
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
      // Everything in it was taken before.
      if (full !== null) this.afterKept(() => giveSlab(full));
      this.#slab = takeSlab();
      this.#slabEnd = 0;
    }
    const slab = this.#slab as Buffer;
    const start = this.#slabEnd;
    this.#slabEnd += bytes.copy(slab, start);
    return slab.subarray(start, this.#slabEnd);
  }

  /** Writes a piece, or several up to the high-water mark. Bytes that the link keeps are kept here, too. */
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

  /** Frees the slots of pieces no longer kept: only now and then, as it moves all others. */
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

  #assert(): void {
    INVARIANT: {
      const { acknowledgedBytes, writtenBytes, reachedBytes } = this.#state;
      const lengthOf = (pieces: readonly Buffer[]): number => pieces.reduce((sum, { length }) => sum + length, 0);
      const totalBytes = this.#totalBytes;
      const [kept, unwritten] = [this.#keptOffset, this.#unwrittenOffset];
      // Adding up a long list each time would make a long transfer quadratic.
      const isShort = this.#pieces.length < 64;
      assertInvariants(
        'backlog',
        () => ({
          ...this.#state,
          pieces: this.#pieces.length,
          totalBytes,
          kept,
          unwritten,
          firstKept: this.#firstKept,
        }),
        acknowledgedBytes <= writtenBytes && writtenBytes <= totalBytes && writtenBytes <= reachedBytes,
        kept <= acknowledgedBytes && unwritten <= writtenBytes,
        this.#firstKept <= this.#firstUnwritten && this.#firstUnwritten <= this.#pieces.length,
        !isShort || kept + lengthOf(this.#pieces.slice(this.#firstKept)) === totalBytes,
        !isShort || unwritten + lengthOf(this.#pieces.slice(this.#firstUnwritten)) === totalBytes,
      );
    }
  }
}

const NOTHING = Buffer.alloc(0);
