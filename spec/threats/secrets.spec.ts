/** T18: a key is in its file and in the memory of the process, and nowhere else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

test('T18: the key is not in the arguments, the environment or the log of a process, nor in what it says to a peer', async (t) => {
  const folder = temporaryFolder(t);
  const keyFiles = [writeKeyFile(folder, 'psk.key', '1f')];
  const path = join(folder, 'channel.sock');
  const proxies = [{ channel: `unix-listen:${path},tls=psk`, keyFiles }];
  const vproxy = spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM, env: { DEBUG: '*' } });
  await vproxy.waitForLine(/waiting for the peer/);
  // A peer with the right key, and one with another.
  for (const digits of ['1f', '2e']) {
    const other = new TestProxy(t, `unix-connect:${path},tls=psk`, {
      keyFiles: [writeKeyFile(folder, `${digits}.key`, digits)],
    });
    await other.start();
    await other.event(digits === '1f' ? 'session-established' : 'session-ended');
    t.notRegex(JSON.stringify([other.events, other.proxy.listChannels()]), /1f1f1f1f|2e2e2e2e/);
  }
  await vproxy.waitForLine(ESTABLISHED);
  await vproxy.waitForLine(/\(auth-failed\)/);
  for (const name of ['cmdline', 'environ']) {
    t.notRegex(readFileSync(`/proc/${vproxy.pid}/${name}`, 'latin1'), /1f1f1f1f/, name);
  }
  t.notRegex(vproxy.lines.join('\n'), /1f1f1f1f|2e2e2e2e/);
});
