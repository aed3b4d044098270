/** The audit log: every stream is in it or counted, and no text of a peer makes a line of its own. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { AuditLog } from '../../lib/proxy/audit-log.js';
import type { Rotation } from '../../lib/system/files/log-file.js';
import { systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

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

test('of a thousand streams that are refused in a moment it has some, and the number of the others', async (t) => {
  const { audit, lines } = openAudit(t);
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), { outgoing: ['gone:0'] }, {});
  a.proxy.on('audit', (event) => audit.record(event));
  t.is(b.proxy.listForwards().length, 0);
  for (let batch = 0; batch < 20; batch += 1) {
    const sockets = Array.from({ length: 50 }, () => localSocket(t, { host: '127.0.0.1', port: a.port('gone') }));
    await Promise.all(sockets.map((socket) => once(socket, 'close').catch(() => undefined)));
  }
  await a.proxy.stop();
  const written = () => lines().filter(({ event }) => event === 'stream-refused').length;
  const summedUp = () => lines().filter(({ event, kind }) => event === 'log-limited' && kind === 'stream-refused');
  const all = () => summedUp().reduce((sum, { count }) => sum + Number(count), written());
  await eventually(() => all() >= 1000, { what: 'every line, or its number' });
  t.is(all(), 1000);
  t.true(written() >= 5 && written() < 500, `${written()}`);
  const told = summedUp();
  for (const { message, durationMs } of told) {
    t.regex(String(message), /^and \d+ more lines of the kind stream-refused were left out within \d+\.\d s/);
    t.is(typeof durationMs, 'number');
  }
});

test('a thousand streams that are let in are two thousand lines', async (t) => {
  const { audit, lines } = openAudit(t);
  const target = await localServer(t, echo);
  const { a, b } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'channel.sock'),
    { outgoing: ['echo:0'] },
    { incoming: [`echo:${target.port}`] },
  );
  b.proxy.on('audit', (event) => audit.record(event));
  for (let batch = 0; batch < 20; batch += 1) {
    const sockets = Array.from({ length: 50 }, () => localSocket(t, { host: '127.0.0.1', port: a.port('echo') }));
    await Promise.all(sockets.map((socket) => readToEnd(socket.end('x'))));
  }
  await eventually(() => lines().length >= 2000);
  t.deepEqual(
    ['stream-opened', 'stream-closed'].map((name) => lines().filter(({ event }) => event === name).length),
    [1000, 1000],
  );
});

test('while the disk takes nothing, what was let happen has room behind what was refused; what is lost is counted', async (t) => {
  const folder = join(temporaryFolder(t), 'late');
  const said: LogEvent[] = [];
  mkdirSync(folder);
  const clock = new ManualClock();
  const audit = new AuditLog({
    path: join(folder, 'audit.log'),
    rotation: null,
    clock,
    log: (event) => said.push(event),
  });
  audit.open();
  // The next attempt finds no folder, so everything waits.
  audit.reopen();
  rmSync(folder, { recursive: true });
  const record = (event: LogEvent['event']) =>
    audit.record({ level: 'warn', event, message: 'm'.repeat(1000), fields: {} });
  for (let line = 0; line < 30_000; line += 1) record('stream-denied');
  for (let line = 0; line < 1000; line += 1) record('exec-started');
  await eventually(() => said.some(({ event }) => event === 'audit-failed'));
  mkdirSync(folder);
  await eventually(() => {
    clock.advance(1000);
    return said.some(({ event }) => event === 'audit-recovered');
  });
  await eventually(() => readFileSync(join(folder, 'audit.log'), 'utf8').match(/exec-started/g)?.length === 1000);
  record('exec-started');
  await audit.close();
  const lines = readFileSync(join(folder, 'audit.log'), 'utf8').trimEnd().split('\n');
  const [denied, lost] = ['stream-denied', 'audit-lost'].map((name) => lines.filter((line) => line.includes(name)));
  t.is(lost?.length, 1);
  t.is(lost?.[0] && (JSON.parse(lost[0]) as { count: number }).count, 30_000 - (denied?.length ?? 0));
  t.true((denied?.length ?? 0) > 5000 && (denied?.length ?? 0) < 10_000, `${denied?.length}`);
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
