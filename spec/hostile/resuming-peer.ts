/** A peer whose sessions can be taken up again, which speaks frame by frame and can break every rule of that. In memory, on a clock moved by hand. */
import { FRAME_TYPE, formatFrameType } from '../../lib/codec/header.js';
import { readHello } from '../../lib/codec/hello.js';
import { HEADER_BYTES } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import { ResumeSecret } from '../../lib/session/resume/secret.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { formatSeen } from '../helpers/frame-log.js';
import { creditPayload, FrameMaker } from '../helpers/frame-maker.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { MemoryPipe, seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';

const LINK_BYTES = 2 ** 26;

/** The side under test, whose channel has any number of links. */
export class TestedSide {
  readonly clock: ManualClock;
  readonly kept: KeptSessions;
  readonly settings: SessionSettings;
  readonly sessions: Session[] = [];
  /** How sessions and openings ended, in the order of that. */
  readonly endings: string[] = [];
  readonly sinks = new Map<number, RecordingSink>();
  readonly streams = new Map<number, SessionStream>();

  constructor(settings: Partial<SessionSettings> = {}, memoryBytes = 1_000_000, clock = new ManualClock()) {
    this.clock = clock;
    this.kept = new KeptSessions(clock, 60_000);
    const resume = { kept: this.kept, memoryBytes };
    this.settings = sessionSettings({ ...seededIdentity('side'), integrity: 'full', resume, ...settings });
  }

  get session(): Session {
    const session = this.sessions.at(-1);
    if (session === undefined) throw new Error('there was no session');
    return session;
  }

  /** The sink of a stream of the peer. */
  sink(id: number): RecordingSink {
    const sink = this.sinks.get(id);
    if (sink === undefined) throw new Error(`stream ${id} was not opened`);
    return sink;
  }

  connect(outbound: MemoryPipe): SessionLoop {
    const loop = new SessionLoop(outbound, this.clock, this.settings);
    loop.on('session', (session) => {
      this.sessions.push(session);
      session.on('end', ({ code }) => this.endings.push(code));
      session.on('stream', (stream) => this.#accept(stream));
      session.start([]);
    });
    loop.on('ended', (session, { code }) => {
      if (!this.sessions.includes(session)) this.endings.push(`opening: ${code}`);
    });
    return loop;
  }

  #accept(stream: SessionStream): void {
    const sink = new RecordingSink();
    stream.attach(sink);
    sink.releases = stream;
    this.streams.set(stream.id, stream);
    this.sinks.set(stream.id, sink);
    stream.accept();
  }
}

/** What the peer has of one session, on whatever links. */
interface PeerSession {
  /** What the side under test has sent, by its offsets. */
  stream: Buffer;
  /** Where the first frame begins that `takeTexts` has not given. */
  readTo: number;
  sentBytes: number;
  /** The number of the next frame that is sent. */
  sequence: number;
  secret: ResumeSecret | null;
}

const newSession = (): PeerSession => ({ stream: Buffer.alloc(0), readTo: 0, sentBytes: 0, sequence: 1, secret: null });

/** Its instance and keys are the same on all links, unless a spec says something else; its stream ids are odd. */
export class ResumingPeer extends FrameMaker {
  readonly side: TestedSide;
  state = newSession();
  loop: SessionLoop;
  outbound = new MemoryPipe(LINK_BYTES);
  /** Why the side under test would have its link closed. */
  abandoned: string[] = [];
  /** What came on the link behind the HELLOs. */
  tail: Buffer = Buffer.alloc(0);
  /** Whether that belongs to `state`, from its beginning or from RESUME on. */
  #isInSession = false;
  /** What should come once more. */
  #again: Buffer = Buffer.alloc(0);
  #raw: Buffer = Buffer.alloc(0);
  #ownPayload: Buffer = Buffer.alloc(0);
  #otherPayload: Buffer = Buffer.alloc(0);
  #otherNonce = '';

  /** `nonceFrom`: of what its nonces are made; those of two peers of one side differ. */
  constructor(side = new TestedSide(), nonceFrom = 0) {
    super({});
    this.side = side;
    for (let index = 0; index < nonceFrom; index += 1) this.renew();
    this.loop = this.#newLoop();
  }

  /** One with an established session, whose first frames are read. */
  static established(side = new TestedSide()): ResumingPeer {
    const peer = new ResumingPeer(side);
    peer.begin();
    peer.takeTexts();
    return peer;
  }

  protected override get readerNonce(): string {
    return this.#otherNonce;
  }

  get id(): string {
    return this.state.secret?.id ?? '';
  }

  /** Begins a session on the link, up to the SECRETs. */
  begin(features: readonly string[] = ['resume']): void {
    this.answer({ features });
    this.state = newSession();
    this.#isInSession = true;
    this.#readSession();
    if (!features.includes('resume')) return;
    const own = Buffer.alloc(32, 's');
    const other = this.state.stream.subarray(HEADER_BYTES, HEADER_BYTES + 32);
    this.sendInSession(FRAME_TYPE.SECRET, own);
    this.state.secret = new ResumeSecret(own, Buffer.from(other));
  }

  /** Opens, and has the side under test established on the link. */
  answer(fields: Readonly<Record<string, unknown>> = {}): void {
    this.loop.start();
    this.pump();
    const hello = this.hello({ ack: this.#otherNonce, ...fields });
    this.#ownPayload = Buffer.from(hello.subarray(32));
    this.deliver(hello);
  }

  /** Loses the link, and has another one. */
  reconnect(): void {
    this.disconnect();
    this.connect();
  }

  disconnect(): void {
    this.pump();
    this.loop.handleClosed(new VproxyError('channel-closed', 'cut'));
  }

  connect(): void {
    this.renew();
    this.outbound = new MemoryPipe(LINK_BYTES);
    this.#raw = Buffer.alloc(0);
    this.tail = Buffer.alloc(0);
    this.#isInSession = false;
    this.loop = this.#newLoop();
  }

  /** The frame RESUME for this link, as the protocol has it but for what is given. */
  resumeFrame({ receivedBytes = this.state.stream.length, secret = this.state.secret } = {}): Buffer {
    const received = creditPayload(receivedBytes);
    const proof = secret?.prove(this.#ownPayload, this.#otherPayload, received) ?? Buffer.alloc(32);
    return this.frame(FRAME_TYPE.RESUME, 0, Buffer.concat([received, proof]));
  }

  /** Names the session in its HELLO; the side under test answers by RESUME where the session has no link. */
  offer(ids: readonly string[] = [this.id]): void {
    this.answer({ features: ['resume', ...ids.map((id) => `resume:${id}`)] });
  }

  /** Goes on with the session on this link, from an offset on, which is all that came unless one is given. Gives what it was told that the other side has. */
  resume(receivedBytes?: number): number {
    this.offer();
    const frame = this.resumeFrame(receivedBytes === undefined ? {} : { receivedBytes });
    if (receivedBytes !== undefined) this.#forget(receivedBytes);
    this.deliver(frame);
    if (this.tail[0] !== FRAME_TYPE.RESUME) throw new Error('no RESUME came');
    const told = Number(this.tail.readBigUInt64BE(HEADER_BYTES));
    this.tail = this.tail.subarray(HEADER_BYTES + 40);
    this.#isInSession = true;
    this.#readSession();
    return told;
  }

  /** Hands bytes to the side under test, and reads what it answers. */
  deliver(bytes: Buffer): void {
    const isKept = this.loop.receive(bytes);
    if (!isKept) bytes.fill(0xee);
    this.pump();
  }

  override write(bytes: Buffer): void {
    this.deliver(bytes);
  }

  /** The next frame of the session; it counts as sent. */
  sessionFrame(type: number, payload: Buffer | object = Buffer.alloc(0), streamId = 0): Buffer {
    this.sequence = this.state.sequence;
    const frame = this.frame(type, streamId, payload);
    this.state.sequence = this.sequence;
    this.state.sentBytes += frame.length;
    return frame;
  }

  sendInSession(type: number, payload?: Buffer | object, streamId = 0): void {
    this.deliver(this.sessionFrame(type, payload, streamId));
  }

  acknowledge(totalBytes = this.state.stream.length): void {
    this.sendInSession(FRAME_TYPE.ACK, creditPayload(totalBytes));
  }

  /** What the frames of the session are that came since, such as `DATA 1 5`. */
  takeTexts(): string[] {
    const texts: string[] = [];
    const { state } = this;
    for (;;) {
      const { stream, readTo } = state;
      if (stream.length < readTo + HEADER_BYTES) return texts;
      const end = readTo + HEADER_BYTES + stream.readUInt32BE(readTo + 8);
      if (stream.length < end) return texts;
      const type = stream[readTo] as number;
      const payload = stream.subarray(readTo + HEADER_BYTES, end);
      texts.push(formatSeen({ type, name: formatFrameType(type), streamId: stream.readUInt32BE(readTo + 4), payload }));
      state.readTo = end;
    }
  }

  /** Reads what the side under test has written. */
  pump(): void {
    for (;;) {
      const { bytes, drained } = this.outbound.take(2 ** 22);
      this.#raw = Buffer.concat([this.#raw, bytes]);
      if (drained) this.loop.handleDrain();
      if (this.outbound.totalBytes === 0 && !drained) break;
    }
    this.#readOpening();
    this.#readSession();
  }

  #newLoop(): SessionLoop {
    const loop = this.side.connect(this.outbound);
    loop.on('abandoned', ({ code }) => this.abandoned.push(code));
    return loop;
  }

  #readOpening(): void {
    let at = 0;
    const raw = this.#raw;
    if (!this.#isInSession && this.tail.length === 0) {
      while (at < raw.length && (raw[at] === 0 || raw[at] === 0xff)) {
        if (raw[at] === 0) {
          at += 1;
          continue;
        }
        const hello = readHello(raw, at + 16);
        if (typeof hello === 'string') throw new Error(`a HELLO that is ${hello}`);
        this.#otherNonce = hello.hello.nonce;
        this.#otherPayload = Buffer.from(hello.payload);
        at = hello.end;
      }
    }
    this.tail = Buffer.concat([this.tail, raw.subarray(at)]);
    this.#raw = Buffer.alloc(0);
  }

  /** Adds what came to the session's bytes; what came again has to be what it was. */
  #readSession(): void {
    if (!this.#isInSession) return;
    const { state, tail } = this;
    const size = Math.min(tail.length, this.#again.length);
    if (!tail.subarray(0, size).equals(this.#again.subarray(0, size))) throw new Error('other bytes came again');
    this.#again = this.#again.subarray(size);
    state.stream = Buffer.concat([state.stream, tail]);
    this.tail = Buffer.alloc(0);
  }

  /** Wants all again that is behind an offset. */
  #forget(receivedBytes: number): void {
    this.#again = this.state.stream.subarray(receivedBytes);
    this.state.stream = this.state.stream.subarray(0, receivedBytes);
    this.state.readTo = Math.min(this.state.readTo, receivedBytes);
  }
}

/** A secret that is nobody's. */
export const wrongSecret = (): ResumeSecret => new ResumeSecret(Buffer.alloc(32, 'x'), Buffer.alloc(32, 'y'));
