/** What each frame of a session means: decodes control payloads and hands everything to the stream or to the session. */
import type { FrameHandler } from '../codec/frame-reader.js';
import { FRAME_TYPE, formatFrameType } from '../codec/header.js';
import type { Hello } from '../codec/hello.js';
import {
  decodeCredit,
  decodeGoaway,
  decodeOpen,
  decodeReasonPayload,
  type Goaway,
  type OpenRequest,
} from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import type { SessionStream } from './stream.js';
import type { StreamTable } from './streams.js';

/** What concerns the session and not one stream. All may throw a VproxyError, which ends the session. */
export interface SessionActions {
  /** DATA arrived, whatever becomes of it. */
  countData(bytes: number): void;
  openPeerStream(id: number, request: OpenRequest): void;
  /** A peer's RESET of a live stream. */
  resetStream(stream: SessionStream, reason: VproxyError): void;
  raiseCredit(totalBytes: number): void;
  takeServices(payload: Buffer): void;
  takePing(payload: Buffer): void;
  takePong(payload: Buffer): void;
  takeGoaway(goaway: Goaway): void;
  /** The peer's AUTH. */
  takeProof(payload: Buffer): void;
  /** Whether a HELLO in the middle of the session is the current peer's, or this side's own. */
  isKnownHello(hello: Hello): boolean;
}

export class FrameDispatch implements FrameHandler {
  readonly #table: StreamTable;
  readonly #actions: SessionActions;
  /** Whether AUTH has to come before anything else. */
  awaitsProof = false;

  constructor(table: StreamTable, actions: SessionActions) {
    this.#table = table;
    this.#actions = actions;
  }

  handleHello(hello: Hello): boolean {
    return this.#actions.isKnownHello(hello);
  }

  handleData(streamId: number, bytes: Buffer): boolean {
    if (this.awaitsProof) throw beforeProof(FRAME_TYPE.DATA);
    this.#actions.countData(bytes.length);
    return this.#table.find(streamId, 'DATA')?.handleData(bytes) ?? false;
  }

  handleFrame(type: number, streamId: number, payload: Buffer): void {
    if (this.awaitsProof && type !== FRAME_TYPE.GOAWAY) {
      if (type !== FRAME_TYPE.AUTH) throw beforeProof(type);
      this.#actions.takeProof(payload);
      return;
    }
    switch (type) {
      case FRAME_TYPE.SERVICES:
        this.#actions.takeServices(payload);
        return;
      case FRAME_TYPE.OPEN: {
        const request = decodeOpen(payload);
        this.#table.usePeerId(streamId);
        this.#actions.openPeerStream(streamId, request);
        return;
      }
      case FRAME_TYPE.PING:
        this.#actions.takePing(requireLength(type, payload, 8));
        return;
      case FRAME_TYPE.PONG:
        this.#actions.takePong(requireLength(type, payload, 8));
        return;
      case FRAME_TYPE.GOAWAY:
        this.#actions.takeGoaway(decodeGoaway(payload));
        return;
      case FRAME_TYPE.CREDIT: {
        const totalBytes = decodeCredit(payload);
        if (streamId === 0) this.#actions.raiseCredit(totalBytes);
        else this.#table.find(streamId, 'CREDIT')?.handleCredit(totalBytes);
        return;
      }
      case FRAME_TYPE.AUTH:
        throw new VproxyError('protocol-error', 'AUTH, which was not demanded or is there already');
      default:
        this.#handleStreamFrame(type, streamId, payload);
    }
  }

  #handleStreamFrame(type: number, streamId: number, payload: Buffer): void {
    const name = formatFrameType(type);
    switch (type) {
      case FRAME_TYPE.ACCEPT:
        requireLength(type, payload, 0);
        this.#table.find(streamId, name)?.handleAccept();
        return;
      case FRAME_TYPE.FIN:
        requireLength(type, payload, 0);
        this.#table.find(streamId, name)?.handleFin();
        return;
      default: {
        const { code, message } = decodeReasonPayload(payload, name);
        const stream = this.#table.find(streamId, name);
        if (stream === null) return;
        const reason = new VproxyError(code, message);
        if (type === FRAME_TYPE.REFUSE) stream.handleRefuse(reason);
        else if (type === FRAME_TYPE.STOP) stream.handleStop(reason);
        else this.#actions.resetStream(stream, reason);
      }
    }
  }
}

const beforeProof = (type: number): VproxyError =>
  new VproxyError('protocol-error', `${formatFrameType(type)} before AUTH`);

function requireLength(type: number, payload: Buffer, bytes: number): Buffer {
  if (payload.length === bytes) return payload;
  throw new VproxyError('protocol-error', `${formatFrameType(type)} of ${payload.length} bytes instead of ${bytes}`);
}
