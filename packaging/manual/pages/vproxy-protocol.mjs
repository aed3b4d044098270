// vproxy-protocol.7: docs/protocol.md as a page.
import { readDocument } from '../document.mjs';
import { renderBlocks } from '../render.mjs';
import { escapeRoff, reference } from '../roff.mjs';

const PAGE = 'vproxy-protocol.7';

export const head = { name: 'vproxy-protocol', section: 7, title: 'Miscellaneous Information' };

export function format() {
  const [, intro, ...sections] = readDocument('protocol.md');
  return [
    ...['.SH NAME', 'vproxy\\-protocol \\- protocol between two vproxy over a channel'],
    ...['.SH DESCRIPTION', ...renderBlocks(intro.blocks, PAGE)],
    ...sections.flatMap(({ level, title, blocks }) => [
      level === 2 ? `.SH ${escapeRoff(title.toUpperCase())}` : `.SS ${escapeRoff(title)}`,
      ...renderBlocks(blocks, PAGE),
    ]),
    ...['.SH SEE ALSO', reference('vproxy.1')],
  ];
}
