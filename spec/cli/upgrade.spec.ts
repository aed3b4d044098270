/** `vproxy upgrade`: a successor goes on with the streams, or the process does, and says why. */
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { ONE_SESSION, runUpgrade, upgradablePair, upgrade } from '../helpers/upgrades.js';

test('a stream goes on when an upgrade is refused, which says why, and when both sides are upgraded', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const { host, guest, sockets, clients, sessions } = await upgradablePair(t, {
    host: ['-o', 'echo:0'],
    guest: ['-i', `echo:${target.port}`, '--allow-exec'],
  });
  const socket = localSocket(t, { port: await host.listeningPort('echo') });
  const goesOn = async (text: string): Promise<void> => {
    socket.write(text);
    t.is(String((await once(socket, 'data'))[0]), text);
  };
  await goesOn('before');
  const program = (text: string, mode = 0o755): string => {
    const path = join(folder, `program-${text.length}`);
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, mode);
    return path;
  };
  const refused = async (side: 0 | 1, words: readonly string[], reason: RegExp): Promise<void> => {
    const { code, stdout, stderr } = await runUpgrade(sockets[side], words);
    t.deepEqual([code, stdout], [1, '']);
    t.regex(stderr, reason);
    await goesOn(String(reason));
  };
  for (const [path, reason] of [
    [program('exit 3'), /the successor, \S+, ended with status 3/],
    [program('kill -9 $$'), /was ended by SIGKILL/],
    [program('echo this is no parcel >&3; cat >/dev/null'), /upgrade|hand over/],
    [join(folder, 'missing'), /missing/],
    ['/dev/null', /\/dev\/null is not run as the successor/],
    [program('exit 0 # open to all', 0o777), /can be written by other users/],
  ] as const) {
    await refused(0, ['--program', path], reason);
  }
  const running = await clients[0].exec(['sh', '-c', 'read line; echo "$line"']);
  for (const side of [0, 1] as const) await refused(side, ['--wait', '0'], /default: stream \d+ to exec/);
  running.stdin.end('done\n');
  t.is((await running.result).status, 0);

  const pids = [host.pid, guest.pid];
  // The sockets of the channel, of the forward and for control requests; at the guest the last alone.
  for (const [side, listeners] of [
    [0, 3],
    [1, 1],
    [0, 3],
  ] as const) {
    const answer = await upgrade(t, sockets[side]);
    t.like(answer, { sessions: 1, streams: 1, listeners });
    t.false(pids.includes(answer.pid));
    pids.push(answer.pid);
    await goesOn(`in ${answer.pid}`);
  }
  t.deepEqual(sessions(), ONE_SESSION);
  for (const client of clients) t.is((await client.channel('default')).history.sessions, 1);
  await clients[0].drain();
  await refused(0, [], /this process is ending/);
  socket.end('the end');
  t.is(String(await readToEnd(socket)), 'the end');
});
