/** The text form of a path behind a colon: as it is, or with the empty port `:-` behind it. */
import { VproxyError } from '../errors.js';

/** The path of a text; a trailing `:-` is dropped. Throws `bad-argument` where nothing is left or a NUL is in it. */
export function parsePath(text: string): string {
  const path = text.endsWith(':-') ? text.slice(0, -2) : text;
  if (path === '' || path.includes('\0'))
    throw new VproxyError('bad-argument', 'a path is missing, such as /run/vm1.sock');
  return path;
}

/** The text of a path; `parsePath` reads it back. */
export function formatPath(path: string): string {
  return path.endsWith(':-') ? `${path}:-` : path;
}

/** As `parsePath`, for a unix socket, whose path the system limits. Throws `bad-argument`. */
export function parseSocketPath(text: string): string {
  const path = parsePath(text);
  const byteCount = Buffer.byteLength(path);
  if (byteCount > MAX_SOCKET_PATH_BYTES) {
    throw new VproxyError(
      'bad-argument',
      `the path of a unix socket has ${byteCount} bytes, the system allows ${MAX_SOCKET_PATH_BYTES}`,
    );
  }
  return path;
}

/** `sun_path` of unix(7) without its NUL. Node would cut a longer path without a word. */
const MAX_SOCKET_PATH_BYTES = 107;
