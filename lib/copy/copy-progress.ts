/** The progress of a copy: numbers that the copy updates, and that others may read. */
import type { CopyTotals } from './messages.js';

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

  /** Whether it was interrupted in a way that a later copy can resume. */
  isResumable = false;

  /** The bytes of files that were sent, without what the tar adds. */
  get sentBytes(): number {
    return this.bytes - this.resumedBytes;
  }
}
