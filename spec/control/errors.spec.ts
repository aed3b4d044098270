/** Requests that are not valid: the answer, and the field that it names. */
import { join } from 'node:path';
import test from 'ava';
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

const refused = test.macro({
  async exec(t, line: string, request: TestRequest, wanted: Wanted) {
    const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
    const { ask } = await startControl(t, proxy);
    const [method = '', url = ''] = line.split(' ');
    const { status, body } = await ask(method, url, request);
    const { error } = body as ErrorBody;
    t.is(status, wanted.status, error.message);
    t.is(error.code, wanted.code);
    t.is(error.field, wanted.field);
    t.regex(error.message, wanted.message ?? /^\S.*\S$/);
    t.deepEqual([proxy.listChannels().length, proxy.listForwards().length], [1, 0]);
  },
  title: (_, line: string, { body = '', text = JSON.stringify(body) }: TestRequest, { status }: Wanted) =>
    `${line} ${text.slice(0, 60)} is answered with ${status}`.replace(/ +/g, ' '),
});

const badArgument = (field: string, message?: RegExp): Wanted => ({
  status: 400,
  code: 'bad-argument',
  field,
  ...(message && { message }),
});

test(refused, 'GET /v1/nothing', {}, { status: 404, code: 'not-found' });
test(refused, 'GET /', {}, { status: 404, code: 'not-found' });
test(refused, 'GET /v1/channels/', {}, { status: 404, code: 'not-found' });
test(refused, 'GET /v1/channels/vm7', {}, { status: 404, code: 'not-found', message: /vm7.*default/ });
test(refused, 'GET /v1/channels/%ff', {}, { status: 400, code: 'bad-argument', message: /percent/ });
test(refused, 'DELETE /v1/channels/default?mode=soon', {}, badArgument('mode', /drain or now/));
test(refused, 'DELETE /v1/channels/default?now=1', {}, badArgument('now', /no such field/));
test(refused, 'DELETE /v1/channels/default?mode=now&mode=drain', {}, badArgument('mode', /twice/));
test(refused, 'DELETE /v1/forwards/f9', {}, { status: 404, code: 'not-found', message: /f9/ });
test(refused, 'DELETE /v1/streams/default/7', {}, { status: 404, code: 'not-found', message: /7/ });
test(refused, 'DELETE /v1/streams/default/0', {}, { status: 404, code: 'not-found' });
test(refused, 'DELETE /v1/streams/default/-1', {}, badArgument('id'));
test(refused, 'DELETE /v1/streams/default/99999999999', {}, badArgument('id'));
test(refused, 'GET /v1/status?x=1', {}, badArgument('x'));
test(refused, 'GET /v1/events?replay=501', {}, badArgument('replay', /more than 500/));
test(refused, 'GET /v1/events?replay=-1', {}, badArgument('replay'));
test(refused, 'GET /v1/events?replay=', {}, badArgument('replay'));
test(refused, 'GET /v1/events?follow=no', {}, badArgument('follow', /true or false/));
test(refused, 'GET /v1/wait?timeout=1e9', {}, badArgument('timeout'));
test(refused, 'GET /v1/wait?timeout=0', {}, { status: 503, code: 'no-session' });
test(refused, 'GET /v1/connect?service=ssh', {}, { status: 426, code: 'bad-argument' });
test(refused, 'POST /v1/ping', {}, { status: 503, code: 'no-session' });
test(refused, 'POST /v1/ping', { body: { channel: 'vm7' } }, { status: 404, code: 'not-found' });
test(refused, 'PUT /v1/log-level', {}, badArgument('level'));
test(refused, 'PUT /v1/log-level', { body: { level: 'loud' } }, badArgument('level', /error, warn/));
test(refused, 'POST /v1/drain', { body: { timeoutS: -1 } }, badArgument('timeoutS'));
test(refused, 'POST /v1/stop', { body: { now: true } }, badArgument('now'));
test(refused, 'POST /v1/forwards', {}, badArgument('direction'));
test(refused, 'POST /v1/forwards', { body: { direction: 'up', spec: 'ssh:22' } }, badArgument('direction'));
test(refused, 'POST /v1/forwards', { body: { direction: 'outgoing' } }, badArgument('spec', /missing/));
test(refused, 'POST /v1/forwards', { body: { direction: 'outgoing', spec: 'ssh' } }, badArgument('spec', /colon/));
test(
  refused,
  'POST /v1/forwards',
  { body: { direction: 'outgoing', spec: 'ssh:0', channel: 'vm7' } },
  { status: 404, code: 'not-found' },
);
test(refused, 'POST /v1/channels', { body: {} }, badArgument('address', /missing/));
test(refused, 'POST /v1/channels', { body: { address: 'smoke:signals' } }, badArgument('address'));
const address = 'unix-connect:/nowhere';
test(refused, 'POST /v1/channels', { body: { address, label: 'VM 1' } }, badArgument('label', /a-z/));
test(
  refused,
  'POST /v1/channels',
  { body: { address, label: 'v', incoming: ['x:1', 'y'] } },
  badArgument('incoming[1]'),
);
test(refused, 'POST /v1/channels', { body: { address, label: 'v', outgoing: [7] } }, badArgument('outgoing[0]'));
test(refused, 'POST /v1/channels', { body: { address, label: 'v', outgoing: 'x:1' } }, badArgument('outgoing'));
test(refused, 'POST /v1/channels', { body: { address, label: 'v', waitS: '5' } }, badArgument('waitS'));
test(refused, 'POST /v1/channels', { body: { address, colour: 'red' } }, badArgument('colour'));
test(refused, 'POST /v1/channels', { text: '{"__proto__": {"label": "x"}}' }, badArgument('address'));
test(
  refused,
  'POST /v1/channels',
  { body: { address } },
  { status: 400, code: 'bad-argument', message: /there already/ },
);
test(refused, 'POST /v1/ping', { text: '{' }, { status: 400, code: 'bad-argument', message: /JSON/ });
test(refused, 'POST /v1/ping', { text: '[]' }, { status: 400, code: 'bad-argument', message: /object/ });
test(refused, 'POST /v1/ping', { text: 'null' }, { status: 400, code: 'bad-argument', message: /object/ });
test(
  refused,
  'POST /v1/ping',
  { text: '{}', headers: { 'Content-Type': 'text/plain' } },
  { status: 415, code: 'bad-argument', message: /application\/json/ },
);

test('another method is answered with 405 and those that are allowed', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { ask } = await startControl(t, proxy);
  const { status, headers } = await ask('PUT', '/v1/channels');
  t.deepEqual([status, headers.allow], [405, 'GET, POST']);
});

test('a port that is taken is answered with 409, and changes nothing', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { port } = await localServer(t, () => undefined);
  const { ask } = await startControl(t, proxy);
  const answer = await ask('POST', '/v1/forwards', { body: { direction: 'outgoing', spec: `ssh:127.0.0.1:${port}` } });
  t.is(answer.status, 409);
  t.like(answer.body, { error: { code: 'address-in-use' } });
  t.deepEqual(proxy.listForwards(), []);
});

test('a reload that fails says why with 422, whoever was wrong', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { ask, process } = await startControl(t, proxy);
  for (const code of ['bad-file', 'bad-argument'] as const) {
    process.reload = () => Promise.reject(new VproxyError(code, 'channels.vm1.address: it is missing'));
    const { status, body } = await ask('POST', '/v1/reload');
    t.is(status, 422);
    t.deepEqual(body, { error: { code, message: 'channels.vm1.address: it is missing' } });
  }
});

test('a defect is answered with 500, and the next request as ever', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { ask, process } = await startControl(t, proxy);
  process.reload = () => Promise.reject(new TypeError('x is not a function'));
  const { status, body } = await ask('POST', '/v1/reload');
  t.is(status, 500);
  t.deepEqual(body, { error: { code: 'internal', message: 'x is not a function' } });
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
