/** The records on a stream of the service `clock` (R-CLOCK-2). */
import { protocolError } from '../../errors.js';
import { decodeJsonRecord, encodeRecord } from '../../util/bytes/records.js';

export const CLOCK_SERVICE = 'clock';

/** The version of requests and answers. Increases when the meaning of a field changes, not when fields are added. */
export const CLOCK_VERSION = 1;

export const CLOCK_KIND = {
  /** The machine that offers the service: a request for the time, `{"version": 1, "run": "…", "seq": N, "entropy": false}`. */
  ASK: 1,
  /** Answer to ASK: `{"version": 1, "timeMs": N, "upMs": N, "host": "…", "seen": N, "entropy": "…"}`. */
  TOLD: 16,
} as const;

/** The longest payload of a record, in bytes. */
export const MAX_CLOCK_BYTES = 1024;

/** Random bytes in an answer, if requested. */
export const ENTROPY_BYTES = 64;

/** A request: which machine asks, and for how long it has been running. */
export interface ClockRequest {
  /** Identifies the asking process: 1 to 64 characters. */
  readonly run: string;
  /** 1 for its first request, and one more for each. */
  readonly seq: number;
  /** Whether to send random bytes. */
  readonly entropy: boolean;
}

export interface ClockAnswer {
  /** The time of day in milliseconds since 1970; may have fractions. */
  readonly timeMs: number;
  /** The same of the answering machine. */
  readonly upMs: number;
  /** Identifies the answering process: 1 to 64 characters. */
  readonly host: string;
  /** The `seq` of the last request before, if it was of the same process; null otherwise. */
  readonly seen: number | null;
  /** Random bytes; null if there are none. */
  readonly entropy: Buffer | null;
}

export const encodeClockRequest = (request: ClockRequest): Buffer =>
  encodeRecord(CLOCK_KIND.ASK, JSON.stringify({ version: CLOCK_VERSION, ...request }));

export const encodeClockAnswer = ({ entropy, ...answer }: ClockAnswer): Buffer =>
  encodeRecord(
    CLOCK_KIND.TOLD,
    JSON.stringify({ version: CLOCK_VERSION, ...answer, entropy: entropy?.toString('hex') ?? null }),
  );

/** Throws `protocol-error`, also for another version. */
export function decodeClockRequest(payload: Buffer): ClockRequest {
  const { run, seq, entropy = false } = decodeVersion(payload, 'clock: the request');
  if (isName(run) && isCount(seq) && typeof entropy === 'boolean') return { run, seq, entropy };
  throw protocolError('clock: the request is not valid');
}

/** Throws `protocol-error`, also for another version. */
export function decodeClockAnswer(payload: Buffer): ClockAnswer {
  const { timeMs, upMs, host, seen = null, entropy = null } = decodeVersion(payload, 'clock: the answer');
  const isValid = isTime(timeMs) && isTime(upMs) && isName(host) && (seen === null || isCount(seen));
  if (isValid && (entropy === null || (typeof entropy === 'string' && HEX_ENTROPY.test(entropy))))
    return { timeMs, upMs, host, seen, entropy: entropy === null ? null : Buffer.from(entropy, 'hex') };
  throw protocolError('clock: the answer is not valid');
}

const HEX_ENTROPY = new RegExp(`^[0-9a-f]{${2 * ENTROPY_BYTES}}$`);

const MAX_NAME_LENGTH = 64;

/** The year 5138: larger times do not fit into the fields of every system. */
const MAX_TIME_MS = 1e14;

const isName = (value: unknown): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= MAX_NAME_LENGTH;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 1;

const isTime = (value: unknown): value is number => typeof value === 'number' && value >= 0 && value <= MAX_TIME_MS;

function decodeVersion(payload: Buffer, what: string): Record<string, unknown> {
  const record = decodeJsonRecord(payload, what);
  if (record['version'] === CLOCK_VERSION) return record;
  throw protocolError(`${what} has an unsupported version (supported: ${CLOCK_VERSION})`);
}
