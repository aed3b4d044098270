/** Names and paths in a copy: which are allowed, their order and length, and where a link may point. */
import { escapeText } from '../../../util/escape.js';

export const MAX_PATH_BYTES = 4096;

/** A path, escaped for messages. */
export const showPath = (path: string): string => escapeText(path, MAX_PATH_BYTES);

/** Whether a value is the name of a single file in a folder, which half a character would not be on the disk. */
export function isPlainName(value: unknown): value is string {
  return (
    typeof value === 'string' && value !== '' && value !== '.' && value !== '..' && !/[/\0]|\p{Surrogate}/u.test(value)
  );
}

/** Orders names in a folder by their bytes. */
export function compareNames(a: string, b: string): number {
  // UTF-16 order is the same except for surrogates.
  if (!SURROGATE.test(a) && !SURROGATE.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

const SURROGATE = /[\ud800-\udfff]/;

/**
 * Whether a link in a folder `depth` levels below the top of the copied tree (0: in the top folder) stays within the tree,
 * whatever other links there are: it is relative, and goes up only at its beginning, where each step is a real folder.
 */
export function isLinkInside(target: string, depth: number): boolean {
  if (target === '' || target.startsWith('/') || target.includes('\0')) return false;
  const parts = target.split('/').filter((part) => part !== '' && part !== '.');
  const upCount = parts.findIndex((part) => part !== '..');
  if (upCount === -1) return parts.length <= depth;
  return upCount <= depth && !parts.slice(upCount).includes('..');
}
