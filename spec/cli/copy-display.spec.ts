/** The display of a copy in a terminal. */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatOutcome, formatProgress } from '../../cli/ui/progress.js';
import { textWidth } from '../../cli/ui/table.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { openTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { VPROXY } from '../helpers/vproxy-process.js';

const progress = (facts: Partial<CopyProgress>): CopyProgress => Object.assign(new CopyProgress(), facts);
const totals = { files: 2, folders: 0, links: 0, bytes: 4_000_000 };

test('a line has the file, the share, the amount, the rate and the time left', (t) => {
  const line = formatProgress(progress({ path: 'app/a.txt', bytes: 1_000_000, totals }), 250_000, 60);
  t.is(line, 'app/a.txt                 25%   1.0 MB   250 kB/s   12s left');
});

test('a line fits any width, and shows the end of a long path', (t) => {
  const path = `${'folder/'.repeat(20)}🎉\u001b[31m.txt`;
  for (let width = 1; width < 120; width++) {
    const line = formatProgress(progress({ path, bytes: 1_000_000, totals }), 250_000, width);
    t.true(textWidth(line) <= width, line);
    t.false(line.includes('\u001b'));
  }
  t.regex(formatProgress(progress({ path, totals }), 1, 80), /^….*\.txt {2}/);
});

test('while a resumed copy is compared, the line shows the side and the progress', (t) => {
  const comparison = { bytes: 1_000_000, totalBytes: 4_000_000 };
  const line = (side: 'here' | 'there') =>
    formatProgress(progress({ path: 'a', bytes: 3, totals, comparison: { ...comparison, side } }), 250_000, 65);
  t.is(line('there'), 'comparing files there          25%   1.0 MB   250 kB/s   12s left');
  t.is(line('here'), 'comparing files here           25%   1.0 MB   250 kB/s   12s left');
});

test('nothing is divided by zero', (t) => {
  t.is(formatProgress(progress({ totals: { ...totals, bytes: 0 } }), 0, 50).trim(), '100%      0 B      0 B/s');
  t.is(formatProgress(progress({ bytes: 5 }), 0, 50).trim(), '5 B      0 B/s');
});

test('the outcome shows how much was saved', (t) => {
  const facts = progress({ files: 2, folders: 1, links: 3, bytes: 3_000_000, resumedBytes: 1_000_000 });
  t.is(
    formatOutcome(facts, 1000),
    '2 files, 1 folder, 3 links, 3.0 MB in 1.0 s (2.0 MB/s); 1.0 MB of that already existed',
  );
  t.is(formatOutcome(progress({ files: 1, bytes: 10 }), 0), '1 file, 10 B in 0.00 ms (10.0 kB/s)');
});

/** Copies in a terminal until the line appears, and interrupts it. */
async function watch(t: ExecutionContext, words: string, line: RegExp): Promise<string> {
  const folder = temporaryFolder(t);
  for (const name of ['sparse', '.there.vproxy-part']) {
    writeFileSync(join(folder, name), '');
    truncateSync(join(folder, name), 30_000_000_000);
  }
  const { sockets } = await processPair(t, { control: 'both', guest: ['--allow-copy'] });
  const command = `${VPROXY} copy ${words} ${folder}/sparse :${folder}/there; sleep 60`;
  const terminal = await openTerminal(t, `trap : INT; ${command}`, { VPROXY_SOCKET: sockets[0] });
  await terminal.shows(line);
  await terminal.press('C-c');
  return (await terminal.shows(/copy interrupted/)).input;
}

const NUMBERS = String.raw` +\d+% +[\d.]+ [kMG]?B +[\d.]+ [kMG]?B\/s +\S+( \S+)? left`;

for (const [words, what] of [
  ['', 'sparse'],
  ['--resume', 'comparing files there'],
] as const) {
  testWith('tmux')(`in a terminal a line shows "${what}", and the outcome at the end`, async (t) => {
    t.false((await watch(t, words, new RegExp(`^${what}${NUMBERS}`, 'm'))).includes('left\n'));
  });
}
