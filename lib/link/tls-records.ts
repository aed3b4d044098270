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

/** How a record of application_data begins: its type, and the version that TLS 1.3 says. */
const DATA_RECORD = 0x170303;

const NOTHING = Buffer.alloc(0);

/** More than a PING in a record has. */
const SHORT_BYTES = 64;

/**
 * Whether bytes are just one short record of data, as a PING is (R-LIVE-4). Bytes within a record look so by chance once in
 * 2 ** 40 times.
 */
function isShortRecord(bytes: Buffer): boolean {
  const bodyBytes = bytes.length - RECORD_HEADER_BYTES;
  const isShort = bodyBytes > 0 && bodyBytes <= SHORT_BYTES;
  return isShort && bytes.readUIntBE(0, 3) === DATA_RECORD && bytes.readUInt16BE(3) === bodyBytes;
}

/** Cuts off what is no record. */
export class TlsRecords {
  /** The nonce of the clear HELLO that the peer may repeat before its first record. */
  readonly #peerNonce: string;
  #hasBegun = false;
  /** Of the record at hand. */
  #left = 0;
  /** A header, or a clear HELLO, that is not complete. */
  #carry: Buffer = NOTHING;
  #rest: Buffer = NOTHING;
  #unread: Buffer = NOTHING;

  constructor(peerNonce: string) {
    this.#peerNonce = peerNonce;
  }

  /** Whether a record has begun and is not whole. */
  get isMidRecord(): boolean {
    return this.#left > 0 || this.#carry.length > 0;
  }

  /**
   * The bytes of records in `chunk`, with what an earlier one left; maybe views of `chunk`. Behind `maxRecords` it leaves the
   * rest to `takeUnread`. Throws `peer-restarted` where the peer begins again, and `desync` for what is neither, and where the
   * record at hand lost bytes; `takeRest` gives the bytes from there on.
   */
  push(chunk: Buffer, maxRecords = Number.POSITIVE_INFINITY): Buffer[] {
    if (this.#left > chunk.length && isShortRecord(chunk)) {
      throw this.#failure(chunk, chunk.length, 'desync', 'a record of TLS lacks bytes that were lost');
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
        begun += 1;
        this.#left = next.end - at;
      }
    }
    take(at);
    return records;
  }

  /** After `push`: what it has not looked at yet. */
  takeUnread(): Buffer {
    const unread = this.#unread;
    this.#unread = NOTHING;
    return unread;
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
