// vproxy-storage.1: the parts of docs/storage.md about the wrapper.
import { findSection, readDocument, tableRows } from '../document.mjs';
import { formatTagged, renderBlocks } from '../render.mjs';
import { bold, escapeCode, escapeRoff, fill, italic, reference } from '../roff.mjs';

const PAGE = 'vproxy-storage.1';

export const head = { name: 'vproxy-storage', section: 1, title: 'User Commands' };

export function format() {
  const document = readDocument('storage.md');
  const render = (blocks) => renderBlocks(blocks, PAGE);
  const section = (title) => [
    '.SH '.concat(escapeRoff(title.toUpperCase())),
    ...render(findSection(document, title).blocks),
  ];
  const { blocks } = findSection(document, 'The wrapper');
  const tables = blocks.filter((block) => tableRows(block) !== null);
  const about = (head) => tables.filter((block) => tableRows(block)[0][0].content === head);
  const firstTable = blocks.indexOf(tables[0]);
  const lastTable = blocks.indexOf(tables.at(-1));
  const [, { blocks: intro }] = document;
  return [
    ...['.SH NAME', 'vproxy\\-storage \\- replacement for the utility of a storage controller'],
    ...[
      '.SH SYNOPSIS',
      `${italic('NAME')} [${italic('argument')}]\\[u2026]`,
      '.br',
      `${bold('vproxy storage link')} ${italic('NAME')}`,
    ],
    ...[
      '.SH DESCRIPTION',
      ...render(intro.filter(([{ type }, inline]) => type === 'paragraph_open' && !/^Contents:/.test(inline.content))),
      ...render(blocks.slice(0, firstTable)),
    ],
    ...['.SH ENVIRONMENT', ...render(about('variable'))],
    ...[
      '.SH FILES',
      ...formatTagged(
        italic(escapeCode('/run/vproxy/storage.sock')),
        fill('The socket of the broker, which is part of the vproxy of the guest.'),
      ),
    ],
    ...['.SH EXIT STATUS', ...render(about('exit status')), ...render(blocks.slice(lastTable + 1))],
    ...section('Setting it up'),
    ...section('Which emulator gets a call'),
    ...section('When something fails'),
    ...section('Limits'),
    ...[
      '.SH SEE ALSO',
      `${reference('vproxy.1')};`,
      ...fill(
        `the full documentation, with the format of requests and replies, is ${italic(escapeCode('/usr/share/doc/vproxy/storage.md'))}, or in the folder ${italic('docs')} of the npm package.`,
      ),
    ],
  ];
}
