/** A peer that speaks the protocol frame by frame, by hand, and can break every rule of it. In memory, on a clock moved by hand. */
import { crc32 } from 'node:zlib';
import { headerCheck } from '../../lib/codec/check.js';
import { FRAME_TYPE } from '../../lib/codec/frame-type.js';
import { encodeFrame, nextSequence } from '../../lib/codec/header.js';
import { type Hello, MAGIC } from '../../lib/codec/hello.js';
import { DEFAULT_LIMITS, type Limits } from '../../lib/codec/limits.js';
import type { VproxyError } from '../../lib/errors.js';
import type { Session } from '../../lib/session/session.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import type { SessionStream } from '../../lib/session/session-stream.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { FrameLog, jsonOf, type SeenFrame } from './frame-log.js';
import { ManualClock } from './manual-clock.js';
import { RecordingSink } from './recording-sink.js';
import { MemoryPipe, seededIdentity } from './session-pair.js';

/** Ways in which a frame can be wrong. What is not given is right. */
export interface FrameFaults {
  readonly flags?: number;
  /** The length in the header, whatever the payload is. */
  readonly length?: number;
  readonly sequence?: number;
  readonly crc?: number;
  /** Leaves the header with a wrong check. */
  readonly hasWrongCheck?: boolean;
}

export interface FramePeerOptions {
  /** Whether the side under test asks for checksums. Default true. */
  readonly integrity?: boolean;
  /** What the side under test accepts. */
  readonly limits?: Partial<Limits>;
  /** What this peer says that it accepts. */
  readonly peerLimits?: Partial<Limits>;
  readonly settings?: Partial<SessionSettings>;
  /** Bytes that the channel takes from the side under test before it pushes back. */
  readonly capacityBytes?: number;
  /** Whether this peer's stream ids are odd: its nonces are the greatest there are. Default true. */
  readonly isOdd?: boolean;
  /** What the side under test offers. */
  readonly services?: readonly string[];
}

export class FramePeer {
  readonly clock = new ManualClock();
  readonly outbound: MemoryPipe;
  readonly settings: SessionSettings;
  readonly loop: SessionLoop;
  /** What the side under test wrote. */
  readonly log: FrameLog;
  readonly sessions: Session[] = [];
  readonly endings: VproxyError[] = [];
  /** The streams that this peer opened, as the side under test has them, by id. */
  readonly streams = new Map<number, SessionStream>();
  readonly sinks = new Map<number, RecordingSink>();
  /** While false nothing is taken from the channel. */
  isReading = true;
  /** The sequence number of the next frame. */
  sequence = 1;
  /** What happens to an announced stream whose sink is attached. Default: it is accepted. */
  onStream: (stream: SessionStream) => void = (stream) => stream.accept();
  readonly #integrity: boolean;
  readonly #isOdd: boolean;
  readonly #peerLimits: Limits;
  #attempts = 0;

  constructor(options: FramePeerOptions = {}) {
    const { integrity = true, limits = {}, peerLimits = {}, settings = {}, capacityBytes = 2 ** 24 } = options;
    this.#integrity = integrity;
    this.#isOdd = options.isOdd ?? true;
    this.#peerLimits = { ...DEFAULT_LIMITS, ...peerLimits };
    this.outbound = new MemoryPipe(capacityBytes);
    this.log = new FrameLog(integrity);
    this.settings = sessionSettings({
      ...seededIdentity('side'),
      integrity,
      limits: { ...DEFAULT_LIMITS, ...limits },
      ...settings,
    });
    this.loop = new SessionLoop(this.outbound, this.clock, this.settings);
    this.loop.on('session', (session) => {
      this.sessions.push(session);
      session.on('stream', (stream) => this.#attach(stream));
      session.start(options.services ?? []);
    });
    this.loop.on('ended', (_session, reason) => this.endings.push(reason));
  }

  /** An established peer, with the frames taken out that the side under test begins a session with. */
  static established(options: FramePeerOptions = {}): FramePeer {
    const peer = new FramePeer(options);
    peer.loop.start();
    peer.establish();
    peer.log.take();
    return peer;
  }

  /** The session at the side under test. */
  get session(): Session {
    const { session } = this.loop;
    if (session === null) throw new Error('there is no session');
    return session;
  }

  /** This peer's nonce: another one after every `renew`. */
  get nonce(): string {
    return (this.#isOdd ? 'f' : '0').repeat(28) + this.#attempts.toString(16).padStart(4, '0');
  }

  /** The newest nonce of the side under test. */
  get otherNonce(): string {
    const hello = this.log.hellos.at(-1);
    if (hello === undefined) throw new Error('no HELLO was seen');
    return hello.nonce;
  }

  /** Takes a fresh nonce and begins to count anew, as a process does that was started again. */
  renew(): void {
    this.#attempts += 1;
    this.sequence = 1;
  }

  /** Reads the other side's HELLO and answers it. */
  establish(): void {
    this.pump();
    this.write(this.hello({ ack: this.otherNonce }));
  }

  /** What `hello` says unless told otherwise. */
  get helloFields(): Hello {
    return {
      version: { min: 1, max: 1 },
      nonce: this.nonce,
      ack: null,
      instance: 'abcdef01'.repeat(4),
      agent: 'frame peer',
      name: null,
      limits: this.#peerLimits,
      integrity: this.#integrity,
      auth: null,
      tls: false,
      features: [],
    };
  }

  /** Magic and HELLO; any field may be anything, and undefined leaves it out. */
  hello(fields: Readonly<Record<string, unknown>> = {}): Buffer {
    return this.rawHello(Buffer.from(JSON.stringify({ ...this.helloFields, ...fields })));
  }

  /** Magic and a HELLO frame with these bytes as its payload. */
  rawHello(payload: Buffer): Buffer {
    return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0, true)]);
  }

  /** The next frame, right or wrong, as bytes. It counts as sent. */
  frame(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): Buffer {
    const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
    const sequence = faults.sequence ?? this.sequence;
    const frame = Buffer.alloc(16 + body.length);
    frame[0] = type;
    frame[1] = faults.flags ?? 0;
    frame.writeUInt32BE(streamId, 4);
    frame.writeUInt32BE(faults.length ?? body.length, 8);
    frame.writeUInt32BE(faults.crc ?? (this.#integrity ? crc32(body) : 0), 12);
    frame.writeUInt16BE(headerCheck(frame, 0, sequence) ^ (faults.hasWrongCheck === true ? 0x0100 : 0), 2);
    body.copy(frame, 16);
    this.sequence = nextSequence(sequence);
    return frame;
  }

  /** Sends a frame. */
  send(type: number, streamId: number, payload: Buffer | object = EMPTY, faults: FrameFaults = {}): void {
    this.write(this.frame(type, streamId, payload, faults));
  }

  sendOpen(streamId: number, service = 'echo'): void {
    this.send(FRAME_TYPE.OPEN, streamId, { service });
  }

  sendData(streamId: number, data: Buffer | string): void {
    this.send(FRAME_TYPE.DATA, streamId, Buffer.from(data));
  }

  sendCredit(streamId: number, total: number | bigint): void {
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64BE(BigInt(total));
    this.send(FRAME_TYPE.CREDIT, streamId, payload);
  }

  /** Hands bytes to the side under test, in pieces, and reads what it answers. */
  write(bytes: Buffer, pieceBytes: number = bytes.length): void {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      // As a link does: the buffer is filled anew unless it was kept.
      const piece = Buffer.from(bytes.subarray(at, at + pieceBytes));
      if (!this.loop.receive(piece)) piece.fill(0xee);
    }
    this.pump();
  }

  /** Reads what the side under test has written, until it writes no more. */
  pump(): void {
    while (this.isReading) {
      const { bytes, drained } = this.outbound.take(2 ** 20);
      this.log.push(bytes);
      if (drained) this.loop.handleDrain();
      if (this.outbound.totalBytes === 0 && !drained) return;
    }
  }

  /** Moves the clock on, and reads what the side under test writes meanwhile. */
  advance(ms: number): void {
    this.clock.advance(ms);
    this.pump();
  }

  /** Takes out the frames that came, as texts: `FIN 1`, `REFUSE 3 too-many-streams`, `DATA 1 5` (bytes), `CREDIT 0 4096`. */
  takeTexts(): string[] {
    return this.log.take().map(formatSeen);
  }

  #attach(stream: SessionStream): void {
    const sink = new RecordingSink();
    stream.attach(sink);
    this.streams.set(stream.id, stream);
    this.sinks.set(stream.id, sink);
    this.onStream(stream);
  }
}

/** A frame as a short text. */
export function formatSeen(frame: SeenFrame): string {
  const { type, name, streamId, payload } = frame;
  switch (type) {
    case FRAME_TYPE.DATA:
      return `${name} ${streamId} ${payload.length}`;
    case FRAME_TYPE.CREDIT:
      return `${name} ${streamId} ${payload.readBigUInt64BE()}`;
    case FRAME_TYPE.REFUSE:
    case FRAME_TYPE.STOP:
    case FRAME_TYPE.RESET:
    case FRAME_TYPE.GOAWAY:
      return `${name} ${streamId} ${String(jsonOf(frame)['code'])}`;
    case FRAME_TYPE.OPEN:
      return `${name} ${streamId} ${String(jsonOf(frame)['service'])}`;
    default:
      return `${name} ${streamId}`;
  }
}

const EMPTY = Buffer.alloc(0);
