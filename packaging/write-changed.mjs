// Writes what a build makes: a build that changes nothing touches nothing, so that tests can run beside it.
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Makes `text` the content of a file, which is replaced as a whole and gets `mode`; a file that has that content is left alone. */
export function writeChanged(path, text, mode = 0o644) {
  if (readText(path) === text) return;
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, text);
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
