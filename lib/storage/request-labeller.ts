/** Puts the label of a virtual machine into its storage requests, overriding what the machine claims. */
import { VproxyError } from '../errors.js';
import type { FilterState, InputFilter } from '../forward/input-filter.js';
import { Budget } from '../util/bounds.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import { labelRequest, MAX_REQUEST_BYTES } from './wire.js';

/**
 * Limit on requests in one chunk: honest clients send one and wait for its reply, and small requests cost much more than
 * their bytes.
 */
const MAX_AT_ONCE = 256;

/** For one stream: passes each request on as one line, with the label of the machine as its `vm`. */
export class RequestLabeller implements InputFilter {
  readonly #label: string;
  readonly #budget: Budget;
  readonly #scanner = new JsonScanner(MAX_REQUEST_BYTES, 'storage-bad-request', 'the storage request');
  #unsentBytes: number;

  /** `all` bounds what is buffered for all streams that share it: incomplete requests, and unread ones. */
  constructor(label: string, all: Budget, { held, unsentBytes }: FilterState = { held: NO_BYTES, unsentBytes: 0 }) {
    this.#label = label;
    this.#budget = new Budget(Number.POSITIVE_INFINITY, all);
    this.#unsentBytes = unsentBytes;
    this.push(held);
  }

  get held(): Buffer {
    return this.#scanner.held;
  }

  /** Throws `storage-bad-request` for anything but a JSON object, and `storage-unavailable` if too much is buffered. */
  push(bytes: Buffer): Buffer {
    this.#scanner.push(bytes);
    const requests: Buffer[] = [];
    for (let message = this.#scanner.next(); message !== undefined; message = this.#scanner.next()) {
      if (requests.length === MAX_AT_ONCE) {
        throw new VproxyError('storage-bad-request', `too many storage requests at once (max ${MAX_AT_ONCE})`);
      }
      requests.push(labelRequest(message, this.#label));
    }
    return this.#give(requests);
  }

  /** Passes on a request that only the end of the stream terminates. Throws as `push` does. */
  end(): Buffer {
    const rest = this.#scanner.end();
    return this.#give(rest === undefined ? [] : [labelRequest(rest, this.#label)]);
  }

  sent(byteCount: number): void {
    this.#unsentBytes -= byteCount;
    this.#charge(this.#scanner.held.length + this.#unsentBytes);
  }

  close(): void {
    this.#charge(0);
  }

  #give(requests: readonly Buffer[]): Buffer {
    const bytes = Buffer.concat(requests);
    this.#unsentBytes += bytes.length;
    this.#charge(this.#scanner.held.length + this.#unsentBytes);
    return bytes;
  }

  #charge(byteCount: number): void {
    if (!this.#budget.reserve(byteCount - this.#budget.usedBytes)) {
      throw new VproxyError('storage-unavailable', 'too many bytes buffered for storage requests of this machine');
    }
  }
}

const NO_BYTES = Buffer.alloc(0);
