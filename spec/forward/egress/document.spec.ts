/** docs/egress.md: its entries are entries, and its table of ranges is the one that counts. */
import test from 'ava';
import { SPECIAL_RANGES } from '../../../lib/forward/egress/networks.js';
import { ANSWERS } from '../../../lib/forward/egress/refusal.js';
import { parseEgressEntry } from '../../../lib/forward/egress/rules.js';
import { readDocument } from '../../documents/document-list.js';

/** The cells of the rows below a heading. */
function rowsOf(heading: string): string[][] {
  const section = new RegExp(`^## ${heading}$[^]*?(?=^##)`, 'm').exec(readDocument('docs/egress.md'))?.[0] ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'));
  return rows.slice(1).map((line) =>
    line
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );
}

test('each entry of the document is one, in its canonical text', (t) => {
  const entries = rowsOf('Entries').flatMap(([entry = '']) =>
    [...entry.matchAll(/`([^`]+)`/g)].map(([, text]) => text ?? ''),
  );
  t.true(entries.length >= 8);
  for (const text of entries) t.is(parseEgressEntry(text).text, text);
});

test('the document has the ranges of the table, and ISATAP', (t) => {
  const rows = rowsOf('Addresses that are refused');
  t.true(rows.pop()?.[1]?.includes('ISATAP'));
  t.deepEqual(
    rows,
    SPECIAL_RANGES.map(({ network, what, source }) => [`\`${network}\``, what, source]),
  );
});

test('the document has the status, the phrase and the code of each refusal', (t) => {
  const rows = rowsOf('What a refusal looks like').map(([reason = '', http, socks]) => [reason, http, socks]);
  // Where SOCKS has no such refusal the document has no code.
  const isOfHttp = (reason: string): boolean => ['bad-answer', 'bad-version', 'head-too-large'].includes(reason);
  t.deepEqual(
    rows,
    Object.entries(ANSWERS).map(([reason, { phrase, socks, status }]) => [
      `\`${reason}\``,
      `${status} ${phrase}`,
      isOfHttp(reason) ? '' : String(socks),
    ]),
  );
});
