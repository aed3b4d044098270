/** The secret of a session that can be taken up again: what names it in a HELLO, and proves that a side has it (R-RESUME-1, R-RESUME-3). */
import { createHash } from 'node:crypto';
import { SecretKey } from '../opening/auth.js';

/** Bytes that each side gives to the secret of a session (R-RESUME-1). */
export const SECRET_BYTES = 32;

const ID_CONTEXT = Buffer.from('vproxy-resume-id');
const PROOF_CONTEXT = Buffer.from('vproxy-resume-v1');

/** What both sides of a session know, and nobody else: two parts, of which each side sent one. */
export class ResumeSecret {
  /** What HELLO calls the session: 16 hex digits, which tell nothing of the secret. */
  readonly id: string;
  readonly #key: SecretKey;

  private constructor(key: SecretKey) {
    this.#key = key;
    this.id = key.authenticate([ID_CONTEXT]).toString('hex', 0, 8);
  }

  /** `oddPart` is that of the side with odd stream ids. */
  static of(oddPart: Buffer, evenPart: Buffer): ResumeSecret {
    return ResumeSecret.restore(createHash('sha256').update(oddPart).update(evenPart).digest());
  }

  /** The secret whose {@link export} this is; the bytes are overwritten. */
  static restore(bytes: Buffer): ResumeSecret {
    return new ResumeSecret(SecretKey.fromBytes(bytes));
  }

  /** What it is made of, for `restore`: whoever has it, has the session. The caller overwrites it after use. */
  export(): Buffer {
    return this.#key.exportBytes();
  }

  /** The proof by the sender of `senderHello` that it has the secret, and has received so many bytes. */
  prove(senderHello: Buffer, receiverHello: Buffer, received: Buffer): Buffer {
    return this.#key.authenticate([PROOF_CONTEXT, senderHello, receiverHello, received]);
  }
}
