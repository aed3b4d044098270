/** Files of the peer over plain HTTP on the control socket. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import type { ErrorBody } from '../../lib/status/types.js';
import { openConnection, startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, readToEnd, steeredPair } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

async function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const { here, peer, control } = await steeredPair(t, { peer: { copy: { root: folder } } });
  return { ...control, here, peer, folder, at: (name: string) => join(folder, name) };
}

const url = (path: string, more = ''): string => `/v1/files?path=${encodeURIComponent(path)}${more}`;

/** A request whose body is still to come. */
function begin(t: ExecutionContext, socketPath: string, method: string, path: string, headers: object = {}) {
  const request = http.request({ socketPath, method, path, agent: false, headers: { ...headers } });
  request.on('error', () => undefined);
  t.teardown(() => request.destroy());
  return request;
}

async function answerOf(request: http.ClientRequest) {
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const { statusCode: status = 0, headers } = response;
  return { status, headers, bytes: await buffer(response) };
}

const BYTES = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff));

const noPart = (folder: string): boolean => readdirSync(folder).every((name) => !name.includes('.vproxy-'));

test('a file is written with its permissions, read whole and in part, listed and removed', async (t) => {
  const { ask, at, folder, path } = await setUp(t);
  const written = await answerOf(begin(t, path, 'PUT', url(at('ä b'), '&mode=640')).end(BYTES));
  t.deepEqual([written.status, written.bytes.length], [204, 0]);
  t.true(readFileSync(at('ä b')).equals(BYTES));
  t.is(statSync(at('ä b')).mode & 0o777, 0o640);
  const read = (range?: string) =>
    answerOf(begin(t, path, 'GET', url(at('ä b')), range === undefined ? {} : { Range: range }).end());
  for (const [range, from, end] of [
    [undefined, 0, BYTES.length],
    ['bytes=0-0', 0, 1],
    ['bytes=262143-600000', 262_143, 600_001],
    ['bytes=2999990-9999999', 2_999_990, BYTES.length],
    ['bytes=2999990-', 2_999_990, BYTES.length],
    ['bytes=-10', 2_999_990, BYTES.length],
    ['bytes=-9999999', 0, BYTES.length],
  ] as const) {
    const { status, headers, bytes } = await read(range);
    t.true(bytes.equals(BYTES.subarray(from, end)), range);
    t.is(headers['content-length'], String(end - from));
    t.is(headers['content-type'], 'application/octet-stream');
    const part = range === undefined ? [200, undefined] : [206, `bytes ${from}-${end - 1}/${BYTES.length}`];
    t.deepEqual([status, headers['content-range']], part);
  }
  // What is no range, or several, asks for all.
  for (const range of ['bytes=-', 'bytes=2-1', 'bytes=0-1,3-4', 'lines=0-1', 'bytes=+1-2'])
    t.is((await read(range)).bytes.length, BYTES.length, range);
  for (const range of ['bytes=3000000-', 'bytes=-0']) {
    const { status, headers } = await read(range);
    t.deepEqual([status, headers['content-range']], [416, 'bytes */3000000'], range);
  }
  mkdirSync(at('folder'));
  symlinkSync('nowhere', at('folder/link'));
  const list = await ask('GET', `/v1/folders?path=${at('')}`);
  t.is(list.status, 200);
  const entries = (list.body as { name: string }[]).sort((one, other) => (one.name < other.name ? -1 : 1));
  t.is(entries.length, 2);
  t.like(entries[1], { name: 'ä b', kind: 'file', size: BYTES.length, mode: 0o640 });
  t.like(entries[0], { name: 'folder', kind: 'folder' });
  t.is((await ask('GET', `/v1/folders?path=${at('folder')}`)).text.split('"kind":"link"').length, 2);
  t.is((await ask('DELETE', url(at('folder')))).status, 409, 'not empty');
  for (const gone of [url(at('folder'), '&recursive=true'), url(at('ä b'))])
    t.is((await ask('DELETE', gone)).status, 204);
  t.is((await ask('GET', `/v1/folders?path=${at('')}`)).text, '[]\n');
  t.deepEqual(readdirSync(folder), []);
});

test('an empty file is written and read; a file without a size is read to its end', async (t) => {
  const { at, path } = await setUp(t);
  t.is((await answerOf(begin(t, path, 'PUT', url(at('empty'))).end())).status, 204);
  const { status, bytes } = await answerOf(begin(t, path, 'GET', url(at('empty')), { Range: 'bytes=0-' }).end());
  t.deepEqual([status, bytes.length], [200, 0]);
  const { control } = await steeredPair(t, { peer: { copy: { root: null } } });
  const process = await answerOf(begin(t, control.path, 'GET', url('/proc/self/status')).end());
  t.regex(String(process.bytes), /^Name:.*\nVmPeak:/s);
  const short = await answerOf(begin(t, control.path, 'GET', url('/sys/class/net/lo/mtu')).end());
  t.is(String(short.bytes), readFileSync('/sys/class/net/lo/mtu', 'utf8'), 'it says that it has 4,096 bytes');
});

test('what fails is answered with the name of the error, and leaves the file as it was', async (t) => {
  const { ask, at, folder, path, server } = await setUp(t);
  const errorOf = (text: string) => (JSON.parse(text) as ErrorBody).error;
  mkdirSync(at('folder'));
  writeFileSync(at('file'), 'old');
  execFileSync('mkfifo', [at('fifo')]);
  for (const [method, target, status, code] of [
    ['GET', url(at('none')), 404, 'ENOENT'],
    ['GET', url(at('folder')), 409, 'EISDIR'],
    ['GET', url('/etc/passwd'), 403, 'EACCES'],
    ['GET', url(''), 400, 'bad-argument'],
    ['GET', '/v1/files', 400, 'bad-argument'],
    ['GET', url(at('file'), '&channel=vm7'), 404, 'not-found'],
    ['GET', `/v1/folders?path=${at('none')}`, 404, 'ENOENT'],
    ['DELETE', url(at('none')), 404, 'ENOENT'],
    ['DELETE', url('/etc/passwd'), 403, 'EACCES'],
    ['PUT', url(at('file'), '&mode=888'), 400, 'bad-argument'],
    ['DELETE', `/v1/files?path=${at('n')}%FF`, 400, 'bad-argument'],
  ] as const) {
    const answer = await ask(method, target);
    t.deepEqual([answer.status, errorOf(answer.text).code], [status, code], `${method} ${target}`);
  }
  for (const [target, status, code, headers] of [
    [at('none/file'), 404, 'ENOENT', ''],
    [at('folder'), 409, 'EISDIR', ''],
    [`${at('folder')}/`, 409, 'EISDIR', ''],
    [at('fifo'), 422, 'EINVAL', ''],
    ['/etc/passwd', 403, 'EACCES', ''],
    [at('file'), 400, 'bad-argument', 'Content-Range: bytes 1-2/3\r\n'],
  ] as const)
    for (const body of [BYTES, BYTES.subarray(0, 10)]) {
      // A client that reads nothing before it has written all of its body.
      const socket = (await openConnection(t, path)).pause();
      const more = `${headers}Connection: close\r\nContent-Length: ${body.length}`;
      const head = `PUT ${url(target)} HTTP/1.1\r\nHost: x\r\n${more}\r\n\r\n`;
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.write(Buffer.concat([Buffer.from(head), body]), () => resolve());
      });
      const answer = (await readToEnd(socket.resume())).toString();
      t.true(answer.startsWith(`HTTP/1.1 ${status} `) && answer.includes(`"code":"${code}"`), answer);
      await eventually(() => !server.isChanging, { what: 'the end of the request' });
    }
  t.is(readFileSync(at('file'), 'utf8'), 'old');
  t.true(lstatSync(at('fifo')).isFIFO());
  t.deepEqual(readdirSync(folder).sort(), ['fifo', 'file', 'folder']);
  const { control: unable } = await steeredPair(t);
  const refused = await unable.ask('GET', url('/etc/passwd'));
  t.deepEqual([refused.status, errorOf(refused.text).code], [503, 'unknown-service']);
});

test('a client that leaves in the middle of a body changes nothing, and one that leaves an answer ends its stream', async (t) => {
  const { at, folder, here, path } = await setUp(t);
  writeFileSync(at('file'), 'old');
  const request = begin(t, path, 'PUT', url(at('file')), { 'Content-Length': BYTES.length });
  request.write(BYTES.subarray(0, 1_000_000));
  await eventually(() => !noPart(folder), { what: 'the part' });
  request.destroy();
  await eventually(() => noPart(folder), { what: 'the end of the part' });
  t.is(readFileSync(at('file'), 'utf8'), 'old');

  writeFileSync(at('long'), BYTES);
  truncateSync(at('long'), 10 ** 12);
  const reading = begin(t, path, 'GET', url(at('long'))).end();
  const [response] = (await once(reading, 'response')) as [http.IncomingMessage];
  t.is(response.headers['content-length'], String(10 ** 12));
  await once(response, 'data');
  reading.destroy();
  await eventually(() => here.proxy.listStreams().length === 0, { what: 'the end of the stream' });
});

test('a client is asked for the body only when the file can be written, and may take its time while more comes', async (t) => {
  const { at, here, folder } = await setUp(t);
  const clock = new ManualClock();
  const { path } = await startControl(t, here.proxy, { clock });
  const request = begin(t, path, 'PUT', url(at('slow')), { Expect: '100-continue', 'Transfer-Encoding': 'chunked' });
  request.flushHeaders();
  await once(request, 'continue');
  const size = () => {
    const [part] = readdirSync(folder).filter((name) => name.includes('.vproxy-'));
    return part === undefined ? -1 : statSync(at(part)).size;
  };
  for (let count = 1; count <= 3; count += 1) {
    request.write('piece');
    await eventually(() => size() === 5 * count, { what: 'a piece' });
    clock.advance(REQUEST_TIMEOUT_MS - 1);
  }
  const answered = answerOf(request);
  request.end();
  t.is((await answered).status, 204);
  t.is(readFileSync(at('slow'), 'utf8'), 'piece'.repeat(3));

  const silent = begin(t, path, 'PUT', url(at('silent')), { 'Transfer-Encoding': 'chunked' });
  silent.write('piece');
  await eventually(() => size() === 5, { what: 'a piece' });
  const closed = new Promise((resolve) => silent.once('close', resolve));
  clock.advance(REQUEST_TIMEOUT_MS);
  clock.advance(REQUEST_TIMEOUT_MS);
  await closed;
  await eventually(() => size() === -1, { what: 'the end of the part' });
  t.false(existsSync(at('silent')));
});

test('a client that asks is not asked for the body of a file that cannot be written', async (t) => {
  const { at, path } = await setUp(t);
  const request = begin(t, path, 'PUT', url(at('none/file')), { Expect: '100-continue', 'Content-Length': 10 });
  request.once('continue', () => t.fail('it is asked for the body'));
  request.flushHeaders();
  t.is((await answerOf(request)).status, 404);
});

test('a client that was asked for the body can send all of it, though the file is lost meanwhile', async (t) => {
  const { at, folder, path, peer } = await setUp(t);
  const socket = await openConnection(t, path);
  const head = `PUT ${url(at('file'))} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${BYTES.length}\r\n\r\n`;
  socket.write(head);
  const [asked] = (await once(socket, 'data')) as [Buffer];
  t.is(asked.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
  socket.pause().write(BYTES.subarray(0, 1));
  await eventually(() => !noPart(folder), { what: 'the part' });
  await peer.proxy.stop();
  await once(socket, 'readable');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject).write(BYTES.subarray(1), () => resolve());
  });
  t.regex((await readToEnd(socket)).toString(), /^HTTP\/1.1 503 /);
});

/** A control server with a manual clock, whose peer accepts a stream, and then never answers. */
async function setUpSilent(t: ExecutionContext) {
  const place = join(temporaryFolder(t), 'sftp');
  const accepted: Socket[] = [];
  await localServer(t, (socket) => accepted.push(socket.resume()), { path: place });
  const { here } = await steeredPair(t, { peer: { incoming: [`sftp:${place}`] } });
  const clock = new ManualClock();
  return { ...(await startControl(t, here.proxy, { clock })), clock, accepted };
}

test('a client that has sent all, or is not asked for the body, is answered however long the peer takes', async (t) => {
  const { path, clock, accepted } = await setUpSilent(t);
  const headers = [{ 'Content-Length': 0 }, { Expect: '100-continue', 'Content-Length': 10 }];
  const requests = headers.map((each) => begin(t, path, 'PUT', url('/file'), each));
  for (const request of requests) request.flushHeaders();
  await eventually(() => accepted.length === 2, { what: 'the streams' });
  for (let count = 0; count < 3; count += 1) clock.advance(REQUEST_TIMEOUT_MS);
  const answers = Promise.all(requests.map(answerOf));
  for (const socket of accepted) socket.end();
  for (const { status } of await answers) t.is(status, 503);
});

test('a client that leaves while the peer takes nothing ends its request, for which an upgrade waits', async (t) => {
  const { path, clock, accepted, server } = await setUpSilent(t);
  const socket = await openConnection(t, path);
  const head = `PUT ${url('/file')} HTTP/1.1\r\nHost: x\r\nContent-Length: ${BYTES.length}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(head), BYTES]));
  await eventually(() => accepted.length === 1, { what: 'the stream' });
  clock.advance(REQUEST_TIMEOUT_MS);
  t.true(server.isChanging);
  socket.destroy();
  clock.advance(REQUEST_TIMEOUT_MS);
  await eventually(() => !server.isChanging, { what: 'the end of the request' });
});

test('a file that becomes shorter while it is read ends the connection: a part is not taken for the whole', async (t) => {
  const { at, path } = await setUp(t);
  writeFileSync(at('file'), '');
  truncateSync(at('file'), 200_000_000);
  const request = begin(t, path, 'GET', url(at('file'))).end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  truncateSync(at('file'), 1000);
  await t.throwsAsync(buffer(response), { code: 'ECONNRESET' });
});

test('a file that is replaced while it is asked for is read as it was, or as it is', async (t) => {
  const { at, path } = await setUp(t);
  const contents = [Buffer.alloc(100_000, 'a'), Buffer.alloc(100_011, 'b')];
  writeFileSync(at('file'), contents[0] ?? '');
  const over = new AbortController();
  const writing = (async () => {
    for (let count = 1; !over.signal.aborted; count += 1)
      await answerOf(begin(t, path, 'PUT', url(at('file'))).end(contents[count % 2]));
  })();
  for (let count = 0; count < 100; count += 1) {
    const { bytes } = await answerOf(begin(t, path, 'GET', url(at('file'))).end());
    t.true(
      contents.some((content) => content.equals(bytes)),
      `${bytes.length} bytes`,
    );
  }
  over.abort();
  await writing;
});

test('a long folder is listed as its entries come, and cut off if the peer is lost', async (t) => {
  const { at, path, peer, server } = await setUp(t);
  for (let count = 0; count < 3000; count += 1) writeFileSync(at(`${count}`.padStart(200, '0')), '');
  const list = begin(t, path, 'GET', `/v1/folders?path=${at('')}`).end();
  const [response] = (await once(list, 'response')) as [http.IncomingMessage];
  t.is(response.headers['content-length'], undefined);
  await once(response, 'readable');
  await peer.proxy.stop();
  await t.throwsAsync(buffer(response), { code: 'ECONNRESET' });
  await eventually(() => !server.isChanging, { what: 'the end of the request' });
});

test('an upgrade waits until a client has the whole list of a folder', async (t) => {
  const { at, path, server } = await setUp(t);
  for (let count = 0; count < 3000; count += 1) writeFileSync(at(`${count}`.padStart(200, '0')), '');
  const socket = (await openConnection(t, path)).pause();
  socket.write(`GET /v1/folders?path=${at('')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  await eventually(() => server.isChanging, { what: 'the request' });
  await once(socket, 'readable');
  t.true(server.isChanging);
  t.is((await readToEnd(socket)).toString().split('"kind":"file"').length, 3001);
  await eventually(() => !server.isChanging, { what: 'its end' });
});
