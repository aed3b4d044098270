/** Requests that are not valid: the answer, and the field that it names. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ERROR_CODES, VproxyError } from '../../lib/errors.js';
import type { ErrorBody } from '../../lib/status/types.js';
import { startControl, type TestRequest } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, TestProxy } from '../helpers/proxies.js';

interface Wanted {
  readonly status: number;
  readonly code: string;
  readonly field?: string;
  readonly message?: RegExp;
}

/** A control server of a proxy whose channel nobody dials. */
async function alone(t: ExecutionContext) {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  return { proxy, ...(await startControl(t, proxy)) };
}

const badArgument = (field: string, message?: RegExp): Wanted => ({
  status: 400,
  code: 'bad-argument',
  field,
  ...(message && { message }),
});

const address = 'unix-connect:/nowhere';

/** Requests, and what they are answered with. */
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
