/** Links over real kinds of channels, and a recorder for what arrives through one. */
import { execFileSync } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { fdKind, stdioKind } from '../../lib/channel/inherited.js';
import type { ChannelListener, DialContext, DialKind, ListenHandlers } from '../../lib/channel/kind.js';
import { loadSocketSystem, type VsockSystem, vsockConnectKind, vsockListenKind } from '../../lib/channel/vsock.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link, LinkHandler } from '../../lib/link/link.js';
import { type Deferred, deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from './files.js';
import { freePort } from './ports.js';

/** A context for dialling that waits forever and reports nothing. */
export const patiently = (): DialContext => ({
  signal: new AbortController().signal,
  report: { waiting: () => undefined },
});

export async function dialKind<Address>(
  t: ExecutionContext,
  kind: DialKind<Address>,
  address: Address,
  context = patiently(),
): Promise<Link> {
  const link = await kind.dial(address, context);
  t.teardown(() => link.destroy());
  return link;
}

export async function dial(t: ExecutionContext, text: string, context = patiently()): Promise<Link> {
  const { kind, address } = parseChannel(text);
  if (kind.mode !== 'dial') throw new Error(`${text} is not dialled`);
  return dialKind(t, kind, address, context);
}

/** Dialling or listening fails with this code, and one line that begins so and says this; the line. */
export async function refuses(t: ExecutionContext, attempt: Promise<unknown>, code: string, says: string, start = '') {
  const { message } = await t.throwsAsync(attempt, { instanceOf: VproxyError, code });
  t.true(message.startsWith(start) && message.includes(says), message);
  t.notRegex(message, /[\n\u001b]/);
  return message;
}

/** Listens on the channel that a text describes; the listener ends with the test. */
export async function listen(
  t: ExecutionContext,
  text: string,
  handlers: Partial<ListenHandlers> = {},
): Promise<ChannelListener> {
  const { kind, address } = parseChannel(text);
  if (kind.mode !== 'listen') throw new Error(`${text} is not listened on`);
  const onLink = handlers.onLink ?? ((link: Link) => link.destroy());
  const onFailed = handlers.onFailed ?? ((error: Error) => t.fail(error.message));
  const listener = await kind.listen(address, { onLink, onFailed });
  t.teardown(() => listener.close());
  return listener;
}

export const DEVICE_FLAGS = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY;

export function makePipe(t: ExecutionContext): { readonly out: number; readonly in: number } {
  const file = makeFifo(t);
  const out = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return { out, in: openSync(file, constants.O_WRONLY) };
}

export function makeFifo(t: ExecutionContext): string {
  const file = join(temporaryFolder(t), 'fifo');
  execFileSync('mkfifo', [file]);
  return file;
}

/** The paths of the two FIFOs of QEMU's pipe chardev. */
export function makeFifos(t: ExecutionContext): string {
  const path = join(temporaryFolder(t), 'pipe');
  execFileSync('mkfifo', [`${path}.in`, `${path}.out`]);
  return path;
}

export const dialStdio = (t: ExecutionContext, inputFd: number, outputFd: number): Promise<Link> =>
  dialKind(t, stdioKind(inputFd, outputFd), '');

/** Not the kind of the table: descriptor numbers are reused in this process. */
export const dialFd = (t: ExecutionContext, fd: number, kind = fdKind()): Promise<Link> => dialKind(t, kind, fd);

/** The vsock calls on loopback IPv4, in place of a vsock device, which this machine may lack. */
export const loopbackVsock = (): Promise<VsockSystem> =>
  loadSocketSystem({
    number: 2,
    encode({ port }) {
      const address = Buffer.alloc(16);
      address.set(new Uint8Array(new Uint16Array([2]).buffer));
      address.writeUInt16BE(port, 2);
      address.set([127, 0, 0, 1], 4);
      return address;
    },
  });

/** Both ends of a connection of vsock, by these calls. */
export async function vsockPair(t: ExecutionContext) {
  const [accepted, port] = [deferred<Link>(), await freePort()];
  const listener = await vsockListenKind(loopbackVsock).listen(port, {
    onLink: (link) => accepted.resolve(link),
    onFailed: (error) => t.fail(error.message),
  });
  t.teardown(() => listener.close());
  const near = await dialKind(t, vsockConnectKind(loopbackVsock), { cid: 1, port });
  const far = await accepted.promise;
  t.teardown(() => far.destroy());
  return { near, far, port, listener };
}

// Two joined in-memory streams: bytes written to one are read from the other. Node has such a pair, in which `destroy` of one end
// differs between versions.

class Half extends Duplex {
  other!: Half;
  hasFin = false;
  /** Lets the writer of this half's last bytes continue once they are read. */
  #onRead: (() => void) | null = null;

  override _read(): void {
    const onRead = this.#onRead;
    this.#onRead = null;
    onRead?.();
  }

  /** Passes on a copy: the writer may reuse its memory after the callback. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.other.#onRead = callback;
    this.other.push(Buffer.from(chunk));
  }

  override _final(callback: () => void): void {
    this.other.hasFin = true;
    this.other.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // Like a socket's peer: the written bytes arrive, then EOF.
    if (!this.writableFinished) setImmediate(() => this.other.push(null));
    callback(error);
  }
}

export function duplexPair(): [Duplex, Duplex] {
  const [left, right] = [new Half({ allowHalfOpen: true }), new Half({ allowHalfOpen: true })];
  left.other = right;
  right.other = left;
  return [left, right];
}

export const bothWays = <T>(one: T, other: T): readonly (readonly [from: T, to: T])[] => [
  [one, other],
  [other, one],
];

/** A pair like the streams of a session: destroying an end before it is over resets the other one. */
export function resettingPair(): [Duplex, Duplex] {
  const pair = duplexPair();
  for (const [one, other] of bothWays(...pair)) {
    one.once('close', () => {
      if (!one.readableEnded || !one.writableFinished) other.destroy(one.errored ?? new Error('reset'));
    });
  }
  return pair;
}

export function record(link: Link): LinkRecorder {
  const recorder = new LinkRecorder();
  link.start(recorder);
  return recorder;
}

// A link handler that records its calls, and can be awaited.

export class LinkRecorder implements LinkHandler {
  /** The bytes, copied as they came, unless `keeps`: then the link's own buffers. */
  readonly pieces: Buffer[] = [];
  readonly closings: VproxyError[] = [];
  drainCount = 0;
  byteCount = 0;
  readonly #keeps: boolean;
  readonly #closed = deferred<VproxyError>();
  #waits: { readonly isDone: () => boolean; readonly came: Deferred<void> }[] = [];

  constructor({ keeps = false } = {}) {
    this.#keeps = keeps;
  }

  onBytes(bytes: Buffer): boolean {
    this.pieces.push(this.#keeps ? bytes : Buffer.from(bytes));
    this.byteCount += bytes.length;
    this.#look();
    return this.#keeps;
  }

  onDrain(): void {
    this.drainCount++;
    this.#look();
  }

  onClosed(reason: VproxyError): void {
    this.closings.push(reason);
    this.#closed.resolve(reason);
    this.#look();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }

  get closed(): Promise<VproxyError> {
    return this.#closed.promise;
  }

  received(byteCount: number): Promise<void> {
    return this.#until(() => this.byteCount >= byteCount);
  }

  drained(drainCount = 1): Promise<void> {
    return this.#until(() => this.drainCount >= drainCount);
  }

  #until(isDone: () => boolean): Promise<void> {
    const came = deferred();
    this.#waits.push({ isDone, came });
    this.#look();
    return came.promise;
  }

  #look(): void {
    this.#waits = this.#waits.filter((wait) => {
      const [reason] = this.closings;
      if (wait.isDone()) wait.came.resolve();
      else if (reason === undefined) return true;
      else wait.came.reject(new Error(`it closed after ${this.byteCount} bytes: ${reason.message}`));
      return false;
    });
  }
}
