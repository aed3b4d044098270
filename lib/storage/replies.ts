/** Files of recorded replies: exact command lines, then patterns, then a default (docs/storage.md). */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { VproxyError } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';
import { decodeBase64, isStatus, type StorageRequest, type StorageResult } from './wire.js';

interface RecordedReplies {
  /** The number of replies, not counting the default. */
  readonly count: number;
  /** The reply to a request; with neither match nor default, a line on stderr and status 1. */
  answer(request: StorageRequest): StorageResult;
}

interface RecordedReply {
  readonly words: readonly string[];
  readonly isPattern: boolean;
  readonly result: StorageResult;
}

type Fields = Record<string, unknown>;

/** Reads a file of recorded replies. Rejects with `bad-file`, naming the invalid entry. */
export async function readReplies(path: string): Promise<RecordedReplies> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new VproxyError('bad-file', `${path}: ${describeError(cause)}`, { cause });
  }
  return parseReplies(text, path);
}

/** Parses the text of a file of recorded replies; `name` is its name in messages. Throws `bad-file`, naming the invalid entry. */
export function parseReplies(text: string, name: string): RecordedReplies {
  const fields = checkedFields(parseJson(text, name), name, ['replies', 'default']);
  const list = fields['replies'] ?? [];
  if (!Array.isArray(list)) throw bad(`${name}: replies`, 'not a list');
  const entries = list.map((entry: unknown, index) => parseEntry(entry, `${name}: replies[${index}]`));
  const exact = new Map<string, StorageResult>();
  for (const [index, { words, isPattern, result }] of entries.entries()) {
    const key = JSON.stringify(words);
    if (isPattern) continue;
    if (exact.has(key)) throw bad(`${name}: replies[${index}].argv`, 'given twice');
    exact.set(key, result);
  }
  const patterns = entries.filter(({ isPattern }) => isPattern);
  const fallback = fields['default'] === undefined ? undefined : parseDefault(fields['default'], `${name}: default`);
  return {
    count: entries.length,
    answer: ({ argv }) =>
      exact.get(JSON.stringify(argv)) ??
      exact.get(JSON.stringify(withoutFolder(argv))) ??
      patterns.find(({ words }) => matchesWords(words, argv))?.result ??
      fallback ?? { stderr: `no recorded reply for: ${escapeText(argv.join(' '))}\n`, status: 1 },
  };
}

const withoutFolder = ([program = '', ...rest]: readonly string[]): string[] => [basename(program), ...rest];

/** A last word `**` matches any further arguments, or none. A first word without a slash matches a program in any folder. */
function matchesWords(words: readonly string[], argv: readonly string[]): boolean {
  const isOpen = words.at(-1) === '**';
  const fixed = isOpen ? words.slice(0, -1) : words;
  if (isOpen ? argv.length < fixed.length : argv.length !== fixed.length) return false;
  const subject = fixed[0]?.includes('/') ? argv : withoutFolder(argv);
  return fixed.every((word, index) => matchesGlob(word, subject[index] ?? ''));
}

const OUTPUT_FIELDS = ['stdout', 'stderr', 'stdoutBase64', 'stderrBase64', 'status'];

function parseEntry(value: unknown, where: string): RecordedReply {
  const fields = checkedFields(value, where, ['argv', 'pattern', ...OUTPUT_FIELDS]);
  const isPattern = fields['argv'] === undefined;
  if (isPattern === (fields['pattern'] === undefined)) throw bad(where, 'needs either "argv" or "pattern"');
  const key = isPattern ? 'pattern' : 'argv';
  const words = fields[key];
  if (!isTextList(words) || words.length === 0) throw bad(`${where}.${key}`, 'must be a non-empty list of strings');
  return { words, isPattern, result: parseResult(fields, where) };
}

function parseDefault(value: unknown, where: string): StorageResult {
  return parseResult(checkedFields(value, where, OUTPUT_FIELDS), where);
}

function parseResult(fields: Fields, where: string): StorageResult {
  const { status = 0 } = fields;
  if (!isStatus(status)) throw bad(`${where}.status`, 'must be an integer from 0 to 255');
  return { stdout: parseOutput(fields, 'stdout', where), stderr: parseOutput(fields, 'stderr', where), status };
}

function parseOutput(fields: Fields, name: 'stdout' | 'stderr', where: string): string | Buffer {
  const text = fields[name];
  const base64 = fields[`${name}Base64`];
  if (base64 !== undefined) {
    if (text !== undefined) throw bad(where, `cannot have both "${name}" and "${name}Base64"`);
    const bytes = typeof base64 === 'string' ? decodeBase64(base64) : undefined;
    if (bytes === undefined) throw bad(`${where}.${name}Base64`, 'not valid base64');
    return bytes;
  }
  if (text === undefined || typeof text === 'string') return text ?? '';
  if (!isTextList(text)) throw bad(`${where}.${name}`, 'must be a string or a list of lines');
  return text.map((line) => `${line}\n`).join('');
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new VproxyError('bad-file', `${name}: not valid JSON: ${escapeText((cause as Error).message)}`, { cause });
  }
}

function checkedFields(value: unknown, where: string, allowed: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(where, 'not a JSON object');
  const unknown = Object.keys(value).find((key) => !allowed.includes(key));
  if (unknown !== undefined) throw bad(where, `unknown field "${escapeText(unknown, 40)}"`);
  return value as Fields;
}

const bad = (where: string, what: string): VproxyError => new VproxyError('bad-file', `${where}: ${what}`);

// Patterns for arguments: `*` matches any characters, or none, and `?` exactly one.

/** Whether a text matches a pattern. The time is bounded by the product of their lengths. */
export function matchesGlob(pattern: string, text: string): boolean {
  let patternAt = 0;
  let textAt = 0;
  let starAt = -1;
  let starTextAt = 0;
  while (textAt < text.length) {
    if (pattern[patternAt] === '*') {
      starAt = patternAt;
      starTextAt = textAt;
      patternAt += 1;
    } else if (patternAt < pattern.length && (pattern[patternAt] === '?' || pattern[patternAt] === text[textAt])) {
      patternAt += 1;
      textAt += 1;
    } else if (starAt >= 0) {
      // Extend the match of the last star. No need to backtrack further: it can match whatever an earlier one could.
      starTextAt += 1;
      textAt = starTextAt;
      patternAt = starAt + 1;
    } else {
      return false;
    }
  }
  while (pattern[patternAt] === '*') patternAt += 1;
  return patternAt === pattern.length;
}
