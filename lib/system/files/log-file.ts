/** A file that grows by whole lines at its end; it has one writer, and is rotated between lines. */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, renameSync, writev } from 'node:fs';
import { promisify } from 'node:util';
import { systemCode } from '../../errors.js';
import { type Clock, sleep } from '../../util/clock.js';
import { describeError } from '../../util/escape.js';
import { writesAllowed } from './frozen-writes.js';

/** When the file is renamed to `PATH.1`, that one to `PATH.2`, and so on. */
export interface Rotation {
  /** A line that would make the file longer than this goes into a new one. */
  readonly maxBytes: number;
  /** The number of old files to keep. */
  readonly keep: number;
}

export interface LogFileOptions {
  readonly path: string;
  /** Null: never rotate. */
  readonly rotation: Rotation | null;
  readonly clock: Clock;
  /** The permissions of a new file. Default 0640. */
  readonly mode?: number;
  /** Whether to sync the file to disk before it is rotated or closed. Default false. */
  readonly isSynced?: boolean;
  /** Called when writing starts to fail, or fails for a new reason; it is retried until it works. */
  readonly onFailing: (why: string) => void;
  /** Called when writing works again. */
  readonly onRecovered: () => void;
}

/** Lines, and a callback for when the system has them. */
interface Entry {
  readonly lines: Buffer;
  readonly onWritten: () => void;
}

const NEWLINE = 10;
const RETRY_MS = 1000;
/** Limits on a single write. */
const BATCH_BYTES = 1_048_576;
const BATCH_ENTRIES = 256;

const writevTo = promisify(writev);

/** Appends to a file. The windows of streams bound its queue. */
export class LogFile {
  readonly #options: LogFileOptions;
  #fd: number | null = null;
  #sizeBytes = 0;
  #queue: Entry[] = [];
  #running: Promise<void> | null = null;
  #failure = '';
  readonly #closing = new AbortController();
  #isStale = false;

  constructor(options: LogFileOptions) {
    this.#options = options;
  }

  /** Opens or creates the file unless it is open. Throws system errors. */
  open(): void {
    if (this.#fd !== null) return;
    const { path, mode = 0o640 } = this.#options;
    const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOCTTY | constants.O_NONBLOCK;
    const fd = openSync(path, flags, mode);
    try {
      const found = fstatSync(fd);
      if (!found.isFile()) throw new Error(`${path} is not a regular file`);
      const last = Buffer.alloc(1);
      const isWhole = found.size === 0 || readSync(fd, last, 0, 1, found.size - 1) === 0 || last[0] === NEWLINE;
      this.#sizeBytes = found.size;
      // Terminate a line that another process left unfinished; after our own failure, the rest of the line follows instead.
      if (!isWhole && this.#failure === '')
        this.#queue.unshift({ lines: Buffer.from('\n'), onWritten: () => undefined });
      this.#fd = fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Reopens or creates the file at the path before the next line. */
  reopen(): void {
    this.#isStale = true;
  }

  /** Appends whole lines, or none; calls `onWritten`, in order, once the system has them. Takes ownership of `lines`. */
  append(lines: Buffer, onWritten: () => void): void {
    this.#queue.push({ lines, onWritten });
    this.#running ??= this.#run();
  }

  /** Writes the queue, unless that fails, and closes the file; lines appended later are still written. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
    this.#release();
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      if (await this.#attempt(() => this.#rotateIfDue())) {
        const batch = this.#takeBatch();
        let rest = batch.map(({ lines }) => lines).filter(({ length }) => length > 0);
        // Do not rotate in between: a partial write must be completed in the same file.
        while (rest.length > 0) {
          const isWritten = await this.#attempt(async () => {
            rest = await this.#write(rest);
          });
          if (!isWritten && this.#closing.signal.aborted) break;
        }
        if (rest.length === 0) for (const { onWritten } of batch) onWritten();
      }
      if (this.#failure !== '' && this.#closing.signal.aborted) break;
    }
    this.#running = null;
    if (this.#closing.signal.aborted) this.#release();
  }

  /** Runs an action; on failure, reports it once and waits before the next attempt. */
  async #attempt(action: () => Promise<void> | void): Promise<boolean> {
    try {
      await writesAllowed();
      this.open();
      await action();
    } catch (error) {
      await this.#fail(error);
      return false;
    }
    if (this.#failure !== '') this.#options.onRecovered();
    this.#failure = '';
    return true;
  }

  async #fail(error: unknown): Promise<void> {
    const why = describeError(error);
    if (this.#failure !== why) this.#options.onFailing(why);
    this.#failure = why;
    // A full file system may get room again; after any other error the file may have been replaced.
    if (!['ENOSPC', 'EDQUOT'].includes(systemCode(error))) this.#release();
    await sleep(this.#options.clock, RETRY_MS, this.#closing.signal);
  }

  /** Takes what fits into the current file: everything, the lines that fit, or one that never fits. */
  #takeBatch(): Entry[] {
    let roomBytes = Math.min(
      BATCH_BYTES,
      (this.#options.rotation?.maxBytes ?? Number.POSITIVE_INFINITY) - this.#sizeBytes,
    );
    const batch: Entry[] = [];
    for (const entry of this.#queue) {
      if (entry.lines.length > roomBytes || batch.length === BATCH_ENTRIES) break;
      batch.push(entry);
      roomBytes -= entry.lines.length;
    }
    const [first] = this.#queue;
    if (batch.length > 0 || first === undefined) {
      this.#queue.splice(0, batch.length);
      return batch;
    }
    const fitting = roomBytes > 0 ? first.lines.lastIndexOf(NEWLINE, roomBytes - 1) : -1;
    const end = (fitting === -1 ? first.lines.indexOf(NEWLINE) : fitting) + 1;
    if (end === 0 || end === first.lines.length) return this.#queue.splice(0, 1);
    this.#queue[0] = { lines: first.lines.subarray(end), onWritten: first.onWritten };
    return [{ lines: first.lines.subarray(0, end), onWritten: () => undefined }];
  }

  /** Writes buffers, and returns what could not be written. */
  async #write(buffers: Buffer[]): Promise<Buffer[]> {
    if (this.#fd === null) throw new Error('the file is not open');
    const { bytesWritten } = await writevTo(this.#fd, buffers);
    this.#sizeBytes += bytesWritten;
    let done = bytesWritten;
    const rest: Buffer[] = [];
    for (const buffer of buffers) {
      if (done < buffer.length) rest.push(buffer.subarray(done));
      done = Math.max(0, done - buffer.length);
    }
    return rest;
  }

  #rotateIfDue(): void {
    if (this.#isStale) {
      this.#isStale = false;
      this.#release();
      this.open();
    }
    const { path, rotation } = this.#options;
    const [first] = this.#queue;
    if (rotation === null || first === undefined || this.#sizeBytes === 0) return;
    const lineBytes = first.lines.indexOf(NEWLINE) + 1;
    if (this.#sizeBytes + lineBytes <= rotation.maxBytes) return;
    for (let number = rotation.keep - 1; number >= 1; number -= 1) {
      renameIfThere(`${path}.${number}`, `${path}.${number + 1}`);
    }
    renameIfThere(path, `${path}.1`);
    this.#release();
    this.open();
  }

  #sync(fd: number): void {
    try {
      fsyncSync(fd);
    } catch (error) {
      // Node's permission model forbids fsync, whatever else is allowed.
      if (systemCode(error) !== 'ERR_ACCESS_DENIED') this.#options.onFailing(describeError(error));
    }
  }

  #release(): void {
    if (this.#fd === null) return;
    if (this.#options.isSynced === true) this.#sync(this.#fd);
    closeSync(this.#fd);
    this.#fd = null;
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
