/** The progress of a copy: numbers that the copy updates, and that others may read. */
import type { KeptLists, Warn } from './kept-list.js';
import { COPY_KIND, type Comparison, type CopyTotals, encodeMessage } from './messages.js';
import type { RecordStream } from './record-stream.js';

/** A comparison while it runs. */
export interface RunningComparison extends Comparison {
  /** Which side reads: this one, or the other one. First the receiving side does, then the sending one. */
  readonly side: 'here' | 'there';
}

export class CopyProgress {
  /** How much there is in all; null while, or where, that is not known. */
  totals: CopyTotals | null = null;
  /** What is copied at the moment, as a path in the copy; empty before the first. */
  path = '';
  /** The number of complete files. */
  files = 0;
  folders = 0;
  links = 0;
  /** The bytes of all files, including those that did not have to be sent. */
  bytes = 0;
  /** The bytes that an earlier copy left. */
  resumedBytes = 0;

  /** How far a resumed copy has compared what is there already; null while it does not compare. */
  comparison: RunningComparison | null = null;
  /** Called when {@link comparison} begins or goes on. */
  onComparison: ((comparison: RunningComparison) => void) | null = null;

  /** Whether it was interrupted in a way that a later copy can resume. */
  isResumable = false;

  /** The bytes of files that were sent, without what the tar adds. */
  get sentBytes(): number {
    return this.bytes - this.resumedBytes;
  }

  /** Notes how far it has compared. */
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

/** The caller is told how far the other side is whenever it has read so much more, in bytes: some times in a second. */
const TOLD_BYTES = 16_777_216;

/** The reading side of a comparison: it counts what it reads, notes that, and tells the caller where that is the other side. */
export class ComparisonCount {
  readonly #run: CopyRun;
  #bytes = 0;
  #totalBytes = 0;
  #toldBytes = 0;

  constructor(run: CopyRun) {
    this.#run = run;
  }

  /** There are so many bytes to be read, beginning now. */
  begin(totalBytes: number): void {
    this.#totalBytes = totalBytes;
    if (totalBytes > 0) this.#note();
  }

  /** So many more were read. Throws where the copy has failed meanwhile: reading may take minutes. */
  add(bytes: number): void {
    this.#run.records.check();
    this.#bytes += bytes;
    if (this.#bytes - this.#toldBytes >= TOLD_BYTES || this.#bytes >= this.#totalBytes) this.#note();
  }

  /** Nothing is compared at the moment. */
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
