/** The target of a request, read once: what is judged is what is sent (RFC 9112 section 3.2.1, RFC 3986 section 6.2.2). */

export interface RequestTarget {
  /** The decoded path. */
  readonly path: string;
  /** The path as it is sent: unreserved characters decoded, other escapes in upper case. */
  readonly sentPath: string;
  /** The query with its question mark, as received; empty without one. */
  readonly query: string;
}

/** A target that servers may read differently; the message says why. */
export class UnclearTarget extends Error {}

/** Reads a target in origin form, of printable ASCII. Throws {@link UnclearTarget} for any other form, and for an ambiguous path. */
export function readTarget(target: string): RequestTarget {
  const [, raw = '', query = ''] = /^([^?]*)(\?.*)?$/.exec(target) ?? [];
  if (!raw.startsWith('/')) throw new UnclearTarget('the request target is not a path');
  if (target.includes('#')) throw new UnclearTarget('the request target has a fragment');
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) throw new UnclearTarget('the path has a % that is no escape');
  const path = decode(raw);
  if (/%(?:2[fF]|5[cC])|\\/.test(raw)) throw new UnclearTarget('the path has an encoded slash, or a backslash');
  if (/[\0-\x1f\x7f]/.test(path)) throw new UnclearTarget('the path has a control character');
  if (/%[0-9A-Fa-f]{2}/.test(path)) throw new UnclearTarget('the path is encoded twice');
  if (path.includes('//')) throw new UnclearTarget('the path has an empty segment');
  // Some servers drop blanks, or the parameters of a segment, which follow a semicolon, before they resolve it.
  if (/\/\s*\.{1,2}\s*(?:;[^/]*)?(?:\/|$)/.test(path)) throw new UnclearTarget('the path has a segment . or ..');
  return { path, sentPath: raw.replace(/%[0-9A-Fa-f]{2}/g, normalEscape), query };
}

function decode(raw: string): string {
  try {
    return decodeURIComponent(raw);
  } catch {
    throw new UnclearTarget('the path is not UTF-8');
  }
}

/** The normal forms of escapes in lower and upper case; of one in mixed case, its upper case is. */
const NORMAL_ESCAPES: ReadonlyMap<string, string> = new Map(
  Array.from({ length: 256 }, (_, byte) => {
    const character = String.fromCharCode(byte);
    const escape = `%${byte.toString(16).padStart(2, '0')}`;
    const normal = /[\w.~-]/.test(character) ? character : escape.toUpperCase();
    return [
      [escape, normal],
      [escape.toUpperCase(), normal],
    ] as const;
  }).flat(),
);

const normalEscape = (escape: string): string => NORMAL_ESCAPES.get(escape) ?? escape.toUpperCase();
