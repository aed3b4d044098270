/** The progress of a copy: numbers that the copy updates, and that others may read. */
import { createHash } from 'node:crypto';
import { COPY_KIND, type Comparison, type CopyTotals, encodeMessage } from './copy-messages.js';
import type { KeptLists, Warn } from './kept-list.js';
import type { RecordStream } from './record-stream.js';

export interface RunningComparison extends Comparison {
  /** Which side reads: this one, or the other one. First the receiving side does, then the sending one. */
  readonly side: 'here' | 'there';
}

export class CopyProgress {
  /** Null while unknown, or where nobody asked for it. */
  totals: CopyTotals | null = null;
  /** The current entry, as a path in the copy; empty before the first. */
  path = '';
  files = 0;
  folders = 0;
  links = 0;
  /** Of all files, including what did not have to be sent. */
  bytes = 0;
  /** The bytes that an earlier copy left. */
  resumedBytes = 0;

  /** Null while nothing is compared. */
  comparison: RunningComparison | null = null;
  /** Called when {@link comparison} begins or goes on. */
  onComparison: ((comparison: RunningComparison) => void) | null = null;

  /** Whether a later copy can resume it. */
  isResumable = false;

  /** The bytes of files that were sent, without what the tar adds. */
  get sentBytes(): number {
    return this.bytes - this.resumedBytes;
  }

  compare(comparison: RunningComparison): void {
    this.comparison = comparison;
    this.onComparison?.(comparison);
  }
}

/** A copy while it runs, at either side. */
export interface CopyRun {
  readonly records: RecordStream;
  readonly progress: CopyProgress;
  /** Counts what the other side makes this one keep. */
  readonly lists: KeptLists;
  readonly warn: Warn;
  /** Whether the other side is told how far this one has compared. */
  readonly isComparisonTold: boolean;
}

/** The service reports its comparison each time it has read this much more: a few times a second. */
const TOLD_BYTES = 16_777_216;

/** Counts what this side reads to compare, and tells the caller of it where this is the service. */
export class ComparisonCount {
  readonly #run: CopyRun;
  #bytes = 0;
  #totalBytes = 0;
  #toldBytes = 0;

  constructor(run: CopyRun) {
    this.#run = run;
  }

  begin(totalBytes: number): void {
    this.#totalBytes = totalBytes;
    if (totalBytes > 0) this.#note();
  }

  /** The SHA-256 of what is read. Rejects if the copy has failed meanwhile: reading may take minutes. */
  async hash(blocks: AsyncIterable<Buffer>): Promise<Buffer> {
    const hash = createHash('sha256');
    for await (const block of blocks) {
      hash.update(block);
      this.#run.records.check();
      this.#bytes += block.length;
      if (this.#bytes - this.#toldBytes >= TOLD_BYTES || this.#bytes >= this.#totalBytes) this.#note();
    }
    return hash.digest();
  }

  pause(): void {
    this.#run.progress.comparison = null;
  }

  #note(): void {
    this.#toldBytes = this.#bytes;
    const comparison = { bytes: this.#bytes, totalBytes: this.#totalBytes };
    const { progress, records, isComparisonTold } = this.#run;
    progress.compare({ ...comparison, side: 'here' });
    if (isComparisonTold) records.write(encodeMessage(COPY_KIND.COMPARED, comparison));
  }
}
