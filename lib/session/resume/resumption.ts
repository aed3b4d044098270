/**
 * Resuming a session on another link: the two sides authenticate each other, and tell each other how much of what was
 * sent has come (R-RESUME-1 to R-RESUME-4).
 */
import { timingSafeEqual } from 'node:crypto';
import { FrameReader } from '../../codec/frame-reader.js';
import { type ByteSink, FrameWriter } from '../../codec/frame-writer.js';
import { type ControlType, DataCheck, FRAME_TYPE, formatFrameType } from '../../codec/header.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { decodeGoaway, readTotal, requireLength, TOTAL_BYTES, writeTotal } from '../../codec/payloads.js';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { Agreement } from '../opening/agreement.js';
import { PROOF_MS, Proof, type SecretKey } from '../opening/auth.js';
import type { Session } from '../session.js';
import type { KeptSessions, SessionClaim } from './kept-sessions.js';
import type { ResumeSecret } from './secret.js';

/** The length of a total and a proof (R-RESUME-3). */
const RESUME_BYTES = TOTAL_BYTES + 32;

interface ResumptionOptions {
  readonly session: Session;
  /** Reports what happens to the session meanwhile. */
  readonly kept: KeptSessions;
  readonly agreement: Agreement;
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly keys: () => readonly SecretKey[];
  /** Both sides are proved: the peer has received that many bytes, and the session's bytes continue in `takeRest`. */
  readonly onProved: (peerReceivedBytes: number) => void;
  /** The peer's proof is wrong, it violated the protocol, or the session is over. */
  readonly onFailed: (reason: VproxyError) => void;
  /** The session resumed on another link: what the peer was told on this one no longer holds. */
  readonly onDisplaced: () => void;
}

/** The first frames on a link that a session is resumed on: AUTH if required, and RESUME. */
export class Resumption implements SessionClaim {
  readonly #options: ResumptionOptions;
  readonly #writer: FrameWriter;
  readonly #reader: FrameReader;
  readonly #cancelTimeout: CancelTimer;
  readonly #secret: ResumeSecret;
  readonly #release: () => void;
  #proof: Proof | null = null;
  #isPeerTrusted = false;
  #isOver = false;

  constructor(options: ResumptionOptions) {
    const { agreement, sink, clock, session, kept } = options;
    const { integrity, self, peer } = agreement;
    if (session.secret === null) throw new VproxyError('internal', 'a session without a secret cannot be resumed');
    this.#secret = session.secret;
    this.#release = kept.claim(session, this);
    this.#options = options;
    this.#writer = new FrameWriter(sink, new DataCheck(integrity, self.nonce, peer.nonce));
    this.#reader = new FrameReader({
      handler: {
        handleData: () => {
          throw protocolError('DATA before RESUME');
        },
        handleFrame: (type, _streamId, payload) => this.#handleFrame(type, payload),
        handleHello: ({ nonce }) => nonce === peer.nonce || nonce === self.nonce,
      },
      check: new DataCheck(integrity, peer.nonce, self.nonce),
      maxDataBytes: self.limits.frame,
    });
    this.#cancelTimeout = clock.schedule(PROOF_MS, () =>
      this.#fail(new VproxyError('auth-failed', `the peer did not prove its session within ${PROOF_MS / 1000} s`)),
    );
  }

  /** Starts the proofs. `onFailed` may be called within. */
  begin(): void {
    const { agreement, keys, session } = this.#options;
    try {
      this.#proof = Proof.again(agreement, keys(), session.keyId);
    } catch (error) {
      this.#fail(toVproxyError(error));
      return;
    }
    if (this.#proof !== null) this.#send(FRAME_TYPE.AUTH, this.#proof.payload);
    if (this.#proof === null) this.#trustPeer();
  }

  /** Takes bytes from the channel. */
  receive(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(toVproxyError(error));
    }
  }

  /** After `onProved` or `onFailed`: the bytes after the peer's RESUME, or from the wrong frame on. */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** Abandons the resumption. */
  stop(): void {
    this.#isOver = true;
    this.#reader.stop();
    this.#cancelTimeout();
    this.#release();
  }

  handleSuspended(): void {
    if (this.#isPeerTrusted) this.#sendResume();
  }

  handleDisplaced(): void {
    this.stop();
    this.#options.onDisplaced();
  }

  handleEnded({ code, message }: VproxyError): void {
    this.#fail(new VproxyError(code, `the session to resume has ended: ${message}`));
  }

  /** A session that still has another link gives that up only now that the peer has proved its key, too. */
  #trustPeer(): void {
    this.#isPeerTrusted = true;
    if (this.#options.session.isSuspended) this.#sendResume();
  }

  #handleFrame(type: ControlType, payload: Buffer): void {
    const { session } = this.#options;
    if (type === FRAME_TYPE.AUTH && !this.#isPeerTrusted && this.#proof !== null) {
      this.#proof.verify(payload);
      this.#trustPeer();
      return;
    }
    if (type === FRAME_TYPE.GOAWAY) {
      const { code, message } = decodeGoaway(payload);
      throw new VproxyError(code, message);
    }
    if (type !== FRAME_TYPE.RESUME || !this.#isPeerTrusted)
      throw protocolError(`${formatFrameType(type)} while a session is resumed`);
    const received = this.#verify(requireLength(type, payload, RESUME_BYTES));
    // RESUME has been sent by now.
    session.suspend();
    // An earlier listener may have ended the session.
    if (this.#isOver) return;
    this.stop();
    this.#options.onProved(received);
  }

  /** Returns how much the peer has received. Throws `auth-failed` if the proof is wrong. */
  #verify(payload: Buffer): number {
    const { agreement } = this.#options;
    const received = payload.subarray(0, TOTAL_BYTES);
    const expected = this.#secret.prove(agreement.peerPayload, agreement.selfPayload, received);
    if (!timingSafeEqual(payload.subarray(TOTAL_BYTES), expected))
      throw new VproxyError('auth-failed', 'the peer does not have the session that it named');
    return readTotal(received);
  }

  #sendResume(): void {
    const { session, agreement } = this.#options;
    const received = Buffer.alloc(TOTAL_BYTES);
    writeTotal(received, 0, session.receivedBytes);
    const proof = this.#secret.prove(agreement.selfPayload, agreement.peerPayload, received);
    this.#send(FRAME_TYPE.RESUME, Buffer.concat([received, proof]));
  }

  #send(type: ControlType, payload: Buffer): void {
    const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
    this.#writer.put(frame, 0, type, 0, payload);
    this.#options.sink.write(frame);
  }

  #fail(reason: VproxyError): void {
    if (this.#isOver) return;
    this.stop();
    this.#options.onFailed(reason);
  }
}
