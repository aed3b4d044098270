/** The path of a channel: left behind by a killed process, not there yet, or in use by another process. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

test('a path is found when it appears, kept from a second process, and replaced after a killed one', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const listen = () => spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await guest.waitForLine(/channel\.sock is missing \(ENOENT\); retrying/);
  const first = listen();
  await guest.waitForLine(ESTABLISHED);
  // Between its bind and its listen a socket refuses: one more line.
  const told = guest.lines.filter((line) => !line.endsWith('connection refused (ECONNREFUSED); retrying'));
  t.true(told.length === 2 && guest.lines.length <= 3, guest.lines.join('\n'));

  t.is((await listen().exited).code, 69);
  t.true(existsSync(path));
  t.false(first.lines.some((line) => /ended/.test(line)));

  const from = guest.lines.length;
  first.kill('SIGKILL');
  await first.exited;
  t.true(existsSync(path));
  const second = listen();
  await guest.waitForLine(ESTABLISHED, { from });
  t.is((await second.stop()).code, 0);
  t.false(existsSync(path));
});
