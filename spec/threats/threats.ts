/** The specs that show a guard, found by their titles. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A spec, by its file in `spec/`, or a case of `conformance/`, and its title, or the beginning or end of that. */
export type SpecPlace = readonly [file: string, title: string];

/** Returns an error if the file is missing or contains no such title, else null. */
export function specFault([file, title]: SpecPlace): string | null {
  const path = file.startsWith('conformance/cases/') ? file : join('spec', file);
  if (!existsSync(path)) return `${path} does not exist`;
  const text = title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const quoted = new RegExp(`['\`}]${text}|${text}(?:['\`]|\\$\\{)`);
  return quoted.test(readFileSync(path, 'utf8')) ? null : `${path} has no title "${title}"`;
}
