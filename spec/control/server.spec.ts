/** The control server: HTTP requests and their answers. */

import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import { describeRoutes } from '../../lib/control/routes/openapi.js';
import { ROUTES } from '../../lib/control/routes/table.js';
import { HttpService, REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import { ERROR_CODES, VproxyError } from '../../lib/errors.js';
import type { ErrorBody } from '../../lib/status/types.js';
import { deferred } from '../../lib/util/concurrency.js';
import {
  type Answer,
  ask,
  openConnection,
  openStream,
  routeRequests,
  startControl,
  type TestRequest,
} from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { echo, localServer, openEcho, readToEnd, steeredPair, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A control server of a proxy whose channel nobody dials. */
async function alone(t: ExecutionContext, options: { clock?: ManualClock } = {}) {
  const folder = temporaryFolder(t);
  const { proxy } = new TestProxy(t, `unix-listen:${join(folder, 'c')}`);
  const control = await startControl(t, proxy, options);
  const add = (label: string, more: object) =>
    control.ask('POST', '/v1/channels', { body: { address: `unix-connect:${join(folder, label)}`, label, ...more } });
  const optionsOf = (wanted: string) => proxy.options.find(({ label }) => label === wanted);
  return { ...control, folder, proxy, add, optionsOf };
}

test('the socket is its owner’s alone', async (t) => {
  const { path } = await alone(t);
  t.is(statSync(path).mode & 0o777, 0o600);
});

test('a channel is added with keys and permissions of its own, or with those of the process', async (t) => {
  const { folder, add, optionsOf, process: steered } = await alone(t);
  const key = writeKeyFile(folder, 'own.key', '1f');
  steered.channelDefaults = { exec: { commands: 'any' }, copy: { root: null } };
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
  const { folder, add, ask, optionsOf, process: steered } = await alone(t);
  steered.channelDefaults = {
    insecure: true,
    policies: { ssh: { streams: 3, bytesPerSecond: 2000 }, web: { streams: 1 } },
    storage: { parallel: 2, runtimeDirectory: folder },
  };
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
  const made = optionsOf('a');
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
  t.like(optionsOf('b')?.storage, { isAllowed: false, runtimeDirectory: folder });
  t.is((await ask('GET', '/v1/services')).status, 200);
});

test('nothing is left to be done when nobody asks any more', async (t) => {
  const clock = new ManualClock();
  const { ask } = await alone(t, { clock });
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

// Requests that are not valid.

interface Wanted {
  readonly status: number;
  readonly code: string;
  readonly field?: string;
  readonly message?: RegExp;
}

const badArgument = (field: string, message?: RegExp): Wanted => ({
  status: 400,
  code: 'bad-argument',
  field,
  ...(message && { message }),
});

const address = 'unix-connect:/nowhere';

const REFUSED: readonly (readonly [line: string, request: TestRequest, wanted: Wanted])[] = [
  ['GET /v1/nothing', {}, { status: 404, code: 'not-found' }],
  ['GET /v1/channels/vm7', {}, { status: 404, code: 'not-found', message: /vm7.*default/ }],
  ['GET /v1/channels/%ff', {}, { status: 400, code: 'bad-argument', message: /percent/ }],
  ['DELETE /v1/channels/default?mode=soon', {}, badArgument('mode', /drain or now/)],
  ['DELETE /v1/channels/default?now=1', {}, badArgument('now', /no such field/)],
  ['DELETE /v1/channels/default?mode=now&mode=drain', {}, badArgument('mode', /twice/)],
  ['DELETE /v1/forwards/f9', {}, { status: 404, code: 'not-found', message: /f9/ }],
  ['DELETE /v1/streams/default/7', {}, { status: 404, code: 'not-found', message: /7/ }],
  ['DELETE /v1/streams/default/-1', {}, badArgument('id')],
  ['DELETE /v1/streams/default/99999999999', {}, badArgument('id')],
  ['GET /v1/status?x=1', {}, badArgument('x')],
  ['GET /v1/events?replay=501', {}, badArgument('replay', /more than 500/)],
  ['GET /v1/events?replay=-1', {}, badArgument('replay')],
  ['GET /v1/events?follow=no', {}, badArgument('follow', /true or false/)],
  ['GET /v1/wait?timeout=1e9', {}, badArgument('timeout')],
  ['GET /v1/wait?timeout=0', {}, { status: 503, code: 'no-session' }],
  ['GET /v1/connect?service=ssh', {}, { status: 426, code: 'bad-argument' }],
  ['POST /v1/ping', {}, { status: 503, code: 'no-session' }],
  ['POST /v1/ping', { body: { channel: 'vm7' } }, { status: 404, code: 'not-found' }],
  ['PUT /v1/log-level', {}, badArgument('level')],
  ['PUT /v1/log-level', { body: { level: 'loud' } }, badArgument('level', /error, warn/)],
  ['POST /v1/drain', { body: { timeoutS: -1 } }, badArgument('timeoutS')],
  ['POST /v1/stop', { body: { now: true } }, badArgument('now')],
  ['POST /v1/forwards', { body: { direction: 'up', spec: 'ssh:22' } }, badArgument('direction')],
  ['POST /v1/forwards', { body: { direction: 'outgoing' } }, badArgument('spec', /missing/)],
  ['POST /v1/forwards', { body: { direction: 'outgoing', spec: 'ssh' } }, badArgument('spec', /colon/)],
  [
    'POST /v1/forwards',
    { body: { direction: 'outgoing', spec: 'ssh:0', channel: 'vm7' } },
    { status: 404, code: 'not-found' },
  ],
  ['POST /v1/channels', { body: {} }, badArgument('address', /missing/)],
  ['POST /v1/channels', { body: { address: 'smoke:signals' } }, badArgument('address')],
  ['POST /v1/channels', { body: { address, label: 'VM 1' } }, badArgument('label', /a-z/)],
  ['POST /v1/channels', { body: { address, label: 'v', incoming: ['x:1', 'y'] } }, badArgument('incoming[1]')],
  ['POST /v1/channels', { body: { address, label: 'v', outgoing: [7] } }, badArgument('outgoing[0]')],
  ['POST /v1/channels', { body: { address, label: 'v', outgoing: 'x:1' } }, badArgument('outgoing')],
  ['POST /v1/channels', { body: { address, label: 'v', waitS: '5' } }, badArgument('waitS')],
  ['POST /v1/channels', { body: { address, colour: 'red' } }, badArgument('colour')],
  ['POST /v1/channels', { body: { address, services: { SSH: {} } } }, badArgument('services.SSH')],
  ['POST /v1/channels', { body: { address, services: { a: { streams: 0 } } } }, badArgument('services.a.streams')],
  ['POST /v1/channels', { body: { address, storage: { socket: 's' } } }, badArgument('storage.socket')],
  ['POST /v1/channels', { body: { address, vsockPorts: { 22: 'a' } } }, badArgument('vsockPorts')],
  ['POST /v1/channels', { text: '{"__proto__": {"label": "x"}}' }, badArgument('address')],
  ['POST /v1/channels', { body: { address } }, { status: 400, code: 'bad-argument', message: /there already/ }],
  ['POST /v1/ping', { text: '{' }, { status: 400, code: 'bad-argument', message: /JSON/ }],
  ['POST /v1/ping', { text: '[]' }, { status: 400, code: 'bad-argument', message: /object/ }],
  [
    'POST /v1/ping',
    { text: '{}', headers: { 'Content-Type': 'text/plain' } },
    { status: 415, code: 'bad-argument', message: /application\/json/ },
  ],
];

test('a request that is not valid names its field, and changes nothing', async (t) => {
  const { proxy, ask } = await alone(t);
  for (const [line, request, wanted] of REFUSED) {
    const [method = '', url = ''] = line.split(' ');
    const { status, body, text } = await ask(method, url, request);
    const { error } = body as ErrorBody;
    const { message = /^\S.*\S$/, ...facts } = wanted;
    t.deepEqual(
      { status, code: error.code, ...(error.field !== undefined && { field: error.field }) },
      facts,
      line + text,
    );
    t.regex(error.message, message, line);
    t.deepEqual([proxy.listChannels().length, proxy.listForwards().length], [1, 0], line);
  }
});

test('another method is answered with 405 and those that are allowed', async (t) => {
  const { ask } = await alone(t);
  const { status, headers } = await ask('PUT', '/v1/channels');
  t.deepEqual([status, headers.allow], [405, 'GET, POST']);
});

test('a port that is taken is answered with 409, and changes nothing', async (t) => {
  const { port } = await localServer(t, () => undefined);
  const { proxy, ask } = await alone(t);
  const answer = await ask('POST', '/v1/forwards', { body: { direction: 'outgoing', spec: `ssh:127.0.0.1:${port}` } });
  t.is(answer.status, 409);
  t.like(answer.body, { error: { code: 'address-in-use' } });
  t.deepEqual(proxy.listForwards(), []);
});

test('a reload that fails says why with 422, whoever was wrong; a defect is answered with 500', async (t) => {
  const { ask, process } = await alone(t);
  for (const [error, status, code] of [
    [new VproxyError('bad-file', 'channels.vm1.address: it is missing'), 422, 'bad-file'],
    [new VproxyError('bad-argument', 'channels.vm1.address: it is missing'), 422, 'bad-argument'],
    [new TypeError('x is not a function'), 500, 'internal'],
  ] as const) {
    process.reload = () => Promise.reject(error);
    const answer = await ask('POST', '/v1/reload');
    t.is(answer.status, status);
    t.deepEqual(answer.body, { error: { code, message: error.message } });
  }
  t.is((await ask('GET', '/v1/status')).status, 200);
});

test('every code of the table has a status that tells whose fault it is', (t) => {
  const statuses = Object.keys(ERROR_CODES).map((code) => [code, new VproxyError(code, '').row.http] as const);
  for (const [code, status] of statuses) t.true(status >= 400 && status <= 504, code);
  t.is(new VproxyError('a-new-code-of-the-peer', '').row.http, 503);
  const rows = Object.fromEntries(statuses);
  t.like(rows, { 'unknown-service': 503, 'connect-refused': 503, 'connect-timeout': 504, 'open-timeout': 504 });
  t.like(rows, { shutdown: 503, 'no-session': 503, 'address-denied': 403, denied: 403, 'bad-file': 422 });
});

// What speaks HTTP is loaded for the first connection.

const HANDLERS = { onRequest: (_request: unknown, response: { end(text: string): void }) => response.end('answer') };

async function serve(t: ExecutionContext, load: () => Promise<typeof HANDLERS>) {
  const clock = new ManualClock();
  const service = new HttpService({ clock, load });
  const socketPath = join(temporaryFolder(t), 'socket');
  await service.listen({ path: socketPath });
  t.teardown(() => service.close());
  return { clock, socketPath };
}

test('it is loaded once, for connections that came meanwhile as well', async (t) => {
  const loading = deferred<typeof HANDLERS>();
  let loadCount = 0;
  const load = () => {
    loadCount += 1;
    return loading.promise;
  };
  const { socketPath } = await serve(t, load);
  t.is(loadCount, 0);
  const early = Array.from({ length: 3 }, () => ask({ socketPath }, 'GET', '/'));
  // What has gone by then is no matter.
  const gone = await openConnection(t, socketPath);
  gone.write('GET / HTTP/1.1\r\n');
  gone.destroy();
  loading.resolve(HANDLERS);
  for (const answer of [...(await Promise.all(early)), await ask({ socketPath }, 'GET', '/')]) {
    t.is(answer.text, 'answer');
  }
  t.is(loadCount, 1);
});

test('where it cannot be loaded the connection is closed, and the next one tries again', async (t) => {
  const outcomes = [() => Promise.reject(new Error('the file is not there')), () => Promise.resolve(HANDLERS)];
  const { socketPath } = await serve(t, () => outcomes.shift()?.() ?? Promise.reject(new Error('once too often')));
  const refused = await openConnection(t, socketPath);
  t.is((await readToEnd(refused)).length, 0);
  t.is((await ask({ socketPath }, 'GET', '/')).text, 'answer');
  t.is((await ask({ socketPath }, 'GET', '/')).text, 'answer');
});

test('a connection has its time from when it is loaded, however long that takes', async (t) => {
  const loading = deferred<typeof HANDLERS>();
  const begun = deferred();
  const load = () => {
    begun.resolve();
    return loading.promise;
  };
  const { clock, socketPath } = await serve(t, load);
  const early = ask({ socketPath }, 'GET', '/');
  await begun.promise;
  clock.advance(60_000);
  loading.resolve(HANDLERS);
  t.is((await early).text, 'answer');
  t.is(clock.pending, 0);
  const silent = await openConnection(t, socketPath);
  const ended = once(silent.resume(), 'end');
  // The service has it when the clock has its time-out.
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  clock.advance(REQUEST_TIMEOUT_MS);
  await ended;
});

// docs/openapi.json matches the table of routes, and every route answers as it says.

interface Description {
  readonly paths: Record<
    string,
    Record<string, { readonly responses: Record<string, { readonly content?: Content }> }>
  >;
  readonly components: { readonly schemas: Record<string, unknown> };
}

type Content = Readonly<Record<string, { readonly schema: Record<string, unknown> }>>;

const text = readFileSync(join(PROJECT_ROOT, 'docs/openapi.json'), 'utf8');
const description = JSON.parse(text) as Description;

test('docs/openapi.json is what the table of routes says: npm run openapi writes it', (t) => {
  t.deepEqual(description, JSON.parse(JSON.stringify(describeRoutes(ROUTES))) as Description);
});

test('every schema that the description refers to is there', (t) => {
  const names = [...text.matchAll(/"\$ref": "#\/components\/schemas\/(\w+)"/g)].map(([, name = '']) => name);
  t.deepEqual([...new Set(names)].sort(), Object.keys(description.components.schemas).sort());
  t.false(text.includes('$defs'));
});

function schemaOf(schema: Record<string, unknown>): z.ZodType {
  const definitions = { ...schema, $defs: description.components.schemas };
  const local = JSON.stringify(definitions).replaceAll('#/components/schemas/', '#/$defs/');
  return z.fromJSONSchema(JSON.parse(local) as z.core.JSONSchema.JSONSchema);
}

test('every route answers as the description says', async (t) => {
  const target = await localServer(t, echo);
  const egress = { internet: { allow: ['127.0.0.0/8:443'], upstream: 'http://[::1]:1' } };
  const { here, control } = await steeredPair(t, {
    here: { outgoing: ['echo:0'], egress },
    peer: { incoming: [`echo:${target.port}`], info: true },
  });
  // One of the routes resets its stream.
  (await openEcho(t, here.port('echo'))).on('error', () => undefined);
  const [stream] = here.proxy.listStreams();
  const trials = routeRequests(stream?.id ?? 0);
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  t.deepEqual(trials.map(([operation]) => operation).sort(), operations.sort());
  for (const [operation, url, body] of trials) {
    const [method = '', path = ''] = operation.split(' ');
    const [status = '', { content } = {}] = Object.entries(description.paths[path]?.[method]?.responses ?? {})[0] ?? [];
    if (status === '101') {
      t.truthy(await openStream(t, control.path, 'service=echo'));
      continue;
    }
    const answer = await control.ask(method.toUpperCase(), url, { body });
    t.is(answer.status, Number(status), `${operation}: ${answer.text}`);
    checkContent(answer, content, (what) => t.fail(`${operation}: ${what}`));
  }
  t.is(control.process.logLevel, 'debug');
  t.deepEqual(control.process.told, ['upgrade itself 10000', 'drain 5000', 'stop']);
});

function checkContent(answer: Answer, content: Content | undefined, fail: (what: string) => void): void {
  const [type, wanted] = Object.entries(content ?? {})[0] ?? [];
  if (answer.headers['content-type'] !== type)
    fail(`${answer.headers['content-type'] ?? 'nothing'} is not ${type ?? ''}`);
  if (type === undefined || wanted === undefined) {
    if (answer.text !== '') fail('there is a body');
    return;
  }
  const lines = type === 'application/x-ndjson' ? answer.text.trimEnd().split('\n') : [answer.text];
  for (const line of lines) {
    const { error } = schemaOf(wanted.schema).safeParse(type.startsWith('text/') ? line : JSON.parse(line));
    if (error !== undefined) fail(z.prettifyError(error));
  }
}
