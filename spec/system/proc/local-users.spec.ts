/** Whose connections within this machine are. */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LocalUsers } from '../../../lib/system/proc/local-users.js';
import { temporaryFolder } from '../../helpers/files.js';
import { eventually } from '../../helpers/time.js';

/** The accepted sides of connections to a port at `host`. */
async function accepted(t: ExecutionContext, host: string, count = 1): Promise<net.Socket[]> {
  const server = net.createServer({ pauseOnConnect: true }).listen(0, host);
  const sockets: net.Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const clients = Array.from({ length: count }, () => net.connect(port, host === '::' ? '127.0.0.1' : host));
  t.teardown(() => {
    for (const socket of [...clients, ...sockets]) socket.destroy();
    server.close();
  });
  await eventually(() => sockets.length === count);
  return sockets;
}

for (const host of ['127.0.0.1', '::1', '::']) {
  test(`connections of this user to ${host}, however many come at once, are told from others`, async (t) => {
    const users = new LocalUsers('/proc', 60_000);
    const sockets = await accepted(t, host, 50);
    const found = await Promise.all(sockets.map((socket) => users.userOf(socket)));
    t.deepEqual(new Set(found), new Set([String(process.getuid?.())]));
  });
}

test('what is not listed, and a connection of another machine, has no user', async (t) => {
  const procPath = temporaryFolder(t);
  mkdirSync(join(procPath, 'net'));
  writeFileSync(join(procPath, 'net/tcp'), '  sl  local_address rem_address   st\n');
  const [socket] = (await accepted(t, '127.0.0.1')) as [net.Socket];
  t.is(await new LocalUsers(procPath).userOf(socket), null);
  t.is(await new LocalUsers(join(procPath, 'none')).userOf(socket), null);
  const elsewhere = { remoteAddress: '192.0.2.1', remotePort: 1, localPort: 2 };
  t.is(await new LocalUsers().userOf(elsewhere), null);
});
