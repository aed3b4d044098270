/** Standard input on its way from the caller to a command, within its credit. */
import type { Writable } from 'node:stream';
import { VproxyError } from '../errors.js';
import { STDIN_CREDIT_BYTES } from './messages.js';

/** Credit is given back when so much of it is used. */
const CREDIT_STEP_BYTES = STDIN_CREDIT_BYTES / 2;

/** Pieces shorter than this are put together while they wait: each on its own would cost more than its bytes. */
const SHORT_BYTES = 4096;
const BLOCK_BYTES = 16_384;

/** Takes bytes before there is a command, too. What comes for one that takes nothing any more is dropped. */
export class StdinFeed {
  readonly #sendCredit: (bytes: number) => void;
  #stdin: Writable | null = null;
  readonly #waiting: Buffer[] = [];
  /** What is free of the last one that waits; null where that is not ours to fill. */
  #free: Buffer | null = null;
  #creditBytes = STDIN_CREDIT_BYTES;
  #takenBytes = 0;
  #receivedBytes = 0;
  #isWriting = false;
  #isEnded = false;
  #isDropped = false;

  /** `sendCredit` is told how many more bytes may come. */
  constructor(sendCredit: (bytes: number) => void) {
    this.#sendCredit = sendCredit;
  }

  /** All that came so far. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** The next bytes; kept until the command has taken them. Throws `protocol-error` beyond the credit and behind the end. */
  push(bytes: Buffer): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: STDIN behind its EOF');
    if (bytes.length > this.#creditBytes) {
      throw new VproxyError(
        'protocol-error',
        `exec: STDIN ${bytes.length - this.#creditBytes} bytes beyond its credit`,
      );
    }
    this.#creditBytes -= bytes.length;
    this.#receivedBytes += bytes.length;
    if (this.#isDropped) this.#taken(bytes.length);
    else if (this.#stdin !== null && !this.#isWriting) this.#write(bytes);
    else this.#keep(bytes);
  }

  /** No more will come. Throws `protocol-error` the second time. */
  end(): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: a second EOF of STDIN');
    this.#isEnded = true;
    this.#next();
  }

  /** The command takes what came, and what comes. */
  attach(stdin: Writable): void {
    this.#stdin = stdin;
    stdin.once('close', () => this.drop());
    this.#next();
  }

  /** Nobody takes anything any more. */
  drop(): void {
    this.#isDropped = true;
    this.#free = null;
    for (const bytes of this.#waiting.splice(0)) this.#taken(bytes.length);
  }

  #keep(bytes: Buffer): void {
    if (bytes.length >= SHORT_BYTES) {
      // A copy: what it came in may be 32 times as long, and is kept alive by a view.
      this.#waiting.push(Buffer.from(bytes));
      this.#free = null;
      return;
    }
    for (let rest = bytes; rest.length > 0; ) {
      if (this.#free === null || this.#free.length === 0) {
        this.#free = Buffer.allocUnsafeSlow(BLOCK_BYTES);
        this.#waiting.push(this.#free.subarray(0, 0));
      }
      const count = rest.copy(this.#free);
      const last = this.#waiting[this.#waiting.length - 1] as Buffer;
      this.#waiting[this.#waiting.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + count);
      this.#free = this.#free.subarray(count);
      rest = rest.subarray(count);
    }
  }

  #next(): void {
    if (this.#stdin === null || this.#isWriting || this.#isDropped) return;
    const bytes = this.#waiting.shift();
    // A block that is written is not filled any more.
    if (this.#waiting.length === 0) this.#free = null;
    if (bytes !== undefined) this.#write(bytes);
    else if (this.#isEnded) this.#stdin.end();
  }

  #write(bytes: Buffer): void {
    this.#isWriting = true;
    this.#stdin?.write(bytes, () => {
      this.#isWriting = false;
      this.#taken(bytes.length);
      this.#next();
    });
  }

  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes < CREDIT_STEP_BYTES || this.#isEnded) return;
    this.#creditBytes += this.#takenBytes;
    this.#sendCredit(this.#takenBytes);
    this.#takenBytes = 0;
  }
}
