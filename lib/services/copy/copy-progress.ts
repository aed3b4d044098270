/** The progress of a copy: numbers that the copy updates and others read. */
import { createHash } from 'node:crypto';
import { COPY_KIND, type Comparison, type CopyTotals, encodeMessage } from './copy-messages.js';
import type { KeptLists, Warn } from './kept-list.js';
import type { RecordStream } from './record-stream.js';

/** A comparison while it runs. */
export interface RunningComparison extends Comparison {
  /** Which side reads: first the receiver, then the sender. */
  readonly side: 'here' | 'there';
}

export class CopyProgress {
  /** Null while unknown, or if not requested. */
  totals: CopyTotals | null = null;
  /** The path of the current entry in the copy; empty before the first. */
  path = '';
  files = 0;
  folders = 0;
  links = 0;
  /** Bytes of all files, including those that need not be sent. */
  bytes = 0;
  /** The bytes that an earlier copy left. */
  resumedBytes = 0;

  /** Null unless a comparison is running. */
  comparison: RunningComparison | null = null;
  /** Called when {@link comparison} starts or advances. */
  onComparison: ((comparison: RunningComparison) => void) | null = null;

  /** Whether a later copy can resume this one. */
  isResumable = false;

  /** The bytes of file contents sent, without tar overhead. */
  get sentBytes(): number {
    return this.bytes - this.resumedBytes;
  }

  compare(comparison: RunningComparison): void {
    this.comparison = comparison;
    this.onComparison?.(comparison);
  }
}

/** A running copy, on either side. */
export interface CopyRun {
  readonly records: RecordStream;
  readonly progress: CopyProgress;
  /** Accounts for the memory that the peer makes this side use. */
  readonly lists: KeptLists;
  readonly warn: Warn;
  /** Whether to report this side's comparison to the peer. */
  readonly isComparisonTold: boolean;
  /** Whether links that point outside the copied tree are copied as they are, instead of refused. */
  readonly keepsLinks: boolean;
}

/** The service reports its comparison after reading this many more bytes: a few times a second. */
const REPORT_BYTES = 16_777_216;

/** Counts what this side reads to compare files, and reports it to the caller if this is the service. */
export class ComparisonCount {
  readonly #run: CopyRun;
  #bytes = 0;
  #totalBytes = 0;
  #reportedBytes = 0;

  constructor(run: CopyRun) {
    this.#run = run;
  }

  begin(totalBytes: number): void {
    this.#totalBytes = totalBytes;
    if (totalBytes > 0) this.#note();
  }

  /** The SHA-256 of the blocks. Rejects if the copy fails meanwhile: reading may take minutes. */
  async hash(blocks: AsyncIterable<Buffer>): Promise<Buffer> {
    const hash = createHash('sha256');
    for await (const block of blocks) {
      hash.update(block);
      this.#run.records.check();
      this.#bytes += block.length;
      if (this.#bytes - this.#reportedBytes >= REPORT_BYTES || this.#bytes >= this.#totalBytes) this.#note();
    }
    return hash.digest();
  }

  clear(): void {
    this.#run.progress.comparison = null;
  }

  #note(): void {
    this.#reportedBytes = this.#bytes;
    const comparison = { bytes: this.#bytes, totalBytes: this.#totalBytes };
    const { progress, records, isComparisonTold } = this.#run;
    progress.compare({ ...comparison, side: 'here' });
    if (isComparisonTold) records.write(encodeMessage(COPY_KIND.COMPARED, comparison));
  }
}
