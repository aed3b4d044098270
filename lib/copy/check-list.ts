/** The checks of files that came. */
import { VproxyError } from '../errors.js';
import { showPath } from './copy-error.js';

/** So many checks may be behind, or ahead of, their files. */
const MAX_CHECKS = 65_536;

/** What was received, against what was sent: in the order of the tar, whichever of the two is known first. */
export class CheckList {
  readonly #received: { readonly name: string; readonly crc: number }[] = [];
  readonly #expected: number[] = [];

  addFile(name: string, crc: number): void {
    this.#received.push({ name, crc });
    this.#compare();
  }

  addExpected(payload: Buffer): void {
    for (let at = 0; at + 4 <= payload.length; at += 4) this.#expected.push(payload.readUInt32BE(at));
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
      if (crc !== expected[index]) throw new VproxyError('copy-failed', `${showPath(name)}: it was changed on the way`);
    });
    if (this.#received.length + this.#expected.length > MAX_CHECKS) {
      throw new VproxyError('protocol-error', 'copy: the checks of too many files are missing');
    }
  }
}
