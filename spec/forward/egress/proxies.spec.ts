/** An egress between two real proxies: as programs in a guest meet it, a thousand of them at once. */
import { once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { sha256, temporaryFolder } from '../../helpers/files.js';
import { patternFrom } from '../../helpers/process-change.js';
import { connectedProxies, echo, localServer, localSocket, readToEnd, type TestProxy } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const HOST = '127.0.0.1';

/** A guest and a host, whose egress lets out what is listed, and the port of the guest that programs use as their proxy. */
async function pairWith(
  t: ExecutionContext,
  allow: readonly string[],
): Promise<{ readonly guest: TestProxy; readonly host: TestProxy; readonly port: number }> {
  const { a, b } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'channel.sock'),
    { outgoing: ['internet:0'] },
    { incoming: ['internet:egress:'], egress: { internet: { allow } } },
  );
  return { guest: a, host: b, port: a.port('internet') };
}

const connectTo = (port: number): string => `CONNECT ${HOST}:${port} HTTP/1.1\r\nHost: ${HOST}:${port}\r\n\r\n`;
const ESTABLISHED = 'HTTP/1.1 200 Connection Established\r\n\r\n';

/** Reads until so many bytes have come, and gives them. */
async function take(socket: net.Socket, byteCount: number): Promise<Buffer> {
  return eventually(() => socket.read(byteCount) as Buffer | null, { intervalMs: 5, what: `${byteCount} bytes` });
}

test('a thousand programs at once are served, each its own way, and nothing of it stays', async (t) => {
  const server = await localServer(t, echo);
  const { host, guest, port } = await pairWith(t, [`${HOST}:${server.port}`]);
  const socks = Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, server.port >> 8, server.port & 255]);
  const sockets: net.Socket[] = [];
  const open = async (index: number): Promise<void> => {
    const socket = localSocket(t, { host: HOST, port });
    sockets[index] = socket;
    const isSocks = index % 2 === 1;
    socket.write(isSocks ? socks : connectTo(server.port));
    const answer = await take(socket, isSocks ? 12 : ESTABLISHED.length);
    t.true(isSocks ? answer[3] === 0 : answer.toString() === ESTABLISHED);
  };
  // More than the backlog of a listener holds would only wait for each other.
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

test('a program that does not read holds nobody up', async (t) => {
  const body = patternFrom(0, 4 * 2 ** 20);
  const server = await localServer(t, (socket) => {
    socket.once('data', () => socket.end(body));
  });
  const { port } = await pairWith(t, [`${HOST}:${server.port}`]);
  const stuck = localSocket(t, { host: HOST, port });
  stuck.write(`${connectTo(server.port)}go`);
  await once(stuck, 'readable');
  for (let round = 0; round < 5; round += 1) {
    const socket = localSocket(t, { host: HOST, port });
    const answer = readToEnd(socket);
    socket.end(`${connectTo(server.port)}go`);
    t.is(sha256((await answer).subarray(ESTABLISHED.length)), sha256(body));
  }
  const answer = readToEnd(stuck);
  stuck.end();
  t.is(sha256((await answer).subarray(ESTABLISHED.length)), sha256(body));
});

test('an agent of Node fetches many pages of two servers through it', async (t) => {
  const ports = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const server = http.createServer((request, response) => response.end(`${name} ${request.url}`));
      server.listen(0, HOST);
      await once(server, 'listening');
      t.teardown(() => {
        server.closeAllConnections();
        server.close();
      });
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    }),
  );
  const { host, port } = await pairWith(
    t,
    ports.map((each) => `${HOST}:${each}`),
  );
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  t.teardown(() => agent.destroy());
  const fetch = async (index: number): Promise<string> => {
    const origin = `${HOST}:${ports[index % 2]}`;
    const request = http.get({ host: HOST, port, agent, path: `http://${origin}/${index}`, headers: { Host: origin } });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    t.is(response.statusCode, 200);
    let text = '';
    for await (const piece of response.setEncoding('utf8')) text += String(piece);
    return text;
  };
  const pages = await Promise.all(Array.from({ length: 200 }, (_, index) => fetch(index)));
  t.deepEqual(
    pages,
    Array.from({ length: 200 }, (_, index) => `${index % 2 === 0 ? 'one' : 'two'} /${index}`),
  );
  const opened = host.events.filter(({ event }) => event === 'stream-opened').length;
  t.is(opened, 4, 'the connections of the agent');
  agent.destroy();
  await eventually(() => host.events.filter(({ event }) => event === 'egress').length > 0);
});

test('what is refused is told to the program, and logged with the rule', async (t) => {
  const { host, port } = await pairWith(t, ['example.org:443', '*:80']);
  const socket = localSocket(t, { host: HOST, port });
  const answer = readToEnd(socket);
  socket.end('GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n');
  t.true(
    (await answer).toString().endsWith('vproxy: 169.254.169.254:80 is not allowed by egress "internet" on the host\n'),
  );
  const refused = await host.event('egress-refused');
  t.like(refused.fields, { egress: 'internet', destination: '169.254.169.254:80', reason: 'denied', rule: null });
  t.regex(String(refused.fields['why']), /^169\.254\.169\.254 is link-local/);
});
