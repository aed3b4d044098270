/** The path of a channel: left over by a process that was killed, or not there yet. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { within } from '../helpers/time.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

test('a socket file that a killed process left behind is replaced, and goes with its successor', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const first = spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  await first.waitForLine(/waiting for the peer/);
  first.kill('SIGKILL');
  await first.exited;
  t.true(existsSync(path));
  const second = spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  await second.waitForLine(/waiting for the peer/);
  spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await second.waitForLine(ESTABLISHED);
  t.is((await second.stop()).code, 0);
  t.false(existsSync(path));
});

test('a second process does not take the channel of one that lives', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const first = spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  await first.waitForLine(/waiting for the peer/);
  const second = spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  t.is((await within(10_000, 'its end', second.exited)).code, 69);
  t.true(existsSync(path));
  spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await first.waitForLine(ESTABLISHED);
});

test('a channel whose path appears later is found without anybody’s help, with one line until then', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await guest.waitForLine(/channel\.sock is missing \(ENOENT\); trying again/);
  spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  await guest.waitForLine(ESTABLISHED);
  t.is(guest.lines.length, 2, guest.lines.join('\n'));
});
