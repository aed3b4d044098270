/**
 * The tested parts of a document: its fenced blocks with their markers, its inline code, and the errors in them.
 */
import MarkdownIt, { type Token } from 'markdown-it';
import { type Marker, parseMarker } from './marker.js';

/** A fenced block. */
export interface Block {
  /** The name of the document in errors. */
  readonly document: string;
  /** The number of its first line, after the fence; the document's first is 1. */
  readonly line: number;
  readonly language: string;
  /** The text between the fences. */
  readonly text: string;
  readonly marker: Marker | null;
}

/** Code in running text. */
interface InlineCode {
  readonly line: number;
  readonly text: string;
}

/** A parsed document. */
export interface ParsedDocument {
  readonly path: string;
  readonly blocks: readonly Block[];
  readonly inline: readonly InlineCode[];
  /** The first lines of indented code blocks. */
  readonly indentedLines: readonly number[];
  /** Errors in markers, one line each, beginning with `document:line`. */
  readonly complaints: readonly string[];
}

const markdown = new MarkdownIt({ html: true });

/** The languages of blocks that are command lines. */
export const COMMAND_LANGUAGES: readonly string[] = ['sh', 'console'];

/** Parses a document. Does not throw: errors in markers are complaints. */
export function parseDocument(path: string, text: string): ParsedDocument {
  const blocks: Block[] = [];
  const inline: InlineCode[] = [];
  const indentedLines: number[] = [];
  const complaints: string[] = [];
  let pending: { marker: Marker; line: number } | null = null;
  const dropPending = () => {
    if (pending !== null) complaints.push(`${path}:${pending.line}: there is no block below this marker`);
    pending = null;
  };
  for (const token of markdown.parse(text, {})) {
    const line = (token.map?.[0] ?? 0) + 1;
    if (token.type === 'html_block') {
      dropPending();
      try {
        const marker = parseMarker(token.content);
        if (marker !== null) pending = { marker, line };
      } catch (error) {
        complaints.push(`${path}:${line}: ${(error as Error).message}`);
      }
    } else if (token.type === 'fence') {
      const block = { document: path, line: line + 1, language: token.info.trim(), text: token.content };
      const found = pending as { marker: Marker } | null;
      blocks.push({ ...block, marker: found?.marker ?? null });
      pending = null;
    } else {
      dropPending();
      if (token.type === 'code_block') indentedLines.push(line);
      for (const child of codeIn(token)) inline.push({ line, text: child.content });
    }
  }
  dropPending();
  for (const block of blocks) complaints.push(...complaintsAbout(block));
  return { path, blocks, inline, indentedLines, complaints };
}

function codeIn(token: Token): Token[] {
  return (token.children ?? []).filter(({ type }) => type === 'code_inline');
}

function complaintsAbout({ document, line, language, marker }: Block): string[] {
  const isCommand = COMMAND_LANGUAGES.includes(language);
  const at = `${document}:${line}: `;
  if (language === '') return [`${at}a block without a language; "text" is that of what is no command`];
  if (isCommand && marker === null) return [`${at}a block of commands without a marker`];
  if (isCommand && marker?.kind === 'file') return [`${at}a block of commands is no file: it needs another language`];
  if (!isCommand && marker !== null && marker.kind !== 'file')
    return [`${at}a marker for commands above "${language}"`];
  return [];
}

/** The distinct names of the scenes in the markers, in order. */
export function scenesOf(blocks: readonly Block[]): string[] {
  return [...new Set(blocks.flatMap(({ marker }) => (marker !== null && 'scene' in marker ? [marker.scene] : [])))];
}
