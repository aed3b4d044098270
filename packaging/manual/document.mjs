// Parses a document of docs/ into sections and blocks.
import { readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import MarkdownIt from 'markdown-it';

const DOCS = join(import.meta.dirname, '../../docs');
const markdown = new MarkdownIt({ html: true });

/**
 * Returns its sections in order: `{ level, title, blocks }`. A block is the list of tokens of one element. Links to files are
 * relative to docs/.
 */
export function readDocument(name) {
  const tokens = markdown.parse(readFileSync(join(DOCS, name), 'utf8'), {});
  for (const { type, attrs } of tokens.flatMap(({ children }) => children ?? []))
    if (type === 'link_open' && !/^[a-z]+:|^#/.test(attrs[0][1]))
      attrs[0][1] = posix.join(posix.dirname(name), attrs[0][1]);
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

/** Splits tokens into top-level elements. */
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

/** Returns the section with a title, of several the highest one. Throws if missing: the manual would lack it. */
export function findSection(sections, title) {
  const [found] = sections.filter((section) => section.title === title).sort((a, b) => a.level - b.level);
  if (found === undefined) throw new Error(`no section "${title}"`);
  return found;
}

/** Returns a section and its subsections. */
export function withParts(sections, title) {
  const first = sections.indexOf(findSection(sections, title));
  const next = sections.findIndex(({ level }, index) => index > first && level <= sections[first].level);
  return sections.slice(first, next === -1 ? undefined : next);
}

/** Returns the rows of a table as inline tokens, the heads first; null if the block is not a table. */
export function tableRows(block) {
  if (block[0].type !== 'table_open') return null;
  const rows = [];
  for (const { type, children, ...token } of block) {
    if (type === 'tr_open') rows.push([]);
    if (type === 'inline') rows.at(-1).push({ ...token, type, children });
  }
  return rows;
}

/** The head of an option's definition: its spellings (`-c`, `--channel`), and the name of its value. */
const OPTION_HEAD = /^\*\*(`-.*?`)(?: ?((?!, `)[^*]*))?\*\*: /s;

/**
 * Separates option definitions, items of lists, from `intro`: for each its spellings (`-c, --channel`), the name of its value, and
 * its blocks. Blocks that follow a list belong to its last option.
 */
export function splitOptions(blocks) {
  const intro = [];
  const options = [];
  for (const block of blocks) {
    const defined = block[0].type === 'bullet_list_open' ? topBlocks(block.slice(1, -1)).flatMap(defineOption) : [];
    if (defined.length > 0) options.push(...defined);
    else (options.at(-1)?.blocks ?? intro).push(block);
  }
  return { intro, options };
}

/** An array of the option that an item of a list defines, or of none. */
function defineOption(item) {
  const [[open, inline, close], ...blocks] = topBlocks(item.slice(1, -1));
  const [, spellings, called = ''] = OPTION_HEAD.exec(inline.content?.replaceAll('`, `', ', ') ?? '') ?? [];
  if (spellings === undefined) return [];
  const [colon, ...rest] = inline.children.slice(inline.children.findIndex(({ type }) => type === 'strong_close') + 1);
  const first = { ...colon, content: colon.content.replace(/^: /, '') };
  const text = [open, { ...inline, children: [first, ...rest] }, close];
  return [{ spellings: spellings.replaceAll('`', ''), called, blocks: [text, ...blocks] }];
}
