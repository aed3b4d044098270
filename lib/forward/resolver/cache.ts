/** Caches answers for their TTL, within limits of time, number and bytes. */

import { ageRecords, type DnsMessage, RCODE, type WrittenRecords } from '../../system/dns/dns-message.js';
import { type DnsRecord, negativeTtlOf, RECORD_TYPE } from '../../system/dns/resource-records.js';
import type { Clock } from '../../util/clock.js';

/** Longest TTL of a record, in seconds. */
const MAX_TTL = 3600;

/** The same for negative answers (RFC 2308, section 5). */
const MAX_NEGATIVE_TTL = 300;

/** Approximate overhead of an entry, and of the offset of a record's TTL. */
const ENTRY_BYTES = 300;
const OFFSET_BYTES = 8;

interface AnswerCacheOptions {
  readonly clock: Clock;
  /** Default 1,000. */
  readonly maxEntries?: number;
  /** Default 1 MiB. */
  readonly maxBytes?: number;
}

/** A cached answer, already encoded, so that a hit costs no more than a copy. */
export interface CachedAnswer {
  readonly records: WrittenRecords;
}

interface Entry<T> {
  readonly answer: T;
  readonly bytes: number;
  readonly storedAtMs: number;
  readonly ttl: number;
  /** Seconds already subtracted from the TTLs of its records. */
  passed: number;
}

/** Answers by key; evicts the least recently used first. */
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

  /** Approximate memory in use, overhead included. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** The unexpired answer of a key with its TTLs reduced, or null. The next call changes its bytes. */
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

  /** Caches the answer made from a message, if that may be cached. Its TTLs are those of `boundTimes`. */
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

/** The TTL of an answer in seconds; 0 if it must not be cached. */
function ttlOf({ rcode, answers, authorities }: DnsMessage): number {
  if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) return 0;
  const times = [...answers, ...authorities].map(({ ttl }) => ttl);
  if (rcode === RCODE.NOERROR && answers.some(({ type }) => type !== RECORD_TYPE.CNAME)) return Math.min(...times);
  // A negative answer, or only a CNAME chain to one: only the SOA of the zone has a TTL for that.
  const soa = authorities.find(({ type }) => type === RECORD_TYPE.SOA);
  return soa === undefined ? 0 : Math.min(...times, negativeTtlOf(soa), MAX_NEGATIVE_TTL);
}

/** Limits the TTLs of an answer; one with the highest bit set counts as 0 (RFC 2181, section 8). */
export function boundTimes(answer: DnsMessage): DnsMessage {
  const bound = (record: DnsRecord): DnsRecord => ({
    ...record,
    ttl: record.ttl > 0x7fffffff ? 0 : Math.min(record.ttl, MAX_TTL),
  });
  return { ...answer, answers: answer.answers.map(bound), authorities: answer.authorities.map(bound) };
}
