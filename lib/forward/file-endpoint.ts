/** `file:/path[,rotate=10M][,keep=5]`: what comes is appended to a file, line by line. */
import { VproxyError } from '../errors.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../util/comma-list.js';
import { escapeText } from '../util/escape.js';
import type { EndpointKind } from './endpoint-kind.js';
import { FileTarget } from './file-target.js';
import type { Rotation } from './log-file.js';

export interface FileEndpoint {
  readonly kind: 'file';
  readonly path: string;
  /** Default: the file is never rotated. */
  readonly rotation?: Rotation;
}

const DEFAULT_KEEP = 5;
const MAX_KEEP = 999;
const LEAST_ROTATE_BYTES = 4096;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** The kind `file`. */
export const fileEndpoint: EndpointKind<FileEndpoint> = {
  form: { incoming: 'file:/path[,rotate=10M][,keep=5]' },
  parse(text) {
    const [path = '', ...options] = splitAtCommas(text);
    const values = parseKeyValues(options);
    requireKnown(values, ['rotate', 'keep']);
    if (!path.startsWith('/') || path.endsWith('/'))
      throw bad('the path of a file is absolute, and ends with its name');
    if (path.includes('\0')) throw bad('a path cannot contain a NUL');
    const rotate = values.get('rotate');
    const keep = values.get('keep');
    if (rotate === undefined) {
      if (keep !== undefined) throw bad('keep= needs rotate=');
      return { kind: 'file', path };
    }
    return { kind: 'file', path, rotation: { maxBytes: parseSize(rotate), keep: parseKeep(keep) } };
  },
  format({ path, rotation }) {
    const options = rotation === undefined ? [] : [`rotate=${formatSize(rotation.maxBytes)}`, `keep=${rotation.keep}`];
    return joinWithCommas([path, ...options]);
  },
  createTarget: ({ path, rotation }, context) => new FileTarget(path, rotation ?? null, context),
};

function parseSize(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,12})([KMG]?)$/.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit] ?? 0);
  if (bytes >= LEAST_ROTATE_BYTES && bytes <= Number.MAX_SAFE_INTEGER) return bytes;
  throw bad(
    `rotate=${escapeText(text, 32)} is not a size from ${LEAST_ROTATE_BYTES} bytes on, such as 500K, 10M or 2G`,
  );
}

function formatSize(bytes: number): string {
  const [unit, size] = Object.entries(UNITS).findLast(([, factor]) => bytes % factor === 0) ?? ['', 1];
  return `${bytes / size}${unit}`;
}

function parseKeep(text: string | undefined): number {
  if (text === undefined) return DEFAULT_KEEP;
  const keep = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (keep >= 1 && keep <= MAX_KEEP) return keep;
  throw bad(`keep=${escapeText(text, 32)} is not a number of files from 1 to ${MAX_KEEP}`);
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
