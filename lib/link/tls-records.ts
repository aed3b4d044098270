/**
 * The records of TLS in a channel, as far as this side has to know them: where one ends, because between two of them the
 * peer may begin again in clear (R-AUTH-3).
 */

import { MAGIC, readHello } from '../codec/hello.js';
import { VproxyError } from '../errors.js';

/** Type, version and length. */
const RECORD_HEADER_BYTES = 5;

/** The longest record of TLS 1.2 and 1.3, without its header (RFC 8446, 5.2). */
const MAX_RECORD_BYTES = 16_384 + 2048;

/** change_cipher_spec, alert, handshake, application_data. */
const FIRST_TYPE = 20;
const LAST_TYPE = 23;

/** Cuts off what is no record. */
export class TlsRecords {
  /** The nonce of the clear HELLO that the peer may repeat before its first record. */
  readonly #peerNonce: string;
  #hasBegun = false;
  /** Of the record at hand. */
  #left = 0;
  /** A header, or a clear HELLO, that is not complete. */
  #carry: Buffer = Buffer.alloc(0);
  #rest: Buffer = Buffer.alloc(0);

  constructor(peerNonce: string) {
    this.#peerNonce = peerNonce;
  }

  /**
   * The bytes of records in `chunk`, with what an earlier one left; maybe views of `chunk`. Throws `peer-restarted` where
   * the peer begins again, and `desync` for what is neither; `takeRest` gives the bytes from there on.
   */
  push(chunk: Buffer): Buffer[] {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    this.#carry = Buffer.alloc(0);
    const records: Buffer[] = [];
    let from = 0;
    let at = 0;
    const take = (to: number): void => {
      if (at > from) records.push(bytes.subarray(from, at));
      from = to;
      at = to;
    };
    while (at < bytes.length) {
      if (this.#left > 0) {
        const count = Math.min(this.#left, bytes.length - at);
        this.#left -= count;
        at += count;
        continue;
      }
      const next = this.#judge(bytes, at);
      if (next === 'incomplete') {
        const start = at;
        take(bytes.length);
        this.#carry = Buffer.from(bytes.subarray(start));
        return records;
      }
      if (next.isClear) {
        take(next.end);
      } else {
        this.#hasBegun = true;
        this.#left = next.end - at;
      }
    }
    take(at);
    return records;
  }

  /** After `push` threw: the bytes from there on that are no record. */
  takeRest(): Buffer {
    return this.#rest;
  }

  /** What begins at `at`: a record, or a clear HELLO that is a repeat; and where it ends. */
  #judge(bytes: Buffer, at: number): { readonly isClear: boolean; readonly end: number } | 'incomplete' {
    const type = bytes[at] as number;
    if (type === 0) throw this.#failure(bytes, at, 'peer-restarted', 'the peer began again with a flush');
    if (type === 0xff) return this.#judgeHello(bytes, at);
    if (bytes.length - at < RECORD_HEADER_BYTES) return 'incomplete';
    const length = bytes.readUInt16BE(at + 3);
    if (type < FIRST_TYPE || type > LAST_TYPE || bytes[at + 1] !== 3 || length === 0 || length > MAX_RECORD_BYTES) {
      throw this.#failure(bytes, at, 'desync', 'bytes that are no record of TLS');
    }
    return { isClear: false, end: at + RECORD_HEADER_BYTES + length };
  }

  #judgeHello(bytes: Buffer, at: number): { readonly isClear: true; readonly end: number } | 'incomplete' {
    const head = bytes.subarray(at, at + MAGIC.length);
    if (!head.equals(MAGIC.subarray(0, head.length))) {
      throw this.#failure(bytes, at, 'desync', 'bytes FF that are no magic where a record of TLS should begin');
    }
    const found = readHello(bytes, at + MAGIC.length);
    if (found === 'incomplete') return 'incomplete';
    if (found === 'invalid') throw this.#failure(bytes, at, 'desync', 'a magic that no valid HELLO follows');
    if (this.#hasBegun || found.hello.nonce !== this.#peerNonce) {
      throw this.#failure(bytes, at, 'peer-restarted', 'the peer began again with another HELLO');
    }
    return { isClear: true, end: found.end };
  }

  #failure(bytes: Buffer, at: number, code: 'peer-restarted' | 'desync', message: string): VproxyError {
    this.#rest = Buffer.from(bytes.subarray(at));
    return new VproxyError(code, message);
  }
}
