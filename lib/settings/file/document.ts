/** The text of a configuration file, TOML or JSON, as a plain value. */
import { parse, TomlError } from 'smol-toml';
import { escapeText } from '../../util/escape.js';
import type { FileProblem } from '../problem.js';

/** Deeper than any configuration. */
const MAX_DEPTH = 16;

/** A file, read and parsed: its value, or why it has none. */
export type ConfigurationDocument = {
  readonly file: string;
  /** Whether a folder has it, in which any other program may have put it. Default false. */
  readonly isInFolder?: boolean;
} & Outcome;

type Outcome = { readonly value: unknown } | { readonly problem: Omit<FileProblem, 'file'> };

/** Parses a text. A name ending in `.json` or `.toml` decides the format; otherwise it is JSON if it begins as an object. */
export function parseDocument(text: string, file: string): ConfigurationDocument {
  const isJson = file.endsWith('.json') || (!file.endsWith('.toml') && /^\s*\{/.test(text));
  return { file, ...(isJson ? parseJson(text) : parseToml(text)) };
}

function parseJson(text: string): Outcome {
  const fault = findJsonFault(text, MAX_DEPTH);
  if (fault === null) return { value: JSON.parse(text) };
  const before = text.slice(0, fault.offset).split('\n');
  const where = { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
  return { problem: { where, message: `not valid JSON: ${fault.message}` } };
}

function parseToml(text: string): Outcome {
  try {
    return { value: parse(text, { maxDepth: MAX_DEPTH }) };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    const where = error instanceof TomlError ? { line: error.line, column: error.column } : [];
    const why = escapeText(message.replace(/^Invalid TOML document: /, ''));
    return { problem: { where, message: `not valid TOML: ${why}` } };
  }
}

// Locates a syntax error in JSON: `JSON.parse` does not always report the place, and accepts duplicate keys.

/** The first error in a text, and its offset. */
interface JsonFault {
  readonly offset: number;
  readonly message: string;
}

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SCALAR = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![A-Za-z0-9_.+-])/y;

/** Finds the first error in linear time; null if `JSON.parse` accepts the text and it is no deeper than `maxDepth`. */
export function findJsonFault(text: string, maxDepth: number): JsonFault | null {
  // Keys of an object, or null for a list; the innermost is the last.
  const open: (Set<string> | null)[] = [];
  let at = 0;
  const skip = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? null;
    at += found?.length ?? 0;
    return found;
  };
  const next = (): string => {
    skip(SPACE);
    return text[at] ?? '';
  };
  const fault = (expected: string): JsonFault => ({
    offset: at,
    message: at < text.length ? `expected ${expected}` : `unexpected end of file, expected ${expected}`,
  });
  const takeKey = (keys: Set<string>): JsonFault | null => {
    next();
    const start = at;
    const key = skip(STRING);
    if (key === null) return fault('a key in quotes');
    const name = JSON.parse(key) as string;
    if (keys.has(name)) return { offset: start, message: 'duplicate key' };
    keys.add(name);
    if (next() !== ':') return fault('a colon after the key');
    at += 1;
    return null;
  };
  for (;;) {
    // A value.
    const first = next();
    if (first === '{' || first === '[') {
      if (open.length >= maxDepth) return { offset: at, message: `nested too deep (max ${maxDepth})` };
      at += 1;
      const keys = first === '{' ? new Set<string>() : null;
      open.push(keys);
      if (next() !== (keys === null ? ']' : '}')) {
        const problem = keys === null ? null : takeKey(keys);
        if (problem !== null) return problem;
        continue;
      }
    } else if (skip(STRING) === null && skip(SCALAR) === null) return fault('a value');
    // What may follow it.
    for (;;) {
      const keys = open.at(-1);
      const sign = next();
      if (keys === undefined) return sign === '' ? null : fault('the end of the file');
      if (sign === (keys === null ? ']' : '}')) {
        at += 1;
        open.pop();
        continue;
      }
      if (sign !== ',') return fault(keys === null ? 'a comma or ]' : 'a comma or }');
      at += 1;
      const problem = keys === null ? null : takeKey(keys);
      if (problem !== null) return problem;
      break;
    }
  }
}
