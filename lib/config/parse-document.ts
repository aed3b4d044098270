/** The text of a configuration file, TOML or JSON, as a plain value. */
import { parse, TomlError } from 'smol-toml';
import { escapeText } from '../util/escape.js';
import { findJsonFault } from './json-syntax.js';
import type { Problem } from './problem.js';

/** Deeper than anything that a configuration has. */
const MAX_DEPTH = 16;

/** A value, or why there is none. */
export type ParsedDocument = { readonly value: unknown } | { readonly problem: Problem };

/** The value of a text. A name that ends in `.json` or `.toml` says which it is; else it is JSON where it begins as an object. */
export function parseDocument(text: string, name: string): ParsedDocument {
  const isJson = name.endsWith('.json') || (!name.endsWith('.toml') && /^\s*\{/.test(text));
  return isJson ? parseJson(text) : parseToml(text);
}

function parseJson(text: string): ParsedDocument {
  const fault = findJsonFault(text, MAX_DEPTH);
  if (fault === null) return { value: JSON.parse(text) };
  const before = text.slice(0, fault.offset).split('\n');
  const where = { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
  return { problem: { where, message: `it is not JSON: ${fault.message}` } };
}

function parseToml(text: string): ParsedDocument {
  try {
    return { value: parse(text, { maxDepth: MAX_DEPTH }) };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    const where = error instanceof TomlError ? { line: error.line, column: error.column } : [];
    const why = escapeText(message.replace(/^Invalid TOML document: /, ''));
    return { problem: { where, message: `it is not TOML: ${why}` } };
  }
}
