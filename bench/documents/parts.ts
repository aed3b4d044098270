/** The parts of the documents that a run writes: each between two marks of its own, `<!-- bench:begin NAME -->` and `end`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What stands between two marks. */
export interface DocumentPart {
  /** The document, beneath the root of the project. */
  readonly file: string;
  readonly name: string;
  /** The work whose figures it has, by their ids: a part of which not all was measured is left as it is. */
  readonly works: readonly string[];
  readonly content: string;
}

/** The parts of which everything was asked for. */
export function measuredParts(parts: readonly DocumentPart[], only: RegExp): DocumentPart[] {
  return parts.filter(({ works }) => works.every((id) => only.test(id)));
}

/** Writes the parts into their documents, and returns them. Throws, before anything is written, where marks are missing. */
export function writeDocuments(parts: readonly DocumentPart[], root: string): readonly DocumentPart[] {
  const texts = new Map<string, string>();
  for (const { file, name, content } of parts) {
    const text = texts.get(file) ?? readFileSync(join(root, file), 'utf8');
    texts.set(file, replaceMarked(file, text, name, content));
  }
  for (const [file, text] of texts) writeFileSync(join(root, file), text);
  return parts;
}

/** The text of `file` with `content` between the marks of `name`. Throws where it has not both of them, once and in order. */
export function replaceMarked(file: string, text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- bench:begin ${name} -->\n`, `<!-- bench:end ${name} -->\n`];
  const [before = '', rest, ...others] = text.split(begin);
  const [, after, ...more] = rest?.split(end) ?? [];
  if (after === undefined || others.length + more.length > 0 || before.includes(end)) {
    throw new Error(`${file}: the marks ${begin.trim()} and ${end.trim()} should be there once, in this order`);
  }
  return `${before}${begin}\n${content.trimEnd()}\n\n${end}${after}`;
}
