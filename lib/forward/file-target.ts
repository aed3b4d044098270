/** A target that appends the lines of all its streams to one file. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { StreamSink } from '../session/stream-sink.js';
import { ByteQueue } from '../util/byte-queue.js';
import { describeError } from '../util/describe-error.js';
import { LineBuffer } from './line-buffer.js';
import { LogFile, type Rotation } from './log-file.js';
import { refuseBeyond, type Target, type TargetContext } from './target.js';

/** Serves streams with a {@link LogFile}. */
export class FileTarget implements Target {
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
      onFailing: (why) => log('warn', 'target-failed', `cannot write ${name}: ${why}; its streams wait`),
      onRecovered: () => log('info', 'target-recovered', `${name} can be written again`),
    });
  }

  get openCount(): number {
    return this.#streamCount;
  }

  serve(stream: SessionStream): void {
    const { maxStreams, name, onOpened } = this.#context;
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
    onOpened(stream);
  }

  stop(): Promise<void> {
    return this.#file.close();
  }

  #closed(stream: SessionStream, reason: VproxyError | null): void {
    this.#streamCount -= 1;
    this.#context.onClosed(stream, reason);
  }
}

/**
 * One stream. Credit goes back for what the system has taken; its FIN is answered when all of it was. It has one append at a
 * time; lines that come meanwhile are gathered, so that they take about the memory of their bytes.
 */
class FileSink implements StreamSink {
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
