/** Problems of a configuration: each with its place, and all of them as one error. */

import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** A place in a configuration: keys from the outside in; numbers are indexes of a list. */
export type KeyPath = readonly (string | number)[];

export interface Problem {
  readonly where: KeyPath;
  /** One line; text from the file is escaped. */
  readonly message: string;
}

export interface FileProblem {
  /** The path of the file. */
  readonly file: string;
  /** A position in the text, counted from 1, or a key; empty: the file as a whole. */
  readonly where: { readonly line: number; readonly column: number } | KeyPath;
  readonly message: string;
}

export const showFile = (path: string): string => escapeText(path, 1024);

/** `FILE:LINE:COLUMN: …`, `FILE: channels.vm1.outgoing[0]: …`, or `FILE: …`. */
export function formatProblem({ file, where, message }: FileProblem): string {
  const name = showFile(file);
  if ('line' in where) return `${name}:${where.line}:${where.column}: ${message}`;
  return where.length === 0 ? `${name}: ${message}` : `${name}: ${formatKeyPath(where)}: ${message}`;
}

/** `channels."vm.1".outgoing[0]`, as TOML would write it. */
export function formatKeyPath(path: KeyPath): string {
  const parts = path.map((key) => {
    if (typeof key === 'number') return `[${key}]`;
    return `.${/^[A-Za-z0-9_-]+$/.test(key) ? key : `"${escapeText(key, 80)}"`}`;
  });
  return parts.join('').replace(/^\./, '');
}

/** The error `bad-file` with all problems. */
export class BadFileError extends VproxyError {
  /** A line for each: `FILE:LINE:COLUMN: …` or `FILE: KEY: …`. */
  readonly problems: readonly string[];
  /** At least one. */
  readonly details: readonly FileProblem[];

  constructor(details: readonly FileProblem[]) {
    const problems = details.map(formatProblem);
    const [first = 'cannot be read', ...others] = problems;
    super('bad-file', others.length === 0 ? first : `${first} (and ${others.length} more)`);
    this.problems = problems;
    this.details = details;
  }
}
