/** What a command writes to stdout. */
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

/** JSON in which nothing can move the cursor of a terminal. */
export function formatJson(value: unknown, indent = 0): string {
  return JSON.stringify(value, null, indent).replace(
    UNSAFE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const UNSAFE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** How wide lines may be: the terminal's width, or null where the output is none. */
export function outputWidth(): number | null {
  return process.stdout.isTTY ? process.stdout.columns || 80 : null;
}
