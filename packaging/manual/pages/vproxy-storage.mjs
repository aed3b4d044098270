// vproxy-storage.1: what docs/storage.md says of the wrapper.
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
    ...['.SH NAME', 'vproxy\\-storage \\- stands in for the tool of a storage controller'],
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
        fill('The socket of the broker, a part of the vproxy of the guest.'),
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
        `the whole of it, with the form of requests and replies, is in ${italic(escapeCode('/usr/share/doc/vproxy/storage.md'))}, or in the folder ${italic('docs')} of the npm package.`,
      ),
    ],
  ];
}
