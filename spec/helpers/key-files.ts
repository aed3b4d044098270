/** Files with keys, for specs that need some. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes a key whose bytes are all `byte` (two hex digits) into a file of `folder`, and gives its path. */
export function writeKeyFile(folder: string, name: string, byte: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, `${byte.repeat(32)}\n`, { mode });
  chmodSync(path, mode);
  return path;
}
