/** Streams to services through a control socket: HTTP's `Upgrade`, then the stream's bytes. */
import type net from 'node:net';
import { Duplex } from 'node:stream';
import { VproxyError } from '../../errors.js';
import type { StreamEnd } from '../../status/types.js';
import { isHungUp, readBuffered } from '../../system/sockets/node-sockets.js';
import { onAbort } from '../../util/concurrency.js';
import type { STREAM_PROTOCOL } from '../routes/connect.js';
import type { Given } from './control-request.js';
import { answeredError, formatTarget, getValue, readHead, readRest, requestError, sendRequest } from './plain-http.js';

/** The protocol after the upgrade: raw bytes with half-close. */
const PROTOCOL: typeof STREAM_PROTOCOL = 'vproxy-stream';

/**
 * Opens a stream to a service of a channel's peer; `channel` may be omitted if there is only one. Resolves when the peer
 * has accepted it. `isAttached`: reset the stream when this program exits or destroys it, instead of half-closing.
 * `isReopened`: this program opens it again when it is lost. Rejects with the code of the answer, with `control-unavailable`,
 * with `denied`, or with `cancelled` when `signal` is aborted before the answer.
 */
export async function connectService(
  socketPath: string,
  service: string,
  channel?: string,
  { isAttached = false, isReopened = false, signal }: ConnectOptions = {},
): Promise<ServiceSocket> {
  const options = { ...(isAttached && { attached: true }), ...(isReopened && { reopened: true }) };
  const query: Given<'GET /v1/connect'>['query'] = { service, channel, ...options };
  const headers = ['Connection: Upgrade', `Upgrade: ${PROTOCOL}`];
  const target = formatTarget('/v1/connect', {}, query);
  const socket = sendRequest(socketPath, { target, version: '1.1' }, headers);
  const forget = onAbort(signal, () => socket.destroy(cancelled()));
  try {
    const head = await readHead(socket);
    const { status, headers, rest } = head;
    if (status !== 101) throw answeredError(status, await readRest(socket, head));
    if (rest.length > 0) socket.unshift(rest);
    return new ServiceSocket(socket, socketPath, headers.get('vproxy-end') ?? '');
  } catch (error) {
    socket.destroy();
    throw requestError(socketPath, error);
  } finally {
    forget();
  }
}

interface ConnectOptions {
  readonly isAttached?: boolean;
  readonly isReopened?: boolean;
  readonly signal?: AbortSignal | undefined;
}

const cancelled = (): VproxyError => new VproxyError('cancelled', 'the caller has cancelled it');

/** Resets a stream when `signal` is aborted. */
export function abortable(stream: ServiceStream, signal: AbortSignal | undefined): ServiceStream {
  return stream.once(
    'close',
    onAbort(signal, () => stream.destroy(cancelled())),
  );
}

/**
 * A paused socket that carries a stream to a service of the peer, with half-close; closing it resets the stream, or ends this
 * direction. A unix socket shows a reset only as EOF, so this class asks the process how the stream ended.
 */
export class ServiceSocket {
  readonly socket: net.Socket;
  readonly #socketPath: string;
  readonly #endPath: string;

  /** A GET of `endPath` returns how the stream ended. */
  constructor(socket: net.Socket, socketPath: string, endPath: string) {
    this.socket = socket;
    this.#socketPath = socketPath;
    this.#endPath = endPath;
  }

  /** Call it at `end`: why the stream was reset; null if the peer has ended its direction in order. */
  async judgeEnd(): Promise<VproxyError | null> {
    if (!this.socket.writable) return this.#reason();
    return isHungUp(this.socket) ? this.judgeError(null) : null;
  }

  /** Call it at `error`: why the stream was reset. */
  async judgeError(error: Error | null): Promise<VproxyError> {
    return (await this.#reason()) ?? new VproxyError('cancelled', 'the stream was reset', { cause: error });
  }

  /** The error that the stream was reset with, or null. */
  async #reason(): Promise<VproxyError | null> {
    try {
      const { error } = await getValue<StreamEnd>(this.#socketPath, this.#endPath);
      return error && new VproxyError(error.code, error.message);
    } catch (error) {
      // It can no longer be known whether the stream ended in order.
      const { message } = requestError(this.#socketPath, error);
      return new VproxyError('control-unavailable', message, { cause: error });
    }
  }
}

type Callback = (error?: Error | null) => void;

/** The most that is read at once into memory that is used again. */
const READ_BYTES = 131_072;

/**
 * A stream to a service of the peer, with half-close: `end` ends this direction, `destroy` resets the stream. If the other
 * side resets it, it fails with a `VproxyError` with the code of the reset.
 */
export class ServiceStream extends Duplex {
  readonly #service: ServiceSocket;

  /**
   * Takes the socket over. `isFree` reports whether the program no longer uses anything that this stream emitted; while it does
   * so, the stream reuses its read buffer, which halves the time. Default: never.
   */
  constructor(service: ServiceSocket, isFree?: () => boolean) {
    super({ allowHalfOpen: true });
    this.#service = service;
    const { socket } = service;
    if (isFree === undefined) {
      socket.on('data', (chunk: Buffer) => {
        if (!this.push(chunk)) socket.pause();
      });
    } else {
      let room = Buffer.allocUnsafeSlow(READ_BYTES);
      readBuffered(socket, {
        buffer: () => {
          const isHeld = this.isPaused() || this.readableLength > 0 || !isFree();
          if (isHeld) room = Buffer.allocUnsafeSlow(READ_BYTES);
          return room;
        },
        callback: (byteCount) => this.push(room.subarray(0, byteCount)),
      });
    }
    socket.once('end', () => {
      void service.judgeEnd().then((reason) => {
        if (reason === null) this.push(null);
        else this.destroy(reason);
      });
    });
    socket.on('error', (error) => void service.judgeError(error).then((reason) => this.destroy(reason)));
  }

  override _read(): void {
    this.#service.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#service.socket.write(chunk, (error) => {
      // On failure the socket's error finds the reason, and destroys this stream.
      if (error === null || error === undefined) callback();
    });
  }

  override _writev(pieces: readonly { readonly chunk: Buffer }[], callback: Callback): void {
    const { socket } = this.#service;
    socket.cork();
    for (const { chunk } of pieces.slice(0, -1)) socket.write(chunk);
    this._write(pieces.at(-1)?.chunk as Buffer, 'utf8', callback);
    socket.uncork();
  }

  override _final(callback: Callback): void {
    this.#service.socket.end(callback);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#service.socket.destroy();
    callback(error);
  }
}
