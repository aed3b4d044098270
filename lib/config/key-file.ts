/** The path of a key file as an argument. */
import { VproxyError } from '../errors.js';

/** The path itself. Throws `bad-argument` for what can only be a key, and shows nothing of it. */
export function requireKeyFile(path: string): string {
  if (!/^[0-9a-fA-F]{32,}$/.test(path)) return path;
  throw new VproxyError('bad-argument', 'expected the path of a file that has the key, not the key itself');
}
