/** `vproxy storage-emulator`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { attachPort, peerAt, startGuest } from '../helpers/storage.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const WORDS = ['storage-emulator', '--replies', join(PROJECT_ROOT, 'spec/fixtures/storage-replies.json')];

test.serial('it listens on several addresses, reports them, answers, and exits on SIGTERM', async (t) => {
  const path = join(temporaryFolder(t), 'emulator.sock');
  const emulator = spawnVproxy(t, [...WORDS, '--listen', path, '--listen', '127.0.0.1:0']);
  const [, port] = await emulator.waitForLine(/^storage emulator listening on 127\.0\.0\.1:(\d+)$/);
  t.is(emulator.lines[0], `storage emulator listening on ${path}`);
  const guest = await startGuest(t, { peer: peerAt(Number(port)) });
  t.regex((await guest.call('/c0', 'show')).stdout.toString(), /Product Name = AVAGO MegaRAID/);
  t.is((await guest.call('/c7', 'show')).status, 2);
  await emulator.waitForLine(/^storage call: \/usr\/sbin\/storcli64 \/c0 show$/);
  emulator.kill('SIGTERM');
  t.is((await emulator.exited).code, 0);
  t.is(emulator.stdout, '');
});

test.serial('it dials, reports it, and exits on SIGINT', async (t) => {
  const guest = await startGuest(t);
  const port = await attachPort(t, guest);
  const emulator = spawnVproxy(t, [...WORDS, '--dial', `127.0.0.1:${port}`]);
  await emulator.waitForLine(new RegExp(`^storage emulator connected to 127\\.0\\.0\\.1:${port}$`));
  t.is((await guest.call('--version')).status, 0);
  emulator.kill('SIGINT');
  t.is((await emulator.exited).code, 0);
});

test.serial('a bad file and an address in use are fatal, with one line', async (t) => {
  const folder = temporaryFolder(t);
  const bad = join(folder, 'replies.json');
  writeFileSync(bad, '{"replies":[{"argv":["s"],"status":"1"}]}');
  const { path } = await startGuest(t);
  for (const [words, status, line] of [
    [['--replies', bad], 65, `${bad}: replies[0].status: must be an integer from 0 to 255`],
    [[...WORDS.slice(1), '--listen', path], 69, `cannot listen on ${path}: already in use by `],
  ] as const) {
    const emulator = spawnVproxy(t, ['storage-emulator', ...words]);
    t.is((await emulator.exited).code, status, emulator.lines.join('\n'));
    t.is(emulator.lines.length, 1);
    t.true(emulator.lines[0]?.startsWith(`vproxy: error: ${line}`), emulator.lines[0]);
  }
});
