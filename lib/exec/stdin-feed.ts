/** Standard input on its way from the caller to a command, within its credit. */
import type { Writable } from 'node:stream';
import { VproxyError } from '../errors.js';
import { ByteQueue } from '../util/byte-queue.js';
import { STDIN_CREDIT_BYTES } from './messages.js';

/** Credit is given back when so much of it is used. */
const CREDIT_STEP_BYTES = STDIN_CREDIT_BYTES / 2;

/** Takes bytes before there is a command, too. What comes for one that takes nothing any more is dropped. */
export class StdinFeed {
  readonly #sendCredit: (bytes: number) => void;
  #stdin: Writable | null = null;
  readonly #waiting = new ByteQueue();
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
    else this.#waiting.pushCopy(bytes);
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
    const bytes = this.#waiting.byteCount;
    this.#waiting.clear();
    this.#taken(bytes);
  }

  #next(): void {
    if (this.#stdin === null || this.#isWriting || this.#isDropped) return;
    const block = this.#waiting.shift();
    if (block !== null) this.#write(block.bytes);
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
