/** The control server: HTTP requests and their answers. */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { startControl } from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';
import './errors.js';
import './http-service.js';
import './openapi.js';

test('the socket is its owner’s alone', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { path } = await startControl(t, proxy);
  t.is(statSync(path).mode & 0o777, 0o600);
});

test('a channel is added with keys and permissions of its own, or with those of the process', async (t) => {
  const folder = temporaryFolder(t);
  const { proxy } = new TestProxy(t, `unix-listen:${join(folder, 'c')}`);
  const key = writeKeyFile(folder, 'own.key', '1f');
  const { ask, process: steered } = await startControl(t, proxy);
  steered.channelDefaults = { exec: { commands: 'any' }, copy: { root: null } };
  const add = (label: string, more: object) =>
    ask('POST', '/v1/channels', { body: { address: `unix-connect:${join(folder, label)}`, label, ...more } });
  const optionsOf = (wanted: string) => proxy.options.find(({ label }) => label === wanted);
  t.is((await add('a', {})).status, 201);
  t.like(optionsOf('a'), { exec: { commands: 'any' }, copy: { root: null } });
  const own = { keys: [key], allowExec: ['/usr/bin/uname'], allowCopy: folder };
  t.is((await add('b', own)).status, 201);
  t.like(optionsOf('b'), { keyFiles: [key], exec: { commands: ['/usr/bin/uname'] }, copy: { root: folder } });
  t.is((await add('c', { allowExec: false, allowCopy: false })).status, 201);
  t.like(optionsOf('c'), { exec: null, copy: null });

  for (const [more, status, field] of [
    [{ keys: ['own.key'] }, 400, 'keys[0]'],
    [{ keys: [key, '1f'.repeat(32)] }, 400, 'keys[1]'],
    [{ keys: [join(folder, 'none')] }, 422, undefined],
    [{ allowExec: ['uname'] }, 400, 'allowExec'],
    [{ allowCopy: '/srv/..' }, 400, 'allowCopy'],
    [{ allowCopy: join(folder, 'none') }, 400, undefined],
    [{ address: 'tcp-connect:192.0.2.1:7000' }, 400, undefined],
  ] as const) {
    const { status: got, body, text } = await add('d', more);
    t.is(got, status, text);
    t.is((body as { error: { field?: string } }).error.field, field, text);
    t.notRegex(text, /(1f){8}/);
  }
  t.is(optionsOf('d'), undefined);
});

test('a channel is added with all that a file can say of one; rules and storage are merged with those of the process', async (t) => {
  const folder = temporaryFolder(t);
  const { proxy } = new TestProxy(t, `unix-listen:${join(folder, 'c')}`);
  const { ask, process: steered } = await startControl(t, proxy);
  steered.channelDefaults = {
    insecure: true,
    policies: { ssh: { streams: 3, bytesPerSecond: 2000 }, web: { streams: 1 } },
    storage: { parallel: 2, runtimeDirectory: folder },
  };
  const add = (label: string, more: object) =>
    ask('POST', '/v1/channels', { body: { address: `unix-connect:${join(folder, label)}`, label, ...more } });
  const body = {
    insecure: false,
    peerAddress: true,
    deadAfterS: 0,
    waitS: 0.5,
    services: { ssh: { streams: 2, idleTimeoutS: 0.5 + 1, channels: ['a', 'b'] }, db: { opensPerSecond: 0.5 } },
    storage: { socket: join(folder, 's') },
    outgoing: [`*:vsock-mux:${join(folder, 'v')},1=own`],
    vsockPorts: { 1: 'ssh', 22: 'ssh' },
  };
  const { status, text } = await add('a', body);
  t.is(status, 201, text);
  const made = proxy.options.find(({ label }) => label === 'a');
  t.like(made, {
    insecure: false,
    peerAddress: true,
    deadAfterMs: null,
    waitMs: 500,
    policies: {
      ssh: { streams: 2, bytesPerSecond: 2000, idleTimeoutMs: 1500, channels: ['a', 'b'] },
      web: { streams: 1 },
      db: { opensPerSecond: 0.5 },
    },
    storage: { isAllowed: true, socketPath: join(folder, 's'), parallel: 2, runtimeDirectory: folder },
  });
  t.like(made?.forwards?.[0]?.endpoint, { services: { 1: 'own', 22: 'ssh' } });
  t.is((await add('b', { storage: false })).status, 201);
  t.like(proxy.options.find(({ label }) => label === 'b')?.storage, { isAllowed: false, runtimeDirectory: folder });
  t.is((await ask('GET', '/v1/services')).status, 200);
});

test('nothing is left to be done when nobody asks any more', async (t) => {
  const clock = new ManualClock();
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { ask } = await startControl(t, proxy, { clock });
  await ask('GET', '/v1/forwards');
  await ask('GET', '/metrics');
  await ask('GET', '/v1/events?follow=false');
  await eventually(() => clock.pending === 0, { what: 'rest' });
  await ask('GET', '/v1/status');
  clock.advance(60_000);
  await eventually(() => clock.pending === 0, { what: 'rest after a measurement' });
  t.is(clock.pending, 0);
});

/** All modules that a compiled module of lib/control loads with it. */
function loadedWith(file: string, found = new Set<string>()): Set<string> {
  const text = readFileSync(file, 'utf8');
  for (const [, name = ''] of text.matchAll(/^(?:import|export) (?:.* from )?'([^']+)';$/gm)) {
    const module = name.startsWith('.') ? join(dirname(file), name) : name;
    if (found.has(module)) continue;
    found.add(module);
    if (name.startsWith('.')) loadedWith(module, found);
  }
  return found;
}

test('neither HTTP nor what checks requests is loaded before somebody connects', (t) => {
  const folder = join(PROJECT_ROOT, 'dist/lib/control');
  const before = loadedWith(join(folder, 'server/control-server.js'));
  const listening = loadedWith(join(folder, 'server/http-service.js'));
  t.false(before.has('zod') || before.has('node:http') || listening.has('node:http'));
  t.false(listening.has('zod') || loadedWith(join(folder, 'context/metrics.js')).has('zod'));
  t.true(loadedWith(join(folder, 'server/request-handler.js')).has('node:http'));
  t.true(loadedWith(join(folder, 'routes/table.js')).has('zod'));
  t.false(loadedWith(join(PROJECT_ROOT, 'dist/lib/index.js')).has('zod'));
});
