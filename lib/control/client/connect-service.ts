/** Streams to services through a control socket: HTTP's `Upgrade`, then the stream's bytes. */
import type net from 'node:net';
import { Duplex } from 'node:stream';
import { VproxyError } from '../../errors.js';
import type { StreamEnd } from '../../status/types.js';
import { isHungUp } from '../../system/sockets/node-sockets.js';
import type { STREAM_PROTOCOL } from '../routes/connect.js';
import type { Given } from './control-request.js';
import { answeredError, formatTarget, getValue, readHead, readRest, requestError, sendRequest } from './plain-http.js';

/** The protocol after the upgrade: raw bytes with half-close. */
const PROTOCOL: typeof STREAM_PROTOCOL = 'vproxy-stream';

/**
 * Opens a stream to a service of a channel's peer; `channel` may be omitted if there is only one. Resolves when the peer
 * has accepted it. `isAttached`: reset the stream when this program exits or destroys it, instead of half-closing. Rejects
 * with the code of the answer, with `control-unavailable` or with `denied`.
 */
export async function connectService(
  socketPath: string,
  service: string,
  channel?: string,
  { isAttached = false }: { readonly isAttached?: boolean } = {},
): Promise<ServiceStream> {
  const query: Given<'GET /v1/connect'>['query'] = { service, channel, ...(isAttached && { attached: true }) };
  const headers = ['Connection: Upgrade', `Upgrade: ${PROTOCOL}`];
  const target = formatTarget('/v1/connect', {}, query);
  const socket = sendRequest(socketPath, { target, version: '1.1' }, headers);
  try {
    const head = await readHead(socket);
    const { status, headers, rest } = head;
    if (status !== 101) throw answeredError(status, await readRest(socket, head));
    if (rest.length > 0) socket.unshift(rest);
    return new ServiceStream(socket, socketPath, headers.get('vproxy-end') ?? '');
  } catch (error) {
    socket.destroy();
    throw requestError(socketPath, error);
  }
}

type Callback = (error?: Error | null) => void;

/**
 * A stream to a service of the peer, with half-close: `end` ends this direction, `destroy` resets the stream. If the other
 * side resets it, it fails with a `VproxyError` with the code of the reset. A unix socket shows a reset only as EOF, so
 * this class asks the process how the stream ended.
 */
export class ServiceStream extends Duplex {
  readonly #socket: net.Socket;
  readonly #socketPath: string;
  readonly #endPath: string;

  /** Takes the socket over; a GET of `endPath` returns how the stream ended. */
  constructor(socket: net.Socket, socketPath: string, endPath: string) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#socketPath = socketPath;
    this.#endPath = endPath;
    socket.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.once('end', () => void this.#handleEnd());
    socket.on('error', (error) => void this.#fail(error));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#socket.write(chunk, (error) => {
      // On failure `#fail` finds the reason, and destroys this stream.
      if (error === null || error === undefined) callback();
    });
  }

  override _final(callback: Callback): void {
    this.#socket.end(callback);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#socket.destroy();
    callback(error);
  }

  async #handleEnd(): Promise<void> {
    const isOpen = this.#socket.writable;
    if (isOpen && !isHungUp(this.#socket)) this.push(null);
    else if (isOpen) await this.#fail(null);
    else {
      const reason = await this.#reason();
      if (reason === null) this.push(null);
      else this.destroy(reason);
    }
  }

  async #fail(error: Error | null): Promise<void> {
    const reason = await this.#reason();
    const unknown = new VproxyError('cancelled', 'the stream was reset', { cause: error });
    this.destroy(reason ?? unknown);
  }

  /** The error that the stream was reset with, or null. */
  async #reason(): Promise<VproxyError | null> {
    try {
      const { error } = await getValue<StreamEnd>(this.#socketPath, this.#endPath);
      return error && new VproxyError(error.code, error.message);
    } catch (error) {
      // It can no longer be known whether the stream ended in order.
      return requestError(this.#socketPath, error);
    }
  }
}
