/** That both sides have the same key, bound to both HELLOs of the session (R-AUTH-2). */
import { timingSafeEqual } from 'node:crypto';
import { PSK_METHOD } from '../codec/hello.js';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { Agreement } from './agreement.js';
import type { SecretKey } from './secret-key.js';

const CONTEXT = Buffer.from('vproxy-auth-v1');

/** The proofs of one session. */
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
   * where only one side has keys, or there is none in common.
   */
  static of(agreement: Agreement, keys: readonly SecretKey[]): Proof | null {
    if (agreement.self.auth === null && agreement.peer.auth === null) return null;
    return new Proof(commonKey(agreement, keys), agreement);
  }

  /** Throws `auth-failed` for an AUTH that is not the peer's for this session. */
  verify(payload: Buffer): void {
    if (payload.length === this.#expected.length && timingSafeEqual(payload, this.#expected)) return;
    throw failed(`the peer does not have the key ${this.keyId}`);
  }
}

/** The key that both sides say they have. Throws `auth-failed` where there is none. */
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
