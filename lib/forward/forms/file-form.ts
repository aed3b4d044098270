/** `file:/path[,rotate=10M][,keep=5]`. */
import { badArgument } from '../../errors.js';
import type { Rotation } from '../../system/files/log-file.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../../util/addresses/comma-options.js';
import { escapeText } from '../../util/escape.js';
import { formatUnits, parseUnits, type Units } from '../../util/units.js';
import type { EndpointForm } from './endpoint-form.js';

export interface FileEndpoint {
  readonly kind: 'file';
  readonly path: string;
  /** Default: the file is never rotated. */
  readonly rotation?: Rotation;
}

const DEFAULT_KEEP = 5;
const MAX_KEEP = 999;
const LEAST_ROTATE_BYTES = 4096;

/** Size suffixes, in bytes. */
const ROTATE_UNITS: Units = [
  ['G', 2 ** 30],
  ['M', 2 ** 20],
  ['K', 2 ** 10],
  ['', 1],
];

export const fileForm: EndpointForm<FileEndpoint> = {
  form: { incoming: 'file:/path[,rotate=10M][,keep=5]' },
  parse: parseFileEndpoint,
  format({ path, rotation }) {
    const options =
      rotation === undefined ? [] : [`rotate=${formatUnits(rotation.maxBytes, ROTATE_UNITS)}`, `keep=${rotation.keep}`];
    return joinWithCommas([path, ...options]);
  },
};

/** Parses `/path[,rotate=10M][,keep=5]`. Throws `bad-argument`. */
export function parseFileEndpoint(text: string): FileEndpoint {
  const [path = '', ...options] = splitAtCommas(text);
  const values = parseKeyValues(options);
  requireKnown(values, ['rotate', 'keep']);
  if (!path.startsWith('/') || path.endsWith('/'))
    throw badArgument('the path of a file must be absolute and end with the file name');
  if (path.includes('\0')) throw badArgument('a path cannot contain a NUL');
  const rotate = values.get('rotate');
  const keep = values.get('keep');
  if (rotate === undefined) {
    if (keep !== undefined) throw badArgument('keep=: only allowed with rotate=');
    return { kind: 'file', path };
  }
  return { kind: 'file', path, rotation: { maxBytes: parseRotate(rotate), keep: parseKeep(keep) } };
}

function parseRotate(text: string): number {
  const bytes = parseUnits(text, ROTATE_UNITS) ?? 0;
  if (bytes >= LEAST_ROTATE_BYTES && bytes <= Number.MAX_SAFE_INTEGER) return bytes;
  throw badArgument(
    `rotate=${escapeText(text, 32)}: must be a size of at least ${LEAST_ROTATE_BYTES} bytes, such as 500K, 10M or 2G`,
  );
}

function parseKeep(text: string | undefined): number {
  if (text === undefined) return DEFAULT_KEEP;
  const keep = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (keep >= 1 && keep <= MAX_KEEP) return keep;
  throw badArgument(`keep=${escapeText(text, 32)}: must be a number of files from 1 to ${MAX_KEEP}`);
}
