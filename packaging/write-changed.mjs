// Writes what a build makes: a build that changes nothing touches nothing, so that tests can run beside it.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Makes `text` the content of a file, which is replaced as a whole; a file that has that content is left alone. */
export function writeChanged(path, text) {
  if (readText(path) === text) return;
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
