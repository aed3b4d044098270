/** The messages of the service `copy`, as records (docs/copy.md). */
import { isObject } from '../../codec/json.js';
import { badArgument, protocolError, VproxyError } from '../../errors.js';
import { decodeJsonRecord, decodeJsonRequest, encodeRecord, MAX_RECORD_BYTES } from '../../util/bytes/records.js';
import { escapeText } from '../../util/escape.js';
import type { KeptBounds } from './kept-list.js';
import { isPlainName, MAX_PATH_BYTES } from './tar/names.js';

export const COPY_SERVICE = 'copy';

/** The kinds of records. The sender is the side that has the files: caller or service. */
export const COPY_KIND = {
  /** Caller: the request, a {@link CopyRequest}; always the first record. */
  START: 1,
  /** Sender: what follows, a {@link CopyPlan}. */
  PLAN: 2,
  /** Receiver: files left by an earlier copy, `{"files": [[name, bytes, sha256], …]}`; repeated as needed. */
  STAGED: 3,
  /** Receiver: ready for the tar, `{"targets": [path, …]}`. */
  READY: 4,
  /** Sender: bytes of the tar. */
  DATA: 5,
  /** Sender: the CRC-32s of the next files, in tar order, u32 each. */
  CHECKS: 6,
  /** Sender: an entry was skipped, or changed while it was read, `{"message": …}`. */
  WARNING: 7,
  /** Sender: the tar is complete. */
  END: 8,
  /** Receiver: everything is in place. */
  DONE: 9,
  /** Either: the copy failed, `{"code", "message"}`; always the last record. */
  ERROR: 10,
  /** Service, if START asks for it: how far it has compared, a {@link Comparison}; repeated as needed. */
  COMPARED: 11,
} as const;

export const MAX_SOURCES = 10_000;

/** Bounds on the files of an earlier copy that are reported, and on their names; all others are sent again. */
export const STAGED_BOUNDS: KeptBounds = { what: 'staged files', maxCount: 200_000, maxBytes: 67_108_864 };

/** A requested file or folder. */
export interface CopySource {
  /** A path on the sender's machine: absolute, or relative to a home directory. */
  readonly path: string;
  /** Its name in the tar, and in the folder that it is copied into. */
  readonly name: string;
}

export type CopyRequest = RequestFlags &
  (
    | {
        readonly direction: 'put';
        /** Absolute, or relative to a home directory. */
        readonly target: string;
      }
    | {
        readonly direction: 'get';
        readonly sources: readonly CopySource[];
        /** Whether the sender counts everything first, to show the progress. */
        readonly hasTotals: boolean;
      }
  );

/** The paths on the machine of the service. */
export const pathsOf = (request: CopyRequest): string[] =>
  request.direction === 'put' ? [request.target] : request.sources.map(({ path }) => path);

interface RequestFlags {
  /** Whether to continue with the files left by an earlier copy. */
  readonly isResumed: boolean;
  /** Whether the caller understands COMPARED; older versions never ask for it. */
  readonly isComparisonTold: boolean;
  /** Whether to keep links that point outside the copied tree; older versions never ask for it, and refuse such links. */
  readonly keepsLinks: boolean;
}

/** How far a side has read the files left by an earlier copy, or the sources to compare with them. */
export interface Comparison {
  /** How much it has read. */
  readonly bytes: number;
  /** The size of everything that the earlier copy left. */
  readonly totalBytes: number;
}

export interface CopyRoot {
  readonly name: string;
  readonly kind: 'file' | 'folder';
}

export interface CopyTotals {
  readonly files: number;
  readonly folders: number;
  readonly links: number;
  readonly bytes: number;
}

export interface CopyPlan {
  /** Sorted by name. */
  readonly roots: readonly CopyRoot[];
  /** Null if not requested. */
  readonly totals: CopyTotals | null;
}

/** A file left by an earlier copy: its name in the tar, its size so far, and the SHA-256 of that part in hex. */
export type StagedFile = readonly [name: string, bytes: number, sha256: string];

/** A record with a JSON object. Throws `bad-argument` if it exceeds a record, as many thousands of sources may. */
export function encodeMessage(kind: number, value: object): Buffer {
  const payload = Buffer.from(JSON.stringify(value));
  if (payload.length > MAX_RECORD_BYTES) throw tooManyPaths();
  return encodeRecord(kind, payload);
}

export const tooManyPaths = (): VproxyError =>
  badArgument('the paths of all sources together are too long; copy their folder instead');

export function encodeChecks(checks: readonly number[]): Buffer {
  const payload = Buffer.allocUnsafe(4 * checks.length);
  checks.forEach((check, index) => payload.writeUInt32BE(check, 4 * index));
  return encodeRecord(COPY_KIND.CHECKS, payload);
}

/** The record that ends a failed copy. */
export const encodeError = ({ code, message }: VproxyError): Buffer =>
  encodeMessage(COPY_KIND.ERROR, { code, message: message.slice(0, MAX_MESSAGE_LENGTH) });

/** The request in a START. Throws `protocol-error`, like all decoders below. */
export function decodeStart(payload: Buffer): CopyRequest {
  const { direction, target, sources, hasTotals, ...given } = decodeJsonRequest(
    payload,
    'copy: START',
    'protocol-error',
  );
  const { isResumed, isComparisonTold = false, keepsLinks = false } = given;
  if (typeof isResumed !== 'boolean') throw wrong('START', 'isResumed');
  if (typeof isComparisonTold !== 'boolean') throw wrong('START', 'isComparisonTold');
  if (typeof keepsLinks !== 'boolean') throw wrong('START', 'keepsLinks');
  if (direction === 'put') {
    if (!isPath(target)) throw wrong('START', 'target');
    return { direction, target, isResumed, isComparisonTold, keepsLinks };
  }
  if (direction !== 'get') throw wrong('START', 'direction');
  if (typeof hasTotals !== 'boolean') throw wrong('START', 'hasTotals');
  const list = decodeList(sources, 'START', 'sources', MAX_SOURCES).map((source): CopySource => {
    if (!isObject(source) || !isPath(source['path']) || !isName(source['name'])) throw wrong('START', 'sources');
    return { path: source['path'], name: source['name'] };
  });
  if (list.length === 0) throw wrong('START', 'sources');
  return { direction, sources: list, isResumed, isComparisonTold, keepsLinks, hasTotals };
}

export function decodePlan(payload: Buffer): CopyPlan {
  const { roots, totals } = decode(payload, 'PLAN');
  const list = decodeList(roots, 'PLAN', 'roots', MAX_SOURCES).map((root): CopyRoot => {
    if (!isObject(root) || !isName(root['name'])) throw wrong('PLAN', 'roots');
    const { name, kind } = root;
    if (kind !== 'file' && kind !== 'folder') throw wrong('PLAN', 'roots');
    return { name: name, kind };
  });
  if (list.length === 0) throw wrong('PLAN', 'roots');
  if (totals === null) return { roots: list, totals };
  if (!isObject(totals)) throw wrong('PLAN', 'totals');
  const { files, folders, links, bytes } = totals;
  if (!isCount(files) || !isCount(folders) || !isCount(links) || !isCount(bytes)) throw wrong('PLAN', 'totals');
  return { roots: list, totals: { files, folders, links, bytes } };
}

export function decodeStaged(payload: Buffer): StagedFile[] {
  const { files } = decode(payload, 'STAGED');
  return decodeList(files, 'STAGED', 'files', STAGED_BOUNDS.maxCount).map((file): StagedFile => {
    const [name, bytes, sha256] = Array.isArray(file) ? (file as unknown[]) : [];
    if (typeof name !== 'string' || !isCount(bytes) || typeof sha256 !== 'string') throw wrong('STAGED', 'files');
    requireLength('STAGED', 'name', Buffer.byteLength(name), MAX_PATH_BYTES);
    if (sha256.length !== HASH_LENGTH) {
      const found = `hash of ${sha256.length} characters, expected ${HASH_LENGTH}`;
      throw protocolError(`copy: STAGED: ${found}`);
    }
    if (!/^[0-9a-f]*$/.test(sha256)) throw wrong('STAGED', 'hash');
    return [name, bytes, sha256];
  });
}

const HASH_LENGTH = 64;

export function decodeCompared(payload: Buffer): Comparison {
  const { bytes, totalBytes } = decode(payload, 'COMPARED');
  if (!isCount(bytes) || !isCount(totalBytes)) throw wrong('COMPARED', 'bytes');
  return { bytes, totalBytes };
}

/** The paths in a READY, escaped for display. */
export function decodeReady(payload: Buffer): string[] {
  const { targets } = decode(payload, 'READY');
  return decodeList(targets, 'READY', 'targets', MAX_SOURCES).map((target) => {
    if (typeof target !== 'string') throw wrong('READY', 'targets');
    requireLength('READY', 'path', Buffer.byteLength(target), MAX_PATH_BYTES);
    return escapeText(target, MAX_PATH_BYTES);
  });
}

/** The text of a WARNING, escaped for display. */
export function decodeWarning(payload: Buffer): string {
  const { message } = decode(payload, 'WARNING');
  if (typeof message !== 'string') throw wrong('WARNING', 'message');
  return escapeText(message, MAX_MESSAGE_LENGTH);
}

/** The peer's error, escaped for display. */
export function decodeError(payload: Buffer): VproxyError {
  const { code, message } = decode(payload, 'ERROR');
  if (typeof code !== 'string' || !/^[a-z0-9-]{1,64}$/.test(code)) throw wrong('ERROR', 'code');
  if (typeof message !== 'string') throw wrong('ERROR', 'message');
  return new VproxyError(code, `peer: ${escapeText(message, MAX_MESSAGE_LENGTH)}`);
}

/** Room for two paths and some text. */
const MAX_MESSAGE_LENGTH = 2 * MAX_PATH_BYTES + 512;

const decode = (payload: Buffer, what: string): Record<string, unknown> => decodeJsonRecord(payload, `copy: ${what}`);

function requireLength(what: string, field: string, bytes: number, mostBytes: number): void {
  if (bytes <= mostBytes) return;
  throw protocolError(`copy: ${what}: ${field} too long: ${bytes} bytes (max ${mostBytes})`);
}

function decodeList(value: unknown, what: string, field: string, most: number): unknown[] {
  if (!Array.isArray(value) || value.length > most) throw wrong(what, field);
  return value;
}

const isPath = (value: unknown): value is string =>
  typeof value === 'string' && !/\0|\p{Surrogate}/u.test(value) && Buffer.byteLength(value) <= MAX_PATH_BYTES;

const isName = (value: unknown): value is string => isPlainName(value) && Buffer.byteLength(value) <= MAX_PATH_BYTES;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const wrong = (what: string, field: string): VproxyError => protocolError(`copy: ${what}: ${field} is not valid`);
