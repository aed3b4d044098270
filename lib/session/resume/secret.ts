/** The secret of a resumable session: names it in a HELLO, and proves that a side has it (R-RESUME-1, R-RESUME-3). */
import { createHash } from 'node:crypto';
import { SecretKey } from '../opening/auth.js';

/** Bytes that each side contributes to the secret of a session (R-RESUME-1). */
export const SECRET_BYTES = 32;

const ID_CONTEXT = Buffer.from('vproxy-resume-id');
const PROOF_CONTEXT = Buffer.from('vproxy-resume-v1');

/** A secret known only to the two sides of a session: two parts, one sent by each. */
export class ResumeSecret {
  /** The session's id in HELLO: 16 hex digits, which reveal nothing of the secret. */
  readonly id: string;
  readonly #key: SecretKey;

  private constructor(key: SecretKey) {
    this.#key = key;
    this.id = key.authenticate([ID_CONTEXT]).toString('hex', 0, 8);
  }

  /** `oddPart` comes from the side with odd stream ids. */
  static of(oddPart: Buffer, evenPart: Buffer): ResumeSecret {
    return ResumeSecret.restore(createHash('sha256').update(oddPart).update(evenPart).digest());
  }

  /** Restores a secret from its {@link export}; the bytes are overwritten. */
  static restore(bytes: Buffer): ResumeSecret {
    return new ResumeSecret(SecretKey.fromBytes(bytes));
  }

  /** The bytes for `restore`: whoever has them, has the session. The caller overwrites them after use. */
  export(): Buffer {
    return this.#key.exportBytes();
  }

  /** The proof by the sender of `senderHello` that it has the secret, and has received that many bytes. */
  prove(senderHello: Buffer, receiverHello: Buffer, received: Buffer): Buffer {
    return this.#key.authenticate([PROOF_CONTEXT, senderHello, receiverHello, received]);
  }
}
