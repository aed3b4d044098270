/** The checks of files that came. */
import { VproxyError } from '../errors.js';
import { showPath } from './copy-error.js';
import { type KeptCount, type KeptLists, keptBytes } from './kept-list.js';

/** So many files may be without a check: a sender tells of 1,024 at a time, whose names may have 4 KiB each. */
const FILES = { what: 'files without a check', maxCount: 65_536, maxBytes: 16_777_216 };

/** In an array of numbers. */
const CHECK_BYTES = 8;

/** So many checks may be without a file. */
const CHECKS = { what: 'checks without a file', maxCount: 65_536, maxBytes: 65_536 * CHECK_BYTES };

/** What was received, against what was sent: in the order of the tar, whichever of the two is known first. */
export class CheckList {
  readonly #received: { readonly name: string; readonly crc: number }[] = [];
  readonly #expected: number[] = [];
  readonly #receivedCount: KeptCount;
  readonly #expectedCount: KeptCount;

  constructor(lists: KeptLists) {
    this.#receivedCount = lists.list(FILES);
    this.#expectedCount = lists.list(CHECKS);
  }

  /** Throws `copy-failed` for a file that is not what was sent, and `protocol-error` where too many have no check. */
  addFile(name: string, crc: number): void {
    this.#receivedCount.add(keptBytes(name));
    this.#received.push({ name, crc });
    this.#compare();
  }

  /** Takes the checks of a CHECKS. Throws as {@link addFile}. */
  addExpected(payload: Buffer): void {
    for (let at = 0; at + 4 <= payload.length; at += 4) {
      this.#expectedCount.add(CHECK_BYTES);
      this.#expected.push(payload.readUInt32BE(at));
    }
    this.#compare();
  }

  /** Throws where a file has no check. */
  finish(): void {
    if (this.#received.length + this.#expected.length > 0) {
      throw new VproxyError('protocol-error', 'copy: not every file has its check');
    }
  }

  #compare(): void {
    const count = Math.min(this.#received.length, this.#expected.length);
    const expected = this.#expected.splice(0, count);
    this.#received.splice(0, count).forEach(({ name, crc }, index) => {
      this.#receivedCount.remove(keptBytes(name));
      this.#expectedCount.remove(CHECK_BYTES);
      if (crc !== expected[index]) throw new VproxyError('copy-failed', `${showPath(name)}: it was changed on the way`);
    });
  }
}
