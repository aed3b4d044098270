// vproxy.1, made of the help texts. Run by itself it prints the page.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collectHelp } from './collect-help.mjs';

const escape = (text) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '\\[u2026]')
    .replace(/^([.'])/gm, '\\&$1');
const bold = (text) => `\\fB${escape(text)}\\fR`;

const formatOption = ({ short, long, value, text }) => [
  '.TP',
  `${short === null ? '' : `${bold(short)}, `}${bold(long)}${value === '' ? '' : ` \\fI${escape(value)}\\fR`}`,
  escape(text),
];

/** The sections of a help, but for its first heading and the lists of commands. */
function formatSections(sections) {
  return sections.flatMap(({ paragraph, title, options, rows }) => {
    if (options !== undefined) return ['.PP', bold(title), ...options.flatMap(formatOption)];
    if (title === undefined) {
      if (/^vproxy\b/.test(paragraph[0]) && paragraph.length === 1) return [];
      return ['.PP', ...paragraph.flatMap((line) => (/^Usage:/.test(line) ? [bold(line), '.br'] : [escape(line)]))];
    }
    if (/commands?\b/i.test(title)) return [];
    return ['.PP', bold(title), ...rows.flatMap(({ left, text }) => ['.TP', bold(left), escape(text)])];
  });
}

/** The page, for man(1). `date` is a Date. */
export async function formatManual({ version, date }) {
  const { sections, commands } = await collectHelp();
  return [
    `.TH VPROXY 1 "${date.toISOString().slice(0, 10)}" "vproxy ${version}" "User Commands"`,
    '.SH NAME',
    'vproxy \\- many socket streams, and storage calls, over one channel between two machines',
    '.SH SYNOPSIS',
    `${bold('vproxy')} \\-c CHANNEL [\\-o FORWARD]\\[u2026] [\\-i FORWARD]\\[u2026] [options]`,
    '.br',
    `${bold('vproxy')} \\-\\-config FILE [options]`,
    '.br',
    `${bold('vproxy')} COMMAND [operands] [options]`,
    '.SH DESCRIPTION',
    'One vproxy on each side of one channel, usually a virtio\\-serial port of a virtual machine, carries the streams of',
    'many sockets. It opens the channel again for ever when it goes away; forwards are declared once and outlive every session.',
    'It runs in the foreground, and writes its log to standard error.',
    '.SH OPTIONS',
    ...formatSections(sections.filter(({ paragraph }) => paragraph === undefined)),
    '.SH COMMANDS',
    ...commands.flatMap(({ name, summary, sections: own }) => [
      `.SS vproxy ${escape(name)}`,
      escape(`${summary}.`),
      ...formatSections(own.filter(({ paragraph }) => paragraph?.join(' ') !== summary)),
    ]),
    '.SH FILES',
    ...[
      '/etc/vproxy/host.toml',
      'What vproxy.service reads.',
      '/etc/vproxy/NAME.toml',
      'What vproxy@NAME.service reads.',
    ].map((line, index) => (index % 2 === 0 ? `.TP\n\\fI${line}\\fR` : line)),
    '.TP',
    '\\fI/etc/default/vproxy\\-guest\\fR',
    'What a guest offers to its host besides storage calls (vproxy\\-guest@.service).',
    '.SH EXIT STATUS',
    '0 where what was asked for was done or the end was in order, 64 for a wrong argument, 65 for a wrong file, 69 for an',
    'address or a process that cannot be had, 70 for a defect; all of them are in /usr/share/doc/vproxy/errors.md.',
    '.SH SEE ALSO',
    '.BR vproxy\\-storage (1),',
    '.BR systemd.service (5);',
    'the manual in /usr/share/doc/vproxy/, which begins with cli.md.',
    '',
  ].join('\n');
}

if (process.argv[1] === import.meta.filename) {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
  process.stdout.write(await formatManual({ version, date: new Date() }));
}
