// vproxy.1: names come from the tables of commands, options and codes, descriptions from docs/cli.md and docs/commands.md.
import { optionsOf } from '../../../dist/cli/command/command.js';
import { MAIN_COMMAND } from '../../../dist/cli/command/table.js';
import { ERROR_CODES } from '../../../dist/lib/errors.js';
import { findSection, readDocument, splitOptions, withParts } from '../document.mjs';
import { formatOption, formatUsage } from '../options.mjs';
import { formatTagged, renderBlocks } from '../render.mjs';
import { bold, escapeCode, escapeRoff, fill, italic, reference, unbroken } from '../roff.mjs';

const PAGE = 'vproxy.1';
/** The sections that list the other commands. */
const OF_COMMANDS = ['Other commands', 'Commands for a running vproxy'];

export const head = { name: 'vproxy', section: 1, title: 'User Commands' };

export async function format() {
  const document = readDocument('cli.md');
  const commands = readDocument('commands.md');
  const render = (blocks) => renderBlocks(blocks, PAGE);
  const section = (title) => render(findSection(document, title).blocks);
  const whole = (title) =>
    withParts(document, title).flatMap(({ level, title: own, blocks }) => [...heading(level, own), ...render(blocks)]);
  const options = formatRunOptions(await MAIN_COMMAND.load(), document);
  return [
    ...['.SH NAME', `vproxy \\- ${escapeRoff('many socket streams over one channel between two machines')}`],
    '.SH SYNOPSIS',
    ...synopsis([
      '-c CHANNEL [-o FORWARD]… [-i FORWARD]… [options]',
      '--config FILE [options]',
      'COMMAND [OPERAND]… [options]',
      '--help | --version',
    ]),
    ...['.SH DESCRIPTION', ...section('Description')],
    ...['.SH OPTIONS', ...options.lines],
    ...['.SH CHANNELS', ...render(options.channels)],
    ...['.SH FORWARDS', ...renderBlocks(findSection(readDocument('forwards.md'), 'Syntax').blocks, PAGE)],
    ...[
      '.SS Forwards of several channels',
      ...render(splitOptions(findSection(document, 'Forwards of several channels').blocks).intro),
    ],
    ...OF_COMMANDS.flatMap((title) => [`.SH ${title.toUpperCase()}`, ...render(findSection(commands, title).blocks)]),
    ...['.SH SIGNALS', ...whole('Signals'), '.SH LOG', ...whole('The log')],
    ...['.SH ENVIRONMENT', ...whole('Environment'), '.SH FILES', ...files()],
    ...['.SH EXIT STATUS', ...render(findSection(readDocument('errors.md'), 'Exit statuses').blocks), ...codes()],
    ...['.SH EXAMPLES', ...whole('Examples'), '.SH SEE ALSO', ...seeAlso()],
  ];
}

/** The heading of a section itself is its `.SH`, which is already written. */
const heading = (level, title) => (level <= 2 ? [] : [`.SS ${escapeRoff(title)}`]);

const synopsis = (usages) => usages.flatMap((usage, index) => [...(index === 0 ? [] : ['.br']), formatUsage(usage)]);

/**
 * Formats the options in the groups of the document. One missing there, which another spec reports, gets the text of the help.
 */
function formatRunOptions(run, document) {
  const left = new Map(optionsOf(run).map((option) => [option.spellings.join(', '), option]));
  const lines = [];
  let channels = [];
  for (const { level, title, blocks } of withParts(document, 'Options')) {
    const { intro, options } = splitOptions(blocks);
    if (level === 3) lines.push(`.SS ${escapeRoff(title)}`);
    // Deeper levels have sections of their own.
    if (level <= 3) lines.push(...renderBlocks(intro, PAGE));
    for (const { spellings, blocks: own } of options) {
      const option = left.get(spellings);
      if (option === undefined) continue;
      left.delete(spellings);
      let told = own;
      if (spellings === '-c, --channel') {
        const end = own.findIndex(([{ type }]) => type === 'table_open');
        told = own.slice(0, end);
        channels = own.slice(end);
      }
      lines.push(...formatOption(option, told, PAGE));
    }
  }
  for (const option of left.values()) lines.push(...formatOption(option, [], PAGE));
  return { lines, channels };
}

/** Lists the codes of each status. */
function codes() {
  const byStatus = new Map();
  for (const [code, { exit }] of Object.entries(ERROR_CODES)) byStatus.set(exit, [...(byStatus.get(exit) ?? []), code]);
  return [
    ...[
      '.PP',
      ...fill(
        'Every failure has a code, shown in the log and in control requests. A command that fails exits with this status:',
      ),
    ],
    ...[...byStatus]
      .sort(([a], [b]) => a - b)
      .flatMap(([status, names]) =>
        formatTagged(bold(String(status)), fill(names.map((name) => bold(unbroken(escapeCode(name)))).join(', '))),
      ),
  ];
}

function files() {
  return [
    ['/run/vproxy/NAME.sock, $XDG_RUNTIME_DIR/vproxy/NAME.sock', 'The control socket, of root and of other users.'],
    ['/run/vproxy/storage.sock, $XDG_RUNTIME_DIR/vproxy/storage.sock', 'The socket of the storage broker.'],
    ['/etc/vproxy/host.toml', 'The configuration of vproxy.service, which distribution packages install.'],
    ['/etc/vproxy/NAME.toml', 'The configuration of vproxy@NAME.service.'],
    [
      '/etc/default/vproxy-virtserial',
      'The options of vproxy-virtserial@.service: what a guest offers to its host besides storage calls.',
    ],
  ].flatMap(([path, text]) =>
    formatTagged(
      path
        .split(', ')
        .map((one) => italic(escapeCode(one)))
        .join(', '),
      fill(escapeRoff(text)),
    ),
  );
}

function seeAlso() {
  return [
    `${['vproxy.conf.5', 'vproxy-ssh.1', 'vproxy-storage.1', 'vproxy-protocol.7', 'ssh_config.5', 'systemd.service.5'].map(reference).join(',\n')}`,
    ...[
      '.PP',
      ...fill(
        `The documents mentioned here, such as ${italic('exec.md')}, are in ${italic(escapeCode('/usr/share/doc/vproxy'))}, or in the folder ${italic('docs')} of the npm package.`,
      ),
    ],
  ];
}
