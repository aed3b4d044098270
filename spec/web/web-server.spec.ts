/** The server of `vproxy web` beside control servers in the same process, asked as a browser asks, and as others do. */

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { WebSocket } from 'ws';
import type { ListenAddress } from '../../lib/system/sockets/listen-address.js';
import { systemClock } from '../../lib/util/clock.js';
import { Machines } from '../../web/server/machines.js';
import { WebServer } from '../../web/server/web-server.js';
import type { MachinesView, MachineView, RecordingsView } from '../../web/views.js';
import { makeCertificate } from '../helpers/certificates.js';
import { ask, startControl } from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, openEcho, proxyPair, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const ASSETS = join(PROJECT_ROOT, 'dist/program/web');

/** A pair whose guest runs commands and shares a folder, the control server of its host, and a web server. */
async function startWeb(
  t: ExecutionContext,
  {
    isReadOnly = false,
    recordings = null as string | null,
    more = [] as string[],
    silent = 0,
    address = LOOPBACK,
  } = {},
) {
  const folder = temporaryFolder(t);
  const pair = await proxyPair(t, {
    b: { exec: { commands: 'any' }, info: true, copy: { root: folder } },
    targets: `echo:127.0.0.1:${(await localServer(t, echo)).port}`,
  });
  const control = await startControl(t, pair.a.proxy);
  const machines = new Machines({
    find: () => Promise.resolve([control.path, ...more]),
    clock: systemClock,
  });
  const server = new WebServer({ machines, address, assets: ASSETS, isReadOnly, recordings, tls: null });
  t.teardown(async () => {
    machines.stop();
    await server.close();
  });
  const link = new URL(await server.listen());
  void machines.start();
  const known = () => machines.list(0, 1, 'name', KEY).processes.filter(({ pid, trouble }) => pid ?? trouble);
  await eventually(() => known().length > more.length - silent, { what: 'a first look at each process' });
  return { pair, control, folder, link, ...(await enter(link, address)) };
}

const LOOPBACK: ListenAddress = { host: '127.0.0.1', port: 0 };

/** A server without machines. */
const ALONE = {
  ...{ machines: new Machines({ find: () => Promise.resolve([]), clock: systemClock }), address: LOOPBACK },
  ...{ assets: ASSETS, isReadOnly: false, recordings: null, tls: null },
};

/** What a browser has after the first visit. */
async function enter(link: URL, address: ListenAddress) {
  const port = Number(link.port);
  const at = 'path' in address ? { socketPath: address.path } : { host: '127.0.0.1', port };
  const own = { host: link.host, origin: link.origin };
  const page = await ask(at, 'GET', link.pathname + link.search, { headers: { host: link.host } });
  const cookie = page.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
  const headers = { ...own, cookie };
  return {
    at,
    page,
    headers,
    get: (path: string) => ask(at, 'GET', path, { headers }),
    act: (method: string, path: string, body?: object, text?: string) =>
      ask(at, method, path, {
        headers: { ...headers, 'vproxy-web': '1' },
        ...(body !== undefined && { body }),
        ...(text !== undefined && { text }),
      }),
  };
}

/** The names of the process and of its channel. */
const KEY = 'host1';
const LABEL = 'default';
const idOf = ({ body }: { readonly body: unknown }): string => (body as { readonly id: string }).id;
const at = (path: string): string => `/p/${encodeURIComponent(KEY)}/v1/${path}`;

test('the first visit has the page and a cookie; without them there is nothing', async (t) => {
  const { at: place, link, page, get } = await startWeb(t);
  t.regex(link.href, /^http:\/\/vproxy\.localhost:\d+\/\?token=[\w-]{43}$/);
  t.is(page.status, 200);
  t.regex(page.text, /<script type="module" src="page\.js">/);
  for (const path of ['/', '/page.js', '/page.css', '/favicon.svg']) t.is((await get(path)).status, 200, path);
  const { headers } = await get('/page.js');
  t.is((await ask(place, 'GET', '/page.js', { headers: { host: link.host } })).status, 401);
  t.regex(
    String(headers['content-security-policy']),
    /^default-src 'none'; script-src 'self';.* frame-ancestors 'none'$/,
  );
  t.is(headers['x-content-type-options'], 'nosniff');
  for (const path of ['/', '/api/machines', '/p/control/v1/jobs'])
    t.is((await ask(place, 'GET', path, { headers: { host: link.host } })).status, 401, path);
  for (const path of ['/server.cjs', '/LICENCES', '/../../package.json', '/api/other', '//', '//[', 'http://[', '*'])
    t.is((await get(path)).status, 404, path);
  t.is((await ask(place, 'GET', '/', { headers: { host: 'evil.example' } })).status, 403);
});

test('the table has what status has, and a machine its streams, forwards and services', async (t) => {
  const { pair, get } = await startWeb(t, { more: ['/nowhere/gone.sock'] });
  await openEcho(t, pair.a.port('echo'));
  const { body } = await get('/api/machines?count=10');
  const view = body as MachinesView;
  t.deepEqual([view.total, view.matching, view.rows.length, view.questions, view.isReadOnly], [1, 1, 1, [], false]);
  t.like(view.rows[0], { label: LABEL, state: 'established', tone: 'good', detail: null });
  t.is(view.processes[0]?.trouble, null);
  t.like(view.processes[1], { key: 'gone', pid: null });
  t.regex(view.processes[1]?.trouble ?? '', /no process answers on \/nowhere\/gone\.sock/);
  t.like((await get('/api/machines?filter=nothing')).body, { rows: [], matching: 0, total: 1 });
  const key = encodeURIComponent(KEY);
  const machine = (await get(`/api/machine?process=${key}&channel=${LABEL}&jobs=true`)).body as MachineView;
  t.like(machine.row, { process: KEY, label: LABEL });
  t.deepEqual(
    machine.streams.filter(({ service }) => service === 'echo').map(({ direction }) => direction),
    ['outgoing'],
  );
  t.deepEqual(
    machine.forwards.map(({ service }) => service),
    ['echo'],
  );
  t.deepEqual(machine.jobs, []);
  t.like((await get(`/api/machine?process=${key}&channel=${LABEL}`)).body, { jobs: null });
  await eventually(
    async () => ((await get(`/api/machine?process=${key}&channel=${LABEL}`)).body as MachineView).machine,
  );
  for (const [query, status] of [
    [`process=${key}&channel=none`, 404],
    ['process=none&channel=default', 404],
    [`process=${key}&channel=${LABEL}&history=x`, 400],
  ] as const)
    t.is((await get(`/api/machine?${query}`)).status, status, query);
});

test('only what the page does passes to a control socket', async (t) => {
  const { get, act } = await startWeb(t);
  for (const [method, path] of [
    ['POST', 'stop'],
    ['POST', 'reload'],
    ['POST', 'upgrade'],
    ['POST', 'drain'],
    ['PUT', 'log-level'],
    ['POST', 'channels'],
    ['POST', 'exec'],
    ['POST', 'freeze'],
    ['GET', 'config'],
    ['GET', 'connect'],
    ['GET', 'jobs/1/output/..%2f..%2f..%2fconfig'],
    ['GET', 'jobs/../config'],
    ['GET', 'files/..%2fconfig'],
  ] as const)
    t.is((await act(method, at(path))).status, 404, path);
  t.is((await get('/p/%ff/v1/jobs')).status, 400);
  t.is((await get('/p/none/v1/jobs')).status, 404);
  const added = await act('POST', at('forwards'), { direction: 'outgoing', spec: 'echo:127.0.0.1:0' });
  t.is(added.status, 201);
  t.is((await act('DELETE', at(`forwards/${idOf(added)}`))).status, 204);
});

test('a file of a guest is a download, whatever it contains, and uploads arrive whole', async (t) => {
  const { folder, get, act } = await startWeb(t);
  writeFileSync(join(folder, 'page.html'), '<script>alert(1)</script>');
  mkdirSync(join(folder, 'sub'));
  const file = await get(at('files?path=page.html'));
  t.deepEqual([file.status, file.text], [200, '<script>alert(1)</script>']);
  t.like(file.headers, { 'content-type': 'application/octet-stream', 'content-disposition': 'attachment' });
  t.regex(String(file.headers['content-security-policy']), /^default-src 'none'/);
  const text = 'x'.repeat(3_000_000);
  t.is((await act('PUT', at('files?path=sub/big'), undefined, text)).status, 204);
  t.is((await get(at('files?path=sub/big'))).text, text);
  const { body } = await get(at('folders?path=.'));
  t.deepEqual((body as { name: string }[]).map(({ name }) => name).sort(), ['page.html', 'sub']);
  t.like((await get(at('files?path=none'))).body, { error: { code: 'ENOENT' } });
});

test('a terminal of a job is joined over a WebSocket, by this page and by no other', async (t) => {
  const { link, headers, act } = await startWeb(t);
  const started = await act('POST', at('jobs'), {
    argv: ['sh', '-c', 'read line; echo "got $line"'],
    terminal: {},
  });
  t.is(started.status, 201, started.text);
  const url = `ws://127.0.0.1:${link.port}${at(`terminal?job=${idOf(started)}`)}`;
  const open = (given: Readonly<Record<string, string>>) => new WebSocket(url, 'vproxy.terminal', { headers: given });
  for (const given of [
    { ...headers, origin: 'http://evil.example' },
    { host: headers.host, cookie: headers.cookie },
    { ...headers, cookie: '' },
  ]) {
    const refused = open(given);
    const [error] = (await once(refused, 'error')) as [Error];
    t.is(error.message, 'Unexpected server response: 403');
  }
  const socket = open(headers);
  let text = '';
  socket.on('message', (data: Buffer, isBinary: boolean) => (text += isBinary ? data.toString() : ''));
  await once(socket, 'open');
  socket.send(Buffer.from('hello\r'));
  const [, reason] = (await once(socket, 'close')) as [number, Buffer];
  t.is(reason.toString(), 'exit 0');
  t.regex(text, /got hello/);
});

test('with --read-only there are tables, and no files, outputs or terminals', async (t) => {
  const { link, headers, get, act } = await startWeb(t, { isReadOnly: true });
  t.like((await get('/api/machines')).body, { isReadOnly: true, total: 1 });
  t.is((await get(at('events?follow=false'))).status, 200);
  for (const [method, path] of [
    ['GET', 'files?path=.'],
    ['GET', 'folders?path=.'],
    ['GET', 'jobs/12345678/output'],
    ['POST', 'jobs'],
    ['POST', 'egress/answer'],
    ['DELETE', 'streams/default/1'],
  ] as const)
    t.is((await act(method, at(path))).status, 403, path);
  const socket = new WebSocket(`ws://127.0.0.1:${link.port}${at('terminal')}`, { headers });
  t.is(((await once(socket, 'error')) as [Error])[0].message, 'Unexpected server response: 403');
});

test('with --recordings there are the recordings in its folder, and nothing else that is there', async (t) => {
  const recordings = temporaryFolder(t);
  const [older, newer] = ['vm2-20260101T000000Z-00000000.cast', 'vm1-20260102T000000Z-00000000.cast'];
  for (const name of [older, newer, 'secret']) writeFileSync(join(recordings, name), `of ${name}`);
  symlinkSync('secret', join(recordings, 'link.cast'));
  mkdirSync(join(recordings, 'folder.cast'));
  execFileSync('mkfifo', [join(recordings, 'pipe.cast')]);
  const { get } = await startWeb(t, { recordings });
  t.like((await get('/api/machines')).body, { hasRecordings: true });
  const { body } = await get('/api/recordings');
  t.like(body, { total: 2 });
  t.deepEqual(
    (body as RecordingsView).recordings.map(({ name, size }) => [name, size]),
    [newer, older].map((name) => [name, name.length + 3]),
  );
  const { headers, text } = await get(`/api/recording?name=${older}`);
  t.is(text, `of ${older}`);
  t.is(headers['content-type'], 'application/octet-stream');
  for (const name of ['secret', 'link.cast', 'folder.cast', 'pipe.cast', '../x.cast', '%00.cast', '', 'none.cast'])
    t.is((await get(`/api/recording?name=${name}`)).status, 404, name);
  truncateSync(join(recordings, older), 2 ** 27 + 1);
  t.regex((await get(`/api/recording?name=${older}`)).text, /is too large for a browser: use vproxy play/);
  const without = await startWeb(t);
  for (const path of ['/api/recordings', `/api/recording?name=${older}`]) t.is((await without.get(path)).status, 404);
});

test('a unix socket serves a reverse proxy with any Host, and what is not HTTP is answered', async (t) => {
  const path = join(temporaryFolder(t), 'web.sock');
  const { link } = await startWeb(t, { address: { path } });
  t.regex(link.href, /^http:\/\/host\/\?token=/);
  const page = await ask({ socketPath: path }, 'GET', link.pathname + link.search, {
    headers: { host: 'vms.example' },
  });
  t.is(page.status, 200);
  const socket = localSocket(t, path);
  socket.write('not HTTP\r\n\r\n');
  t.regex((await readToEnd(socket)).toString(), /^HTTP\/1\.1 400 /);
});

const withCertificate = test.macro(async (t, name: string) => {
  const folder = temporaryFolder(t);
  makeCertificate(folder, 'web', [name]);
  const [cert, key, ca] = ['web.pem', 'web.key', 'web-ca.pem'].map((name) => readFileSync(join(folder, name)));
  if (cert === undefined || key === undefined) throw new Error('no certificate');
  const server = new WebServer({ ...ALONE, tls: { cert, key } });
  const link = new URL(await server.listen());
  t.is(link.hostname, name);
  const request = https.get({
    host: '127.0.0.1',
    port: link.port,
    path: link.pathname + link.search,
    ...(ca && { ca }),
    servername: name,
    headers: { host: link.host },
  });
  const [answer] = (await once(request, 'response')) as [{ headers: Record<string, string[]>; resume: () => void }];
  answer.resume();
  t.regex(answer.headers['set-cookie']?.[0] ?? '', /; Secure$/);
  // One that never begins its handshake does not delay the end.
  const silent = net.connect({ host: '127.0.0.1', port: Number(link.port) });
  await once(silent, 'connect');
  await server.close();
});

test('with a certificate it speaks TLS, and its cookie is sent over TLS only', withCertificate, 'localhost');
test('with one for a name of its own, the link has that', withCertificate, 'vproxy.localhost');

test('SIGHUP ends it as SIGTERM does, and its unix socket is gone', async (t) => {
  const path = join(temporaryFolder(t), 'web.sock');
  const web = spawnVproxy(t, ['web', '--socket', join(dirname(path), 'none.sock'), '--listen', path]);
  await eventually(() => web.stdout.includes('?token='), { what: 'the link' });
  web.kill('SIGHUP');
  t.deepEqual([await web.exited, existsSync(path)], [{ code: 0, signal: null }, false]);
});

test('both addresses of loopback are its own, or none: a browser takes either for localhost', async (t) => {
  const { link } = await startWeb(t);
  const port = Number(link.port);
  const { status } = await ask({ host: '::1', port }, 'GET', '/', { headers: { host: link.host } });
  t.is(status, 401);
  const other = net.createServer();
  await once(other.listen(0, '::1'), 'listening');
  t.teardown(() => other.close());
  const address = { host: '127.0.0.1', port: (other.address() as AddressInfo).port };
  const server = new WebServer({ ...ALONE, address });
  await t.throwsAsync(server.listen(), { code: 'address-in-use' });
  await server.close();
});

test('what is not vproxy, or does not answer, is named, and harms nobody', async (t) => {
  const channel = {
    ...{ label: 'a', address: 'x', state: 'waiting', since: '', detail: null, session: null },
    ...{ history: { sessions: 0, recent: [] }, totals: { sentBytes: 0, receivedBytes: 0 } },
  };
  const status = (values: object) =>
    JSON.stringify({ process: { pid: 1, name: 'odd', version: '' }, channels: [{ ...channel, ...values }] });
  const heads: [head: string, body: string][] = [
    ...['null', '[]', '{}', '"x"', '{"process":null}'].map((text): [string, string] => ['200 OK', text]),
    ...[{ label: {} }, { history: null }, { session: {} }].map((one): [string, string] => ['200 OK', status(one)]),
    ['500 no', 'x'],
    ['099 odd', status({})],
  ];
  const answers = heads.map(([head, body]) => `HTTP/1.1 ${head}\r\nConnection: close\r\n\r\n${body}`);
  const folder = temporaryFolder(t);
  const more = await Promise.all(
    [...answers, '', null].map(async (answer, index) => {
      const path = join(folder, `${index}.sock`);
      const server = net.createServer((socket) => {
        socket.on('error', () => undefined).once('data', () => answer !== null && socket.end(answer));
      });
      t.teardown(() => server.close());
      await once(server.listen(path), 'listening');
      return path;
    }),
  );
  const { get } = await startWeb(t, { more, silent: 1 });
  const view = (await get('/api/machines')).body as MachinesView;
  t.deepEqual(
    view.rows.map(({ process }) => process),
    ['host1', 'odd'],
  );
  const troubles = view.processes.flatMap(({ key, trouble }) => (trouble === null ? [] : [key]));
  t.deepEqual(troubles, Array.from({ length: 9 }, (_, index) => `${index}`).concat('10'));
  t.is((await get('/p/odd/v1/jobs')).status, 502);
  t.is((await get(at('events?follow=false'))).status, 200);
});

test('--open tells the link to nobody else: not by the words of a command', async (t) => {
  const folder = temporaryFolder(t);
  const words = join(folder, 'words');
  writeFileSync(join(folder, 'xdg-open'), `#!/bin/sh\necho "$@" > ${words}.part\nmv ${words}.part ${words}\n`, {
    mode: 0o755,
  });
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}`, TMPDIR: folder };
  const web = spawnVproxy(t, ['web', '--open', '--socket', join(folder, 'none.sock')], { env });
  await eventually(() => existsSync(words) && web.stdout.includes('\n'), { what: 'the browser and the link' });
  const file = readFileSync(words, 'utf8').trim();
  t.false(file.includes('token'));
  t.true(readFileSync(file, 'utf8').includes(`content="0;url=${web.stdout.trim()}"`));
  t.deepEqual(
    [file, dirname(file)].map((path) => statSync(path).mode & 0o777),
    [0o600, 0o700],
  );
  web.kill('SIGTERM');
  await web.exited;
  t.false(existsSync(file));
});

test('what is no certificate is an error of that file', (t) => {
  const tls = { cert: Buffer.from('junk'), key: Buffer.from('junk') };
  const start = () => new WebServer({ ...ALONE, tls });
  t.throws(start, { code: 'bad-file', message: /^--cert and --key: / });
});

test('a folder without the page is named', (t) => {
  const start = () => new WebServer({ ...ALONE, assets: '/nowhere' });
  t.throws(start, { code: 'bad-file', message: /^the page is not in \/nowhere/ });
});
