// Renders a document as the lines of a page. `page` is that page, such as `vproxy.1`.
import { NAMED_COMMANDS } from '../../dist/cli/command/table.js';
import { tableRows, topBlocks } from './document.mjs';
import { bold, escapeCode, escapeRoff, fill, guard, italic, reference, settle, unbroken } from './roff.mjs';

/** Documents that are pages. */
const PAGES = new Map([
  ['cli.md', 'vproxy.1'],
  ['commands.md', 'vproxy.1'],
  ['config.md', 'vproxy.conf.5'],
  ['storage.md', 'vproxy-storage.1'],
  ['protocol.md', 'vproxy-protocol.7'],
]);

/** The page of a command, such as `vproxy-forward-add.1` of `forward add`. */
export const commandPage = (name) => `vproxy-${name.replaceAll(' ', '-')}.1`;

/** The pages of commands by the anchors of their sections, such as `vproxy-forward-add`. */
const COMMAND_PAGES = new Map(
  Object.keys(NAMED_COMMANDS).map((name) => [commandPage(name).slice(0, -2), commandPage(name)]),
);

/** The widest line of code that fits 80 columns. */
const CODE_COLUMNS = 66;
/** The width of a table besides the margin. */
const PAGE_COLUMNS = 71;
/** Columns of a table that are at most this wide are set side by side. */
const NARROW = 16;

/** Renders running text, escaped. */
export function renderInline({ children }, page) {
  let text = '';
  const links = [];
  const fonts = [];
  for (const { type, content, attrs } of children) {
    if (type === 'text') {
      // The ids of protocol rules must not be hyphenated.
      text += escapeRoff(content).replace(/\bR-[A-Z]+-\d+/g, (rule) => rule.replaceAll('-', '\\-'));
    }
    // A full stop at its end does not end a sentence.
    else if (type === 'code_inline')
      text += bold(unbroken(escapeCode(content.trim()))) + (/[.!?]\W*$/.test(content) ? '\\&' : '');
    else if (type === 'softbreak' || type === 'hardbreak') text += ' ';
    else if (type === 'strong_open' || type === 'em_open') {
      fonts.push(type === 'em_open' ? 'I' : 'B');
      text += `\\f${fonts.at(-1)}`;
    } else if (type === 'strong_close' || type === 'em_close') {
      fonts.pop();
      text += '\\fR';
    } else if (type === 'link_open') links.push({ target: attrs[0][1], from: text.length });
    else if (type === 'link_close') {
      const { target, from } = links.pop();
      text = text.slice(0, from) + renderLink(text.slice(from), target, page);
    }
  }
  return text;
}

function renderLink(label, target, page) {
  const [file, anchor] = target.split('#');
  if (/^[a-z]+:\/\//.test(target)) return label.includes(target) ? label : `${label} <${escapeCode(target)}>`;
  const other = COMMAND_PAGES.get(anchor) ?? PAGES.get(file);
  if (other === page || (file === '' && other === undefined)) return label;
  const plain = label.replace(/\\f[BIR]|\\%/g, '').replaceAll('\\-', '-');
  if (other === undefined) return /\.md$/.test(plain) ? italic(label) : label;
  const isName = /\.md$/.test(plain) || commandPage(plain.replace(/^vproxy /, '')) === other;
  return isName ? reference(other) : `${label} (${reference(other)})`;
}

/** Renders blocks, each as a paragraph. */
export function renderBlocks(blocks, page) {
  return blocks.flatMap((block, index) => {
    const follows = block[0].type === 'table_open' && blocks[index - 1]?.[0].type === 'table_open';
    return [...(follows ? ['.PP', ...describeHeads(block, page)] : []), ...renderBlock(block, page)];
  });
}

/** Separates a table from one directly above it. */
function describeHeads(block, page) {
  const [first, second] = tableRows(block)[0].map((cell) => renderInline(cell, page));
  return fill(`${capitalize(first)}: ${second}.`);
}

function renderBlock(block, page) {
  const [first] = block;
  switch (first.type) {
    case 'paragraph_open':
      return ['.PP', ...fill(renderInline(block[1], page))];
    case 'fence':
    case 'code_block':
      return ['.PP', ...renderCode(first)];
    case 'bullet_list_open':
    case 'ordered_list_open':
      return ['.PP', ...renderList(block, page)];
    case 'table_open':
      return ['.PP', ...renderTable(block, page)];
    case 'blockquote_open':
      return ['.RS 4', ...renderBlocks(topBlocks(block.slice(1, -1)), page), '.RE'];
    case 'html_block':
    case 'hr':
      return [];
    default:
      throw new Error(`the manual cannot render ${first.type}`);
  }
}

function renderCode({ content, info }) {
  const lines = content
    .trimEnd()
    .split('\n')
    .flatMap((line) => breakCode(line, info.trim()));
  return ['.RS 4', '.EX', ...lines.map((line) => guard(escapeCode(line))), '.EE', '.RE'];
}

/** Breaks a line of code that is too wide: commands are continued, a comment moves above its line. */
function breakCode(line, language) {
  if (line.length <= CODE_COLUMNS) return [line];
  const comment = /^((?:[^"'#]|"[^"]*"|'[^']*')*?)\s+(#.*)$/.exec(line);
  if (comment !== null && comment[1] !== '') return [...wrapComment(comment[2]), ...breakCode(comment[1], language)];
  if (language === 'text' || (language === 'console' && !/^[$#] /.test(line)))
    return [`${line.slice(0, CODE_COLUMNS)}…`];
  if (language !== 'sh' && language !== 'console' && language !== '') return [line];
  const lines = [''];
  for (const part of splitOutsideQuotes(line)) {
    const before = lines.at(-1);
    if (before === '') lines[lines.length - 1] = part;
    else if (before.length + part.length + 3 <= CODE_COLUMNS) lines[lines.length - 1] = `${before} ${part}`;
    else lines.push(`    ${part}`);
  }
  // Lines that are not commands are continued without a backslash.
  return language === '' ? lines : lines.map((one, index) => (index < lines.length - 1 ? `${one} \\` : one));
}

function wrapComment(text) {
  const lines = [''];
  for (const word of text.split(' ')) {
    const next = `${lines.at(-1)} ${word}`;
    if (lines.at(-1) === '') lines[lines.length - 1] = word;
    else if (next.length <= CODE_COLUMNS) lines[lines.length - 1] = next;
    else lines.push(`# ${word}`);
  }
  return lines;
}

/** Splits a command line at the spaces before an option, or before another command. */
function splitOutsideQuotes(line) {
  const parts = [''];
  for (const [piece, , end] of line.matchAll(/('[^']*'|"[^"]*")|( )(?=-{1,2}[a-z]|> |&& |\| |\[)|./g)) {
    if (end !== undefined) parts.push('');
    else parts[parts.length - 1] += piece;
  }
  return parts;
}

function renderList(block, page) {
  const isOrdered = block[0].type === 'ordered_list_open';
  return topBlocks(block.slice(1, -1)).flatMap((item, index) => {
    const mark = isOrdered ? `${index + 1}.` : '\\(bu';
    const [first, ...rest] = topBlocks(item.slice(1, -1));
    const nested = renderBlocks(rest, page);
    const text = first[0].type === 'paragraph_open' ? fill(renderInline(first[1], page)) : renderBlock(first, page);
    return [`.IP ${mark} 3`, ...text, ...(nested.length > 0 ? ['.RS 3', ...nested, '.RE'] : [])];
  });
}

function renderTable(block, page) {
  const [heads, ...rows] = tableRows(block).map((row) => row.map((cell) => renderInline(cell, page)));
  const isNarrow = (row) => row.slice(0, -1).every((cell) => plainLength(cell) <= NARROW);
  return heads.length > 2 && [heads, ...rows].every(isNarrow) ? renderGrid(heads, rows) : renderTags(heads, rows);
}

/** The visible width of escaped text, in columns. */
const plainLength = (escaped) => escaped.replace(/\\f[BIR]|\\[&%]/g, '').replace(/\\(?:\[\w+\]|\(\w\w|.)/g, 'x').length;

/** Renders the first column as tags. Columns after the second are introduced by their heading. */
function renderTags(heads, rows) {
  return rows.flatMap(([tag, ...cells]) => {
    const sentences = cells.map((cell, index) => {
      const head = capitalize(heads[index + 1]);
      if (cell === '' || (index === 0 && !head.includes(':'))) return capitalize(cell);
      return head.includes(':') ? `${head} ${cell}` : `${head}: ${cell}`;
    });
    return formatTagged(
      tag,
      fill(
        sentences
          .filter((one) => one !== '')
          .map(endSentence)
          .join(' '),
      ),
    );
  });
}

const capitalize = (text) => text.replace(/^[a-z]/, (letter) => letter.toUpperCase());
const endSentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** Formats a tag and its text; `more` are further paragraphs. */
export function formatTagged(tag, lines, more = []) {
  return [
    '.TP',
    guard(settle(tag)),
    ...(lines.length > 0 ? lines : ['\\&']),
    ...(more.length > 0 ? ['.RS', ...more, '.RE'] : []),
  ];
}

/** Renders columns side by side, as unfilled lines: the output of tbl(1) has gaps at page ends. */
function renderGrid(heads, rows) {
  const widths = heads
    .slice(0, -1)
    .map((_, index) => Math.max(...[heads, ...rows].map((row) => plainLength(row[index]))) + 3);
  const left = PAGE_COLUMNS - widths.reduce((sum, width) => sum + width, 0);
  const format = (cells, text) =>
    cells.map((cell, index) => cell + ' '.repeat(widths[index] - plainLength(cell))).join('') + text;
  const empty = widths.map(() => '');
  const lines = rows.flatMap((row) =>
    breakText(row.at(-1), left).map((text, index) => format(index === 0 ? row.slice(0, -1) : empty, text)),
  );
  return ['.EX', ...[format(heads.slice(0, -1).map(bold), bold(heads.at(-1))), ...lines].map(guard), '.EE'];
}

/** Breaks escaped text into lines of at most `columns` columns; fonts begin and end on each line. */
function breakText(escaped, columns) {
  const lines = [''];
  for (const word of escaped.replaceAll('\\%', '').split(' ')) {
    const next = lines.at(-1) === '' ? word : `${lines.at(-1)} ${word}`;
    if (plainLength(next) <= columns) {
      lines[lines.length - 1] = next;
      continue;
    }
    const font =
      lines
        .at(-1)
        .match(/\\f[BIR]/g)
        ?.at(-1) ?? '\\fR';
    if (font !== '\\fR') lines[lines.length - 1] += '\\fR';
    lines.push(font === '\\fR' ? word : font + word);
  }
  return lines;
}
