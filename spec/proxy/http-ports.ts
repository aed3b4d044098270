/** `--http-ports`: whole proxies, plain sockets as its clients, and a given clock. */
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { HttpPorts, type HttpPortsOptions } from '../../lib/proxy/ports/http-ports.js';
import { isWhole, readRequest } from '../../lib/proxy/ports/port-request.js';
import type { PortStatus } from '../../lib/status/types.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ChangeHere } from '../helpers/change-here.js';
import { echo, localServer, localSocket, proxyPair, readToEnd } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

const head = (host: string, first = 'GET / HTTP/1.1', ...fields: readonly string[]): string =>
  [first, `Host: ${host}`, ...fields, '\r\n'].join('\r\n');

const read = (text: string) => readRequest(Buffer.from(text, 'latin1'));

test('the Host names a port and a channel, or asks what there is', (t) => {
  for (const [host, label, port] of [
    ['3000.vm1.localhost', 'vm1', 3000],
    ['3000.vm1.localhost:8000', 'vm1', 3000],
    ['3000.VM1.LocalHost.:8000', 'vm1', 3000],
    ['65535.a.b-c_d.localhost', 'a.b-c_d', 65_535],
    ['3000.5000.localhost', '5000', 3000],
    ['3000.localhost', '3000', null],
    ['vm1.localhost', 'vm1', null],
    ['x.vm1.localhost', 'x.vm1', null],
    ['0.vm1.localhost', '0.vm1', null],
    ['localhost', null, null],
    ['localhost:1', null, null],
    ['3000.vm1.localhost:', 'vm1', 3000],
    ['65536.vm1.localhost', '65536.vm1', null],
  ] as const)
    t.like(read(head(host)), { label, port }, host);
  t.like(read(head('localhost:8000', 'HEAD / HTTP/1.0')), { isHead: true, wantsHtml: false, ownPort: ':8000' });
  t.true(read(head('localhost', 'GET /', 'accept:text/html').replace('GET /', 'GET / HTTP/1.1')).wantsHtml);
});

test('any other Host is denied, and so is a request that two readers could understand differently', (t) => {
  const others = [
    'evil.example',
    '127.0.0.1:8000',
    '[::1]',
    'localhost.evil.example',
    '3000.vm1.localhost.evil',
    '.localhost',
  ];
  for (const host of [...others, 'notlocalhost', '3000.vm1.localhost:x', '', 'a'.repeat(300), 'localhost@evil'])
    t.throws(() => read(head(host)), { code: 'denied' }, host);
  const good = head('localhost');
  for (const [text, why] of [
    [good.replace('\r\n\r\n', '\r\nHost: localhost\r\n\r\n'), /exactly one Host/],
    ['GET / HTTP/1.1\r\n\r\n', /exactly one Host/],
    [good.replace('\r\n\r\n', '\r\n evil\r\n\r\n'), /folded/],
    [good.replace('\r\n\r\n', '\r\nHost : evil\r\n\r\n'), /white space before the colon/],
    [good.replace('\r\n\r\n', '\r\nHost\r\n\r\n'), /not NAME: VALUE/],
    [good.replace('localhost', 'localhost\x0b'), /not NAME: VALUE/],
    ['GET / HTTP/1.1\r\n Host: localhost\r\n\r\n', /folded/],
    [good.replace('\r\n\r\n', `${'\r\na:'.repeat(1000)}\r\n\r\n`), /too many header fields/],
    [good.replace('GET /', 'GET http://evil/'), /not a path/],
    [good.replace('GET /', 'CONNECT evil:443'), /not a path/],
    [good.replace('HTTP/1.1', 'HTTP/2.0'), /only HTTP\/1.1/],
    [good.replaceAll('\r\n', '\n'), /LF instead of CRLF/],
    [good.replace('localhost', 'local\0host'), /NUL/],
    ['\x16\x03\x01\r\n\r\n', /not an HTTP\/1.1 request/],
    [head('localhost', 'GET / HTTP/1.1', `X: ${'x'.repeat(16_384)}`), /more than 16384 bytes/],
  ] as const) {
    t.true(isWhole(Buffer.from(text, 'latin1'), 0));
    t.throws(() => read(text), { code: 'bad-argument', message: why }, text.slice(0, 80));
  }
});

/** However it ends. */
const closeOf = (socket: net.Socket) => new Promise((resolve) => socket.once('close', resolve));

/** The same, or when the other side has ended. */
const overOf = (socket: net.Socket) =>
  new Promise((resolve) => socket.resume().once('end', resolve).once('close', resolve));

/** Listens, with fakes in place of what is given; `send` connects. */
async function listen(
  t: ExecutionContext,
  options: Partial<HttpPortsOptions['proxy']> & Pick<HttpPortsOptions, 'clock'>,
) {
  const { clock, ...given } = options;
  const joinStream = () => Promise.reject(new VproxyError('not-found', 'no channel'));
  const proxy = { joinStream, listPorts: () => [], ...given };
  const server = new HttpPorts({ proxy, ...(clock && { clock }) });
  t.teardown(() => server.close());
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const send = (text: string): net.Socket => {
    const socket = localSocket(t, port);
    socket.write(text, 'latin1');
    return socket;
  };
  const answer = async (text: string) => (await readToEnd(send(text))).toString();
  return { server, port, send, answer };
}

const ofPeer = (channel: string, port: number, program: string | null = null): PortStatus => {
  return { channel, port, program, announcedBy: 'peer', endpoint: null, forward: null, streams: 0 };
};

test('bytes pass both ways as they are: pieces, what follows the head, half-closes, large bodies', async (t) => {
  const target = await localServer(t, echo);
  const { a, b } = await proxyPair(t, { targets: `port.3000:127.0.0.1:${target.port}` });
  const { answer, send } = await listen(t, { joinStream: (...given) => a.proxy.joinStream(...given) });
  const request = head('3000.default.localhost', 'POST /x HTTP/1.1', 'Upgrade: any', 'Content-Length: 3');
  for (const size of [1, 7, request.length - 1]) {
    const socket = send('');
    const all = readToEnd(socket);
    for (let at = 0; at < request.length; at += size) {
      socket.write(request.slice(at, at + size));
      await new Promise(setImmediate);
    }
    socket.end('abc');
    t.is((await all).toString(), `${request}abc`);
  }
  const body = Buffer.alloc(3_000_000, 'xyz');
  const socket = send(request);
  const all = readToEnd(socket);
  socket.end(body);
  t.true((await all).equals(Buffer.concat([Buffer.from(request), body])));
  t.is(b.count('stream-reset'), 0);
  const page = await answer(head('3001.default.localhost'));
  t.regex(page, /^HTTP\/1.1 404 unknown-service\r\n/);
  t.regex(page, /service port.3001 is not offered; the peer offers: port.3000 \(unknown-service\)/);
  t.regex(await answer(head('3000.vm7.localhost')), /^HTTP\/1.1 404 not-found\r\n/);
});

test('a target that resets resets the client, and a client that goes away the target', async (t) => {
  const sockets: net.Socket[] = [];
  const target = await localServer(t, (socket) => sockets.push(socket));
  const { a } = await proxyPair(t, { targets: `port.3000:127.0.0.1:${target.port}` });
  const { send } = await listen(t, { joinStream: (...given) => a.proxy.joinStream(...given) });
  const open = async () => {
    const socket = send(head('3000.default.localhost'));
    const found = await eventually(() => sockets.pop());
    // A reset together with the last bytes could look like an end, also to the target.
    await once(found, 'data');
    return [socket, found] as const;
  };
  const [client, reset] = await open();
  const failed = once(client, 'error');
  reset.resetAndDestroy();
  t.like((await failed)[0], { code: 'ECONNRESET' });
  const [gone, other] = await open();
  const closed = closeOf(other.resume());
  gone.resetAndDestroy();
  await closed;
});

test('a page has the ports that there are, escaped; nobody else gets them', async (t) => {
  const ports = [
    ofPeer('vm1', 3000, '<b>&\\u{202e}'),
    ofPeer('vm2', 5173),
    { ...ofPeer('vm1', 9), announcedBy: 'here' as const },
  ];
  const { answer } = await listen(t, { listPorts: () => ports });
  const list = await answer(head('localhost:8000'));
  t.true(list.startsWith('HTTP/1.1 200 OK\r\n'));
  const lines = ['Ports', 'http://3000.vm1.localhost:8000/ <b>&\\u{202e}', 'http://5173.vm2.localhost:8000/', ''];
  t.is(list.slice(list.indexOf('\r\n\r\n') + 4), lines.join('\n'));
  const html = await answer(head('vm1.localhost', 'GET / HTTP/1.1', 'Accept: text/html,*/*'));
  t.regex(html, /Content-Security-Policy: default-src 'none'/);
  t.regex(
    html,
    /<li><a href="http:\/\/3000.vm1.localhost\/">http:\/\/3000.vm1.localhost\/<\/a> &lt;b>&amp;\\u\{202e\}\n<\/ul>/,
  );
  t.notRegex(html, /vm2/);
  const short = await answer(head('localhost', 'HEAD / HTTP/1.1'));
  t.true(short.endsWith('\r\n\r\n'));
  t.regex(short, /Content-Length: [1-9]/);
  for (const [text, status] of [
    [head('evil.example', 'GET / HTTP/1.1', 'Accept: text/html'), '403 denied'],
    ['GET / HTTP/1.1\r\n\r\n', '400 bad-argument'],
  ] as const) {
    const refused = await answer(text);
    t.true(refused.startsWith(`HTTP/1.1 ${status}\r\n`), refused);
    t.notRegex(refused, /http:/);
  }
  const many = await listen(t, { listPorts: () => Array.from({ length: 1000 }, (_, at) => ofPeer('vm1', 2000 + at)) });
  t.regex(await many.answer(head('localhost')), /and 800 more\n$/);
  t.regex(await (await listen(t, {})).answer(head('localhost')), /\r\n\r\nPorts\nNo peer announces a port\.\n$/);
});

test('a client that sends no whole head is closed after 10 s, or when 4,096 others wait; a page is not waited for longer', async (t) => {
  const clock = new ManualClock();
  const { send } = await listen(t, { clock });
  const waiting = (text: string) => {
    const socket = send(text);
    return { socket, over: overOf(socket) };
  };
  const slow = waiting(head('localhost').slice(0, -1));
  await eventually(() => clock.pending === 1);
  clock.advance(10_000);
  await slow.over;
  const uploads = waiting(head('localhost', 'POST / HTTP/1.1'));
  await eventually(() => uploads.socket.readableEnded);
  clock.advance(10_000);
  // The second write meets the reset that answered the first.
  await eventually(() => uploads.socket.destroyed || void uploads.socket.write('x'));
  const first = waiting('GET');
  await eventually(() => clock.pending === 1);
  const others = Array.from({ length: 4096 }, () => waiting('GET'));
  await first.over;
  t.true(others.every(({ socket }) => !socket.readableEnded));
});

test('each of a thousand requests that come at once is answered', async (t) => {
  const { answer } = await listen(t, {});
  const pages = await Promise.all(Array.from({ length: 1000 }, () => answer(head('localhost'))));
  t.true(pages.every((page) => page.includes('No peer announces a port.')));
});

test('clients that send more after their page share the turns of the loop', async (t) => {
  const accepted: net.Socket[] = [];
  subscribe('net.server.socket', (message) => void accepted.push((message as { socket: net.Socket }).socket));
  const { send, port } = await listen(t, {});
  const count = 50;
  const sockets = Array.from({ length: count }, () => send(head('localhost', 'POST / HTTP/1.1')));
  await Promise.all(sockets.map((socket) => once(socket, 'data')));
  const own = accepted.filter(({ localPort }) => localPort === port);
  for (const socket of sockets) socket.write(Buffer.alloc(3_000_000));
  // How many bytes are read in each turn.
  const shares: number[] = [];
  for (let before = 0, now = 0; now < count * 3_000_000; before = now) {
    await new Promise(setImmediate);
    now = own.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
    shares.push(now - before);
  }
  t.true(Math.max(...shares) < count * 200_000);
});

test('a successor writes the rest of a page that its client has not read', async (t) => {
  const listPorts = () => Array.from({ length: 200 }, (_, at) => ofPeer('vm1', 1 + at, 'x'.repeat(100_000)));
  const { server, send } = await listen(t, { listPorts });
  const [open, ended] = [send(head('localhost')), send(head('localhost', 'POST / HTTP/1.1')).end()];
  await Promise.all([open, ended].map((socket) => once(socket, 'readable')));
  const change = await ChangeHere.prepare();
  const state = change.end(server.capture(change.keep));
  t.true(state?.answered.every(({ rest }) => rest.length > 0));
  const successor = new HttpPorts({ proxy: { joinStream: () => Promise.reject(new Error()), listPorts } });
  t.teardown(() => successor.close());
  if (state !== null) await successor.restore(state, change.take);
  const pages = await Promise.all([open, ended].map(readToEnd));
  for (const page of pages)
    t.is(
      page
        .toString()
        .split('\r\n\r\n')[1]
        ?.match(/x{100000}\n/g)?.length,
      200,
    );
});

test('a client that goes away while the peer has not answered takes its stream with it', async (t) => {
  const signal = deferred<AbortSignal>();
  const joinStream: HttpPortsOptions['proxy']['joinStream'] = (_service, _label, program) => {
    signal.resolve(program.signal);
    return new Promise(() => undefined);
  };
  const { send } = await listen(t, { joinStream });
  const socket = send(head('3000.vm1.localhost'));
  const gone = once(await signal.promise, 'abort');
  socket.resetAndDestroy();
  await t.notThrowsAsync(gone);
});

test('a request that waits for an upgrade reaches its port if that fails, also after its client has ended', async (t) => {
  const target = await localServer(t, echo);
  const { a } = await proxyPair(t, { targets: `port.3000:127.0.0.1:${target.port}` });
  const clock = new ManualClock();
  const { server, send } = await listen(t, { clock, joinStream: (...given) => a.proxy.joinStream(...given) });
  for (const rest of ['', 'x'.repeat(10_000)]) {
    clock.advance(1000);
    server.letWait();
    const text = head('3000.default.localhost') + rest;
    const answer = readToEnd(send(text).end());
    await eventually(() => server.capture(() => 0)?.waiting.some(({ head: bytes }) => bytes.toString() === text));
    await new Promise(setImmediate);
    clock.advance(3000);
    t.is((await answer).toString(), text);
  }
});

test('a request that waits for an upgrade does not make room for the 4,096 that come after it', async (t) => {
  const clock = new ManualClock();
  const { server, send, answer } = await listen(t, { clock });
  server.letWait();
  const page = answer(head('localhost'));
  await eventually(() => server.capture(() => 0)?.waiting.some(({ head: bytes }) => bytes.length > 0));
  await Promise.race([page, ...Array.from({ length: 4096 }, () => overOf(send('GET')))]);
  clock.advance(3000);
  t.regex(await page, /^HTTP\/1.1 200 OK/);
});
