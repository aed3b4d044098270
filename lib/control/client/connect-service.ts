/** A stream to a service through a control socket: HTTP's `Upgrade`, and from then on the stream's bytes. */
import type net from 'node:net';
import { Duplex } from 'node:stream';
import { VproxyError } from '../../errors.js';
import type { StreamEnd } from '../../status/types.js';
import { isHungUp } from '../../system/sockets/node-sockets.js';
import type { STREAM_PROTOCOL } from '../routes/connect.js';
import type { Given } from './control-request.js';
import { answeredError, formatTarget, getValue, readHead, readRest, requestError, sendGet } from './plain-http.js';

/** The protocol that the connection is upgraded to: nothing but the bytes, and half-close. */
const PROTOCOL: typeof STREAM_PROTOCOL = 'vproxy-stream';

/**
 * A stream to a service of the peer of a channel, which need not be named where there is one only; resolved when the peer
 * has accepted it. `isAttached`: whether the stream is reset when this program ends, or destroys it; else that is an end of its
 * direction. Rejects with the code of the answer, with `control-unavailable` or with `denied`.
 */
export async function connectService(
  socketPath: string,
  service: string,
  channel?: string,
  { isAttached = false }: { readonly isAttached?: boolean } = {},
): Promise<ServiceStream> {
  const query: Given<'GET /v1/connect'>['query'] = { service, channel, ...(isAttached && { attached: true }) };
  const headers = ['Connection: Upgrade', `Upgrade: ${PROTOCOL}`];
  const socket = sendGet(socketPath, formatTarget('/v1/connect', {}, query), '1.1', headers);
  try {
    const { status, headers, rest } = await readHead(socket);
    if (status !== 101) throw answeredError(status, await readRest(socket, rest));
    if (rest.length > 0) socket.unshift(rest);
    return new ServiceStream(socket, socketPath, headers.get('vproxy-end') ?? '');
  } catch (error) {
    socket.destroy();
    throw requestError(socketPath, error);
  }
}

// A stream to a service of the peer, at the program's end of a control socket.

type Callback = (error?: Error | null) => void;

/**
 * The bytes of the stream both ways, with half-close: `end` ends this direction, `destroy` gives the stream up. Where it is
 * reset at the other side it fails with a `VproxyError` that has the code of the reset: a unix socket, which knows no
 * resets, has only an end there, so that the process is asked what that end was.
 */
export class ServiceStream extends Duplex {
  readonly #socket: net.Socket;
  readonly #socketPath: string;
  readonly #endPath: string;

  /** Owns the socket; `endPath` is where the process says how the stream has ended. */
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
      // Why the other end is closed is not known yet; `#fail` finds out, and destroys this stream.
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

  /** With what the stream was reset; null where it was not. */
  async #reason(): Promise<VproxyError | null> {
    try {
      const { error } = await getValue<StreamEnd>(this.#socketPath, this.#endPath);
      return error && new VproxyError(error.code, error.message);
    } catch (error) {
      // Whether the end was in order cannot be known any more.
      return requestError(this.#socketPath, error);
    }
  }
}
