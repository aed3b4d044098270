/** What protects a session: a key that both sides have, the proof of it, and a layer under the session (R-AUTH-1 to R-AUTH-3). */

import { createHash, createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { ByteSink } from '../../codec/frame-writer.js';
import { PSK_METHOD } from '../../codec/hello.js';
import { VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';
import type { Agreement } from './agreement.js';

/** Bytes of a key. */
const KEY_BYTES = 32;

/** The text of a key file: 64 hex digits and a newline, which may be missing. */
const KEY_TEXT = /^[0-9a-fA-F]{64}\n?$/;

/** A key that both sides of a channel have (R-AUTH-2). Nothing shows it: it is in no property, and printing the object gives its id. */
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

const CONTEXT = Buffer.from('vproxy-auth-v1');

/** The peer has so long to prove what it has to, in milliseconds. */
export const PROOF_MS = 10_000;

/** What proves in AUTH that both sides have the same key, bound to both HELLOs of the session (R-AUTH-2). */
export class Proof {
  /** What this side sends in AUTH. */
  readonly payload: Buffer;
  readonly keyId: string;
  readonly #expected: Buffer;

  private constructor(key: SecretKey, { selfPayload, peerPayload }: Agreement) {
    this.keyId = key.id;
    this.payload = key.authenticate([CONTEXT, selfPayload, peerPayload]);
    this.#expected = key.authenticate([CONTEXT, peerPayload, selfPayload]);
  }

  /**
   * The proofs that an agreement takes with this side's keys; null where neither side demands one. Throws `auth-failed`
   * where only one side has keys, or they have none in common.
   */
  static of(agreement: Agreement, keys: readonly SecretKey[]): Proof | null {
    if (agreement.self.auth === null && agreement.peer.auth === null) return null;
    return new Proof(commonKey(agreement, keys), agreement);
  }

  /**
   * The proofs by the key of a session that is taken up again; null where it had none, and neither side demands one. Throws
   * `auth-failed` where not both have it, or one is demanded now.
   */
  static again(agreement: Agreement, keys: readonly SecretKey[], keyId: string | null): Proof | null {
    const { self, peer } = agreement;
    if (keyId === null && self.auth === null && peer.auth === null) return null;
    const key = peer.auth?.keys.includes(keyId ?? '') === true ? keys.find(({ id }) => id === keyId) : undefined;
    if (key !== undefined) return new Proof(key, agreement);
    throw failed('the session that is to be taken up again was proved with another key');
  }

  /** Throws `auth-failed` for an AUTH that is not the peer's for this session. */
  verify(payload: Buffer): void {
    if (payload.length === this.#expected.length && timingSafeEqual(payload, this.#expected)) return;
    throw failed(`the peer does not have the key ${this.keyId}`);
  }
}

/** The key that both sides say they have. Throws `auth-failed` where they have none in common. */
export function commonKey({ self, peer, isOdd }: Agreement, keys: readonly SecretKey[]): SecretKey {
  if (self.auth === null) throw failed('the peer demands authentication and this side has no key');
  if (peer.auth === null) throw failed('this side has a key and the peer has none');
  if (peer.auth.method !== PSK_METHOD) {
    throw failed(`the peer demands ${escapeText(peer.auth.method, 64)}, which this side does not know`);
  }
  const [preferred, other] = isOdd ? [self.auth.keys, peer.auth.keys] : [peer.auth.keys, self.auth.keys];
  const id = preferred.find((candidate) => other.includes(candidate));
  const key = keys.find((candidate) => candidate.id === id);
  if (key !== undefined) return key;
  throw failed(`no key in common: ${self.auth.keys.join(', ')} here, ${peer.auth.keys.join(', ')} at the peer`);
}

const failed = (message: string): VproxyError => new VproxyError('auth-failed', message);

/** Protects bytes on their way through a channel, once both sides have agreed to it (R-AUTH-3). */
export interface SecureLayer {
  /** Whether a record has begun and is not whole. */
  readonly isMidRecord: boolean;
  /**
   * Bytes came from the channel, lent for the time of the call. Gives what is left to another turn, as a view of them or of
   * what was kept: `isTurnOver` is asked now and then.
   */
  receive(chunk: Buffer, isTurnOver: () => boolean): Buffer;
  /** The channel has written all that it was given. */
  handleDrain(): void;
  /**
   * Ends it in order: calls back when all that `sink` was given is with the channel, or cannot get there any more, maybe
   * more than once. The handler is not called any more; `handleDrain` still has to be.
   */
  close(onClosed: () => void): void;
  /** Ends it without a word. The handler is not called any more. */
  destroy(): void;
}

/** What a layer calls. */
export interface SecureLayerHandler {
  /** The layer is ready: `sink` takes the bytes that are to be protected. Called at most once, and before `onBytes`. */
  onReady(sink: ByteSink): void;
  /** Bytes that came, and were sent by the peer as they are. True when they were kept. */
  onBytes(bytes: Buffer): boolean;
  /** Everything that `sink` was given has been handed to the channel. */
  onDrain(): void;
  /** It is over, with the bytes of the channel that were not its own; called at most once. */
  onFailed(reason: VproxyError, rest: Buffer): void;
}

/** Makes a layer on a channel, for one session. Throws `auth-failed` or `bad-file` where it cannot. */
export type SecureLayerFactory = (agreement: Agreement, channel: ByteSink, handler: SecureLayerHandler) => SecureLayer;
