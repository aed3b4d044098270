/** A peer that writes the protocol by hand, over a real socket to a real process, and can break its every rule. */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { FrameLog, formatSeen, jsonOf, type SeenFrame } from '../../conformance/frame-log.js';
import { FrameMaker, type FrameMakerOptions } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { eventually } from './time.js';

export interface FloodBounds {
  readonly bytes: number;
  readonly ms: number;
}

export interface SocketPeerOptions extends FrameMakerOptions {
  /** How late it answers PINGs, in milliseconds; null: never. Default 0. */
  readonly pongDelayMs?: number | null;
}

/** How long anything may take on a busy machine. */
const LIMIT_MS = 30_000;

/** The flush of a side whose frames have the usual size (R-OPEN-1). */
const FLUSH = Buffer.alloc(131_088);

/** The number of frames kept; older ones are dropped. */
const MAX_KEPT_FRAMES = 4096;

/** One connection to a channel on which the process under test listens. */
export class SocketPeer extends FrameMaker {
  readonly socket: net.Socket;
  /** The output of the process. It must be right, whatever this peer does: `fault` has the first error. */
  readonly log: FrameLog;
  fault: Error | null = null;
  onFrame: (frame: SeenFrame) => void = () => undefined;
  highestId = -1;
  readonly #pongDelayMs: number | null;

  constructor(address: net.NetConnectOpts, options: SocketPeerOptions = {}) {
    super(options);
    this.#pongDelayMs = options.pongDelayMs === undefined ? 0 : options.pongDelayMs;
    this.log = new FrameLog(options.integrity ?? 'full', () => this.nonce);
    this.socket = net.connect(address);
    this.socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.socket.on('error', () => undefined);
  }

  static async established(path: string, options: SocketPeerOptions = {}): Promise<SocketPeer> {
    const peer = new SocketPeer({ path }, options);
    await once(peer.socket, 'connect');
    await peer.establish();
    return peer;
  }

  override write(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  override frame(...parameters: Parameters<FrameMaker['frame']>): Buffer {
    const [type, streamId] = parameters;
    if (type === FRAME_TYPE.OPEN) this.highestId = Math.max(this.highestId, streamId);
    return super.frame(...parameters);
  }

  override renew(): void {
    super.renew();
    this.highestId = -1;
  }

  get isClosed(): boolean {
    return this.socket.destroyed;
  }

  close(): void {
    this.socket.destroy();
  }

  set isReading(isReading: boolean) {
    if (isReading) this.socket.resume();
    else this.socket.pause();
  }

  /**
   * Begins like a process, with a flush, and answers HELLOs until the process has sent SERVICES, its first frame. `fields` of the
   * HELLO may be anything.
   */
  async establish(fields: Readonly<Record<string, unknown>> = {}): Promise<void> {
    this.log.take();
    let answered = '';
    this.write(FLUSH);
    const isEstablished = (): boolean => {
      const nonce = this.readerNonce;
      if (nonce !== answered) this.write(this.hello({ ack: nonce, ...fields }));
      answered = nonce;
      return this.log.frames.some(({ type }) => type === FRAME_TYPE.SERVICES);
    };
    await eventually(isEstablished, { timeoutMs: LIMIT_MS, intervalMs: 2, what: 'a session' });
    this.log.take();
  }

  async otherNonce(): Promise<string> {
    return eventually(() => this.log.hellos.at(-1)?.nonce, { intervalMs: 2, what: 'a HELLO' });
  }

  /** The first frame, past or future, whose short text (`formatSeen`) matches. */
  async seen(pattern: RegExp, timeoutMs = LIMIT_MS): Promise<SeenFrame> {
    const what = `a frame like ${String(pattern)} among ${this.texts().slice(-20).join(', ')}`;
    const find = () => this.log.frames.find((frame) => pattern.test(formatSeen(frame)));
    return eventually(find, { timeoutMs, intervalMs: 2, what });
  }

  texts(): string[] {
    return this.log.frames.map(formatSeen);
  }

  goawayCodes(): unknown[] {
    return this.log.frames.filter(({ type }) => type === FRAME_TYPE.GOAWAY).map((frame) => jsonOf(frame)['code']);
  }

  /** Waits until the system has taken all writes, or the connection is closed. */
  async drain(timeoutMs = LIMIT_MS): Promise<void> {
    const isDone = () => this.socket.writableLength === 0 || this.isClosed;
    if (!isDone()) await eventually(isDone, { timeoutMs, intervalMs: 1, what: 'the end of a writing' });
  }

  /**
   * Writes what `next` returns, repeatedly, as fast as it is taken, until a limit is reached. At the end it waits until the
   * system has taken the bytes, if the process still reads, so that they are really read.
   */
  async flood(next: () => Buffer, { bytes, ms }: FloodBounds): Promise<void> {
    const startedAt = performance.now();
    let written = 0;
    while (written < bytes && performance.now() - startedAt < ms && !this.isClosed) {
      const batch = next();
      written += batch.length;
      if (!this.socket.write(batch)) await this.#drained(startedAt + ms);
      // Reading gets its turn between two writes.
      else await setImmediate();
    }
  }

  /** Sends a PING and waits for its answer: the process has then read all earlier writes. */
  async ping(timeoutMs = LIMIT_MS): Promise<void> {
    const sent = Buffer.from(String(this.sequence).padStart(8, '0'));
    this.send(FRAME_TYPE.PING, 0, sent);
    const hasCome = () => this.log.frames.some(({ type, payload }) => type === FRAME_TYPE.PONG && payload.equals(sent));
    await eventually(hasCome, { timeoutMs, intervalMs: 2, what: 'the PONG of the newest PING' });
  }

  /** Opens a stream to an echo service, and waits until its bytes have come back. */
  async echo(service = 'echo'): Promise<void> {
    const id = Math.max(this.highestId, -1) + 2;
    const text = `are you there, ${id}?`;
    this.sendOpen(id, service);
    this.sendData(id, text);
    await this.seen(new RegExp(`^ACCEPT ${id}$`));
    const isBack = (): boolean => {
      const data = this.log.frames.filter(({ type, streamId }) => type === FRAME_TYPE.DATA && streamId === id);
      return Buffer.concat(data.map(({ payload }) => payload)).toString() === text;
    };
    await eventually(isBack, { intervalMs: 2, what: `the echo on stream ${id}` });
    this.send(FRAME_TYPE.FIN, id);
    await this.seen(new RegExp(`^FIN ${id}$`));
  }

  /** Waits until the system has taken everything, the connection is closed, or it is past `untilMs`. */
  async #drained(untilMs: number): Promise<void> {
    const stop = new AbortController();
    const { signal } = stop;
    const late = delay(Math.max(0, untilMs - performance.now()), undefined, { signal });
    const ends = [late, once(this.socket, 'drain', { signal }), once(this.socket, 'close', { signal })];
    await Promise.race(ends.map((end) => end.catch(() => undefined)));
    stop.abort();
  }

  #read(chunk: Buffer): void {
    if (this.fault !== null) return;
    const before = this.log.frames.length;
    try {
      this.log.push(chunk);
    } catch (error) {
      this.fault = error as Error;
      return;
    }
    for (const frame of this.log.frames.slice(before)) {
      if (frame.type === FRAME_TYPE.PING) this.#answer(frame.payload);
      this.onFrame(frame);
    }
    if (this.log.frames.length > MAX_KEPT_FRAMES) this.log.frames.splice(0, MAX_KEPT_FRAMES / 2);
  }

  #answer(payload: Buffer): void {
    const pong = (): void => {
      if (!this.isClosed) this.send(FRAME_TYPE.PONG, 0, payload);
    };
    if (this.#pongDelayMs === 0) pong();
    else if (this.#pongDelayMs !== null) setTimeout(pong, this.#pongDelayMs).unref();
  }
}
