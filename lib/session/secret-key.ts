/** A key that both sides of a channel have (R-AUTH-2). */
import { createHash, createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { VproxyError } from '../errors.js';

/** Bytes of a key. */
const KEY_BYTES = 32;

/** The text of a key file: 64 hex digits and a newline, which may be missing. */
const KEY_TEXT = /^[0-9a-fA-F]{64}\n?$/;

/** Holds a key such that nothing shows it: it is in no property, and printing the object gives its id. */
export class SecretKey {
  /** The first 8 hex digits of the key's SHA-256; the peer is told it. */
  readonly id: string;
  readonly #key: KeyObject;

  private constructor(bytes: Buffer) {
    this.id = createHash('sha256').update(bytes).digest('hex').slice(0, 8);
    this.#key = createSecretKey(bytes);
  }

  /** The key in the text of a key file. Throws `bad-file`, without a word of what was there. */
  static parse(text: string): SecretKey {
    if (!KEY_TEXT.test(text)) throw new VproxyError('bad-file', 'a key is 64 hex digits and a newline');
    return SecretKey.fromBytes(Buffer.from(text.trimEnd(), 'hex'));
  }

  /** The key of 32 bytes, which are overwritten. */
  static fromBytes(bytes: Buffer): SecretKey {
    if (bytes.length !== KEY_BYTES) throw new VproxyError('internal', `a key has ${bytes.length} bytes`);
    const key = new SecretKey(bytes);
    bytes.fill(0);
    return key;
  }

  /** HMAC-SHA256 over the parts, each preceded by its length as u32. */
  authenticate(parts: readonly Buffer[]): Buffer {
    const hmac = createHmac('sha256', this.#key);
    for (const part of parts) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      hmac.update(length).update(part);
    }
    return hmac.digest();
  }

  /** The key's bytes for the TLS of the platform, which takes them only so. The caller overwrites them after use. */
  exportBytes(): Buffer {
    return this.#key.export();
  }

  toJSON(): string {
    return `key ${this.id}`;
  }
}
