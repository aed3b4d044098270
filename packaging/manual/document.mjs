// A document of docs/, taken apart: its sections, and in them its blocks.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import MarkdownIt from 'markdown-it';

const DOCS = join(import.meta.dirname, '../../docs');
const markdown = new MarkdownIt({ html: true });

/** Its sections in their order: `{ level, title, blocks }`. A block is the list of tokens of one element. */
export function readDocument(name) {
  const tokens = markdown.parse(readFileSync(join(DOCS, name), 'utf8'), {});
  const sections = [{ level: 0, title: '', heading: [], blocks: [] }];
  for (const block of topBlocks(tokens)) {
    const [{ type, tag }, inline] = block;
    if (type === 'heading_open') {
      sections.push({ level: Number(tag.slice(1)), title: inline.content, heading: inline, blocks: [] });
    } else if (type !== 'html_block') {
      sections.at(-1).blocks.push(block);
    }
  }
  return sections;
}

/** Tokens, cut where an element ends that is in no other. */
export function topBlocks(tokens) {
  const blocks = [];
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) blocks.push([]);
    blocks.at(-1).push(token);
    depth += token.nesting;
  }
  return blocks;
}

/** The section of a title, the highest one where there are several. Throws where it is missing: the manual would lack it. */
export function findSection(sections, title) {
  const [found] = sections.filter((section) => section.title === title).sort((a, b) => a.level - b.level);
  if (found === undefined) throw new Error(`there is no section "${title}"`);
  return found;
}

/** A section, and those that are a part of it. */
export function withParts(sections, title) {
  const first = sections.indexOf(findSection(sections, title));
  const next = sections.findIndex(({ level }, index) => index > first && level <= sections[first].level);
  return sections.slice(first, next === -1 ? undefined : next);
}

/** The rows of a table, as inline tokens: the heads first. Null where the block is not a table. */
export function tableRows(block) {
  if (block[0].type !== 'table_open') return null;
  const rows = [];
  for (const { type, children, ...token } of block) {
    if (type === 'tr_open') rows.push([]);
    if (type === 'inline') rows.at(-1).push({ ...token, type, children });
  }
  return rows;
}

/**
 * Splits off what defines options: `intro`, and for each its spellings (`-c, --channel`), what its value is called, and
 * its blocks.
 */
export function splitOptions(blocks) {
  const intro = [];
  const options = [];
  for (const block of blocks) {
    const found = /^\*\*(`-.*?`)(?: ?((?!, `)[^*]*))?\*\*$/s.exec(block[1]?.content?.replaceAll('`, `', ', ') ?? '');
    if (block[0].type === 'paragraph_open' && found !== null) {
      const [, spellings, called = ''] = found;
      options.push({ spellings: spellings.replaceAll('`', ''), called, blocks: [] });
    } else {
      (options.at(-1)?.blocks ?? intro).push(block);
    }
  }
  return { intro, options };
}
