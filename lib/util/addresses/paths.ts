/** The text form of a path after a colon: unchanged, or followed by the empty port `:-`. */
import { badArgument } from '../../errors.js';

/** Parses a path or a name; drops a trailing `:-`. Throws `bad-argument` if it is empty or contains a NUL. */
export function parsePathOrName(text: string): string {
  const path = text.endsWith(':-') ? text.slice(0, -2) : text;
  if (path === '') throw badArgument('missing path, such as /run/vm1.sock');
  if (path.includes('\0')) throw badArgument('a path cannot contain a NUL');
  return path;
}

/** Like `parsePathOrName`, for a path, which must be absolute: a process may be restarted in another folder. */
export function parsePath(text: string): string {
  const path = parsePathOrName(text);
  if (!path.startsWith('/')) throw badArgument('the path must be absolute');
  return path;
}

/** Formats a path; `parsePath` reads it back. */
export function formatPath(path: string): string {
  return path.endsWith(':-') ? `${path}:-` : path;
}

/** A path without trailing slashes; the root keeps one. */
export function withoutFinalSlashes(path: string): string {
  let end = path.length;
  while (end > 1 && path[end - 1] === '/') end -= 1;
  return path.slice(0, end);
}

/** Like `parsePath`, for a unix socket, whose path the system limits. Throws `bad-argument`. */
export function parseSocketPath(text: string): string {
  const path = parsePath(text);
  const byteCount = Buffer.byteLength(path);
  if (byteCount > MAX_SOCKET_PATH_BYTES) {
    throw badArgument(`path of a unix socket too long: ${byteCount} bytes (max ${MAX_SOCKET_PATH_BYTES})`);
  }
  return path;
}

/** `sun_path` of unix(7) without its NUL. Node would silently truncate a longer path. */
export const MAX_SOCKET_PATH_BYTES = 107;
