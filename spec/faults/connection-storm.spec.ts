/** Thousands of connections that come and go at once leave nothing behind, and few lines in the log. */
import net from 'node:net';
import test from 'ava';
import { descriptorCount, processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ENDED } from '../helpers/vproxy-process.js';

const CONNECTIONS = 5000;
/** The number at once: more than the backlog holds would only wait for each other. */
const AT_ONCE = 500;

test('after 5,000 connections that were opened and dropped at once one works, and all descriptors are back', async (t) => {
  const target = await localServer(t, echo);
  const { host, guest } = await processPair(t, { host: ['-o', 'echo:0'], guest: ['-i', `echo:${target.port}`] });
  const port = await host.listeningPort('echo');
  const call = async () => {
    const socket = localSocket(t, { host: '127.0.0.1', port });
    socket.end('ping');
    t.is((await readToEnd(socket)).toString(), 'ping');
  };
  await call();
  const before = [descriptorCount(host), descriptorCount(guest)] as const;
  const openAndDrop = async (index: number) => {
    const socket = net.connect({ host: '127.0.0.1', port }).on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.once('connect', () => {
      if (index % 3 === 0) socket.write('x');
      if (index % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    });
    await closed;
  };
  let next = 0;
  const openInTurn = async () => {
    while (next < CONNECTIONS) await openAndDrop(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, openInTurn));
  for (const { lines } of [host, guest])
    t.false(
      lines.some((line) => ENDED.test(line)),
      lines.join('\n'),
    );
  await call();
  await eventually(() => descriptorCount(host) <= before[0] && descriptorCount(guest) <= before[1], {
    what: 'the descriptors',
    timeoutMs: 15_000,
  });
  for (const { lines } of [host, guest]) t.true(lines.length < 500, `${lines.length} lines`);
});
