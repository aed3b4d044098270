/**
 * A program that takes its own place: the process hands descriptors and plain data over to another one that it starts, and ends
 * without a word, as `vproxy upgrade` does. Told by where the descriptors of the new one come from: its standard streams.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync, writeSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import type { KeepDescriptor, TakeDescriptor } from '../../lib/system/descriptors.js';

const FIRST_FD = 3;

/** What the process was started with behind the path of its program: the settings, and in a successor the path of the capture. */
export function programArguments(): { readonly settings: unknown; readonly capturePath: string | null } {
  const [, , settings = '{}', capturePath] = process.argv;
  return { settings: JSON.parse(settings) as unknown, capturePath: capturePath ?? null };
}

/** Has `capture` make plain data, starts the program again with that, in `path`, and ends. All of it in this turn. */
export function changeProcess(path: string, capture: (keep: KeepDescriptor) => unknown): never {
  const fds: number[] = [];
  writeFileSync(path, serialize(capture((fd) => fds.push(fd) - 1)));
  spawn(process.execPath, [...process.argv.slice(1, 3), path], { stdio: ['inherit', 'inherit', 'inherit', ...fds] });
  process.exit();
}

/** What the process before has captured. */
export function readCapture(path: string): { readonly capture: unknown; readonly take: TakeDescriptor } {
  return { capture: deserialize(readFileSync(path)) as unknown, take: (index) => FIRST_FD + index };
}

/** Tells the test something, at once. */
export function say(word: string, ...facts: (string | number | null)[]): void {
  writeSync(1, `${JSON.stringify([word, ...facts])}\n`);
}

/** What the processes of a program write together, from byte `from` on. */
export function patternFrom(from: number, byteCount: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(byteCount);
  for (let at = 0; at < byteCount; at += 1) bytes[at] = (from + at) * 31 + ((from + at) >> 8) * 7;
  return bytes;
}
