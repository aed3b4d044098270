/** What a terminal is shown of a copy. */
import { closeSync, ftruncateSync, openSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatOutcome, formatProgress } from '../../cli/ui/progress.js';
import { textWidth } from '../../cli/ui/table.js';
import { CopyProgress } from '../../lib/copy/copy-progress.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { openTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';

const progress = (facts: Partial<CopyProgress>): CopyProgress => Object.assign(new CopyProgress(), facts);
const totals = { files: 2, folders: 0, links: 0, bytes: 4_000_000 };

test('a line has the file, the share, the amount, the rate and the time left', (t) => {
  const line = formatProgress(progress({ path: 'app/a.txt', bytes: 1_000_000, totals }), 250_000, 60);
  t.is(line, 'app/a.txt                 25%   1.0 MB   250 kB/s   12s left');
});

test('a line fits any width, and shows the end of a path that is too long', (t) => {
  const path = `${'folder/'.repeat(20)}🎉\u001b[31m.txt`;
  for (let width = 1; width < 120; width++) {
    const line = formatProgress(progress({ path, bytes: 1_000_000, totals }), 250_000, width);
    t.true(textWidth(line) <= width, line);
    t.false(line.includes('\u001b'));
  }
  t.regex(formatProgress(progress({ path, totals }), 1, 80), /^….*\.txt {2}/);
});

test('while a resumed copy is compared, the line says at which side, and how far that is', (t) => {
  const comparison = { bytes: 1_000_000, totalBytes: 4_000_000 };
  const line = (side: 'here' | 'there') =>
    formatProgress(progress({ path: 'a', bytes: 3, totals, comparison: { ...comparison, side } }), 250_000, 65);
  t.is(line('there'), 'comparing what is there        25%   1.0 MB   250 kB/s   12s left');
  t.is(line('here'), 'comparing what is here         25%   1.0 MB   250 kB/s   12s left');
});

test('nothing is divided by nothing', (t) => {
  t.is(formatProgress(progress({ totals: { ...totals, bytes: 0 } }), 0, 50).trim(), '100%      0 B      0 B/s');
  t.is(formatProgress(progress({ bytes: 5 }), 0, 50).trim(), '5 B      0 B/s');
});

test('the outcome says what was saved', (t) => {
  const facts = progress({ files: 2, folders: 1, links: 3, bytes: 3_000_000, resumedBytes: 1_000_000 });
  t.is(
    formatOutcome(facts, 1000),
    '2 files, 1 folder, 3 links, 3.0 MB in 1.0 s (2.0 MB/s); 1.0 MB of that were there already',
  );
  t.is(formatOutcome(progress({ files: 1, bytes: 10 }), 0), '1 file, 10 B in 0.00 ms (10.0 kB/s)');
});

testWith('tmux')('in a terminal the line is there while it is copied, and the outcome in the end', async (t) => {
  const folder = temporaryFolder(t);
  const { env } = await allowedPair(t);
  const fd = openSync(join(folder, 'sparse'), 'w');
  ftruncateSync(fd, 3_000_000_000);
  closeSync(fd);
  const command = `${process.execPath} dist/program/vproxy.cjs copy ${folder}/sparse :${folder}/there; sleep 60`;
  const terminal = await openTerminal(t, `trap : INT; cd ${PROJECT_ROOT}; ${command}`, env);
  await terminal.shows(/^sparse +\d+% +[\d.]+ [kMG]?B +[\d.]+ [kMG]?B\/s +\S+( \S+)? left/m);
  await terminal.press('C-c');
  const { input } = await terminal.shows(/the copy was broken off; what has come is kept/);
  t.false(input.includes('left\n'));
});

testWith('tmux')('in a terminal, --resume shows that it compares', async (t) => {
  const folder = temporaryFolder(t);
  const { env } = await allowedPair(t);
  for (const name of ['sparse', '.there.vproxy-part']) {
    writeFileSync(join(folder, name), '');
    truncateSync(join(folder, name), 30_000_000_000);
  }
  const command = `${process.execPath} dist/program/vproxy.cjs copy --resume ${folder}/sparse :${folder}/there; sleep 60`;
  const terminal = await openTerminal(t, `trap : INT; cd ${PROJECT_ROOT}; ${command}`, env);
  await terminal.shows(/^comparing what is there +\d+% +[\d.]+ [kMG]?B +[\d.]+ [kMG]?B\/s +\S+( \S+)? left/m);
  await terminal.press('C-c');
  const { input } = await terminal.shows(/the copy was broken off/);
  t.false(input.includes('left\n'));
});

/** A peer that allows copies, and the environment for commands. */
async function allowedPair(t: ExecutionContext): Promise<{ readonly env: Record<string, string> }> {
  const socket = join(temporaryFolder(t), 'control.sock');
  const { host } = await processPair(t, { host: ['--control', socket], guest: ['--allow-copy'] });
  await host.waitForLine(/taking control requests/);
  return { env: { VPROXY_SOCKET: socket } };
}
