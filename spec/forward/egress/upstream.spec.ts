/** Behind an HTTP proxy: what it is asked for, what of its answers is taken, and what is judged before. */
import { once } from 'node:events';
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { parseDestination } from '../../../lib/forward/egress/admission.js';
import { type EgressConnection, EgressDialer } from '../../../lib/forward/egress/dial.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import { parseEgressEntry } from '../../../lib/forward/egress/rules.js';
import { type Clock, systemClock } from '../../../lib/util/clock.js';
import { freePort } from '../../helpers/ports.js';
import { localServer } from '../../helpers/proxies.js';
import { eventually, ManualClock, within } from '../../helpers/time.js';

/** A proxy that answers with a script, and what it was asked. */
async function scriptedProxy(t: ExecutionContext, answer: (socket: net.Socket) => void) {
  const asked: string[] = [];
  const sockets: net.Socket[] = [];
  const server = await localServer(t, (socket) => {
    sockets.push(socket);
    let text = '';
    const read = (chunk: Buffer): void => {
      text += String(chunk);
      if (!text.includes('\r\n\r\n')) return;
      socket.off('data', read);
      asked.push(text);
      answer(socket);
    };
    socket.on('data', read).on('end', () => socket.end());
  });
  return { port: server.port, asked, sockets };
}

interface Upstream {
  readonly host?: string;
  readonly port: number;
}

function dialerBehind({ host = '127.0.0.1', port }: Upstream, lookups: string[] = [], clock: Clock = systemClock) {
  return new EgressDialer({
    name: 'internet',
    clock,
    rules: () => ({ allow: ['*:443', '[::1]:443'].map(parseEgressEntry), deny: [], upstream: { host, port } }),
    lookup: (name) => {
      lookups.push(name);
      return Promise.resolve(['127.0.0.1']);
    },
  });
}

async function dialled(t: ExecutionContext, dialer: EgressDialer, host = 'example.org'): Promise<EgressConnection> {
  const dialling = dialer.dial(parseDestination(host, 443), new AbortController().signal);
  const connection = await within(20_000, 'a tunnel', dialling);
  t.teardown(() => connection.socket.destroy());
  return connection;
}

async function refusal(t: ExecutionContext, dialer: EgressDialer, host = 'example.org'): Promise<Refusal> {
  const dialling = dialer.dial(parseDestination(host, 443), new AbortController().signal);
  return t.throwsAsync(within(20_000, 'a refusal', dialling), { instanceOf: Refusal });
}

/** All that comes before the end, as text. */
async function textOf(socket: net.Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within(10_000, 'the end', once(socket.resume(), 'end'));
  return Buffer.concat(chunks).toString();
}

test('the proxy is asked for the name, which is not looked up here, and what follows is the tunnel', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => {
    socket.write('HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n');
    socket.once('data', (chunk: Buffer) => socket.end(`you said ${String(chunk)}`));
  });
  const lookups: string[] = [];
  const { socket, address, rule } = await dialled(t, dialerBehind(proxy, lookups), 'Example.ORG');
  t.deepEqual(proxy.asked, ['CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n']);
  t.deepEqual(lookups, []);
  t.is(address, `127.0.0.1:${proxy.port}`);
  t.is(rule, 'allow "*:443"');
  t.true(socket.isPaused());
  socket.write('hello');
  t.is(await textOf(socket), 'you said hello');
});

test('a proxy by name is looked up, and its own address is not judged', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
  const lookups: string[] = [];
  await dialled(t, dialerBehind({ host: 'proxy.internal', port: proxy.port }, lookups));
  t.deepEqual(lookups, ['proxy.internal']);
});

test('an address is still judged, and asked for in brackets where it is IPv6', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
  const dialer = dialerBehind(proxy);
  for (const host of ['169.254.169.254', '10.0.0.1', '127.0.0.1', 'fd00::1'])
    t.is((await refusal(t, dialer, host)).reason, 'denied');
  t.deepEqual(proxy.asked, []);
  await dialled(t, dialer, '::1');
  t.true(proxy.asked[0]?.startsWith('CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n'));
});

test('a name that is not allowed does not reach the proxy', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
  const dialling = dialerBehind(proxy).dial(parseDestination('example.org', 80), new AbortController().signal);
  t.is((await t.throwsAsync(dialling, { instanceOf: Refusal })).reason, 'denied');
  t.is(proxy.sockets.length, 0);
});

const opens = test.macro({
  title: (_, what: string) => `a tunnel is opened by ${what}`,
  async exec(t, _: string, pieces: readonly string[], rest: string) {
    const proxy = await scriptedProxy(t, (socket) => {
      void (async () => {
        for (const piece of pieces) {
          await new Promise((resolve) => socket.write(piece, resolve));
          await new Promise((resolve) => setImmediate(resolve));
        }
        socket.end();
      })();
    });
    const { socket } = await dialled(t, dialerBehind(proxy));
    t.is(await textOf(socket), rest);
  },
});

const OK = 'HTTP/1.1 200 OK\r\n\r\n';
test(opens, 'a head', [OK], '');
test(opens, 'a head with bytes behind it, which come first', [`${OK}SSH-2.0-x\r\n`, 'more'], 'SSH-2.0-x\r\nmore');
test(opens, 'a head of HTTP/1.0 without a reason', ['HTTP/1.0 200\r\n\r\n'], '');
test(opens, 'a head with bare newlines', ['HTTP/1.1 200 OK\nA: b\n\nrest'], 'rest');
test(opens, 'status 204', ['HTTP/1.1 204 No Content\r\n\r\nrest'], 'rest');
test(opens, 'a head in single bytes', [...Array.from(OK), 'rest'], 'rest');
test(
  opens,
  'a head with the length of a body, which there is none',
  [`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrest`],
  'rest',
);
test(opens, 'a response behind an interim one', [`HTTP/1.1 100 Continue\r\n\r\n${OK}rest`], 'rest');
test(opens, 'a head of nearly 16 KiB', [`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(16_300)}\r\n\r\nrest`], 'rest');
test(opens, 'a head with 64 KiB behind it', [`${OK}${'x'.repeat(65_536)}`], 'x'.repeat(65_536));

const NO_HTTP = 'gave no answer of HTTP';

for (const [answer, says] of [
  ['HTTP/1.1 403 Forbidden\r\nX: \x1b[2J\r\n\r\n', 'answered with status 403'],
  ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 'answered with status 407'],
  ['HTTP/1.1 502 Bad\r\n\r\n', 'answered with status 502'],
  ['HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n', 'answered with status 302'],
  ['HTTP/1.1 101 Switching Protocols\r\n\r\n', NO_HTTP],
  ['HTTP/2 200\r\n\r\n', NO_HTTP],
  ['HTTP/1.1 2000 OK\r\n\r\n', NO_HTTP],
  ['HTTP/1.1  200 OK\r\n\r\n', NO_HTTP],
  ['HTTP/1.1 200', NO_HTTP],
  ['SSH-2.0-OpenSSH\r\n\r\n', NO_HTTP],
  ['\r\n\r\n', NO_HTTP],
  ['', NO_HTTP],
  [`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(16_384)}\r\n\r\n`, NO_HTTP],
  ['HTTP/1.1 100 Continue\r\n\r\n'.repeat(1000), NO_HTTP],
  ['x'.repeat(1_000_000), NO_HTTP],
] as const) {
  const shown = JSON.stringify(answer.length > 60 ? `${answer.slice(0, 60)}… of ${answer.length}` : answer);
  test(`no tunnel is opened by ${shown}`, async (t) => {
    // What is too long is not waited for the end of.
    const isEndless = answer.length > 16_384;
    const proxy = await scriptedProxy(t, (socket) => {
      socket.write(answer);
      if (!isEndless) socket.end();
    });
    const { reason, message } = await refusal(t, dialerBehind(proxy));
    t.is(reason, 'upstream');
    t.is(message, `example.org:443: the upstream proxy of egress "internet" ${says}`);
    await eventually(() => proxy.sockets.every(({ destroyed }) => destroyed), { what: 'the end of the connection' });
  });
}

test('a proxy that resets the connection has given no answer', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.resetAndDestroy());
  t.is((await refusal(t, dialerBehind(proxy))).reason, 'upstream');
});

test('a proxy that is not there is told from a destination that is not there', async (t) => {
  const port = await freePort();
  const { reason, message } = await refusal(t, dialerBehind({ port }));
  t.is(reason, 'upstream');
  t.is(message, 'example.org:443: the upstream proxy of egress "internet" cannot be reached');
});

test('a proxy whose name is not known cannot be reached', async (t) => {
  const dialer = new EgressDialer({
    name: 'internet',
    clock: systemClock,
    rules: () => ({ allow: [parseEgressEntry('*:443')], deny: [], upstream: { host: 'proxy.internal', port: 3128 } }),
    lookup: () => Promise.reject(new Error('getaddrinfo ENOTFOUND')),
  });
  t.is((await refusal(t, dialer)).reason, 'upstream');
});

test('a proxy that does not answer is given up after 10 s, and an abort is told as it is', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.write('HTTP/1.1 200'));
  const clock = new ManualClock();
  const dialer = dialerBehind(proxy, [], clock);
  const destination = parseDestination('example.org', 443);
  const late = dialer.dial(destination, new AbortController().signal);
  late.catch(() => undefined);
  await eventually(() => proxy.asked.length === 1);
  clock.advance(10_000);
  t.is((await t.throwsAsync(late, { instanceOf: Refusal })).reason, 'timeout');

  const controller = new AbortController();
  const aborted = dialer.dial(destination, controller.signal);
  aborted.catch(() => undefined);
  await eventually(() => proxy.asked.length === 2);
  const reason = new Error('the stream is gone');
  controller.abort(reason);
  t.is(await t.throwsAsync(aborted), reason);
  await eventually(() => proxy.sockets.every(({ destroyed }) => destroyed), { what: 'the end of both connections' });
});

test('a test says what is known here: of a name the rule, and no address', async (t) => {
  const lookups: string[] = [];
  const { verdict, addresses } = await dialerBehind({ port: 1 }, lookups).test(
    parseDestination('example.org', 443),
    new AbortController().signal,
  );
  t.true(verdict.isAllowed);
  t.deepEqual([addresses, lookups], [[], []]);
});
