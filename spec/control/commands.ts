/** Commands and jobs over plain HTTP on the control socket. */
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type net from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { MAX_INPUT_BYTES } from '../../lib/control/routes/commands.js';
import { MAX_LONG_REQUESTS } from '../../lib/control/routes/long-requests.js';
import { encodeExit } from '../../lib/services/exec/exec-messages.js';
import type { CommandAnswer, CommandLine, ErrorBody, JobLine, JobOfChannel } from '../../lib/status/types.js';
import { deferred } from '../../lib/util/concurrency.js';
import { startControl } from '../helpers/control.js';
import { SUCCESS } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, startProxy, steeredPair } from '../helpers/proxies.js';
import { eventually, ManualClock, untilStill } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

async function setUp(t: ExecutionContext) {
  const { here, control } = await steeredPair(t, { peer: { exec: { commands: 'any' } } });
  return { ...control, here, folder: temporaryFolder(t) };
}

type SetUp = Awaited<ReturnType<typeof setUp>>;

const sh = (script: string, ...more: readonly string[]) => ['sh', '-c', script, 'sh', ...more];

async function exec({ ask }: SetUp, body: object): Promise<CommandAnswer> {
  const { status, body: answer, text } = await ask('POST', '/v1/exec', { body });
  if (status !== 200) throw new Error(text);
  return answer as CommandAnswer;
}

/** Sends a request; returns its answer and, one by one, the lines of it. */
async function openLines<Line>(t: ExecutionContext, { path }: SetUp, method: string, url: string, body?: object) {
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const request = http.request({ socketPath: path, method, path: url, agent: false, headers });
  t.teardown(() => request.destroy());
  const [response] = (await once(request.end(text), 'response')) as [http.IncomingMessage];
  t.is(response.statusCode, 200);
  t.is(response.headers['content-type'], 'application/x-ndjson');
  const lines = createInterface({ input: response })[Symbol.asyncIterator]();
  const next = async (): Promise<Line | null> => {
    const line = await lines.next();
    return line.done === true ? null : (JSON.parse(line.value) as Line);
  };
  return { request, next };
}

/** All lines of an answer that ends. */
async function allLines<Line>(t: ExecutionContext, control: SetUp, url: string): Promise<Line[]> {
  const { status, text } = await control.ask('GET', url);
  t.is(status, 200, text);
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

test('a command runs with its input, folder and variables; the answer has its outputs and its end', async (t) => {
  const control = await setUp(t);
  const { folder } = control;
  const script = 'cat; pwd; echo "$A $1" >&2; exit 7';
  const done = await exec(control, { argv: sh(script, 'ö'), input: 'in\n', cwd: folder, env: { A: 'ä' } });
  t.like(done, { channel: 'default', status: 7, signal: null, timedOut: false, error: null });
  t.like(done, { stdout: `in\n${folder}\n`, stderr: 'ä ö\n', stdoutTruncated: false, stderrTruncated: false });
  t.true(done.pid !== null && done.pid > 0);
  t.like(await exec(control, { argv: ['cat'] }), { status: 0, stdout: '' });
  t.like(await exec(control, { argv: sh('kill -KILL $$') }), { status: null, signal: 'SIGKILL' });
  t.like(await exec(control, { argv: ['sleep', '60'], timeoutS: 0.01, killAfterS: 0 }), { timedOut: true });
  t.like(await exec(control, { argv: ['/no/such'] }), {
    pid: null,
    status: null,
    error: { code: 'command-not-found' },
  });
});

test('bytes go both ways in base64; outputs are cut at a limit', async (t) => {
  const control = await setUp(t);
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 256));
  const encoding = 'base64';
  const both = { argv: sh('tee /dev/stderr'), input: bytes.toString(encoding), encoding };
  t.like(await exec(control, both), { stdout: both.input, stderr: both.input });
  t.like(await exec(control, { argv: ['printf', '\\303\\050'] }), { stdout: '\u{fffd}(' });
  const cut = await exec(control, { ...both, maxOutputBytes: 999 });
  t.is(cut.stdout, bytes.subarray(0, 999).toString(encoding));
  t.true(cut.stdoutTruncated && cut.stderrTruncated);
  const most = 'x'.repeat(MAX_INPUT_BYTES);
  t.is((await exec(control, { argv: ['wc', '-c'], input: most })).stdout.trim(), `${MAX_INPUT_BYTES}`);
});

test('what cannot be run is refused before a stream is opened, or with the reason', async (t) => {
  const control = await setUp(t);
  const { here } = control;
  const opened = () => here.proxy.channel('default').totals.streamsOpened;
  const before = opened();
  for (const [body, status, field] of [
    [{}, 400, 'argv'],
    [{ argv: ['true'], more: 1 }, 400, 'more'],
    [{ argv: ['a\0b'] }, 400, undefined],
    [{ argv: ['\ud800'] }, 400, undefined],
    [{ argv: ['cat'], input: '\ud800' }, 400, 'input'],
    [{ argv: ['cat'], input: 'a', encoding: 'base64' }, 400, 'input'],
    [{ argv: ['cat'], input: 'x'.repeat(MAX_INPUT_BYTES + 1) }, 400, 'input'],
    [{ argv: ['cat'], input: 'x'.repeat(2 * MAX_INPUT_BYTES) }, 413, undefined],
    [{ argv: ['true'], timeoutS: -1 }, 400, 'timeoutS'],
    [{ argv: ['true'], encoding: 'utf16' }, 400, 'encoding'],
    [{ argv: ['true'], channel: 'vm7' }, 404, undefined],
  ] as const) {
    const answer = await control.ask('POST', '/v1/exec', { body });
    t.deepEqual([answer.status, (answer.body as ErrorBody).error.field], [status, field], answer.text);
  }
  t.is(opened(), before);
  t.is((await control.ask('POST', '/v1/jobs', { body: { argv: [] } })).status, 400);
  t.is((await control.ask('GET', '/v1/jobs/0123abcd/output')).status, 404);
  t.is((await control.ask('DELETE', '/v1/jobs/0123abcd')).status, 404);
  t.is((await control.ask('POST', '/v1/jobs', { body: { argv: ['/no/such'] } })).status, 422);
  const another = { address: 'unix-connect:/nowhere', label: 'vm2' };
  t.is((await control.ask('POST', '/v1/channels', { body: another })).status, 201);
  for (const [method, url, body] of [
    ['POST', '/v1/exec', { argv: ['true'] }],
    ['GET', '/v1/jobs', undefined],
  ] as const)
    t.is((await control.ask(method, url, { body })).status, 400, url);
  const { control: unable } = await steeredPair(t);
  const refused = await unable.ask('POST', '/v1/exec?stream=true', { body: { argv: ['true'] } });
  t.deepEqual([refused.status, (refused.body as ErrorBody).error.code], [403, 'command-denied']);
});

test('with stream, outputs come as they are written, whole characters at a time, and then the end', async (t) => {
  const control = await setUp(t);
  const goOn = join(control.folder, 'go-on');
  const script =
    'printf "one\\303"; until test -e "$1"; do sleep 0.02; done; printf "\\244\\303"; echo two >&2; exit 3';
  const { next } = await openLines<CommandLine>(t, control, 'POST', '/v1/exec?stream=true', { argv: sh(script, goOn) });
  t.deepEqual(await next(), { stdout: 'one' });
  writeFileSync(goOn, '');
  const rest: CommandLine[] = [];
  for (let line = await next(); line !== null; line = await next()) rest.push(line);
  t.is(rest.map(({ stdout = '' }) => stdout).join(''), 'ä\u{fffd}');
  t.is(rest.map(({ stderr = '' }) => stderr).join(''), 'two\n');
  t.like(rest.at(-1)?.end, { status: 3, error: null });
});

test('a client that does not read holds its command back; one that disconnects ends it', async (t) => {
  const control = await setUp(t);
  const { here, folder } = control;
  const file = join(folder, 'pid');
  const argv = sh('echo $$ > "$1"; exec yes', file);
  const headers = { 'Content-Type': 'application/json' };
  const target = { socketPath: control.path, method: 'POST', path: '/v1/exec?stream=true', headers };
  const request = http.request({ ...target, agent: false }).on('error', () => undefined);
  await once(request.end(JSON.stringify({ argv })), 'response');
  const received = () => here.proxy.listStreams()[0]?.receivedBytes ?? 0;
  await untilStill(received);
  t.true(received() < 4_000_000, `${received()} bytes`);
  await eventually(() => existsSync(file));
  const pid = Number(readFileSync(file, 'utf8'));
  t.true(isRunning(pid));
  request.destroy();
  await eventually(() => !isRunning(pid), { what: 'the end of the command' });
});

test('in base64, each line is decoded by itself, and bytes come when they are written', async (t) => {
  const control = await setUp(t);
  const goOn = join(control.folder, 'go-on');
  const body = { argv: sh('printf a; until test -e "$1"; do sleep 0.02; done; printf bc', goOn), encoding: 'base64' };
  const { next } = await openLines<CommandLine>(t, control, 'POST', '/v1/exec?stream=true', body);
  t.deepEqual(await next(), { stdout: 'YQ==' });
  writeFileSync(goOn, '');
  t.deepEqual(await next(), { stdout: 'YmM=' });
});

test('a command whose channel is lost ends its answer with the reason', async (t) => {
  const control = await setUp(t);
  const body = { argv: sh('echo one; exec sleep 60') };
  const { next } = await openLines<CommandLine>(t, control, 'POST', '/v1/exec?stream=true', body);
  t.deepEqual(await next(), { stdout: 'one\n' });
  await control.here.proxy.removeChannel('default', { isDraining: false });
  t.is((await next())?.error?.code, 'exec-unavailable');
  t.is(await next(), null);
});

test('jobs are started, listed, read from any byte, and ended', async (t) => {
  const control = await setUp(t);
  const { ask, here } = control;
  const start = async (script: string, more: object = {}) => {
    const { status, body } = await ask('POST', '/v1/jobs', { body: { argv: sh(script), ...more } });
    t.is(status, 201);
    return (body as JobOfChannel).id;
  };
  const id = await start('printf "ab\\303"; exec sleep 60', { tag: 'one' });
  const url = `/v1/jobs/${id}/output`;
  const { next } = await openLines<JobLine>(t, control, 'GET', url);
  t.deepEqual(await next(), { at: 0, next: 2, output: 'ab' });
  const listed = (await ask('GET', '/v1/jobs')).body as JobOfChannel[];
  t.like(listed, [{ channel: 'default', id, tag: 'one', bytes: 3, endedAt: null }]);
  for (const [query, lines] of [
    ['', [{ at: 0, next: 3, output: 'ab\u{fffd}' }]],
    ['&from=1&encoding=base64', [{ at: 1, next: 3, output: 'YsM=' }]],
    ['&tail=1', [{ at: 2, next: 3, output: '\u{fffd}' }]],
    ['&tail=0', []],
    ['&from=3', []],
    ['&from=9', []],
  ] as const)
    t.deepEqual(await allLines(t, control, `${url}?follow=false${query}`), lines, query);
  t.is((await ask('GET', `${url}?from=1&tail=1`)).status, 400);
  // The reader asks again after an upgrade.
  t.regex(here.proxy.cutObstacles(false).join(), /^default: stream \d+ to exec$/);
  t.is((await next())?.error?.code, 'shutdown');
  t.like((await ask('DELETE', `/v1/jobs/${id}?killAfter=0`)).body, { signal: 'SIGTERM', error: null });

  const none = await start('printf 0123456789; exec sleep 60', { keepBytes: 0 });
  await eventually(async () => ((await ask('GET', '/v1/jobs')).body as JobOfChannel[]).some((job) => job.bytes === 10));
  t.deepEqual(await allLines(t, control, `/v1/jobs/${none}/output?follow=false&tail=3`), []);
  await ask('DELETE', `/v1/jobs/${none}?killAfter=0`);

  const full = await start('printf 0123456789', { keepBytes: 4 });
  await eventually(async () => ((await ask('GET', '/v1/jobs')).body as JobOfChannel[]).every((job) => job.endedAt));
  const [gap, ...rest] = await allLines<JobLine>(t, control, `/v1/jobs/${full}/output?from=2&follow=false`);
  t.deepEqual(gap, { at: 2, next: 6, droppedBytes: 4 });
  t.is(rest.map(({ output = '' }) => output).join(''), '6789');
  t.is(rest.at(-2)?.next, 10);
  t.like(rest.at(-1)?.end, { status: 0 });
});

test('a client that leaves keeps no stream', async (t) => {
  const control = await setUp(t);
  const { ask, here } = control;
  const { id } = (
    await ask('POST', '/v1/jobs', { body: { argv: sh('trap "" TERM; echo ready; while :; do sleep 1; done') } })
  ).body as JobOfChannel;
  const { next } = await openLines<JobLine>(t, control, 'GET', `/v1/jobs/${id}/output`);
  await next();
  const request = http.request({ socketPath: control.path, method: 'DELETE', path: `/v1/jobs/${id}?killAfter=600` });
  request.on('error', () => undefined).end();
  await eventually(() => here.proxy.listStreams().length === 2, { what: 'the request to end the job' });
  request.destroy();
  await eventually(() => here.proxy.listStreams().length === 1, { what: 'its end' });
  await ask('DELETE', `/v1/jobs/${id}?killAfter=0`);
});

test('an answer waits for the end of the stream, which its own end would reset', async (t) => {
  for (const url of ['/v1/exec', '/v1/exec?stream=true']) {
    const ending = deferred<net.Socket>();
    const target = await localServer(t, (socket) => {
      socket.once('data', () => socket.write(encodeExit(SUCCESS), () => ending.resolve(socket)));
    });
    const { here, control, client } = await steeredPair(t, {
      peer: { incoming: [`exec:tcp:127.0.0.1:${target.port}`] },
    });
    let isAnswered = false;
    const answer = control.ask('POST', url, { body: { argv: ['true'] } }).finally(() => {
      isAnswered = true;
    });
    const socket = await ending.promise;
    // By then the end of the command has come.
    for (let time = 0; time < 3; time += 1) await client.ping();
    t.false(isAnswered);
    socket.end();
    t.is((await answer).status, 200);
    await eventually(() => here.proxy.listStreams().length === 0);
    t.deepEqual(
      here.events.filter(({ event }) => event === 'stream-reset'),
      [],
    );
  }
});

test('many that run commands or read jobs leave connections to others', async (t) => {
  const control = await setUp(t);
  const { ask } = control;
  const { id } = (await ask('POST', '/v1/jobs', { body: { argv: ['sleep', '60'] } })).body as JobOfChannel;
  const readers = await Promise.all(
    Array.from({ length: MAX_LONG_REQUESTS }, () => openLines(t, control, 'GET', `/v1/jobs/${id}/output`)),
  );
  const refused = await ask('POST', '/v1/exec', { body: { argv: ['true'] } });
  t.deepEqual([refused.status, (refused.body as ErrorBody).error.code], [503, 'too-many-streams']);
  t.is((await ask('GET', '/v1/status')).status, 200);
  readers[0]?.request.destroy();
  await eventually(async () => (await ask('POST', '/v1/exec', { body: { argv: ['true'] } })).status === 200);
  t.is((await ask('DELETE', `/v1/jobs/${id}`)).status, 200);
});

test('a client that leaves while its stream is being opened frees its place', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const here = await startProxy(t, `unix-listen:${path}`, { waitMs: 600_000 });
  // So many requests may take longer than one may, on a busy machine.
  const control = await startControl(t, here.proxy, { clock: new ManualClock() });
  const body = { argv: ['true'] };
  const begun = Array.from({ length: MAX_LONG_REQUESTS + 1 }, () => {
    const headers = { 'Content-Type': 'application/json' };
    const request = http.request({ socketPath: control.path, method: 'POST', path: '/v1/exec', agent: false, headers });
    t.teardown(() => request.destroy());
    return request.on('error', () => undefined).end(JSON.stringify(body));
  });
  // The one that is refused shows that the others have all places.
  const [refused] = (await Promise.race(begun.map((request) => once(request, 'response')))) as [http.IncomingMessage];
  t.is(refused.statusCode, 503);
  for (const request of begun) request.destroy();
  await eventually(() => !control.server.isChanging, { what: 'the end of all requests' });
  const answer = control.ask('POST', '/v1/exec', { body });
  await Promise.race([answer, eventually(() => control.server.isChanging, { what: 'another request' })]);
  await startProxy(t, `unix-connect:${path}`, { exec: { commands: 'any' } });
  t.is((await answer).status, 200);
});
