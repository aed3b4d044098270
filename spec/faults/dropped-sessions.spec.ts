/** A peer, or what lies before it, that drops the channel as soon as a session is established, again and again. */
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

const LONG_PAUSE_MS = 1200;
const MAX_SESSIONS = 12;

test('a channel that is dropped at each session is dialled ever more seldom', async (t) => {
  const folder = temporaryFolder(t);
  const [hostPath, relayPath] = [join(folder, 'host.sock'), join(folder, 'relay.sock')];
  const host = spawnVproxy(t, ['-c', `unix-listen:${hostPath}`]);
  await host.waitForLine(/waiting for the peer/);
  const links = new Set<net.Socket>();
  await localServer(
    t,
    (near) => {
      const far = localSocket(t, { path: hostPath }).on('error', () => undefined);
      links.add(near).add(far);
      near.pipe(far).pipe(near);
    },
    { path: relayPath },
  );
  const guest = spawnVproxy(t, ['-c', `unix-connect:${relayPath}`]);
  await guest.waitForLine(ESTABLISHED);
  let sessions = 1;
  let lastMs = performance.now();
  for (let pauseMs = 0; pauseMs < LONG_PAUSE_MS && sessions < MAX_SESSIONS; sessions += 1) {
    const from = guest.lines.length;
    for (const socket of links) socket.destroy();
    links.clear();
    await guest.waitForLine(ESTABLISHED, { from });
    pauseMs = performance.now() - lastMs;
    lastMs = performance.now();
  }
  t.true(sessions < MAX_SESSIONS, `${sessions} sessions without a long pause`);
});
