/** How far a copy is: numbers that the copy changes, and that anybody may look at. */
import type { CopyTotals } from './messages.js';

export class CopyProgress {
  /** How much there is in all; null while, or where, nobody knows. */
  totals: CopyTotals | null = null;
  /** What is copied at the moment, as a path in the copy; empty before the first. */
  path = '';
  /** Those that are complete. */
  files = 0;
  folders = 0;
  links = 0;
  /** Of all files, also what did not have to be sent. */
  bytes = 0;
  /** What was there from an earlier copy. */
  resumedBytes = 0;

  /** Whether it was broken off such that a later copy can go on with what has come. */
  isResumable = false;

  /** Of files, without what the tar adds. */
  get sentBytes(): number {
    return this.bytes - this.resumedBytes;
  }
}
