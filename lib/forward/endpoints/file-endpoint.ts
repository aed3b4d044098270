/** `file:/path[,rotate=10M][,keep=5]`: appends streams to a file, line by line. */

import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { LocalEnd } from '../../session/local-end.js';
import type { SessionStream } from '../../session/stream.js';
import { LogFile, type Rotation } from '../../system/files/log-file.js';
import { ByteQueue } from '../../util/bytes/byte-queue.js';
import { describeError, escapeText } from '../../util/escape.js';
import { formatCount } from '../../util/units.js';
import { type EndpointKind, refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import type { FileEndpoint } from '../forms/file-form.js';
import { NO_STREAM } from '../forward-log.js';

export const fileEndpoint: EndpointKind<FileEndpoint> = {
  createTarget: ({ path, rotation }, context) => new FileTarget(path, rotation ?? null, context),
};

/** Appends the lines of all its streams to one file. */
class FileTarget implements Target {
  readonly #context: TargetContext;
  readonly #path: string;
  readonly #file: LogFile;
  #streamCount = 0;

  constructor(path: string, rotation: Rotation | null, context: TargetContext) {
    this.#context = context;
    this.#path = path;
    const { log, name } = context;
    this.#file = new LogFile({
      path,
      rotation,
      clock: context.clock,
      onFailing: (why) => log.targetFailed(`cannot write ${name}: ${why}; its streams wait`),
      onRecovered: () =>
        log.write(makeEvent('target-recovered', `${name} can be written again`, log.fields(NO_STREAM))),
    });
  }

  get openCount(): number {
    return this.#streamCount;
  }

  async prepare(): Promise<void> {
    const folder = dirname(this.#path);
    const isThere = await stat(folder).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (isThere) return;
    throw new VproxyError('address-unavailable', `cannot write ${escapeText(this.#path)}: its folder does not exist`);
  }

  serve(stream: SessionStream): void {
    const { log, maxStreams, name } = this.#context;
    if (refuseBeyond(stream, this.#streamCount, maxStreams)) return;
    try {
      this.#file.open();
    } catch (error) {
      stream.refuse('connect-failed', `${name}: ${describeError(error)}`);
      return;
    }
    this.#streamCount += 1;
    stream.attach(new FileSink(stream, this.#file, (reason) => this.#closed(stream, reason)));
    stream.accept();
    log.opened(stream);
  }

  get obstacles(): string[] {
    const { name } = this.#context;
    return this.#streamCount === 0
      ? []
      : [`${formatCount(this.#streamCount, 'stream')} to ${name}, whose lines are assembled here`];
  }

  stop(): Promise<void> {
    return this.#file.close();
  }

  #closed(stream: SessionStream, reason: VproxyError | null): void {
    this.#streamCount -= 1;
    this.#context.onClosed(stream, reason);
    this.#context.onLeft?.();
  }
}

/**
 * The local end of one stream. Returns credit for what the system has taken, and answers FIN once it has taken everything. Only
 * one append is outstanding at a time; lines that arrive meanwhile are gathered, so they take about as much memory as bytes.
 */
class FileSink implements LocalEnd {
  readonly #stream: SessionStream;
  readonly #file: LogFile;
  readonly #onDone: (reason: VproxyError | null) => void;
  readonly #lines = new LineBuffer();
  /** Whole lines that wait for the current append. */
  readonly #gathered = new ByteQueue();
  /** Received bytes that are not part of an append yet. */
  #pendingBytes = 0;
  #isAppending = false;
  /** Called once everything received has been written. */
  #onWritten: (() => void)[] = [];

  constructor(stream: SessionStream, file: LogFile, onDone: (reason: VproxyError | null) => void) {
    this.#stream = stream;
    this.#file = file;
    this.#onDone = onDone;
  }

  handleData(bytes: Buffer): boolean {
    this.#pendingBytes += bytes.length;
    this.#give(this.#lines.add(bytes));
    return false;
  }

  handleFin(): void {
    this.#onWritten.push(() => this.#stream.finish());
    this.#give(this.#lines.end());
  }

  /** Bytes received before the teardown are still written; the stream counts as open until then. */
  handleEnd(reason: VproxyError | null): void {
    this.#onWritten.push(() => this.#onDone(reason));
    this.#give(this.#lines.end());
  }

  #give(lines: Buffer | null): void {
    if (lines !== null) this.#gathered.pushOwned(lines);
    this.#append();
  }

  #append(): void {
    if (this.#isAppending) return;
    const bytes = this.#pendingBytes - this.#lines.heldBytes;
    if (bytes === 0 && this.#gathered.byteCount === 0) {
      for (const callback of this.#onWritten.splice(0)) callback();
      return;
    }
    this.#pendingBytes -= bytes;
    this.#isAppending = true;
    this.#file.append(this.#gathered.shiftAll(), () => {
      this.#isAppending = false;
      this.#stream.release(bytes);
      this.#append();
    });
  }

  handleStop(): void {
    // Nothing is ever sent.
  }

  handleSent(): void {
    // Nothing is ever sent.
  }
}

/** Longer lines are cut into pieces of this length, each with its own newline. */
export const MAX_LINE_BYTES = 65_536;

const NEWLINE = 10;
const FIRST_BYTES = 256;

/** Splits one stream into whole lines of limited length. */
export class LineBuffer {
  /** The beginning of an incomplete line. */
  #held = Buffer.alloc(0);
  #heldBytes = 0;
  #wasCut = false;

  /** The bytes kept of an incomplete line. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Returns copies of the lines that `bytes` completes, each with its newline; null if none. */
  add(bytes: Buffer): Buffer | null {
    const lines: Buffer[] = [];
    let offset = 0;
    // The newline of a line that was cut just before it was already added.
    if (this.#wasCut && bytes[0] === NEWLINE) offset = 1;
    if (bytes.length > 0) this.#wasCut = false;
    while (offset < bytes.length) {
      // Where the line would reach the limit; any newline up to there ends a line that is short enough.
      const limit = offset + MAX_LINE_BYTES - this.#heldBytes;
      const found = bytes.lastIndexOf(NEWLINE, limit);
      if (found >= offset) {
        lines.push(this.#take(), bytes.subarray(offset, found + 1));
        offset = found + 1;
      } else if (limit <= bytes.length) {
        lines.push(this.#take(), bytes.subarray(offset, limit), NEWLINE_BYTES);
        offset = limit;
        if (offset === bytes.length) this.#wasCut = true;
      } else {
        this.#keep(bytes.subarray(offset));
        break;
      }
    }
    return lines.length === 0 ? null : Buffer.concat(lines);
  }

  /** Returns the last, unterminated line with a newline; null if there is none. */
  end(): Buffer | null {
    return this.#heldBytes === 0 ? null : Buffer.concat([this.#take(), NEWLINE_BYTES]);
  }

  #take(): Buffer {
    const held = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    return held;
  }

  #keep(bytes: Buffer): void {
    const total = this.#heldBytes + bytes.length;
    if (total > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, 2 ** Math.ceil(Math.log2(total))));
      this.#held.copy(grown, 0, 0, this.#heldBytes);
      this.#held = grown;
    }
    bytes.copy(this.#held, this.#heldBytes);
    this.#heldBytes = total;
  }
}

const NEWLINE_BYTES = Buffer.from('\n');
