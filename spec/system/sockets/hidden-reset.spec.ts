import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { hiddenReset, isHungUp } from '../../../lib/system/sockets/node-sockets.js';
import { temporaryFolder } from '../../helpers/files.js';
import { localServer, localSocket } from '../../helpers/proxies.js';

/** Two ends of a TCP connection. */
async function tcpPair(t: ExecutionContext): Promise<{ near: net.Socket; far: net.Socket }> {
  const server = await localServer(t, () => undefined);
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const near = localSocket(t, { host: '127.0.0.1', port: server.port });
  return { near, far: (await accepted)[0] };
}

test('an orderly end hides nothing, on TCP and on a unix socket', async (t) => {
  const path = join(temporaryFolder(t), 'x.sock');
  await localServer(t, (socket) => socket.end('all'), { path });
  const { near, far } = await tcpPair(t);
  far.end('all');
  for (const socket of [near, localSocket(t, { path })]) {
    socket.resume();
    await once(socket, 'end');
    t.is(hiddenReset(socket), null);
  }
});

test('a reset right behind the last bytes is either an error at once, or is found behind the end', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const { near, far } = await tcpPair(t);
    near.pause();
    far.write(Buffer.alloc(10_000));
    await once(near, 'readable');
    far.resetAndDestroy();
    await once(far, 'close');
    const failure = new Promise<Error | null>((resolve) => {
      near.once('error', resolve);
      near.once('end', () => resolve(hiddenReset(near)));
    });
    near.resume();
    t.regex(String(await failure), /ECONNRESET/);
  }
});

for (const isClosed of [false, true]) {
  test(`a unix socket that was ${isClosed ? 'closed' : 'shut down'} at the other end is ${isClosed ? '' : 'not '}hung up`, async (t) => {
    const path = join(temporaryFolder(t), 'x.sock');
    await localServer(t, (socket) => (isClosed ? socket.destroy() : socket.end()), { path });
    const socket = localSocket(t, { path });
    socket.on('error', () => undefined).resume();
    await once(socket, 'end');
    t.is(isHungUp(socket), isClosed);
  });
}
