/** A process that has used up its file descriptors refuses what is new, keeps what is open, and recovers. */
import { once } from 'node:events';
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { eventually } from '../helpers/eventually.js';
import { type ProcessPair, processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';

const LIMIT = 64;
const TOO_MANY = 80;

/** Opens more connections than there are descriptors; those that were refused close by themselves. */
async function exhaust(t: ExecutionContext, pair: ProcessPair, port: number): Promise<Set<net.Socket>> {
  const open = new Set<net.Socket>();
  let settled = 0;
  for (let count = 0; count < TOO_MANY; count += 1) {
    const socket = localSocket(t, { host: '127.0.0.1', port });
    open.add(socket);
    socket.on('error', () => undefined);
    const settle = () => (settled += 1);
    socket.once('data', settle);
    socket.once('end', () => socket.destroy());
    socket.once('close', () => {
      if (open.delete(socket) && socket.bytesRead === 0) settle();
    });
    socket.write('x');
  }
  await eventually(() => settled === TOO_MANY, { what: `an answer or an end for each connection, ${pair.host.pid}` });
  return open;
}

for (const side of ['host', 'guest'] as const) {
  test(`a ${side} without descriptors refuses connections, keeps the open ones, and recovers`, async (t) => {
    const target = await localServer(t, echo);
    const pair = await processPair(t, {
      host: ['-o', 'echo:0'],
      guest: ['-i', `echo:${target.port}`],
      [`${side}Options`]: { descriptorLimit: LIMIT },
    });
    const port = await pair.host.listeningPort('echo');
    const open = await exhaust(t, pair, port);
    t.true(open.size > 10 && open.size < LIMIT, `${open.size}`);
    // What a host's system cannot accept, Node closes without a word.
    if (side === 'guest') {
      await pair.guest.waitForLine(/EMFILE.*\(connect-failed\)/);
      await pair.host.waitForLine(/EMFILE.*\(connect-failed\)/);
    }
    for (const socket of open) {
      socket.write('still there');
      t.is(String((await once(socket, 'data'))[0]), 'still there');
    }
    for (const socket of open) socket.destroy();
    await eventually(async () => {
      const socket = localSocket(t, { host: '127.0.0.1', port });
      socket.end('again');
      return (await readToEnd(socket)).toString() === 'again';
    });
    for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => /session .* ended/.test(line)));
  });
}
