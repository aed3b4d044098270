/** A peer that writes frames by hand, loses channels, and resumes its session, written from the text of docs/protocol.md alone. */
import { createHash } from 'node:crypto';
import { creditPayload, framesOf, hmacOf } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import type { Session } from '../../lib/session/session.js';
import type { FairBudget } from '../../lib/util/bounds.js';
import { FramePeer, type FramePeerOptions } from './frame-peer.js';
import { seededIdentity } from './session-pair.js';
import { ManualClock } from './time.js';

export interface ResumingPeerOptions extends FramePeerOptions {
  /** How long a session of the side under test waits, in milliseconds. Default 60,000. */
  readonly resumeMs?: number;
  /** How much it keeps before DATA waits, in bytes. Default 1,000,000. */
  readonly memoryBytes?: number;
  /** The state that it shares with other sides. Default: its own. */
  readonly budget?: FairBudget;
}

/** A channel, and the payloads of the HELLOs that established it. */
export interface Channel {
  readonly link: FramePeer;
  readonly own: Buffer;
  readonly other: Buffer;
}

export interface SaidAgain {
  /** Additions to its HELLO, or replacements. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** How much of the session it has received, in bytes; the output of the side under test is read from there. Default: all. */
  readonly hasBytes?: number;
}

/** The peer, and the side under test, which has one channel after another. */
export class ResumingPeer {
  readonly clock = new ManualClock();
  readonly kept: KeptSessions;
  /** The sessions of the side under test, and the codes that they ended with. */
  readonly sessions: Session[] = [];
  readonly endings: string[] = [];
  /** Like `endings`, plus openings without a new or resumed session: `opening: CODE`; in order. */
  readonly allEndings: string[] = [];
  /** The reasons for which the side under test gave up a channel. */
  readonly abandoned: string[] = [];
  channel: Channel;
  sent: Buffer = Buffer.alloc(0);
  readonly part = Buffer.alloc(32, 0x5a);
  key: Buffer = Buffer.alloc(0);
  id = '';
  readonly #options: FramePeerOptions;
  #count = 0;
  /** The frames of the session on earlier channels. */
  #earlier: Buffer[] = [];
  /** How much of the session the peer claims to have received on the newest channel. */
  #hasBytes = 0;
  /** Bytes received after that on earlier channels: they must come again unchanged. */
  #again: Buffer = Buffer.alloc(0);

  /** `fields` are those of the first HELLO. The session begins with them, and with a SECRET if that is agreed on. */
  constructor(options: ResumingPeerOptions = {}, fields: Readonly<Record<string, unknown>> = { features: ['resume'] }) {
    const { resumeMs = 60_000, memoryBytes = 1_000_000, budget, settings = {}, ...others } = options;
    this.kept = new KeptSessions(this.clock, resumeMs);
    this.kept.onEnded = (session, reason) => this.#noteEnd(session, reason);
    const resume = { kept: this.kept, memoryBytes, ...(budget && { budget }) };
    this.#options = { ...others, clock: this.clock, settings: { ...seededIdentity('side'), resume, ...settings } };
    this.channel = this.connect({ fields });
  }

  get link(): FramePeer {
    return this.channel.link;
  }

  get session(): Session {
    const session = this.sessions.at(-1);
    if (session === undefined) throw new Error('there was no session');
    return session;
  }

  get received(): Buffer {
    return Buffer.concat(this.#received());
  }

  get receivedFrames(): number {
    return this.#received().length;
  }

  /** A session in which both sides have both SECRETs; nothing else was checked. */
  static resumable(options: ResumingPeerOptions = {}): ResumingPeer {
    const peer = new ResumingPeer(options);
    peer.giveSecret();
    peer.link.log.take();
    return peer;
  }

  /** Another channel, on which both sides are established with these HELLOs; the previous one is left alone. */
  connect({ fields = { features: ['resume', `resume:${this.id}`] }, hasBytes }: SaidAgain = {}): Channel {
    const frames = this.#received();
    const link = new FramePeer(this.#options);
    for (let count = 0; count < this.#count; count += 1) link.renew();
    this.#count += 1;
    link.loop.on('session', (session) => this.sessions.push(session));
    link.loop.on('ended', (session, reason) => this.#noteEnd(session, reason));
    link.loop.on('abandoned', ({ code }) => this.abandoned.push(code));
    link.log.counted = [];
    this.#hasBytes = hasBytes ?? Buffer.concat(frames).length;
    if (frames.length > 0) this.#expect(link, frames);
    link.loop.start();
    link.pump();
    const own = Buffer.from(JSON.stringify({ ...link.helloFields, ack: link.otherNonce, ...fields }));
    link.write(link.rawHello(own));
    this.channel = { link, own, other: link.log.helloPayload };
    return this.channel;
  }

  #noteEnd(session: Session, { code }: VproxyError): void {
    const isKnown = this.sessions.includes(session);
    this.allEndings.push(isKnown ? code : `opening: ${code}`);
    if (isKnown) this.endings.push(code);
  }

  /** Sends its part of the secret; the side under test has sent its own. */
  giveSecret(): void {
    const secret = this.link.log.frames.find(({ type }) => type === FRAME_TYPE.SECRET);
    if (secret === undefined) throw new Error('no SECRET came');
    const isOdd = this.link.nonce > this.link.otherNonce;
    const parts = isOdd ? [this.part, secret.payload] : [secret.payload, this.part];
    this.key = createHash('sha256').update(Buffer.concat(parts)).digest();
    this.id = hmacOf(this.key, [Buffer.from('vproxy-resume-id')]).toString('hex', 0, 8);
    this.send(FRAME_TYPE.SECRET, 0, this.part);
  }

  send(...frame: Parameters<FramePeer['frame']>): void {
    this.write(this.link.frame(...frame));
  }

  say(frames: string): void {
    for (const frame of framesOf(frames)) this.send(...frame);
  }

  write(bytes: Buffer): void {
    this.sent = Buffer.concat([this.sent, bytes]);
    this.link.write(bytes);
  }

  /** Loses the channel, with everything in flight; returns the sequence number that the peer was at. */
  lose(channel: Channel = this.channel): number {
    channel.link.loop.handleClosed(new VproxyError('channel-closed', 'the channel is lost'));
    return channel.link.sequence;
  }

  /** The payload of the peer's RESUME on a channel. */
  resumePayload(
    total: number | bigint = this.#hasBytes,
    { own, other }: Channel = this.channel,
    key: Buffer = this.key,
  ): Buffer {
    const received = creditPayload(total);
    return Buffer.concat([received, hmacOf(key, [Buffer.from('vproxy-resume-v1'), own, other, received])]);
  }

  /** Loses the channel and resumes the session on another one, without faults. */
  resume(again: SaidAgain = {}): void {
    const sequence = this.lose();
    this.connect(again);
    this.goOn(sequence);
  }

  /** On an established channel: proves that it has the session, and continues with what the side under test has not received. */
  goOn(sequence: number): void {
    const { link } = this;
    link.send(FRAME_TYPE.RESUME, 0, this.resumePayload());
    link.sequence = sequence;
    link.write(this.sent.subarray(this.totalOf(link)));
    this.#received();
  }

  /** How much the side under test claims in its RESUME to have received. */
  totalOf(link: FramePeer): number {
    const resume = link.log.frames.find(({ type }) => type === FRAME_TYPE.RESUME);
    if (resume === undefined) throw new Error('no RESUME came');
    return Number(resume.payload.readBigUInt64BE());
  }

  /** Throws if bytes written again differ from those that came before. */
  #received(): Buffer[] {
    if (this.#count === 0) return [];
    // Bytes on a channel without a resumed session belong to none, or to another.
    const { counted, behindResume } = this.link.log;
    const frames = behindResume === null ? [...this.#earlier, ...(counted ?? [])] : this.#earlier;
    const again = Buffer.concat(frames).subarray(this.#hasBytes, this.#hasBytes + this.#again.length);
    if (!again.equals(this.#again.subarray(0, again.length))) throw new Error('other bytes came again');
    return frames;
  }

  /** Where the output of the side under test after its RESUME begins, in bytes. */
  #expect(link: FramePeer, frames: readonly Buffer[]): void {
    let bytes = 0;
    const whole = frames.findIndex((frame) => (bytes += frame.length) > this.#hasBytes);
    const kept = whole === -1 ? frames : frames.slice(0, whole);
    const all = Buffer.concat(frames);
    const begun = all.subarray(Buffer.concat(kept).length, this.#hasBytes);
    this.#again = all.subarray(this.#hasBytes);
    this.#earlier = [...kept];
    link.log.behindResume = { sequence: kept.length + 1, begun };
  }
}
