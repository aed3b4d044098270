/** Listening on a path on which a socket file is left; one test after the other, so that a new file may get the number of an old one. */
import { once } from 'node:events';
import { lstatSync, renameSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { listen } from '../../../lib/system/sockets/listening.js';
import { temporaryFolder, untilYounger } from '../../helpers/files.js';
import { localSocket } from '../../helpers/proxies.js';

/** A socket file without a listener: that of a server which was bound under another name. */
async function leaveSocket(t: ExecutionContext, path: string): Promise<void> {
  const server = net.createServer().listen(`${path}.bound`);
  await once(server, 'listening');
  renameSync(`${path}.bound`, path);
  const closed = once(server, 'close');
  server.close();
  await closed;
  t.true(lstatSync(path).isSocket());
  await untilYounger(path);
}

function serverOf(t: ExecutionContext): net.Server {
  const server = net.createServer((socket) => socket.on('error', () => undefined).end());
  t.teardown(() => server.close());
  return server;
}

test.serial('a socket file on which nobody answers is replaced', async (t) => {
  const path = join(temporaryFolder(t), 'x');
  await leaveSocket(t, path);
  await listen(serverOf(t), { path });
  await once(localSocket(t, { path }), 'connect');
});

for (const how of ['renamed to it', 'made there'])
  test.serial(`a socket that takes the place of a stale one while that is asked stays: ${how}`, async (t) => {
    const path = join(temporaryFolder(t), 'x');
    await leaveSocket(t, path);
    const [other, server] = [serverOf(t), serverOf(t)];
    if (how === 'renamed to it') await once(other.listen(`${path}.new`), 'listening');
    const listening = listen(server, { path });
    // The stale socket has been probed by now; the result is not read yet.
    if (how === 'renamed to it') renameSync(`${path}.new`, path);
    else {
      unlinkSync(path);
      other.listen(path);
    }
    const { ino } = lstatSync(path);
    await t.throwsAsync(listening, { code: 'address-in-use' });
    t.is(lstatSync(path).ino, ino);
    await once(localSocket(t, { path }), 'connect');
  });
