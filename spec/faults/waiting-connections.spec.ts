/** Local connections that wait for a session: their number is bounded, and those that wait are all served. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { echo, failureOf, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';

const MAX_WAITING = 1024;
const TOO_MANY = 6;

test('of the local connections that wait for a session the 1,025th is reset, and the others are served', async (t) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const path = join(temporaryFolder(t), 'channel.sock');
  const target = await localServer(t, echo);
  const host = new TestProxy(t, `unix-listen:${path}`, { outgoing: ['echo:0'], waitMs: 60_000 });
  await host.start();
  const port = host.port('echo');
  const waiting = Array.from({ length: MAX_WAITING }, () => localSocket(t, { host: '127.0.0.1', port }));
  await Promise.all(waiting.map((socket) => once(socket, 'connect')));
  const surplus = Array.from({ length: TOO_MANY }, () => localSocket(t, { host: '127.0.0.1', port }));
  for (const failure of await Promise.all(surplus.map(failureOf))) t.is(failure.code, 'ECONNRESET');
  const refused = host.events.filter(({ event }) => event === 'stream-refused');
  t.is(refused.length, TOO_MANY);
  t.regex(refused[0]?.message ?? '', /1024 connections wait .*\(no-session\)/);

  const guest = new TestProxy(t, `unix-connect:${path}`, { incoming: [`echo:${target.port}`] });
  await guest.start();
  const answers = waiting.map(readToEnd);
  for (const socket of waiting) socket.end('x');
  t.true((await Promise.all(answers)).every((answer) => answer.toString() === 'x'));
  t.deepEqual(warnings, []);
});
