/** The records on a stream of the service `freeze` (R-FREEZE-1 to 4). */
import { protocolError } from '../../errors.js';
import { decodeJsonRecord, decodeJsonRequest, encodeRecord } from '../../util/bytes/records.js';

export const FREEZE_SERVICE = 'freeze';

/** The version of the records. Increases when the meaning of a field changes, not when fields are added. */
export const FREEZE_VERSION = 1;

export const FREEZE_KIND = {
  /** The host: `{"version": 1, "paths": […], "forMs": N}`. */
  FREEZE: 1,
  /** The machine: `{"version": 1, "paths": […]}`. */
  FROZEN: 16,
  /** Nothing is frozen: `{"version": 1, "message": "…"}`. */
  FAILED: 17,
  /** `{"version": 1, "heldMs": N, "cause": "asked"}`. */
  THAWED: 18,
} as const;

/** The longest payload of a record, in bytes. */
export const MAX_FREEZE_BYTES = 65_536;

/** How long file systems may stay frozen, in milliseconds. */
export const FREEZE_RANGE_MS = { min: 1000, max: 60_000 } as const;

export const MAX_FREEZE_PATHS = 64;

const MAX_PATH_LENGTH = 4096;

export const MAX_MESSAGE_LENGTH = 1024;

export interface FreezeRequest {
  /** Mount points; none: the machine chooses. */
  readonly paths: readonly string[];
  /** The time after which the machine thaws, in milliseconds. */
  readonly forMs: number;
}

export type ThawCause = 'asked' | 'time';

export interface Thawed {
  /** How long something was frozen, in milliseconds. */
  readonly heldMs: number;
  readonly cause: ThawCause;
}

export const encodeFreezeRecord = (kind: number, fields: object): Buffer =>
  encodeRecord(kind, JSON.stringify({ version: FREEZE_VERSION, ...fields }));

/** Throws `protocol-error`, as the others do. */
export function decodeFreeze(payload: Buffer): FreezeRequest {
  const { paths, forMs } = decodeVersion(payload, decodeJsonRequest);
  const isTime =
    Number.isSafeInteger(forMs) && Number(forMs) >= FREEZE_RANGE_MS.min && Number(forMs) <= FREEZE_RANGE_MS.max;
  if (isTime && arePaths(paths)) return { paths, forMs: Number(forMs) };
  throw protocolError('freeze: the request is not valid');
}

/** Returns the mount points that are frozen. */
export function decodeFrozen(payload: Buffer): readonly string[] {
  const { paths } = decodeVersion(payload);
  if (arePaths(paths) && paths.length > 0) return paths;
  throw protocolError('freeze: the answer is not valid');
}

export function decodeFailed(payload: Buffer): string {
  const { message } = decodeVersion(payload);
  if (typeof message === 'string' && message.length <= MAX_MESSAGE_LENGTH) return message;
  throw protocolError('freeze: the answer is not valid');
}

export function decodeThawed(payload: Buffer): Thawed {
  const { heldMs, cause } = decodeVersion(payload);
  if (typeof heldMs === 'number' && heldMs >= 0 && (cause === 'asked' || cause === 'time')) return { heldMs, cause };
  throw protocolError('freeze: the answer is not valid');
}

const arePaths = (value: unknown): value is string[] =>
  Array.isArray(value) &&
  value.length <= MAX_FREEZE_PATHS &&
  value.every(
    (path) =>
      typeof path === 'string' &&
      path.startsWith('/') &&
      !path.includes('\0') &&
      Buffer.byteLength(path) <= MAX_PATH_LENGTH,
  );

function decodeVersion(payload: Buffer, decode: typeof decodeJsonRequest = decodeJsonRecord): Record<string, unknown> {
  const record = decode(payload, 'freeze: the record', 'protocol-error');
  if (record['version'] === FREEZE_VERSION) return record;
  throw protocolError(`freeze: the record has an unsupported version (supported: ${FREEZE_VERSION})`);
}
