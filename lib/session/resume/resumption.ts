/**
 * Taking a session up again on another link: what makes the two sides sure of each other, and tells each how much of what
 * it sent has come (R-RESUME-1 to R-RESUME-4).
 */
import { timingSafeEqual } from 'node:crypto';
import { FrameReader } from '../../codec/frame-reader.js';
import { type ByteSink, FrameWriter } from '../../codec/frame-writer.js';
import { DataCheck, FRAME_TYPE, formatFrameType } from '../../codec/header.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { decodeGoaway, readTotal, requireLength, TOTAL_BYTES, writeTotal } from '../../codec/payloads.js';
import { toVproxyError, VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { Agreement } from '../opening/agreement.js';
import { PROOF_MS, Proof, type SecretKey } from '../opening/auth.js';
import type { Session } from '../session.js';
import type { KeptSessions, SessionClaim } from './kept-sessions.js';
import type { ResumeSecret } from './secret.js';

/** A total and a proof (R-RESUME-3). */
const RESUME_BYTES = TOTAL_BYTES + 32;

interface ResumptionOptions {
  /** What is taken up again. */
  readonly session: Session;
  /** Tells what becomes of it meanwhile. */
  readonly kept: KeptSessions;
  readonly agreement: Agreement;
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly keys: () => readonly SecretKey[];
  /** Both sides are sure: the peer has received so many bytes, and the session's go on behind `takeRest`. */
  readonly onProved: (peerReceivedBytes: number) => void;
  /** The peer is not who it says, or said something else, or the session is over. */
  readonly onFailed: (reason: VproxyError) => void;
  /** The session goes on with another link: what the peer was told on this one is not true any more. */
  readonly onDisplaced: () => void;
}

/** The first frames on a link that a session is taken up on: AUTH where it is demanded, and RESUME. */
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
    if (session.secret === null) throw new VproxyError('internal', 'a session that has no secret is taken up again');
    this.#secret = session.secret;
    this.#release = kept.claim(session, this);
    this.#options = options;
    this.#writer = new FrameWriter(sink, new DataCheck(integrity, self.nonce, peer.nonce));
    this.#reader = new FrameReader({
      handler: {
        handleData: () => {
          throw new VproxyError('protocol-error', 'DATA before RESUME');
        },
        handleFrame: (type, _streamId, payload) => this.#handleFrame(type, payload),
        handleHello: ({ nonce }) => nonce === peer.nonce || nonce === self.nonce,
      },
      check: new DataCheck(integrity, peer.nonce, self.nonce),
      maxDataBytes: self.limits.frame,
    });
    this.#cancelTimeout = clock.schedule(PROOF_MS, () =>
      this.#fail(new VproxyError('auth-failed', `the peer gave no proof of its session within ${PROOF_MS / 1000} s`)),
    );
  }

  /** Begins to prove. `onFailed` may be called within. */
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

  /** Bytes came from the channel. */
  receive(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(toVproxyError(error));
    }
  }

  /** After `onProved`, or `onFailed`: the bytes behind the peer's RESUME, or from the frame on that was wrong. */
  takeRest(): Buffer {
    return this.#reader.takeRest();
  }

  /** Gives it up. */
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
    this.#fail(new VproxyError(code, `the session that is to be taken up again is over: ${message}`));
  }

  /** Whoever still has the session on another link gives that up only when the peer has proved that it has it, too. */
  #trustPeer(): void {
    this.#isPeerTrusted = true;
    if (this.#options.session.isSuspended) this.#sendResume();
  }

  #handleFrame(type: number, payload: Buffer): void {
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
      throw new VproxyError('protocol-error', `${formatFrameType(type)} where a session is taken up again`);
    const received = this.#verify(requireLength(type, payload, RESUME_BYTES));
    // RESUME is sent by then.
    session.suspend();
    // Whoever heard of that may have ended it.
    if (this.#isOver) return;
    this.stop();
    this.#options.onProved(received);
  }

  /** What the peer has received. Throws `auth-failed` for a proof that is not its own. */
  #verify(payload: Buffer): number {
    const { agreement } = this.#options;
    const received = payload.subarray(0, TOTAL_BYTES);
    const expected = this.#secret.prove(agreement.peerPayload, agreement.selfPayload, received);
    if (!timingSafeEqual(payload.subarray(TOTAL_BYTES), expected))
      throw new VproxyError('auth-failed', 'the peer does not have the session that it says it had');
    return readTotal(received);
  }

  #sendResume(): void {
    const { session, agreement } = this.#options;
    const received = Buffer.alloc(TOTAL_BYTES);
    writeTotal(received, 0, session.receivedBytes);
    const proof = this.#secret.prove(agreement.selfPayload, agreement.peerPayload, received);
    this.#send(FRAME_TYPE.RESUME, Buffer.concat([received, proof]));
  }

  #send(type: number, payload: Buffer): void {
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
