/** What a command writes to stdout. */
import { formatJson } from '../../lib/util/json-line.js';
import { EXIT_OK } from '../exit.js';

let isWatched = false;

/** Writes a text as it is. Whoever wants no more of it, as `| head` does, ends the process with status 0. */
export function print(text: string): void {
  if (!isWatched) process.stdout.on('error', () => process.exit(EXIT_OK));
  isWatched = true;
  process.stdout.write(text);
}

/** Writes a value as JSON, indented, with a newline. */
export function printJson(value: unknown): void {
  print(`${formatJson(value, 2)}\n`);
}

/** How wide lines may be: the terminal's width, or null where the output is none. */
export function outputWidth(): number | null {
  return process.stdout.isTTY ? process.stdout.columns || 80 : null;
}
