/** Finds a HELLO among bytes that may be anything: stale bytes of an earlier session come first (R-OPEN-3, R-OPEN-5). */
import { crc32 } from 'node:zlib';
import { VproxyError } from '../errors.js';
import { headerCheck } from './check.js';
import { FRAME_TYPE } from './frame-type.js';
import { decodeHello, type Hello, MAGIC } from './hello.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from './limits.js';

const NOTHING = Buffer.alloc(0);

/** Where a magic may begin, from `from` on; else the end. */
function beginningOfMagic(bytes: Buffer, from: number): number {
  const at = bytes.indexOf(0xff, from);
  return at === -1 ? bytes.length : at;
}

/** Skips bytes up to a magic that is followed by a valid HELLO. Keeps at most one unfinished HELLO in memory. */
export class HelloScanner {
  #carry: Buffer = NOTHING;
  #skippedBytes = 0;

  /** How many bytes were passed over so far; those of unfinished candidates do not count yet. */
  get skippedBytes(): number {
    return this.#skippedBytes;
  }

  /**
   * Looks through more bytes. A found HELLO comes with its payload, and with the bytes behind it, as views that may lie in
   * `chunk`; without one null comes, and nothing of `chunk` is referred to any more.
   */
  scan(chunk: Buffer): { readonly hello: Hello; readonly payload: Buffer; readonly rest: Buffer } | null {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    let from = 0;
    for (;;) {
      const at = bytes.indexOf(MAGIC, from);
      if (at === -1) return this.#keep(bytes, beginningOfMagic(bytes, Math.max(from, bytes.length - MAGIC.length + 1)));
      const found = readHello(bytes, at + MAGIC.length);
      if (found === 'incomplete') return this.#keep(bytes, at);
      if (found !== 'invalid') {
        this.#skippedBytes += at;
        this.#carry = NOTHING;
        const { hello, payload, end } = found;
        return { hello, payload, rest: bytes.subarray(end) };
      }
      // A magic that fails resumes the search at its second byte.
      from = at + 1;
    }
  }

  #keep(bytes: Buffer, from: number): null {
    this.#skippedBytes += from;
    // Mostly nothing is left of the zeros of a flush, and it should cost no memory then.
    this.#carry = from === bytes.length ? NOTHING : Buffer.from(bytes.subarray(from));
    return null;
  }
}

/** The HELLO frame at `offset`. */
export function readHello(
  bytes: Buffer,
  offset: number,
): { readonly hello: Hello; readonly payload: Buffer; readonly end: number } | 'incomplete' | 'invalid' {
  if (bytes.length < offset + HEADER_BYTES) return 'incomplete';
  const length = helloLength(bytes, offset);
  if (length === null) return 'invalid';
  const start = offset + HEADER_BYTES;
  const end = start + length;
  // No UTF-8 has this byte, and each magic begins with it: so no byte is looked at for more than one candidate, and
  // headers that stand within the payload of one another cost no more than other bytes.
  const firstFf = bytes.indexOf(0xff, start);
  if (firstFf !== -1 && firstFf < end) return 'invalid';
  if (bytes.length < end) return 'incomplete';
  const payload = bytes.subarray(start, end);
  if (crc32(payload) !== bytes.readUInt32BE(offset + 12)) return 'invalid';
  try {
    return { hello: decodeHello(payload), payload, end };
  } catch (error) {
    if (error instanceof VproxyError) return 'invalid';
    throw error;
  }
}

/** The length of the payload that a valid HELLO header at `offset` announces, else null. */
export function helloLength(bytes: Buffer, offset: number): number | null {
  const isHello =
    bytes[offset] === FRAME_TYPE.HELLO &&
    bytes[offset + 1] === 0 &&
    bytes.readUInt16BE(offset + 2) === headerCheck(bytes, offset, 0) &&
    bytes.readUInt32BE(offset + 4) === 0;
  const length = bytes.readUInt32BE(offset + 8);
  return isHello && length <= MAX_CONTROL_BYTES ? length : null;
}
