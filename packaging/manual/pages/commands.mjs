// vproxy-COMMAND.1: a page for each command, from its usage and its line in the table of commands, and its section in docs/.
import { optionsOf } from '../../../dist/cli/command/command.js';
import { loadCommands } from '../../../dist/cli/command/table.js';
import { findSection, readDocument, splitOptions, tableRows } from '../document.mjs';
import { formatOption, formatUsage } from '../options.mjs';
import { commandPage, renderBlocks, renderInline } from '../render.mjs';
import { bold, escapeCode, escapeRoff, fill, reference } from '../roff.mjs';

/** The pages of all commands with a name, in the order of the help. */
export async function commandPages() {
  const [, ...commands] = await loadCommands();
  return commands.map((command) => {
    const page = commandPage(command.name);
    const head = { name: page.replace(/\.1$/, ''), section: 1, title: 'User Commands' };
    return { head, format: () => formatCommand(command, page) };
  });
}

/** The documents with a section for each command. */
const DOCUMENTS = ['commands.md', 'exec.md', 'copy.md', 'info.md', 'doctor.md'].map(readDocument);
/** What lists share: a row for each in a table, and the definitions of their options. */
const LISTS = findSection(DOCUMENTS[0], 'Lists').blocks;
const LIST_ROWS = LISTS.flatMap((block) => tableRows(block) ?? []);
const SHARED = splitOptions(LISTS).options;

function formatCommand(command, page) {
  const title = `vproxy ${command.name}`;
  const sections = DOCUMENTS.find((document) => document.some((section) => section.title === title)) ?? [];
  // The first block is the usage.
  const { intro, options } = splitOptions(findSection(sections, title).blocks.slice(1));
  const described = optionsOf(command)
    .filter(({ name, isHidden }) => name in command.options && isHidden !== true)
    .flatMap((option) => {
      const defines = ({ spellings }) => spellings === option.spellings.join(', ');
      return formatOption(option, (options.find(defines) ?? SHARED.find(defines))?.blocks ?? [], page);
    });
  return [
    ...['.SH NAME', `${escapeCode(page.replace(/\.1$/, ''))} \\- ${escapeRoff(lowerFirst(command.summary))}`],
    ...['.SH SYNOPSIS', formatUsage(command.usage)],
    ...['.SH DESCRIPTION', ...renderBlocks(intro, page), ...describeForms(command.name, page)],
    ...(described.length === 0 ? [] : ['.SH OPTIONS', ...described]),
    ...(command.isLocal === true
      ? []
      : ['.PP', `It also takes the options of all commands for a running vproxy: see ${reference('vproxy.1')}.`]),
    ...['.SH SEE ALSO', reference('vproxy.1')],
  ];
}

/** Describes what a list prints with `-o name` and `-o wide`; nothing for a command that is not a list. */
function describeForms(name, page) {
  const names = ({ type, content }) => type === 'code_inline' && content === name;
  const row = LIST_ROWS.find(([commands]) => commands.children.some(names));
  if (row === undefined) return [];
  const [, short, more] = row.map((cell) => renderInline(cell, page));
  const sentence = (form, verb, what) => (what === '' ? '' : `${bold(escapeCode(`-o ${form}`))} ${verb} ${what}. `);
  return ['.PP', ...fill(`${sentence('name', 'prints only', short)}${sentence('wide', 'also prints', more)}`.trim())];
}

const lowerFirst = (text) => text.replace(/^[A-Z]/, (letter) => letter.toLowerCase());
