/** Answers that are kept for as long as they say, within bounds of time, number and bytes. */

import { ageRecords, type DnsMessage, RCODE, type WrittenRecords } from '../../system/dns/dns-message.js';
import { type DnsRecord, negativeTtlOf, RECORD_TYPE } from '../../system/dns/resource-records.js';
import type { Clock } from '../../util/clock.js';

/** The longest time for which a record is said to be good, in seconds. */
const MAX_TTL = 3600;

/** The same for an answer that there is nothing (RFC 2308, section 5). */
const MAX_NEGATIVE_TTL = 300;

/** What an entry takes beside its bytes, about, and what the place of a record's time does. */
const ENTRY_BYTES = 300;
const OFFSET_BYTES = 8;

interface AnswerCacheOptions {
  readonly clock: Clock;
  /** Default 1,000. */
  readonly maxEntries?: number;
  /** Default 1 MiB. */
  readonly maxBytes?: number;
}

/** What is kept of an answer: written, so that a question for it costs no more than a copy. */
export interface CachedAnswer {
  readonly records: WrittenRecords;
}

interface Entry<T> {
  readonly answer: T;
  readonly bytes: number;
  readonly storedAtMs: number;
  readonly ttl: number;
  /** What has been taken off the times of its records, in seconds. */
  passed: number;
}

/** Answers by a key. Those that were not asked for the longest go first. */
export class AnswerCache<T extends CachedAnswer> {
  readonly #options: Required<AnswerCacheOptions>;
  readonly #entries = new Map<string, Entry<T>>();
  #byteCount = 0;

  constructor({ clock, maxEntries = 1000, maxBytes = 2 ** 20 }: AnswerCacheOptions) {
    this.#options = { clock, maxEntries, maxBytes };
  }

  get size(): number {
    return this.#entries.size;
  }

  /** What is held, with what it takes to hold it, about. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** The answer of that key, its times less what has passed; null where there is none that is still good. Its bytes change with the next call. */
  get(key: string): T | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    this.#remove(key);
    const passed = Math.floor((this.#options.clock.now() - entry.storedAtMs) / 1000);
    if (passed >= entry.ttl) return null;
    if (passed > entry.passed) ageRecords(entry.answer.records, passed - entry.passed);
    entry.passed = passed;
    this.#put(key, entry);
    return entry.answer;
  }

  /** Keeps what was made of a message where that may be kept. Its times are those of `boundTimes`. */
  set(key: string, message: DnsMessage, answer: T): void {
    this.#remove(key);
    const ttl = ttlOf(message);
    if (ttl <= 0) return;
    const { clock, maxBytes, maxEntries } = this.#options;
    const { bytes: recordBytes, ttlOffsets } = answer.records;
    const bytes = recordBytes.length + OFFSET_BYTES * ttlOffsets.length + 2 * key.length + ENTRY_BYTES;
    if (bytes > maxBytes) return;
    this.#put(key, { answer, bytes, storedAtMs: clock.now(), ttl, passed: 0 });
    for (const oldest of this.#entries.keys()) {
      if (this.#byteCount <= maxBytes && this.#entries.size <= maxEntries) return;
      this.#remove(oldest);
    }
  }

  #put(key: string, entry: Entry<T>): void {
    this.#entries.set(key, entry);
    this.#byteCount += entry.bytes;
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#byteCount -= entry.bytes;
  }
}

/** How long an answer is good, in seconds; 0: it is not kept. */
function ttlOf({ rcode, answers, authorities }: DnsMessage): number {
  if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) return 0;
  const times = [...answers, ...authorities].map(({ ttl }) => ttl);
  if (rcode === RCODE.NOERROR && answers.some(({ type }) => type !== RECORD_TYPE.CNAME)) return Math.min(...times);
  // There is nothing, or nothing but a chain that leads to nothing: for how long only the SOA of the zone can say.
  const soa = authorities.find(({ type }) => type === RECORD_TYPE.SOA);
  return soa === undefined ? 0 : Math.min(...times, negativeTtlOf(soa), MAX_NEGATIVE_TTL);
}

/** An answer whose records are good for no longer than they may be; a time with the highest bit set is none (RFC 2181, section 8). */
export function boundTimes(answer: DnsMessage): DnsMessage {
  const bound = (record: DnsRecord): DnsRecord => ({
    ...record,
    ttl: record.ttl > 0x7fffffff ? 0 : Math.min(record.ttl, MAX_TTL),
  });
  return { ...answer, answers: answer.answers.map(bound), authorities: answer.authorities.map(bound) };
}
