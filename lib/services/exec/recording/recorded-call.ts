/** Records a terminal on the calling side, from the bytes of the stream to the service `exec`. */
import type { Log } from '../../../events.js';
import type { StreamObserver } from '../../../session/mux-stream.js';
import { ByteQueue } from '../../../util/bytes/byte-queue.js';
import { RecordReader } from '../../../util/bytes/records.js';
import { commandFacts, logRecorded } from '../command-log.js';
import {
  decodeResize,
  decodeStart,
  decodeStarted,
  EXEC_KIND,
  type ExecRequest,
  STDIN_CREDIT_BYTES,
  type TerminalSize,
} from '../exec-messages.js';
import { decodeJobRequest } from '../jobs/job-messages.js';
import type { RecordingRule, TerminalRecorder } from './terminal-recorder.js';
import type { TerminalRecording } from './terminal-recording.js';

interface RecordedCallOptions {
  readonly recorder: TerminalRecorder;
  readonly rule: RecordingRule;
  readonly log: Log;
}

/** Records one call. Invalid records only end the recording: the two ends of the call report them. */
export class RecordedCall implements StreamObserver {
  readonly #options: RecordedCallOptions;
  readonly #sent: RecordReader;
  readonly #received: RecordReader;
  #request: ExecRequest | null = null;
  #size: TerminalSize | null = null;
  #recording: TerminalRecording | null = null;
  #hasBegun = false;
  #isOver = false;
  /** The bytes of one chunk, joined into one event of the recording: each event costs more than its bytes. */
  readonly #typed = new ByteQueue();
  readonly #shown = new ByteQueue();

  constructor(options: RecordedCallOptions) {
    this.#options = options;
    this.#sent = new RecordReader({
      pieces: new Set([EXEC_KIND.STDIN]),
      onRecord: (kind, payload) => this.#handleSent(kind, payload),
      onPiece: (_kind, bytes) => {
        if (this.#recording !== null || this.#isEarly(bytes)) this.#typed.pushCopy(bytes);
      },
    });
    this.#received = new RecordReader({
      pieces: new Set([EXEC_KIND.STDOUT, EXEC_KIND.STDERR]),
      onRecord: (kind, payload) => this.#handleReceived(kind, payload),
      onPiece: (_kind, bytes) => this.#show(bytes),
    });
  }

  get isWatching(): boolean {
    return !this.#isOver;
  }

  handleSent(bytes: Buffer): void {
    this.#read(this.#sent, bytes);
  }

  handleReceived(bytes: Buffer): void {
    this.#read(this.#received, bytes);
  }

  handleClose(): void {
    this.#isOver = true;
    this.#request = null;
    this.#typed.clear();
    this.#recording?.end();
  }

  #read(reader: RecordReader, bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      reader.push(bytes);
      this.#record();
    } catch {
      this.#record();
      this.handleClose();
    }
  }

  /** Whether this input precedes the answer of the peer, which takes no more than this until then. */
  #isEarly(bytes: Buffer): boolean {
    if (!this.#options.rule.hasInput || this.#request === null || this.#isOver || this.#hasBegun) return false;
    return this.#typed.byteCount + bytes.length <= STDIN_CREDIT_BYTES;
  }

  #record(): void {
    if (!this.#hasBegun) return;
    if (this.#typed.byteCount > 0) this.#recording?.input(this.#typed.shiftAll());
    if (this.#shown.byteCount > 0) this.#recording?.output(this.#shown.shiftAll());
    this.#typed.clear();
    this.#shown.clear();
  }

  #handleSent(kind: number, payload: Buffer): void {
    if (kind === EXEC_KIND.START) {
      this.#request = decodeStart(payload);
      // A command without a terminal is not recorded; a job is, when a caller writes to it.
      this.#isOver = this.#request.terminal === undefined || this.#request.detach !== undefined;
    } else if (kind === EXEC_KIND.ATTACH) {
      const { id, input, columns = 80, rows = 24 } = decodeJobRequest(payload, 'ATTACH');
      this.#request = { argv: ['job', id], terminal: { columns, rows, term: '' } };
      this.#isOver = input !== true;
    } else if (kind === EXEC_KIND.RESIZE) {
      const size = decodeResize(payload);
      if (size === null) return;
      this.#size = size;
      this.#record();
      this.#recording?.resize(size);
    } else if (this.#request === null) this.#isOver = true; // a question about jobs
  }

  #handleReceived(kind: number, payload: Buffer): void {
    if (kind === EXEC_KIND.STARTED) this.#begin(decodeStarted(payload));
    else if (kind === EXEC_KIND.EXIT) {
      this.#record();
      this.handleClose();
    } else this.#begin(null);
  }

  /** Begins the recording even if the peer sent no STARTED. */
  #show(bytes: Buffer): void {
    this.#begin(null);
    if (this.#recording !== null) this.#shown.pushCopy(bytes);
  }

  #begin(pid: number | null): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    const { argv, user = null, cwd = null, terminal } = this.#request ?? { argv: [] };
    if (terminal === undefined) return;
    const { recorder, rule, log } = this.#options;
    const facts = commandFacts({ argv, user, cwd, from: null });
    this.#recording = recorder.begin(rule, facts, { ...terminal, ...this.#size });
    if (this.#recording !== null) logRecorded(log, facts, pid, this.#recording.path);
  }
}
