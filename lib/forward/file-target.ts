/** A target that appends the lines of all its streams to one file. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { StreamSink } from '../session/stream-sink.js';
import { describeError } from '../util/describe-error.js';
import { LineBuffer } from './line-buffer.js';
import { LogFile, type Rotation } from './log-file.js';
import { refuseBeyond, type Target, type TargetContext } from './target.js';

const NOTHING = Buffer.alloc(0);

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

/** One stream. Credit goes back for what the system has taken; its FIN is answered when all of it was. */
class FileSink implements StreamSink {
  readonly #stream: SessionStream;
  readonly #file: LogFile;
  readonly #onDone: (reason: VproxyError | null) => void;
  readonly #lines = new LineBuffer();
  #pendingBytes = 0;

  constructor(stream: SessionStream, file: LogFile, onDone: (reason: VproxyError | null) => void) {
    this.#stream = stream;
    this.#file = file;
    this.#onDone = onDone;
  }

  handleData(bytes: Buffer): boolean {
    this.#pendingBytes += bytes.length;
    const lines = this.#lines.add(bytes);
    const done = this.#pendingBytes - this.#lines.heldBytes;
    this.#pendingBytes -= done;
    if (done > 0) this.#file.append(lines ?? NOTHING, () => this.#stream.release(done));
    return false;
  }

  handleFin(): void {
    const lastBytes = this.#pendingBytes;
    this.#pendingBytes = 0;
    this.#file.append(this.#lines.end() ?? NOTHING, () => {
      this.#stream.release(lastBytes);
      this.#stream.finish();
    });
  }

  /** What a stream brought before it was torn down is written; it counts as open until then. */
  handleEnd(reason: VproxyError | null): void {
    this.#file.append(this.#lines.end() ?? NOTHING, () => this.#onDone(reason));
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
