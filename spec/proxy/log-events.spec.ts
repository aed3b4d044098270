/** What two proxies log, compared with the table of events. */
import { join } from 'node:path';
import test from 'ava';
import { LOG_EVENTS, type LogEvent, makeEvent } from '../../lib/events.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { listServices } from '../../lib/session/services.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

/** The fields of an event that the table does not have, or that it has and the event lacks. */
function strayFields({ event, fields }: LogEvent): string[] {
  const names = Object.keys(LOG_EVENTS[event].fields);
  const known = new Set(['channel', ...names.map((name) => name.replace('?', ''))]);
  const missing = names.filter((name) => !name.endsWith('?') && fields[name] === undefined);
  return [...missing, ...Object.keys(fields).filter((name) => !known.has(name))];
}

test('each event has the level and the fields of the table', async (t) => {
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
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
  socket.end('hello');
  t.is((await readToEnd(socket)).toString(), 'hello');
  for (const service of ['secret', 'gone']) {
    await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port(service) }));
  }
  await a.proxy.connect('echo');
  await b.proxy.stop();
  await a.event('session-ended');
  const events = [...a.events, ...b.events];
  for (const event of events) {
    t.true([LOG_EVENTS[event.event].level].flat().includes(event.level), `${event.level} ${event.event}`);
    t.deepEqual(strayFields(event), [], event.event);
  }
  const names = new Set(events.map(({ event }) => event));
  for (const name of ['listening', 'session-established', 'stream-opened', 'stream-denied', 'stream-reset'] as const) {
    t.true(names.has(name), name);
  }
});

test('an event has the level of the table, or the one that is chosen where the table has several', (t) => {
  t.is(makeEvent('listening', 'm', { service: 'ssh', endpoint: '127.0.0.1:22' }).level, 'info');
  t.is(makeEvent('control-off', 'm', {}, 'warn').level, 'warn');
});

test('a forward to a service that the peer does not offer is warned of when a session begins, with what it offers', async (t) => {
  const { a, b } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'channel.sock'),
    { outgoing: ['web:0', 'ssh:0', '*:vsock-mux:FOLDER/mux'.replace('FOLDER', temporaryFolder(t))], incoming: ['x:9'] },
    { incoming: ['ssh:9', 'db:9'] },
  );
  const missing = await a.event('service-missing');
  t.is(missing.level, 'warn');
  t.is(missing.message, '-o web:127.0.0.1:0: the peer offers no service web; it offers: db, ssh');
  t.deepEqual(missing.fields, { channel: 'default', service: 'web', forward: 'f1', services: 'db, ssh' });
  // The same list is behind the refusal.
  await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port('web') }));
  const refused = await a.event('stream-refused');
  t.regex(refused.message, /service web is not offered; the peer offers: db, ssh \(unknown-service\)$/);
  // So is the one that was likely meant, in both.
  const { id } = await a.proxy.addForward(parseForwardSpec('outgoing', 'sssh:127.0.0.1:0'));
  const meant = 'db, ssh; did you mean ssh?';
  t.true(a.events.at(-1)?.message.endsWith(`no service sssh; it offers: ${meant}`));
  await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port('sssh') }));
  await eventually(() => a.events.some(({ message }) => message.includes(`the peer offers: ${meant}`)));
  await a.proxy.removeForward(id);
  // What is taken away in the midst of a session is not warned of.
  await b.proxy.removeForward('f1');
  await eventually(() => !a.proxy.listServices().some(({ service }) => service === 'ssh'));
  const warned = () =>
    a.events.filter(({ event }) => event === 'service-missing').map(({ fields }) => fields['forward']);
  t.deepEqual(warned(), ['f1', id]);
  // A forward that is added finds what there is.
  const added = await a.proxy.addForward(parseForwardSpec('outgoing', 'web:127.0.0.1:0'));
  t.deepEqual(warned(), ['f1', id, added.id]);
  await a.proxy.addForward(parseForwardSpec('outgoing', 'db:127.0.0.1:0'));
  t.is(warned().length, 3);
  t.false(b.events.some(({ event }) => event === 'service-missing'));
});

test('a peer that offers thousands of services fills no line', (t) => {
  const names = new Set(Array.from({ length: 1000 }, (_, index) => `s${index}`));
  t.regex(listServices(names), /^s0, s1, (?:s\d+, )*s19 and 980 more$/);
  t.is(listServices(new Set()), 'nothing');
});
