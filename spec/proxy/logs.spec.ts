/** The events that proxies log, compared with the table; and the audit log, which has or counts every stream. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LOG_EVENTS, type LogEvent, makeEvent } from '../../lib/events.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { AuditLog } from '../../lib/proxy/audit-log.js';
import type { Rotation } from '../../lib/system/files/log-file.js';
import { temporaryFolder } from '../helpers/files.js';
import { ask, echo, localServer, proxyPair, refusal } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** The fields that an event has and the table lacks, or vice versa. */
function strayFields({ event, fields }: LogEvent): string[] {
  const names = Object.keys(LOG_EVENTS[event].fields);
  const known = new Set(['channel', ...names.map((name) => name.replace('?', ''))]);
  const missing = names.filter((name) => !name.endsWith('?') && fields[name] === undefined);
  return [...missing, ...Object.keys(fields).filter((name) => !known.has(name))];
}

function openAudit(t: ExecutionContext, rotation: Rotation | null = null, folder = temporaryFolder(t)) {
  const path = join(folder, 'audit.log');
  const said: LogEvent[] = [];
  const clock = new ManualClock();
  const audit = new AuditLog({ path, rotation, clock, log: (event) => said.push(event) });
  audit.open();
  t.teardown(() => audit.close());
  const lines = (file = path) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const count = (name: string) => lines().filter(({ event }) => event === name).length;
  return { path, audit, lines, count, said, clock };
}

const eventOf = (event: LogEvent['event'], fields: LogEvent['fields'] = {}, message = 'm'): LogEvent => ({
  ...{ level: 'info', event, message, fields },
});

test('each event has the level and the fields of the table; the audit log has who opened what, refusals, and amounts', async (t) => {
  const { path, audit, lines } = openAudit(t);
  const target = await localServer(t, echo);
  const incoming = [`echo:${target.port}`, `secret:${target.port}`];
  const served = { incoming, label: 'vm1', policies: { secret: { isAllowed: false } } };
  const { a, b } = await proxyPair(t, { a: { outgoing: ['echo:0', 'secret:0', 'gone:0'] }, b: served });
  b.proxy.on('audit', (event) => audit.record(event));
  t.is(await ask(t, a.port('echo')), 'hello');
  for (const service of ['secret', 'gone']) t.is(await refusal(t, a.port(service)), 'ECONNRESET');
  await eventually(() => lines().length >= 4);
  await a.proxy.connect('echo');
  await b.proxy.stop();
  await a.event('session-ended');
  await audit.close();

  const events = [...a.events, ...b.events];
  const names = new Set(events.map(({ event }) => event));
  for (const event of events) {
    t.true([LOG_EVENTS[event.event].level].flat().includes(event.level), `${event.level} ${event.event}`);
    t.deepEqual(strayFields(event), [], event.event);
  }
  for (const name of ['listening', 'session-established', 'stream-opened', 'stream-denied', 'stream-reset'] as const)
    t.true(names.has(name), name);
  t.is(makeEvent('listening', 'm', { service: 'ssh', endpoint: '127.0.0.1:22' }).level, 'info');
  t.is(makeEvent('control-off', 'm', {}, 'warn').level, 'warn', 'where the table has several');

  t.is(statSync(path).mode & 0o777, 0o600);
  const [opened, closed] = lines();
  t.like(lines(), [
    { event: 'stream-opened', channel: 'vm1', direction: 'incoming', service: 'echo', forward: 'f1' },
    { event: 'stream-closed', service: 'echo', sentBytes: 5, receivedBytes: 5, code: null },
    { event: 'stream-denied', service: 'secret', why: 'the channel may not open this service' },
    { event: 'stream-refused', direction: 'incoming', service: 'gone', code: 'unknown-service' },
  ]);
  t.true(typeof closed?.['durationMs'] === 'number' && typeof opened?.['time'] === 'string');
});

test('a forward to a missing service causes a warning when a session begins, with the services that the peer offers', async (t) => {
  const outgoing = ['web:0', 'ssh:0', `*:vsock-mux:${temporaryFolder(t)}/mux`];
  const { a, b } = await proxyPair(t, { a: { outgoing, incoming: ['x:9'] }, b: { incoming: ['ssh:9', 'db:9'] } });
  const missing = await a.event('service-missing');
  t.is(missing.level, 'warn');
  t.is(missing.message, '-o web:127.0.0.1:0: the peer offers no service web; it offers: db, ssh');
  t.deepEqual(missing.fields, { channel: 'default', service: 'web', forward: 'f1', services: 'db, ssh' });
  // The refusal has the same list.
  await refusal(t, a.port('web'));
  const refused = await a.event('stream-refused');
  t.regex(refused.message, /service web is not offered; the peer offers: db, ssh \(unknown-service\)$/);
  // Both suggest the service that was likely meant.
  const add = (text: string) => a.proxy.addForward(parseForwardSpec('outgoing', text));
  const { id } = await add('sssh:127.0.0.1:0');
  const meant = 'db, ssh; did you mean ssh?';
  t.true(a.events.at(-1)?.message.endsWith(`no service sssh; it offers: ${meant}`));
  await refusal(t, a.port('sssh'));
  await eventually(() => a.events.some(({ message }) => message.includes(`the peer offers: ${meant}`)));
  await a.proxy.removeForward(id);
  // A service withdrawn during a session causes no warning.
  await b.proxy.removeForward('f1');
  await eventually(() => !a.proxy.listServices().some(({ service }) => service === 'ssh'));
  const warned = () => a.all('service-missing').map(({ fields }) => fields['forward']);
  t.deepEqual(warned(), ['f1', id]);
  // An added forward is checked at once.
  const added = await add('web:127.0.0.1:0');
  t.deepEqual(warned(), ['f1', id, added.id]);
  await add('db:127.0.0.1:0');
  t.is(warned().length, 3);
  t.is(b.count('service-missing'), 0);
});

test('while the disk is stuck, permitted actions keep room beside refusals; lost lines are counted', async (t) => {
  const folder = join(temporaryFolder(t), 'late');
  mkdirSync(folder);
  const { audit, lines, count, said, clock } = openAudit(t, null, folder);
  // The next attempt finds no folder, so everything waits.
  audit.reopen();
  rmSync(folder, { recursive: true });
  const text = 'm'.repeat(1000);
  for (let line = 0; line < 30_000; line += 1) audit.record(eventOf('stream-denied', {}, text));
  for (let line = 0; line < 1000; line += 1) audit.record(eventOf('exec-started', {}, text));
  await eventually(() => said.some(({ event }) => event === 'audit-failed'));
  mkdirSync(folder);
  await eventually(() => (clock.advance(1000), said.some(({ event }) => event === 'audit-recovered')));
  await eventually(() => count('exec-started') === 1000);
  audit.record(eventOf('exec-started', {}, text));
  await audit.close();
  const denied = count('stream-denied');
  const [lost, ...more] = lines().filter(({ event }) => event === 'audit-lost');
  t.deepEqual([lost?.['count'], audit.lostTotal], [30_000 - denied, 30_000 - denied]);
  t.deepEqual(more, []);
  t.true(denied > 5000 && denied < 10_000, `${denied}`);
});

test('at the end every line is written, however long that takes, as long as the disk takes some', async (t) => {
  const { path, audit, lines, clock } = openAudit(t);
  const sizeBytes = () => statSync(path).size;
  audit.record(eventOf('stream-closed'));
  await eventually(() => sizeBytes() > 0);
  const batchBytes = 256 * sizeBytes();
  for (let line = 1; line < 5000; line += 1) audit.record(eventOf('stream-closed'));
  let batches = 0;
  const passing = setInterval(() => {
    // Not for each: the last one may not be known as written yet.
    if (sizeBytes() < (batches + 2) * batchBytes) return;
    batches = Math.floor(sizeBytes() / batchBytes);
    clock.advance(500);
  });
  await audit.close();
  clearInterval(passing);
  t.is(lines().length, 5000);
});

test('text from a peer cannot forge a line, or control a terminal', async (t) => {
  const { path, audit, lines } = openAudit(t);
  const from = '127.0.0.1:1\n{"event":"stream-opened","service":"forged"}\r\u001b[2J\u2028\u009b';
  audit.record(eventOf('stream-opened', { from, event: 'forged', time: 'never' }, from));
  await audit.close();
  const [line, ...more] = lines();
  t.deepEqual(more, []);
  t.like(line, { from, event: 'stream-opened' }, 'nor does a fact replace one of the line’s own');
  t.not(line?.['time'], 'never');
  t.regex(readFileSync(path, 'latin1'), /^[\x20-\x7e]+\n$/);
});

test('the audit log is rotated, and every line is in one of its files', async (t) => {
  const { path, audit, lines } = openAudit(t, { maxBytes: 4096, keep: 50 });
  const numbers = Array.from({ length: 500 }, (_, number) => number);
  for (const number of numbers) audit.record(eventOf('stream-opened', { number }));
  await audit.close();
  const files = numbers.map((number) => (number === 0 ? path : `${path}.${number}`)).filter((file) => existsSync(file));
  t.true(files.length > 5 && files.every((file) => statSync(file).size <= 4096));
  const written = files.reverse().flatMap((file) => lines(file).map(({ number }) => number));
  t.deepEqual(written, numbers);
});
