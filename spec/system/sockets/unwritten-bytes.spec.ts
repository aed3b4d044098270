/** What the system has taken of a socket: compared with what its other end reads when the socket is gone. */
import { once } from 'node:events';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { unwrittenBytesOf } from '../../../lib/system/sockets/node-sockets.js';
import { localServer, localSocket } from '../../helpers/proxies.js';
import { unixPair } from '../../helpers/unix-pair.js';

/** How much `far` reads to the end when `near`, of which `unwritten` bytes are not out, is closed. */
async function readWhenClosed(near: net.Socket, far: net.Socket): Promise<number> {
  let byteCount = 0;
  far.on('data', (chunk: Buffer) => (byteCount += chunk.length));
  const ended = once(far, 'end');
  near.destroy();
  far.resume();
  await ended;
  return byteCount;
}

const OPENERS: Readonly<Record<string, (t: ExecutionContext) => Promise<{ near: net.Socket; far: net.Socket }>>> = {
  unix: unixPair,
  tcp: async (t) => {
    const server = await localServer(t, () => undefined, undefined, { pauseOnConnect: true });
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const near = localSocket(t, { port: server.port });
    const [[far]] = await Promise.all([accepted, once(near, 'connect')]);
    return { near, far };
  },
};

for (const [name, open] of Object.entries(OPENERS)) {
  test(`${name}: what is not unwritten arrives, and no more, however it was written`, async (t) => {
    const { near, far } = await open(t);
    near.on('error', () => undefined);
    let written = 0;
    const write = (bytes: number): void => {
      near.write(Buffer.alloc(bytes));
      written += bytes;
    };
    write(1000);
    t.is(unwrittenBytesOf(near), 0);
    near.cork();
    write(500);
    write(200);
    t.is(unwrittenBytesOf(near), 700);
    near.uncork();
    t.is(unwrittenBytesOf(near), 0);
    // More than the system takes, behind it a gathered write, and one that is still held back.
    write(20_000_000);
    near.cork();
    write(300_000);
    write(70_000);
    near.uncork();
    near.cork();
    write(5);
    const unwritten = unwrittenBytesOf(near) ?? 0;
    t.true(unwritten > 370_005);
    t.true(unwritten < 20_370_005);
    t.is(await readWhenClosed(near, far), written - unwritten);
    t.is(unwrittenBytesOf(near), null);
  });
}

test('nothing of a socket that connects is out', async (t) => {
  const server = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  socket.write(Buffer.alloc(100));
  socket.write(Buffer.alloc(11));
  t.is(unwrittenBytesOf(socket), 111);
  await once(socket, 'connect');
  t.is(unwrittenBytesOf(socket), 0);
  socket.end();
  await once(socket, 'close');
});
