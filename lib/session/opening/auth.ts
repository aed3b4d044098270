/** The protection of a session: a shared key, its proof, and a layer under the session (R-AUTH-1 to R-AUTH-3). */

import { createHash, createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { ByteSink } from '../../codec/frame-writer.js';
import { PSK_METHOD } from '../../codec/hello.js';
import { VproxyError } from '../../errors.js';
import { REMEDIES } from '../../remedies.js';
import { escapeText } from '../../util/escape.js';
import type { Agreement } from './agreement.js';

const KEY_BYTES = 32;

/** The text of a key file: 64 hex digits and an optional newline. */
const KEY_TEXT = /^[0-9a-fA-F]{64}\n?$/;

/** A key shared by both sides of a channel (R-AUTH-2). No property holds it, and printing the object gives its id. */
export class SecretKey {
  /** The first 8 hex digits of the key's SHA-256, sent to the peer. */
  readonly id: string;
  readonly #key: KeyObject;

  private constructor(bytes: Buffer) {
    this.id = createHash('sha256').update(bytes).digest('hex').slice(0, 8);
    this.#key = createSecretKey(bytes);
  }

  /** Parses the text of a key file. Throws `bad-file`, without quoting any of the text. */
  static parse(text: string): SecretKey {
    if (!KEY_TEXT.test(text)) {
      const what = `not a key: ${text.length} bytes instead of 64 hex digits and a newline`;
      throw new VproxyError('bad-file', `${what}; ${REMEDIES['key-file']['bad-file']}`);
    }
    return SecretKey.fromBytes(Buffer.from(text.trimEnd(), 'hex'));
  }

  /** Makes a key of 32 bytes, which are overwritten. */
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

  /** The key's bytes, because the TLS of the platform takes nothing else. The caller overwrites them after use. */
  exportBytes(): Buffer {
    return this.#key.export();
  }

  toJSON(): string {
    return `key ${this.id}`;
  }
}

const CONTEXT = Buffer.from('vproxy-auth-v1');

/** Time limit for the peer's proofs, in milliseconds. */
export const PROOF_MS = 10_000;

/** The AUTH frames that prove that both sides have the same key, bound to both HELLOs of the session (R-AUTH-2). */
export class Proof {
  /** The payload of this side's AUTH. */
  readonly payload: Buffer;
  readonly keyId: string;
  readonly #expected: Buffer;

  private constructor(key: SecretKey, { selfPayload, peerPayload }: Agreement) {
    this.keyId = key.id;
    this.payload = key.authenticate([CONTEXT, selfPayload, peerPayload]);
    this.#expected = key.authenticate([CONTEXT, peerPayload, selfPayload]);
  }

  /**
   * The proofs required by an agreement with this side's keys; null if neither side requires one. Throws `auth-failed`
   * if only one side has keys, or they have none in common.
   */
  static of(agreement: Agreement, keys: readonly SecretKey[]): Proof | null {
    if (isOpen(agreement, keys)) return null;
    return new Proof(commonKey(agreement, keys), agreement);
  }

  /**
   * The proofs with the key of a session being resumed; null if it had none, and neither side requires one. Throws
   * `auth-failed` if one side lacks that key, or if one is required only now.
   */
  static again(agreement: Agreement, keys: readonly SecretKey[], keyId: string | null): Proof | null {
    const { peer } = agreement;
    if (keyId === null && isOpen(agreement, keys)) return null;
    const key = peer.auth?.keys.includes(keyId ?? '') === true ? keys.find(({ id }) => id === keyId) : undefined;
    if (key !== undefined) return new Proof(key, agreement);
    throw failed('the session to resume was proved with another key');
  }

  /** Throws `auth-failed` unless AUTH is the peer's for this session. */
  verify(payload: Buffer): void {
    if (payload.length === this.#expected.length && timingSafeEqual(payload, this.#expected)) return;
    throw failed(`the peer does not have the key ${this.keyId}`);
  }
}

/** Whether neither side requires a proof. Throws `auth-failed` if this side got a key only after its HELLO. */
function isOpen({ self, peer }: Agreement, keys: readonly SecretKey[]): boolean {
  if (self.auth === null && keys.length > 0) throw failed('this side got a key while the channel was being opened');
  return self.auth === null && peer.auth === null;
}

/** The key that both sides claim to have. Throws `auth-failed` if they have none in common. */
export function commonKey({ self, peer, isOdd }: Agreement, keys: readonly SecretKey[]): SecretKey {
  if (self.auth === null) throw failed('the peer requires authentication, but this side has no key');
  if (peer.auth === null) throw failed('this side has a key, but the peer has none');
  if (peer.auth.method !== PSK_METHOD) {
    throw failed(`the peer requires ${escapeText(peer.auth.method, 64)}, which this side does not support`);
  }
  const [preferred, other] = isOdd ? [self.auth.keys, peer.auth.keys] : [peer.auth.keys, self.auth.keys];
  const id = preferred.find((candidate) => other.includes(candidate));
  const key = keys.find((candidate) => candidate.id === id);
  if (key !== undefined) return key;
  throw failed(`no key in common: ${self.auth.keys.join(', ')} here, ${peer.auth.keys.join(', ')} at the peer`);
}

const failed = (message: string): VproxyError => new VproxyError('auth-failed', message);

/** Protects bytes on their way through a channel, if both sides have agreed to it (R-AUTH-3). */
export interface SecureLayer {
  readonly isMidRecord: boolean;
  /** Whether the peer may refuse this side without a word: its certificate. */
  readonly canBeRefused: boolean;
  /**
   * Takes bytes from the channel, lent for the duration of the call. Returns what is left to another turn, as a view of them or
   * of what was kept; `isTurnOver` is asked now and then.
   */
  receive(chunk: Buffer, isTurnOver: () => boolean): Buffer;
  /** The channel has written everything it was given. */
  handleDrain(): void;
  /**
   * Ends it in order: calls back when everything given to `sink` is with the channel, or can no longer get there, maybe
   * more than once. The handler is no longer called; `handleDrain` is still required.
   */
  close(onClosed: () => void): void;
  /** Ends it without informing the peer. The handler is no longer called. */
  destroy(): void;
}

export interface SecureLayerHandler {
  /** The layer is ready: `sink` takes the bytes to protect. Called at most once, before `onBytes`. */
  onReady(sink: ByteSink): void;
  /** Bytes as the peer sent them into its layer. Returns true if they were kept. */
  onBytes(bytes: Buffer): boolean;
  /** Everything given to `sink` has been handed to the channel. */
  onDrain(): void;
  /** The layer is over; `rest` has the bytes of the channel that were not its own. Called at most once. */
  onFailed(reason: VproxyError, rest: Buffer): void;
}

/** Makes a layer on a channel, for one session. Throws `auth-failed` or `bad-file` if that is impossible. */
export type SecureLayerFactory = (agreement: Agreement, channel: ByteSink, handler: SecureLayerHandler) => SecureLayer;
