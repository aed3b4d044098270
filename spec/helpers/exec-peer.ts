/** The runner's side of a stream to `exec`, as a test plays it: it notes what comes, and says what it is told to. */
import { Duplex } from 'node:stream';
import { EXEC_KIND, type ExecRequest, type ExecResult, encodeCredit, encodeExit } from '../../lib/exec/messages.js';
import { encodeRecord, RecordReader } from '../../lib/util/records.js';

/** How an ordinary command ends. */
export const SUCCESS: ExecResult = { status: 0, signal: null, timedOut: false, durationMs: 1, error: null };

/** The runner. */
export class ExecPeer {
  /** Its end of the stream. */
  readonly stream: Duplex;
  /** What the caller said, but for standard input: the kind's name and the payload as a text. */
  readonly said: string[] = [];
  /** All of standard input so far. */
  input = Buffer.alloc(0);
  request: ExecRequest | null = null;

  constructor(stream: Duplex) {
    this.stream = stream;
    const reader = new RecordReader({
      pieces: new Set([EXEC_KIND.STDIN]),
      onRecord: (kind, payload) => {
        if (kind === EXEC_KIND.START) this.request = JSON.parse(payload.toString()) as ExecRequest;
        else
          this.said.push(`${nameOf(kind)} ${kind === EXEC_KIND.SIGNAL ? payload.toString() : payload.toString('hex')}`);
      },
      onPiece: (_kind, bytes) => {
        this.input = Buffer.concat([this.input, bytes]);
      },
    });
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
    stream.on('error', () => undefined);
  }

  /** Says one record; false where the caller takes no more for now. */
  say(kind: keyof typeof EXEC_KIND, payload: Uint8Array | string): boolean {
    return this.stream.write(encodeRecord(EXEC_KIND[kind], payload));
  }

  /** Gives credit. */
  grant(bytes: number): void {
    this.stream.write(encodeCredit(bytes));
  }

  /** Says how the command ended, and ends the stream. */
  exit(result: Partial<ExecResult> = {}): void {
    this.stream.end(encodeExit({ ...SUCCESS, ...result }));
  }
}

/** Two ends of a stream in memory; `destroy` of one with an error destroys the other with it, as a reset does. */
export function duplexPair(): readonly [Duplex, Duplex] {
  const a = new PairedDuplex();
  const b = new PairedDuplex();
  a.other = b;
  b.other = a;
  return [a, b];
}

type Callback = (error?: Error | null) => void;

class PairedDuplex extends Duplex {
  other: PairedDuplex | null = null;
  #onRead: Callback | null = null;

  constructor() {
    super({ allowHalfOpen: true, highWaterMark: 65_536 });
  }

  override _read(): void {
    const onRead = this.#onRead;
    this.#onRead = null;
    onRead?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    if (this.other?.accept(chunk, callback) !== true) callback();
  }

  override _final(callback: Callback): void {
    this.other?.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const reason = error ?? new Error('the other end destroyed the stream');
    if (this.other?.destroyed === false && !this.readableEnded) this.other.destroy(reason);
    callback(error);
  }

  /** True where `onRead` will be called when there is room again. */
  accept(chunk: Buffer, onRead: Callback): boolean {
    if (this.destroyed || this.push(chunk)) return false;
    this.#onRead = onRead;
    return true;
  }
}

const nameOf = (kind: number): string =>
  Object.entries(EXEC_KIND).find(([, value]) => value === kind)?.[0] ?? String(kind);
