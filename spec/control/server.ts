/** The control server: HTTP requests and their answers. */

import { once } from 'node:events';
import { statSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import { ControlClient } from '../../lib/control/client/client.js';
import { describeRoutes } from '../../lib/control/routes/openapi.js';
import { ROUTES } from '../../lib/control/routes/table.js';
import {
  ARRIVING_MS,
  HttpService,
  type HttpServiceOptions,
  REQUEST_TIMEOUT_MS,
} from '../../lib/control/server/http-service.js';
import { VproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import type { ErrorBody } from '../../lib/status/types.js';
import { loadLibc } from '../../lib/system/libc.js';
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
import { PROJECT_ROOT, projectText, staticImports, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { freezableMachine } from '../helpers/freezable-machine.js';
import { answerTo, echo, localServer, localSocket, openEcho, steeredPair, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A control server of a proxy whose channel has no peer. */
async function alone(t: ExecutionContext, options: { clock?: ManualClock } = {}) {
  const folder = temporaryFolder(t);
  const { proxy } = new TestProxy(t, `unix-listen:${join(folder, 'c')}`);
  const control = await startControl(t, proxy, options);
  const add = (label: string, more: object) =>
    control.ask('POST', '/v1/channels', { body: { address: `unix-connect:${join(folder, label)}`, label, ...more } });
  const optionsOf = (wanted: string) => proxy.options.find(({ label }) => label === wanted);
  return { ...control, folder, proxy, add, optionsOf };
}

test('the socket is private to its owner', async (t) => {
  const { path } = await alone(t);
  t.is(statSync(path).mode & 0o777, 0o600);
});

test('an added channel takes all options of a file, or the defaults of the process; rules and storage are merged', async (t) => {
  const { folder, add, optionsOf, process: steered } = await alone(t);
  const at = (name: string) => join(folder, name);
  const key = writeKeyFile(folder, 'own.key', '1f');
  const everything = { exec: { commands: 'any' }, copy: { root: null } } as const;
  steered.channelDefaults = {
    ...{ ...everything, insecure: true, storage: { parallel: 2, runtimeDirectory: folder } },
    policies: { ssh: { streams: 3, bytesPerSecond: 2000 }, web: { streams: 1 } },
  };
  t.is((await add('a', {})).status, 201);
  t.like(optionsOf('a'), everything);
  const { status, text } = await add('b', {
    ...{ insecure: false, peerAddress: true, deadAfterS: 0, waitS: 0.5, storage: { socket: at('s') } },
    ...{ keys: [key], allowExec: ['/usr/bin/uname'], allowCopy: folder },
    services: { ssh: { streams: 2, idleTimeoutS: 0.5 + 1, channels: ['a', 'b'] }, db: { opensPerSecond: 0.5 } },
    outgoing: [`*:vsock-mux:${at('v')},1=own,22=ssh`],
  });
  t.is(status, 201, text);
  const made = optionsOf('b');
  t.like(made, {
    ...{ insecure: false, peerAddress: true, deadAfterMs: null, waitMs: 500 },
    ...{ keyFiles: [key], exec: { commands: ['/usr/bin/uname'] }, copy: { root: folder } },
    policies: {
      ssh: { streams: 2, bytesPerSecond: 2000, idleTimeoutMs: 1500, channels: ['a', 'b'] },
      ...{ web: { streams: 1 }, db: { opensPerSecond: 0.5 } },
    },
    storage: { isAllowed: true, socketPath: at('s'), parallel: 2, runtimeDirectory: folder },
  });
  t.like(made?.forwards?.[0]?.endpoint, { services: { 1: 'own', 22: 'ssh' } });
  t.is((await add('c', { allowExec: false, allowCopy: false, storage: false })).status, 201);
  t.like(optionsOf('c'), { exec: null, copy: null, storage: { isAllowed: false, runtimeDirectory: folder } });

  for (const [more, status, field] of [
    [{ keys: ['own.key'] }, 400, 'keys[0]'],
    [{ keys: [key, '1f'.repeat(32)] }, 400, 'keys[1]'],
    [{ keys: [at('none')] }, 422, undefined],
    [{ allowExec: ['uname'] }, 400, 'allowExec'],
    [{ allowCopy: '/srv/..' }, 400, 'allowCopy'],
    [{ allowCopy: at('none') }, 400, undefined],
    [{ address: 'tcp-connect:192.0.2.1:7000', insecure: false }, 400, undefined],
  ] as const) {
    const { status: got, body, text } = await add('d', more);
    t.deepEqual([got, (body as ErrorBody).error.field], [status, field], text);
    t.notRegex(text, /(1f){8}/);
  }
  t.is(optionsOf('d'), undefined);
});

test('no timer is left once there are no more requests', async (t) => {
  const clock = new ManualClock();
  const { ask } = await alone(t, { clock });
  for (const url of ['/v1/forwards', '/v1/services', '/metrics', '/v1/events?follow=false'])
    t.is((await ask('GET', url)).status, 200);
  await eventually(() => clock.pending === 0, { what: 'rest' });
  await ask('GET', '/v1/status');
  clock.advance(60_000);
  await eventually(() => clock.pending === 0, { what: 'rest after a measurement' });
  t.is(clock.pending, 0);
});

test('neither HTTP nor request validation is loaded before a client connects', (t) => {
  const loads = (file: string, name: string) => staticImports([join(PROJECT_ROOT, 'dist/lib', file)]).has(name);
  for (const file of ['control/server/control-server.js', 'control/server/http-service.js'])
    t.deepEqual([loads(file, 'zod'), loads(file, 'node:http')], [false, false], file);
  for (const file of ['control/server/public-pages.js', 'index.js']) t.false(loads(file, 'zod'), file);
  t.true(loads('control/server/request-handler.js', 'node:http') && loads('control/routes/table.js', 'zod'));
});

// Invalid requests.

/** The invalid field, or the status of another error; and a part of the message. */
type Wanted = readonly [fieldOrStatus: string | number, message?: RegExp];

const address = 'unix-connect:/nowhere';

const REFUSED: readonly (readonly [line: string, request: TestRequest, ...wanted: Wanted])[] = [
  ['GET /v1/nothing', {}, 404],
  ['GET /v1/channels/vm7', {}, 404, /vm7.*default/],
  ['GET /v1/channels/%ff', {}, 400, /percent/],
  ['DELETE /v1/channels/default?mode=soon', {}, 'mode', /drain or now/],
  ['DELETE /v1/channels/default?now=1', {}, 'now', /unknown field/],
  ['DELETE /v1/channels/default?mode=now&mode=drain', {}, 'mode', /twice/],
  ['DELETE /v1/forwards/f9', {}, 404, /f9/],
  ['DELETE /v1/streams/default/7', {}, 404, /7/],
  ['DELETE /v1/streams/default/99999999999', {}, 'id'],
  ['GET /v1/events?replay=501', {}, 'replay', /at most 500/],
  ['GET /v1/events?follow=no', {}, 'follow', /true or false/],
  ['GET /v1/wait?timeout=1e9', {}, 'timeout'],
  ['GET /v1/wait?timeout=0', {}, 503],
  ['GET /v1/connect?service=ssh', {}, 426],
  ['POST /v1/ping', {}, 503],
  ['PUT /v1/log-level', { body: { level: 'loud' } }, 'level', /error, warn/],
  ['POST /v1/drain', { body: { timeoutS: -1 } }, 'timeoutS'],
  ['POST /v1/forwards', { body: { direction: 'up', spec: 'ssh:22' } }, 'direction'],
  ['POST /v1/forwards', { body: { direction: 'outgoing' } }, 'spec', /missing/],
  ['POST /v1/forwards', { body: { direction: 'outgoing', spec: 'ssh:0', channel: 'vm7' } }, 404],
  ['POST /v1/channels', { body: {} }, 'address', /missing/],
  ['POST /v1/channels', { body: { address: 'smoke:signals' } }, 'address'],
  ['POST /v1/channels', { body: { address, label: 'VM 1' } }, 'label', /a-z/],
  ['POST /v1/channels', { body: { address, label: 'v', incoming: ['x:1', 'y'] } }, 'incoming[1]'],
  ['POST /v1/channels', { body: { address, label: 'v', waitS: '5' } }, 'waitS'],
  ['POST /v1/channels', { body: { address, services: { SSH: {} } } }, 'services.SSH'],
  ['POST /v1/channels', { body: { address, services: { a: { streams: 0 } } } }, 'services.a.streams'],
  ['POST /v1/channels', { body: { address, storage: { socket: 's' } } }, 'storage.socket'],
  ['POST /v1/channels', { body: { address, vsockPorts: { 22: 'a' } } }, 'vsockPorts'],
  ['POST /v1/channels', { text: '{"__proto__": {"label": "x"}}' }, 'address'],
  ['POST /v1/channels', { body: { address } }, 400, /already exists/],
  ['POST /v1/ping', { text: '{' }, 400, /JSON/],
  ['POST /v1/ping', { text: '[]' }, 400, /object/],
  ['POST /v1/ping', { text: '{}', headers: { 'Content-Type': 'text/plain' } }, 415, /application\/json/],
];

/** The codes of errors without a field. */
const CODES: Readonly<Record<number, string>> = { 404: 'not-found', 503: 'no-session' };

test('the error for an invalid request names the field, and nothing changes; a wrong method is answered with those allowed', async (t) => {
  const { proxy, ask } = await alone(t);
  for (const [line, request, wanted, message = /^\S.*\S$/] of REFUSED) {
    const [method = '', url = ''] = line.split(' ');
    const { status, body, text } = await ask(method, url, request);
    const { code, field, message: told } = (body as ErrorBody).error;
    const isField = typeof wanted === 'string';
    const expected = isField ? [400, 'bad-argument', wanted] : [wanted, CODES[wanted] ?? 'bad-argument', undefined];
    t.deepEqual([status, code, field], expected, line + text);
    t.regex(told, message, line);
    t.deepEqual([proxy.listChannels().length, proxy.listForwards().length], [1, 0], line);
  }
  const { status, headers } = await ask('PUT', '/v1/channels');
  t.deepEqual([status, headers.allow], [405, 'GET, POST']);
});

test('a port in use is 409, a failed reload always 422, a defect 500', async (t) => {
  const { port } = await localServer(t, () => undefined);
  const { proxy, ask, process } = await alone(t);
  const taken = await ask('POST', '/v1/forwards', { body: { direction: 'outgoing', spec: `ssh:127.0.0.1:${port}` } });
  t.like(taken, { status: 409, body: { error: { code: 'address-in-use' } } });
  t.deepEqual(proxy.listForwards(), []);
  for (const [error, status, code] of [
    [new VproxyError('bad-file', 'channels.vm1.address: missing'), 422, 'bad-file'],
    [new VproxyError('bad-argument', 'channels.vm1.address: missing'), 422, 'bad-argument'],
    [new TypeError('x is not a function'), 500, 'internal'],
  ] as const) {
    process.reload = () => Promise.reject(error);
    t.like(await ask('POST', '/v1/reload'), { status, body: { error: { code, message: error.message } } });
  }
  t.is((await ask('GET', '/v1/status')).status, 200);
});

// The HTTP server is loaded for the first connection.

const HANDLERS = { onRequest: (_request: unknown, response: { end(text: string): void }) => response.end('answer') };

async function serve(t: ExecutionContext, load: HttpServiceOptions['load']) {
  const clock = new ManualClock();
  const logged: LogEvent[] = [];
  const service = new HttpService({ clock, load, log: (event) => void logged.push(event) });
  const socketPath = join(temporaryFolder(t), 'socket');
  await service.listen({ path: socketPath });
  t.teardown(() => service.close());
  return { clock, logged, service, socketPath };
}

test('it is loaded once, also for connections that come meanwhile, whose timeout starts then', async (t) => {
  const loading = deferred<typeof HANDLERS>();
  const begun = deferred();
  let loadCount = 0;
  const { clock, socketPath } = await serve(t, () => {
    loadCount += 1;
    begun.resolve();
    return loading.promise;
  });
  const get = () => ask({ socketPath }, 'GET', '/');
  t.is(loadCount, 0);
  const early = Array.from({ length: 3 }, get);
  // Connections closed by then do not matter.
  const gone = await openConnection(t, socketPath);
  gone.write('GET / HTTP/1.1\r\n');
  gone.destroy();
  await begun.promise;
  clock.advance(60_000);
  loading.resolve(HANDLERS);
  for (const { text } of [...(await Promise.all(early)), await get()]) t.is(text, 'answer');
  t.deepEqual([loadCount, clock.pending], [1, 0]);
  const silent = await openConnection(t, socketPath);
  const ended = once(silent.resume(), 'end');
  // The service has it once its timeout is scheduled.
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  clock.advance(REQUEST_TIMEOUT_MS);
  await ended;
});

test('if loading fails the client is told why, and so is the log; the next one retries', async (t) => {
  const outcomes = [() => Promise.reject(new Error('the file is not there')), () => Promise.resolve(HANDLERS)];
  const { logged, socketPath } = await serve(t, () => outcomes.shift()?.() ?? Promise.reject(new Error('too often')));
  t.like(await ask({ socketPath }, 'GET', '/'), {
    status: 500,
    body: { error: { code: 'internal', message: 'the file is not there' } },
  });
  t.like(logged, [
    { event: 'control-failed', level: 'error', message: 'cannot answer requests: the file is not there' },
  ]);
  for (let turn = 0; turn < 2; turn += 1) t.is((await ask({ socketPath }, 'GET', '/')).text, 'answer');
});

test('a request that may change something counts once it is complete; one that does not come, for a second', async (t) => {
  const { clock, service, socketPath } = await serve(t, () => Promise.resolve(HANDLERS));
  t.false(service.isChanging);
  for (const text of ['', 'POST / HT', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"half":']) {
    const socket = await openConnection(t, socketPath);
    socket.write(text);
    await eventually(() => clock.pending === 1, { what: 'its timeout' });
    t.true(service.isChanging, text);
    clock.advance(ARRIVING_MS - 1);
    t.true(service.isChanging, text);
    clock.advance(1);
    t.false(service.isChanging, text);
    socket.destroy();
    await eventually(() => clock.pending === 0, { what: 'its end' });
  }
});

test('an upgrade waits for any answer, for a second if it may end the request, but not for its own', async (t) => {
  let whole = deferred<ServerResponse>();
  const { clock, service, socketPath } = await serve(t, () =>
    Promise.resolve({
      onRequest: (request, response) => void request.resume().once('end', () => whole.resolve(response)),
    }),
  );
  for (const [method, path, isAwaited, isAwaitedLong] of [
    ['GET', '/v1/status', true, false],
    ['DELETE', '/v1/forwards/f1', true, false],
    ['POST', '/v1/forwards', true, true],
    ['POST', '/v1/upgrade', false, false],
    ['POST', '/v1/upgrade?', false, false],
  ] as const) {
    whole = deferred();
    const answer = ask({ socketPath }, method, path);
    const response = await whole.promise;
    t.is(service.isChanging, isAwaited, path);
    clock.advance(ARRIVING_MS);
    t.is(service.isChanging, isAwaitedLong, path);
    response.end('answer');
    t.is((await answer).text, 'answer');
  }
});

test('a request whose client left before its turn holds nothing up', async (t) => {
  const held = deferred();
  const { clock, service, socketPath } = await serve(t, () =>
    Promise.resolve({
      onRequest: (_request, response, hold) =>
        void response.once('close', () => {
          hold();
          held.resolve();
        }),
    }),
  );
  const socket = await openConnection(t, socketPath);
  socket.write('PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n');
  await eventually(() => clock.pending === 1, { what: 'its timeout' });
  socket.destroy();
  await held.promise;
  await eventually(() => clock.pending === 0, { what: 'the end of its timeout' });
  t.false(service.isChanging);
});

test('connections that are let wait are unread: a successor serves them, or this one after a second', async (t) => {
  const answer = deferred();
  const { clock, service, socketPath } = await serve(t, () =>
    Promise.resolve({
      async onRequest(request, response) {
        if (request.resume().method === 'POST') await answer.promise;
        response.end('answer');
      },
    }),
  );
  const get = () => ask({ socketPath }, 'GET', '/');
  const changing = ask({ socketPath }, 'POST', '/', { text: '{}' });
  await eventually(() => clock.pending === 0 && service.isChanging, { what: 'a whole request' });
  clock.advance(ARRIVING_MS);
  service.letWait();
  t.is((await get()).headers.connection, 'close', 'served: a request takes long');
  answer.resolve();
  await changing;
  const kept = await openConnection(t, socketPath);
  const head = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  t.regex(await answerTo(kept, head), /Connection: keep-alive/);
  service.letWait();
  t.regex(await answerTo(kept, head), /Connection: close/, 'the next request comes on another connection');
  const [first, second] = [get(), get()];
  await eventually(() => service.unread.length === 2, { what: 'both' });
  t.false(service.isChanging);
  const [fd = -1] = service.unread;
  const successor = await serve(t, () => Promise.resolve(HANDLERS));
  successor.service.serveAccepted((await loadLibc()).declare('int dup(int fd)')(fd));
  t.is((await Promise.race([first, second])).text, 'answer');
  t.is(service.unread.length, 2);
  clock.advance(ARRIVING_MS);
  t.deepEqual(
    (await Promise.all([first, second])).map(({ text }) => text),
    ['answer', 'answer'],
  );
  service.letWait();
  t.is((await get()).text, 'answer', 'others are served in between, however long an upgrade waits');
  clock.advance(ARRIVING_MS);
  service.letWait();
  const third = get();
  await eventually(() => service.unread.length === 1, { what: 'it' });
  clock.advance(ARRIVING_MS);
  t.is((await third).text, 'answer');
});

// docs/openapi.json matches the table of routes, and every route answers accordingly.

interface Description {
  readonly paths: Record<
    string,
    Record<string, { readonly responses: Record<string, { readonly content?: Content }> }>
  >;
  readonly components: { readonly schemas: Record<string, unknown> };
}

type Content = Readonly<Record<string, { readonly schema: Record<string, unknown> }>>;

const text = projectText('docs/openapi.json');
const description = JSON.parse(text) as Description;

test('docs/openapi.json matches the table of routes: npm run openapi writes it', (t) => {
  t.deepEqual(description, JSON.parse(JSON.stringify(describeRoutes(ROUTES))) as Description);
});

test('each operation has the name of a method of ControlClient, and its own', (t) => {
  const names = ROUTES.map(({ operation }) => operation);
  t.is(new Set(names).size, names.length);
  const methods = names.map((name) => name.replace(/^(?:get|list|set)(.)/, (_, first: string) => first.toLowerCase()));
  // Those about files are methods of `Files`; a WebSocket is opened by its own client.
  const others = ['folder', 'openTerminal', 'openapi', 'readFile', 'removeFile', 'streamEnd', 'writeFile'];
  t.deepEqual(methods.filter((name) => !(name in ControlClient.prototype)).sort(), others);
});

test('every component that the description refers to exists', (t) => {
  for (const [kind, components] of Object.entries(description.components)) {
    const names = [...text.matchAll(new RegExp(`"#/components/${kind}/([^"]+)"`, 'g'))].map(([, name = '']) => name);
    t.deepEqual([...new Set(names)].sort(), Object.keys(components).sort());
  }
  t.false(text.includes('$defs'));
});

function schemaOf(schema: Record<string, unknown>): z.ZodType {
  const definitions = { ...schema, $defs: description.components.schemas };
  const local = JSON.stringify(definitions).replaceAll('#/components/schemas/', '#/$defs/');
  return z.fromJSONSchema(JSON.parse(local) as z.core.JSONSchema.JSONSchema);
}

test('every route answers as the description says', async (t) => {
  const target = await localServer(t, echo);
  const egress = { internet: { allow: ['127.0.0.0/8:443'], upstream: 'http://[::1]:1', askMs: 60_000 } };
  const { here, peer, control } = await steeredPair(t, {
    here: { outgoing: ['echo:0'], incoming: ['internet:egress:'], egress },
    peer: {
      ...{ incoming: [`echo:${target.port}`], outgoing: ['internet:0'], info: true, exec: { commands: 'any' } },
      copy: { root: temporaryFolder(t) },
    },
  });
  const { service } = freezableMachine(t);
  peer.proxy.serve('freeze', (stream) => service.serve(stream));
  // One of the routes resets its stream.
  (await openEcho(t, here.port('echo'))).on('error', () => undefined);
  const [stream] = here.proxy.listStreams();
  const { id } = await new ControlClient(control.path).startJob(['echo', 'x']);
  localSocket(t, peer.port('internet')).write('CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n');
  const question = await eventually(() => here.proxy.listQuestions()[0]?.id);
  const trials = routeRequests(stream?.id ?? 0, id, question, 'f3');
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
    const { error } = schemaOf(wanted.schema).safeParse(/^text|octet/.test(type) ? line : JSON.parse(line));
    if (error !== undefined) fail(z.prettifyError(error));
  }
}
