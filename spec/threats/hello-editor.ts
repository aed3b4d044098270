/** Changes what HELLOs say on their way, and leaves everything else as it is: what a man in the middle can do without a key. */
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC, readHello } from '../../lib/codec/hello.js';

export type HelloFields = Record<string, unknown>;

/** The new fields of a HELLO; null removes the HELLO. */
export type Edit = (fields: HelloFields) => HelloFields | null;

/** Magic and HELLO with these fields. */
export function helloOf(fields: HelloFields): Buffer {
  const payload = Buffer.from(JSON.stringify(fields));
  return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0)]);
}

/** One direction of one connection. */
export class HelloEditor {
  readonly #edit: Edit;
  #carry: Buffer = Buffer.alloc(0);

  constructor(edit: Edit) {
    this.#edit = edit;
  }

  /** The bytes to hand on. A HELLO, or a magic, that is not complete is held back. */
  push(chunk: Buffer): Buffer {
    let bytes = Buffer.concat([this.#carry, chunk]);
    this.#carry = Buffer.alloc(0);
    const out: Buffer[] = [];
    for (;;) {
      const at = bytes.indexOf(MAGIC);
      if (at === -1) {
        const kept = partOfMagic(bytes);
        out.push(bytes.subarray(0, bytes.length - kept));
        this.#carry = bytes.subarray(bytes.length - kept);
        break;
      }
      out.push(bytes.subarray(0, at));
      const found = readHello(bytes, at + MAGIC.length);
      if (found === 'incomplete') {
        this.#carry = bytes.subarray(at);
        break;
      }
      if (found === 'invalid') {
        out.push(bytes.subarray(at, at + 1));
        bytes = bytes.subarray(at + 1);
        continue;
      }
      const edited = this.#edit(JSON.parse(found.payload.toString()) as HelloFields);
      if (edited !== null) out.push(helloOf(edited));
      bytes = bytes.subarray(found.end);
    }
    return Buffer.concat(out);
  }
}

/** The number of last bytes that may be the beginning of a magic. */
function partOfMagic(bytes: Buffer): number {
  for (let count = Math.min(MAGIC.length - 1, bytes.length); count > 0; count -= 1) {
    if (bytes.subarray(bytes.length - count).equals(MAGIC.subarray(0, count))) return count;
  }
  return 0;
}

/** The newest HELLO in what a side wrote, and what came after it. */
export function splitOpening(bytes: Buffer): { readonly last: HelloFields; readonly behind: Buffer } {
  const at = bytes.lastIndexOf(MAGIC);
  const found = readHello(bytes, at + MAGIC.length);
  if (at === -1 || typeof found === 'string') throw new Error('there is no HELLO');
  return { last: JSON.parse(found.payload.toString()) as HelloFields, behind: bytes.subarray(found.end) };
}
