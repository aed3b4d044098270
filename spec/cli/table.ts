/** Tables, amounts and widths, human-readable. */
import test from 'ava';
import { formatAge, formatBytes, formatDuration, formatRate } from '../../cli/ui/print.js';
import { type Column, fitText, formatTable, textWidth } from '../../cli/ui/table.js';

const COLUMNS: readonly Column<readonly string[]>[] = [
  { title: 'NAME', cell: ([name = '']) => name, leastWidth: 6 },
  { title: 'STATE', cell: ([, state = '']) => state },
  { title: 'SENT', cell: ([, , sent = '']) => sent, align: 'right' },
];

test('columns are as wide as they need to be', (t) => {
  const rows = [
    ['vm1', 'established', '5 B'],
    ['a-long-name', 'failed', '12.3 MB'],
  ];
  t.deepEqual(formatTable(COLUMNS, rows, null), [
    'NAME         STATE           SENT',
    'vm1          established      5 B',
    'a-long-name  failed       12.3 MB',
  ]);
});

test('if a table is too wide, its flexible columns shrink, and then lines are truncated', (t) => {
  const rows = [['a-long-name', 'established', '5 B']];
  t.is(formatTable(COLUMNS, rows, 28)[1], 'a-long-n…  established   5 B');
  t.is(formatTable(COLUMNS, rows, 12)[1], 'a-lon…  est…');
});

test('a text of a peer moves no cursor, and does not shift the columns', (t) => {
  t.deepEqual(formatTable(COLUMNS, [['日本\u001b[2J', 'x', '']], null), [
    'NAME         STATE  SENT',
    '日本\\x1b[2J  x',
  ]);
});

test('wide characters take two columns, combining ones none', (t) => {
  t.is(textWidth('日本'), 4);
  t.is(textWidth('e\u0301'), 1);
  // An emoji, an old and a newer letter of Unicode, a joiner, and a vowel sign that takes a column.
  t.deepEqual(['🚀', 'ﾊ', '\u{18d00}', '\u200d', '\u0bbe'].map(textWidth), [2, 1, 2, 0, 1]);
  t.is(fitText('日本語', 4), '日… ');
  t.is(fitText('5', 3, 'right'), '  5');
});

const reads = test.macro<[text: string, expected: string]>({
  exec: (t, text, expected) => t.is(text, expected),
  title: (_given, text, expected) => `${text} is read as ${expected}`,
});

test(reads, formatBytes(0), '0 B');
test(reads, formatBytes(999), '999 B');
test(reads, formatBytes(1000), '1.0 kB');
test(reads, formatBytes(999_949), '1.0 MB');
test(reads, formatBytes(1_234_567), '1.2 MB');
test(reads, formatBytes(99_960), '100 kB');
test(reads, formatBytes(2e18), '2000 PB');
test(reads, formatRate(3_400_000), '3.4 MB/s');
test(reads, formatAge(-5), '0s');
test(reads, formatAge(59_999), '59s');
test(reads, formatAge(185_000), '3m 05s');
test(reads, formatAge(7_500_000), '2h 05m');
test(reads, formatAge(97 * 3_600_000), '4d 01h');
test(reads, formatDuration(0.3123), '0.31 ms');
test(reads, formatDuration(12.34), '12.3 ms');
test(reads, formatDuration(1250), '1.3 s');
