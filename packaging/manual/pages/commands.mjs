// vproxy-COMMAND.1: a page for each command, from its usage and its line in the table of commands, and its page in docs/commands/.
import { optionsOf } from '../../../dist/cli/command/command.js';
import { loadCommands } from '../../../dist/cli/command/table.js';
import { readDocument, splitOptions } from '../document.mjs';
import { formatOption, formatUsage } from '../options.mjs';
import { commandPage, renderBlocks } from '../render.mjs';
import { escapeCode, escapeRoff, reference } from '../roff.mjs';

/** The pages of all commands with a name, in the order of the help. */
export async function commandPages() {
  const [, ...commands] = await loadCommands();
  return commands.map((command) => {
    const page = commandPage(command.name);
    const head = { name: page.replace(/\.1$/, ''), section: 1, title: 'User Commands' };
    return { head, format: () => formatCommand(command, page) };
  });
}

function formatCommand(command, page) {
  const [, { blocks }] = readDocument(`commands/${command.name.replaceAll(' ', '-')}.md`);
  // The first block is the usage.
  const { intro, options } = splitOptions(blocks.slice(1));
  const described = options.flatMap(({ spellings, blocks: own }) =>
    optionsOf(command)
      .filter((option) => option.spellings.join(', ') === spellings)
      .flatMap((option) => formatOption(option, own, page)),
  );
  return [
    ...['.SH NAME', `${escapeCode(page.replace(/\.1$/, ''))} \\- ${escapeRoff(lowerFirst(command.summary))}`],
    ...['.SH SYNOPSIS', formatUsage(command.usage)],
    ...['.SH DESCRIPTION', ...renderBlocks(intro, page)],
    ...(described.length === 0 ? [] : ['.SH OPTIONS', ...described]),
    ...['.SH SEE ALSO', reference('vproxy.1')],
  ];
}

const lowerFirst = (text) => text.replace(/^[A-Z]/, (letter) => letter.toLowerCase());
