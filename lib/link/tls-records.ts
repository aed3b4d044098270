/**
 * The boundaries of TLS records in a channel: between two of them the peer may restart in the clear
 * (R-AUTH-3).
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

/** The first bytes of an application_data record: its type, and the version that TLS 1.3 puts there. */
const DATA_RECORD = 0x170303;

const NOTHING = Buffer.alloc(0);

/** More than the length of a record with a PING. */
const SHORT_BYTES = 64;

/**
 * Whether bytes are exactly one short data record, like a PING (R-LIVE-4). Bytes within a record look like one by chance once in
 * 2 ** 40 times.
 */
function isShortRecord(bytes: Buffer): boolean {
  const bodyBytes = bytes.length - RECORD_HEADER_BYTES;
  const isShort = bodyBytes > 0 && bodyBytes <= SHORT_BYTES;
  return isShort && bytes.readUIntBE(0, 3) === DATA_RECORD && bytes.readUInt16BE(3) === bodyBytes;
}

type Judged = { readonly isClear: boolean; readonly end: number } | 'incomplete';

/** Passes TLS records on and rejects everything else. */
export class TlsRecords {
  /** The nonce of the clear HELLO that the peer may repeat before its first record. */
  readonly #peerNonce: string;
  #hasBegun = false;
  /** Bytes missing of the current record. */
  #left = 0;
  /** An incomplete header or clear HELLO. */
  #carry: Buffer = NOTHING;
  #rest: Buffer = NOTHING;
  #unread: Buffer = NOTHING;

  constructor(peerNonce: string) {
    this.#peerNonce = peerNonce;
  }

  get isMidRecord(): boolean {
    return this.#left > 0 || this.#carry.length > 0;
  }

  /**
   * The record bytes in `chunk`, with what an earlier one left; may be views of `chunk`. After `maxRecords`, and where it will throw,
   * it leaves the rest to `takeUnread`. Throws `peer-restarted` if the peer restarted, and `desync` for other bytes that are not a
   * record or if the current record lost bytes; `takeRest` returns the bytes from there on.
   */
  push(chunk: Buffer, maxRecords = Number.POSITIVE_INFINITY): Buffer[] {
    if (this.#left > chunk.length && isShortRecord(chunk)) {
      throw this.#failure(chunk, chunk.length, 'desync', 'bytes lost within a TLS record');
    }
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    this.#carry = NOTHING;
    const records: Buffer[] = [];
    let from = 0;
    let at = 0;
    let begun = 0;
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
      if (begun === maxRecords) {
        this.#unread = bytes.subarray(at);
        break;
      }
      let next: Judged;
      try {
        next = this.#judge(bytes, at);
      } catch (error) {
        if (at === 0) throw error;
        // First the records before it.
        this.#unread = bytes.subarray(at);
        break;
      }
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
        begun += 1;
        this.#left = next.end - at;
      }
    }
    take(at);
    return records;
  }

  /** After `push`: the bytes it has not examined yet. */
  takeUnread(): Buffer {
    const unread = this.#unread;
    this.#unread = NOTHING;
    return unread;
  }

  /** After `push` threw: the bytes from the failure on. */
  takeRest(): Buffer {
    return this.#rest;
  }

  /** Identifies what begins at `at`, a record or a repeated clear HELLO, and where it ends. */
  #judge(bytes: Buffer, at: number): Judged {
    const type = bytes[at] as number;
    if (type === 0) throw this.#failure(bytes, at, 'peer-restarted', 'the peer restarted: it sent a flush');
    if (type === 0xff) return this.#judgeHello(bytes, at);
    if (bytes.length - at < RECORD_HEADER_BYTES) return 'incomplete';
    const length = bytes.readUInt16BE(at + 3);
    if (type < FIRST_TYPE || type > LAST_TYPE || bytes[at + 1] !== 3 || length === 0 || length > MAX_RECORD_BYTES) {
      throw this.#failure(bytes, at, 'desync', 'not a TLS record');
    }
    return { isClear: false, end: at + RECORD_HEADER_BYTES + length };
  }

  #judgeHello(bytes: Buffer, at: number): Judged {
    const head = bytes.subarray(at, at + MAGIC.length);
    if (!head.equals(MAGIC.subarray(0, head.length))) {
      throw this.#failure(bytes, at, 'desync', 'FF without a magic where a TLS record should begin');
    }
    const found = readHello(bytes, at + MAGIC.length);
    if (found === 'incomplete') return 'incomplete';
    if (found === 'invalid') throw this.#failure(bytes, at, 'desync', 'no valid HELLO after the magic');
    if (this.#hasBegun || found.hello.nonce !== this.#peerNonce) {
      throw this.#failure(bytes, at, 'peer-restarted', 'the peer restarted: it sent another HELLO');
    }
    return { isClear: true, end: found.end };
  }

  #failure(bytes: Buffer, at: number, code: 'peer-restarted' | 'desync', message: string): VproxyError {
    this.#rest = Buffer.from(bytes.subarray(at));
    return new VproxyError(code, message);
  }
}
