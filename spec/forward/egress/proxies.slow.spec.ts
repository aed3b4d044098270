/** An egress between two real proxies, as programs in a guest use it, a thousand at once. */
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { echo, localServer, proxyPair, readToEnd } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const HOST = '127.0.0.1';

/** A host whose egress allows the listed entries, and a guest that listens for it. */
const pairWith = (t: ExecutionContext, allow: readonly string[]) =>
  proxyPair(t, { targets: 'internet:egress:', b: { egress: { internet: { allow } } } });

const connectTo = (port: number): string => `CONNECT ${HOST}:${port} HTTP/1.1\r\nHost: ${HOST}:${port}\r\n\r\n`;
const ESTABLISHED = 'HTTP/1.1 200 Connection Established\r\n\r\n';

/** Reads N bytes. */
async function take(socket: net.Socket, byteCount: number): Promise<Buffer> {
  return eventually(() => socket.read(byteCount) as Buffer | null, { intervalMs: 5, what: `${byteCount} bytes` });
}

test('a thousand programs at once are served, each differently, and nothing is left behind', async (t) => {
  const server = await localServer(t, echo);
  const { a: guest, b: host, connect } = await pairWith(t, [`${HOST}:${server.port}`]);
  const socks = Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, server.port >> 8, server.port & 255]);
  const sockets: net.Socket[] = [];
  const open = async (index: number): Promise<void> => {
    const socket = connect();
    sockets[index] = socket;
    const isSocks = index % 2 === 1;
    socket.write(isSocks ? socks : connectTo(server.port));
    const answer = await take(socket, isSocks ? 12 : ESTABLISHED.length);
    t.true(isSocks ? answer[3] === 0 : answer.toString() === ESTABLISHED);
  };
  // More than the listener's backlog would only wait for each other.
  for (let first = 0; first < 1000; first += 250) {
    await Promise.all(Array.from({ length: 250 }, (_, index) => open(first + index)));
  }
  const ended = (): number => host.events.filter(({ event }) => event === 'egress').length;
  t.is(ended(), 0, 'all are there at once');
  await Promise.all(
    sockets.map(async (socket, index) => {
      const answer = readToEnd(socket);
      socket.end(`program ${index}`);
      t.is((await answer).toString(), `program ${index}`);
    }),
  );
  await eventually(() => ended() === 1000, { what: 'the end of each' });
  t.false(guest.events.some(({ event }) => event === 'stream-reset'));
});
