/** A stream to a service of the peer, at the program's end of a control socket. */
import type net from 'node:net';
import { Duplex } from 'node:stream';
import { VproxyError } from '../errors.js';
import { isHungUp } from '../util/hidden-reset.js';
import { answeredError, requestError } from './answered-error.js';
import { readHead, readRest, sendGet } from './plain-http.js';
import type { StreamEnd } from './stream-ends.js';

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
      // In HTTP/1.0 the answer ends with the connection.
      const socket = sendGet(this.#socketPath, this.#endPath, '1.0', []);
      const { status, rest } = await readHead(socket);
      const text = await readRest(socket, rest);
      if (status !== 200) return answeredError(status, text);
      const { error } = JSON.parse(text) as StreamEnd;
      return error && new VproxyError(error.code, error.message);
    } catch (error) {
      // Whether the end was in order cannot be known any more.
      return requestError(this.#socketPath, error);
    }
  }
}
