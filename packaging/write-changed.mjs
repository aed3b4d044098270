// Writes the output of a build: a build without changes touches nothing, so that tests can run at the same time.
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Replaces a file atomically by `text`, with `mode`; leaves a file alone that already has this content. */
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
