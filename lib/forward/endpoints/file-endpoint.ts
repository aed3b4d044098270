/** `file:/path[,rotate=10M][,keep=5]`: what comes is appended to a file, line by line. */

import { badArgument, type VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { LocalEnd } from '../../session/local-end.js';
import type { SessionStream } from '../../session/stream.js';
import { LogFile, type Rotation } from '../../system/files/log-file.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses.js';
import { ByteQueue } from '../../util/bytes/byte-queue.js';
import { describeError, escapeText } from '../../util/escape.js';
import { formatUnits, parseUnits, type Units } from '../../util/units.js';
import { type EndpointKind, refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import { NO_STREAM } from '../session-source.js';

export interface FileEndpoint {
  readonly kind: 'file';
  readonly path: string;
  /** Default: the file is never rotated. */
  readonly rotation?: Rotation;
}

const DEFAULT_KEEP = 5;
const MAX_KEEP = 999;
const LEAST_ROTATE_BYTES = 4096;

/** Of the size, in bytes. */
const ROTATE_UNITS: Units = [
  ['G', 2 ** 30],
  ['M', 2 ** 20],
  ['K', 2 ** 10],
  ['', 1],
];

/** The kind `file`. */
export const fileEndpoint: EndpointKind<FileEndpoint> = {
  form: { incoming: 'file:/path[,rotate=10M][,keep=5]' },
  parse: parseFileEndpoint,
  format({ path, rotation }) {
    const options =
      rotation === undefined ? [] : [`rotate=${formatUnits(rotation.maxBytes, ROTATE_UNITS)}`, `keep=${rotation.keep}`];
    return joinWithCommas([path, ...options]);
  },
  createTarget: ({ path, rotation }, context) => new FileTarget(path, rotation ?? null, context),
};

/** The endpoint of `/path[,rotate=10M][,keep=5]`. Throws `bad-argument`. */
export function parseFileEndpoint(text: string): FileEndpoint {
  const [path = '', ...options] = splitAtCommas(text);
  const values = parseKeyValues(options);
  requireKnown(values, ['rotate', 'keep']);
  if (!path.startsWith('/') || path.endsWith('/'))
    throw badArgument('the path of a file must be absolute and end with the file name');
  if (path.includes('\0')) throw badArgument('a path cannot contain a NUL');
  const rotate = values.get('rotate');
  const keep = values.get('keep');
  if (rotate === undefined) {
    if (keep !== undefined) throw badArgument('keep= needs rotate=');
    return { kind: 'file', path };
  }
  return { kind: 'file', path, rotation: { maxBytes: parseRotate(rotate), keep: parseKeep(keep) } };
}

function parseRotate(text: string): number {
  const bytes = parseUnits(text, ROTATE_UNITS) ?? 0;
  if (bytes >= LEAST_ROTATE_BYTES && bytes <= Number.MAX_SAFE_INTEGER) return bytes;
  throw badArgument(
    `rotate=${escapeText(text, 32)}: must be a size of at least ${LEAST_ROTATE_BYTES} bytes, such as 500K, 10M or 2G`,
  );
}

function parseKeep(text: string | undefined): number {
  if (text === undefined) return DEFAULT_KEEP;
  const keep = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (keep >= 1 && keep <= MAX_KEEP) return keep;
  throw badArgument(`keep=${escapeText(text, 32)}: must be a number of files from 1 to ${MAX_KEEP}`);
}

/** Appends the lines of all its streams to one file. */
class FileTarget implements Target {
  readonly #context: TargetContext;
  readonly #file: LogFile;
  #streamCount = 0;

  constructor(path: string, rotation: Rotation | null, context: TargetContext) {
    this.#context = context;
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
      : [`${this.#streamCount} stream${this.#streamCount === 1 ? '' : 's'} to ${name}, whose lines are assembled here`];
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
 * One stream. Credit goes back for what the system has taken; its FIN is answered when all of it was. It has one append at a
 * time; lines that come meanwhile are gathered, so that they take about the memory of their bytes.
 */
class FileSink implements LocalEnd {
  readonly #stream: SessionStream;
  readonly #file: LogFile;
  readonly #onDone: (reason: VproxyError | null) => void;
  readonly #lines = new LineBuffer();
  /** Whole lines that wait for the append before them. */
  readonly #gathered = new ByteQueue();
  /** The number of bytes that came and are in no append yet. */
  #pendingBytes = 0;
  #isAppending = false;
  /** Called when all that came is written. */
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

  /** What a stream brought before it was torn down is written; it counts as open until then. */
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

  handleAccept(): void {
    // This side never opens one.
  }

  handleStop(): void {
    // Nothing is ever sent.
  }

  handleSent(): void {
    // Nothing is ever sent.
  }
}

/** Longer lines are cut into pieces of this length, each with a newline of its own. */
export const MAX_LINE_BYTES = 65_536;

const NEWLINE = 10;
const FIRST_BYTES = 256;

/** Cuts the pieces of one stream into whole lines, with a bound on their length. */
export class LineBuffer {
  /** The beginning of a line whose end has not come. */
  #held = Buffer.alloc(0);
  #heldBytes = 0;
  #wasCut = false;

  /** How many bytes of a line without an end it keeps. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The whole lines that `bytes` completes, copied, each with its newline; null where it completes none. */
  add(bytes: Buffer): Buffer | null {
    const lines: Buffer[] = [];
    let offset = 0;
    // The end of a line that was cut just before it: the newline is there already.
    if (this.#wasCut && bytes[0] === NEWLINE) offset = 1;
    if (bytes.length > 0) this.#wasCut = false;
    while (offset < bytes.length) {
      // Where the line would be as long as a line may be; every newline up to there ends one that is short enough.
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
        this.#hold(bytes.subarray(offset));
        break;
      }
    }
    return lines.length === 0 ? null : Buffer.concat(lines);
  }

  /** The last line, which has no newline, with one; null where there is nothing. */
  end(): Buffer | null {
    return this.#heldBytes === 0 ? null : Buffer.concat([this.#take(), NEWLINE_BYTES]);
  }

  #take(): Buffer {
    const held = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    return held;
  }

  #hold(bytes: Buffer): void {
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
