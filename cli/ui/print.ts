/** Output of a command to stdout, and human-readable amounts. */
import { fstatSync, writeSync } from 'node:fs';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { describeError, formatJson } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { EXIT_OK } from '../exit.js';

const STDOUT = 1;

/** Whether stdout did not take all at once: then Node's stream writes the rest, and what follows. */
let isLate = false;

/**
 * Writes a text as is, directly, as Node's stream for stdout takes 5 ms to load. If the reader closes stdout, as `| head` does, the
 * process exits with status 0.
 */
export function print(text: string): void {
  let left: Uint8Array = Buffer.from(text);
  try {
    while (!isLate && left.length > 0) left = left.subarray(writeSync(STDOUT, left));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EPIPE') process.exit(EXIT_OK);
    if (code !== 'EAGAIN')
      throw new VproxyError('local-error', `cannot write to standard output: ${describeError(error)}`, {
        cause: error,
      });
    isLate = true;
    process.stdout.on('error', () => process.exit(EXIT_OK));
  }
  if (left.length > 0) process.stdout.write(left);
}

/** Writes a value as JSON, indented, with a newline. */
export function printJson(value: unknown): void {
  print(`${formatJson(value, 2)}\n`);
}

/** Writes the result of a command: as JSON with `--json`, else in lines. */
export function printAnswer(args: Arguments, answer: unknown, describe: () => readonly string[]): void {
  if (args.has('json')) printJson(answer);
  else print(`${describe().join('\n')}\n`);
}

/** Stdout; Node's stream for it is only loaded if it may be a terminal. */
export const output = {
  get isTTY(): boolean {
    return fstatSync(STDOUT).isCharacterDevice() && process.stdout.isTTY;
  },
};

/** The maximum width of lines: the terminal's width, or null if the output is not a terminal. */
export function outputWidth(): number | null {
  return output.isTTY ? process.stdout.columns || 80 : null;
}

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'];

/** `1.2 MB`, with decimal prefixes. */
export function formatBytes(bytes: number): string {
  const exponent = Math.min(PREFIXES.length - 1, bytes < 999.5 ? 0 : Math.floor(Math.log10(bytes * 1.0005) / 3));
  const value = bytes / 1000 ** exponent;
  return `${exponent === 0 ? Math.round(value) : formatThreeDigits(value)} ${PREFIXES[exponent] ?? ''}B`;
}

/** `3.4 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `12s`, `3m 05s`, `2h 05m`, `4d 03h`. */
export function formatAge(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${twoDigits(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${twoDigits(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${twoDigits(hours % 24)}h`;
}

/** `0.31 ms`, `12.3 ms`, `1.25 s`. */
export function formatDuration(ms: number): string {
  if (ms >= 999.5) return `${formatThreeDigits(ms / 1000)} s`;
  return `${ms < 10 ? ms.toFixed(2) : formatThreeDigits(ms)} ms`;
}

/** `2026-03-31 08:59:07.250`, by the clock of this machine. */
export function formatLocalTime(time: Date): string {
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 23).replace('T', ' ');
}

/** 1.2, 12.3, 123. */
function formatThreeDigits(value: number): string {
  return value >= 99.95 ? String(Math.round(value)) : value.toFixed(1);
}

const twoDigits = (value: number): string => String(value).padStart(2, '0');
