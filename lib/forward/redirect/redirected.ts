/** How the peer of an egress asks for the destination of a redirected connection: CONNECT, with a field that says so. */
import type { CancelTimer, Clock } from '../../util/clock.js';
import { describeError, escapeText } from '../../util/escape.js';
import { endOfHead, type Field, formatHead, parseResponseHead, type RequestHead, valuesOf } from '../egress/head.js';
import { MAX_ASK_S } from '../egress/rules.js';
import type { FilteredConnection, FilterState, InputFilter } from '../input-filter.js';

const REDIRECTED: Field = { name: 'Vproxy-Redirect', value: '1' };

/** Whether a program asked for an address, and may have resolved a name before. */
export const isRedirected = ({ fields }: RequestHead): boolean => valuesOf(fields, 'vproxy-redirect').includes('1');

/** The request for a destination, `ADDR:PORT`. */
export const redirectedRequest = (destination: string): Buffer =>
  formatHead(`CONNECT ${destination} HTTP/1.1`, [{ name: 'Host', value: destination }, REDIRECTED]);

/** Limit on the head of the answer, in bytes. */
const MAX_ANSWER_BYTES = 4096;

/** Longer than an egress may ask an operator. */
const ANSWER_MS = (MAX_ASK_S + 30) * 1000;

const NO_BYTES = Buffer.alloc(0);

/** Keeps the answer to the request from the program. One that refuses the destination resets the connection. */
export class RedirectedAnswer implements InputFilter {
  readonly #connection: FilteredConnection;
  readonly #destination: string;
  readonly #cancelTimeout: CancelTimer;
  #head = NO_BYTES;
  isDone = false;

  constructor(clock: Clock, connection: FilteredConnection, state?: FilterState) {
    const line = state?.held.indexOf('\n') ?? -1;
    this.#connection = connection;
    this.#destination = line > 0 ? (state?.held.toString('latin1', 0, line) ?? '') : (connection.destination ?? '');
    this.#cancelTimeout = clock.schedule(ANSWER_MS, () => this.#refuse('connect-timeout', 'no answer in time'));
    if (state?.held.length === 0) this.#end();
    else if (line > 0) this.#head = Buffer.from(state?.held.subarray(line + 1) ?? NO_BYTES);
  }

  /** The destination and the beginning of the answer; nothing after it. */
  get held(): Buffer {
    return this.isDone ? NO_BYTES : Buffer.concat([Buffer.from(`${this.#destination}\n`), this.#head]);
  }

  push(bytes: Buffer): Buffer {
    const head = Buffer.concat([this.#head, bytes]);
    try {
      const end = endOfHead(head, 0);
      this.#head = head;
      if (end === -1 && head.length < MAX_ANSWER_BYTES) return NO_BYTES;
      if (end === -1 || end > MAX_ANSWER_BYTES) throw new Error('its answer is too long');
      const { phrase, status } = parseResponseHead(head.toString('latin1', 0, end));
      this.#end();
      if (status >= 200 && status < 300) return head.subarray(end);
      this.#refuse('connect-refused', escapeText(`${status} ${phrase}`, 512));
    } catch (error) {
      this.#refuse('connect-refused', `the service is not an egress: ${describeError(error)}`);
    }
    return NO_BYTES;
  }

  end(): Buffer {
    if (!this.isDone) this.#refuse('connect-refused', 'no answer from the egress');
    return NO_BYTES;
  }

  sent(): void {
    // It holds nothing for the program.
  }

  close(): void {
    this.#cancelTimeout();
  }

  #end(): void {
    this.isDone = true;
    this.#head = NO_BYTES;
    this.#cancelTimeout();
  }

  #refuse(code: string, why: string): void {
    this.#end();
    this.#connection.reset(code, `${this.#destination}: ${why}`);
  }
}
