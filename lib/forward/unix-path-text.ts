/** The text of a unix socket's path in a forward: absolute, short enough, `:-` behind it or not. */
import { VproxyError } from '../errors.js';

/** The longest path of a unix socket, in bytes: sun_path of unix(7) without its final NUL. */
const MAX_UNIX_PATH_BYTES = 107;

/** The path of a text. Throws `bad-argument`. */
export function parseUnixPath(text: string): string {
  const path = text.endsWith(':-') ? text.slice(0, -2) : text;
  if (!path.startsWith('/')) throw bad('the path of a unix socket is absolute');
  if (path.includes('\0')) throw bad('a path cannot contain a NUL');
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_UNIX_PATH_BYTES) throw bad(`a path of ${bytes} bytes exceeds ${MAX_UNIX_PATH_BYTES}`);
  return path;
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
