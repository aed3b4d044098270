/** The audit log: every stream is in it, and nothing that a peer says makes a line of its own. */
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Rotation } from '../../lib/forward/log-file.js';
import { AuditLog } from '../../lib/proxy/audit-log.js';
import { systemClock } from '../../lib/util/clock.js';
import type { LogEvent } from '../../lib/util/log-event.js';
import { eventually } from '../helpers/eventually.js';
import { connectedProxies, echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { temporaryFolder } from '../helpers/temp-folder.js';

function openAudit(t: ExecutionContext, rotation: Rotation | null = null) {
  const path = join(temporaryFolder(t), 'audit.log');
  const said: LogEvent[] = [];
  const audit = new AuditLog({ path, rotation, clock: systemClock, log: (event) => said.push(event) });
  audit.open();
  t.teardown(() => audit.close());
  const lines = (file = path) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { path, audit, lines, said };
}

test('who opened what, what was refused, and how much passed for how long, is in it', async (t) => {
  const { path, audit, lines } = openAudit(t);
  const target = await localServer(t, echo);
  const { a, b } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'channel.sock'),
    { outgoing: ['echo:0', 'secret:0', 'gone:0'] },
    {
      incoming: [`echo:${target.port}`, `secret:${target.port}`],
      label: 'vm1',
      policies: { secret: { isAllowed: false } },
    },
  );
  b.proxy.on('audit', (event) => audit.record(event));
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
  const answer = readToEnd(socket);
  socket.end('hello');
  t.is((await answer).toString(), 'hello');
  t.is((await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port('secret') }))).code, 'ECONNRESET');
  t.is((await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port('gone') }))).code, 'ECONNRESET');
  await eventually(() => lines().length >= 4);
  await audit.close();
  t.is(statSync(path).mode & 0o777, 0o600);
  const [opened, closed, denied, unknown] = lines();
  t.like(opened, { event: 'stream-opened', channel: 'vm1', direction: 'incoming', service: 'echo', forward: 'f1' });
  t.like(closed, { event: 'stream-closed', service: 'echo', sentBytes: 5, receivedBytes: 5, code: null });
  t.true(typeof closed?.['durationMs'] === 'number' && typeof opened?.['time'] === 'string');
  t.like(unknown, { event: 'stream-refused', direction: 'incoming', service: 'gone', code: 'unknown-service' });
  t.like(denied, { event: 'stream-denied', service: 'secret', why: 'the channel may not open this service' });
});

test('a thousand streams in a moment are a thousand lines, where the log leaves most of them out', async (t) => {
  const { audit, lines } = openAudit(t);
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), { outgoing: ['gone:0'] }, {});
  a.proxy.on('audit', (event) => audit.record(event));
  t.is(b.proxy.listForwards().length, 0);
  for (let batch = 0; batch < 20; batch += 1) {
    const sockets = Array.from({ length: 50 }, () => localSocket(t, { host: '127.0.0.1', port: a.port('gone') }));
    await Promise.all(sockets.map((socket) => once(socket, 'close').catch(() => undefined)));
  }
  await eventually(() => lines().filter(({ event }) => event === 'stream-refused').length === 1000);
  t.true(a.events.filter(({ event }) => event === 'stream-refused').length < 500);
});

test('nothing that a peer says makes a line, or is obeyed by a terminal', async (t) => {
  const { path, audit, lines } = openAudit(t);
  const from = '127.0.0.1:1\n{"event":"stream-opened","service":"forged"}\r\u001b[2J\u2028\u009b';
  audit.record({ level: 'info', event: 'stream-opened', message: from, fields: { from } });
  await audit.close();
  t.is(lines().length, 1);
  t.is(lines()[0]?.['from'], from);
  t.regex(readFileSync(path, 'latin1'), /^[\x20-\x7e]+\n$/);
});

test('a fact that is called like the line’s own ones does not replace them', async (t) => {
  const { audit, lines } = openAudit(t);
  audit.record({ level: 'info', event: 'stream-opened', message: 'm', fields: { event: 'forged', time: 'never' } });
  await audit.close();
  t.is(lines()[0]?.['event'], 'stream-opened');
  t.not(lines()[0]?.['time'], 'never');
});

test('it is rotated, and every line is in one of its files', async (t) => {
  const { path, audit, lines } = openAudit(t, { maxBytes: 4096, keep: 50 });
  for (let number = 0; number < 500; number += 1) {
    audit.record({ level: 'info', event: 'stream-opened', message: 'a line', fields: { number } });
  }
  await audit.close();
  const files = [path, ...Array.from({ length: 50 }, (_, index) => `${path}.${index + 1}`)].filter((file) =>
    statSync(file, { throwIfNoEntry: false }),
  );
  t.true(files.length > 5);
  t.true(files.every((file) => statSync(file).size <= 4096));
  const numbers = files.reverse().flatMap((file) => lines(file).map(({ number }) => number));
  t.deepEqual(
    numbers,
    Array.from({ length: 500 }, (_, number) => number),
  );
});
