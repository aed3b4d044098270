/** Two links that lead to each other, over real kinds of channels. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { ChannelListener, DialContext, ListenHandlers } from '../../lib/channel/kind.js';
import type { VproxyError } from '../../lib/errors.js';
import type { Link, LinkHandler } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';

export interface LinkPair {
  readonly dialled: Link;
  readonly accepted: Link;
  readonly listener: ChannelListener;
}

/** A folder of its own for a test. */
export async function makeFolder(t: ExecutionContext): Promise<string> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'vproxy-channel-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  return folder;
}

/** A context for dialling that waits for ever and reports nothing. */
export const patiently = (): DialContext => ({
  signal: new AbortController().signal,
  report: { waiting: () => undefined },
});

/** Dials the channel that a text means; the link goes with the test. */
export async function dial(t: ExecutionContext, text: string, context = patiently()): Promise<Link> {
  const { kind, address } = parseChannel(text);
  if (kind.mode !== 'dial') throw new Error(`${text} is not dialled`);
  const link = await kind.dial(address, context);
  t.teardown(() => link.destroy());
  return link;
}

/** Listens on the channel that a text means; the listener goes with the test. */
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

/** A pair over a listener's text; `dialText` makes that of the dialling side from what the listener describes. */
async function openPair(
  t: ExecutionContext,
  listenText: string,
  dialText: (text: string) => string,
): Promise<LinkPair> {
  const accepted = deferred<Link>();
  const listener = await listen(t, listenText, { onLink: (link) => accepted.resolve(link) });
  const dialled = await dial(t, dialText(listener.description));
  const link = await accepted.promise;
  t.teardown(() => link.destroy());
  return { dialled, accepted: link, listener };
}

export async function openUnixPair(t: ExecutionContext): Promise<LinkPair> {
  const file = path.join(await makeFolder(t), 'channel.sock');
  return openPair(t, `unix-listen:${file}`, () => `unix-connect:${file}:-`);
}

export function openTcpPair(t: ExecutionContext): Promise<LinkPair> {
  return openPair(t, 'tcp-listen:127.0.0.1:0', (text) => text.replace('listen', 'connect'));
}

// Two streams in memory, joined: what is written to one is read from the other. Node has such a pair itself, in which
// `destroy` of one end differs between versions.

class Half extends Duplex {
  other!: Half;
  /** The writer of this half's last bytes goes on when they are read. */
  #onRead: (() => void) | null = null;

  override _read(): void {
    const onRead = this.#onRead;
    this.#onRead = null;
    onRead?.();
  }

  /** Passes on the buffer itself: no copy is made. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.other.#onRead = callback;
    this.other.push(chunk);
  }

  override _final(callback: () => void): void {
    this.other.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // As with a socket's peer: what was written arrives, then the end.
    if (!this.writableFinished) setImmediate(() => this.other.push(null));
    callback(error);
  }
}

/** A pair; either end may be closed on its own. */
export function duplexPair(): [Duplex, Duplex] {
  const [left, right] = [new Half({ allowHalfOpen: true }), new Half({ allowHalfOpen: true })];
  left.other = right;
  right.other = left;
  return [left, right];
}

// A handler of a link that records its calls, and can be waited for.

export class LinkRecorder implements LinkHandler {
  /** The bytes, copied as they came, unless `keeps`: then they are the link's own buffers. */
  readonly pieces: Buffer[] = [];
  readonly closings: VproxyError[] = [];
  drainCount = 0;
  byteCount = 0;
  readonly #keeps: boolean;
  readonly #closed = deferred<VproxyError>();
  #waits: { readonly isDone: () => boolean; readonly done: () => void }[] = [];

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
  }

  /** Everything that came. */
  get bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }

  /** Resolves with the reason when the link is gone. */
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
    const wait = deferred();
    this.#waits.push({ isDone, done: () => wait.resolve() });
    this.#look();
    return wait.promise;
  }

  #look(): void {
    this.#waits = this.#waits.filter((wait) => {
      if (!wait.isDone()) return true;
      wait.done();
      return false;
    });
  }
}
