/** The parts of documents that a run writes: each between two markers, `<!-- bench:begin NAME -->` and `end`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The text between two markers. */
export interface DocumentPart {
  /** The document, beneath the root of the project. */
  readonly file: string;
  readonly name: string;
  /** The ids of the work in it: a part that was not measured completely is left unchanged. */
  readonly works: readonly string[];
  readonly content: string;
}

/** Returns the parts for which everything was requested. */
export function measuredParts(parts: readonly DocumentPart[], only: RegExp): DocumentPart[] {
  return parts.filter(({ works }) => works.every((id) => only.test(id)));
}

/** Writes the parts into their documents, and returns them. Throws before writing anything if markers are missing. */
export function writeDocuments(parts: readonly DocumentPart[], root: string): readonly DocumentPart[] {
  const texts = new Map<string, string>();
  for (const { file, name, content } of parts) {
    const text = texts.get(file) ?? readFileSync(join(root, file), 'utf8');
    texts.set(file, replaceMarked(file, text, name, content));
  }
  for (const [file, text] of texts) writeFileSync(join(root, file), text);
  return parts;
}

/** Returns the text of `file` with `content` between the markers of `name`. Throws unless it has both once, in order. */
export function replaceMarked(file: string, text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- bench:begin ${name} -->\n`, `<!-- bench:end ${name} -->\n`];
  const [before = '', rest, ...others] = text.split(begin);
  const [, after, ...more] = rest?.split(end) ?? [];
  if (after === undefined || others.length + more.length > 0 || before.includes(end)) {
    throw new Error(`${file}: expected the markers ${begin.trim()} and ${end.trim()} once, in this order`);
  }
  return `${before}${begin}\n${content.trimEnd()}\n\n${end}${after}`;
}
