/** Redirected connections: the names of their addresses, the request, and the answer that the program does not see. */
import type net from 'node:net';
import test from 'ava';
import { RedirectedAnswer, redirectedRequest } from '../../../lib/forward/redirect/redirected.js';
import { ResolvedNames } from '../../../lib/forward/redirect/resolved-names.js';
import { Resolver } from '../../../lib/forward/resolver/resolver.js';
import { loadOriginalDestination } from '../../../lib/system/sockets/original-destination.js';
import { a, answerTo, bytesOf, query, rulesOf } from '../../helpers/dns.js';
import { readAll, readUntil, sceneTo } from '../../helpers/egress.js';
import { eventually, ManualClock } from '../../helpers/time.js';

const ADDRESS = '93.184.216.34';
const TEN_MINUTES = 600_000;

const at = (host: string, port = 443) => ({ host, family: 4, port }) as const;
const named = (host: string, port = 443, redirectedFrom = ADDRESS) => ({ host, family: 0, port, redirectedFrom });

test('an address has the name that it was last answered for, in the same egress', (t) => {
  const names = new ResolvedNames(new ManualClock());
  names.learn('internet', 'one.test', [ADDRESS, '1.1.1.1'], 60);
  names.learn('internet', 'two.test', [ADDRESS], 60);
  names.learn('other', 'three.test', [ADDRESS], 60);
  t.deepEqual(names.nameOf('internet', at(ADDRESS)), named('two.test'));
  t.deepEqual(names.nameOf('internet', at('1.1.1.1', 80)), named('one.test', 80, '1.1.1.1'));
  t.deepEqual(names.nameOf('internet', at('1.1.1.2')), at('1.1.1.2'));
  t.deepEqual(names.nameOf('none', at(ADDRESS)), at(ADDRESS));
});

test('a name is kept for its TTL, and for ten minutes, also by a successor', (t) => {
  const clock = new ManualClock();
  const names = new ResolvedNames(clock);
  names.learn('internet', 'short.test', ['1.1.1.1'], 1);
  names.learn('internet', 'long.test', ['1.1.1.2'], 3600);
  clock.advance(TEN_MINUTES - 1);
  const next = new ResolvedNames(clock, names.state);
  t.is(next.nameOf('internet', at('1.1.1.1')).host, 'short.test');
  clock.advance(1);
  t.is(next.nameOf('internet', at('1.1.1.1')).host, '1.1.1.1');
  t.is(next.nameOf('internet', at('1.1.1.2')).host, 'long.test');
  clock.advance(3_600_000 - TEN_MINUTES);
  t.is(next.nameOf('internet', at('1.1.1.2')).host, '1.1.1.2');
});

test('beyond 4,096 addresses, the one that was not used for the longest time is forgotten', (t) => {
  const names = new ResolvedNames(new ManualClock());
  const addresses = Array.from({ length: 4096 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
  names.learn('internet', 'x.test', addresses, 60);
  t.is(names.nameOf('internet', at('10.0.0.0')).host, 'x.test');
  names.learn('internet', 'y.test', ['10.1.0.0'], 60);
  t.is(names.state.length, 4096);
  t.is(names.nameOf('internet', at('10.0.0.0')).host, 'x.test');
  t.is(names.nameOf('internet', at('10.0.0.1')).host, '10.0.0.1');
});

test('a resolver tells the addresses of each answer, from its cache, too, without refused ones', async (t) => {
  const told: unknown[] = [];
  const rules = rulesOf(['example.org:443']);
  const own = new Set<string>();
  const resolver = new Resolver({
    egress: 'internet',
    rules: () => rules,
    clock: new ManualClock(),
    ask: (question) =>
      Promise.resolve(
        answerTo({ ...query('x'), question, edns: null }, [a('example.org', ADDRESS), a('example.org', '10.0.0.1')]),
      ),
    addressesOf: () => null,
    ownAddresses: () => own,
    onAddresses: (...words) => told.push(words),
  });
  for (let count = 0; count < 2; count += 1)
    await resolver.answer(bytesOf(query('example.org')), { transport: 'tcp', onRefused: () => undefined });
  await resolver.answer(bytesOf(query('example.com')), { transport: 'tcp', onRefused: () => undefined });
  t.is(told.length, 2);
  for (const words of told) t.deepEqual((words as unknown[]).slice(0, 2), ['example.org', [ADDRESS]]);
});

test('an egress reaches the name of a redirected address, and the address itself without the field', async (t) => {
  const names = new ResolvedNames(new ManualClock());
  names.learn('internet', 'one.test', [ADDRESS], 60);
  const places = ['one.test:443', `${ADDRESS}:443`];
  const scene = await sceneTo(t, (socket) => socket.end('hello'), { places, names });
  for (const request of [
    redirectedRequest(`${ADDRESS}:443`),
    `CONNECT ${ADDRESS}:443 HTTP/1.1\r\nHost: ${ADDRESS}:443\r\n\r\n`,
  ]) {
    const guest = scene.open();
    guest.write(request);
    t.regex(await readUntil(guest, '\r\n\r\n'), /^HTTP\/1\.1 200 /);
    guest.end();
    t.is(String(await readAll(guest)), 'hello');
  }
  await eventually(() => scene.left.length === 2);
  t.deepEqual(scene.dialled, places);
  const [one, two] = scene.left;
  t.like(one?.facts, { host: 'one.test', redirectedFrom: ADDRESS });
  t.regex(one?.message ?? '', /one\.test:443 \(redirected from 93\.184\.216\.34\) at /);
  t.false(Object.hasOwn(two?.facts ?? {}, 'redirectedFrom'));
  const refused = scene.open();
  refused.end(redirectedRequest(`${ADDRESS}:80`));
  t.regex(String(await readAll(refused)), /^HTTP\/1\.1 403 /);
  t.like(scene.refused[0]?.facts, { destination: 'one.test:80', redirectedFrom: ADDRESS });
});

for (const [localAddress, localFamily, level, host] of [
  ['127.0.0.1', 'IPv4', 0, '1.2.3.4'],
  ['::ffff:127.0.0.1', 'IPv6', 0, '1.2.3.4'],
  ['::1', 'IPv6', 41, '2001:db8::1'],
] as const) {
  test(`the original destination of a connection to ${localAddress} is asked for by its family`, async (t) => {
    const answers: Record<number, string> = {
      0: '0200005001020304',
      41: '0a0000500000000020010db8000000000000000000000001',
    };
    const getsockopt = (_fd: unknown, asked: unknown, _option: unknown, address: unknown) => {
      t.is(asked, level);
      (address as Buffer).write(answers[asked as number] ?? '', 'hex');
      return 0;
    };
    const libc = { declare: () => getsockopt, errno: () => 0, address: () => 0n };
    const find = await loadOriginalDestination(() => Promise.resolve(libc));
    const socket: unknown = { localAddress, localFamily };
    t.deepEqual(find(socket as net.Socket), { host, port: 80 });
  });
}

/** The answer in two pieces, the second perhaps by a successor: what passed to the program, and the reset. */
function answered(text: string, split: number, isHandedOver: boolean) {
  const clock = new ManualClock();
  let reset: string | null = null;
  const connection = {
    destination: `${ADDRESS}:443`,
    reset: (code: string, message: string) => (reset = `${code} ${message}`),
  };
  const bytes = Buffer.from(text, 'latin1');
  let filter = new RedirectedAnswer(clock, connection);
  const push = (piece: Buffer) => (filter.isDone || piece.length === 0 ? piece : filter.push(piece));
  const first = push(bytes.subarray(0, split));
  if (isHandedOver) {
    const state = { held: filter.held, unsentBytes: 0 };
    filter.close();
    filter = new RedirectedAnswer(clock, { ...connection, destination: undefined }, state);
  }
  const passed = Buffer.concat([first, push(bytes.subarray(split))]);
  if (!filter.isDone) filter.end();
  filter.close();
  return { passed: passed.toString('latin1'), reset, timers: clock.pending };
}

for (const [what, text, passed, reset] of [
  ['an answer without bytes', 'HTTP/1.1 200 Connection Established\r\n\r\n', '', null],
  ['bytes after the answer', 'HTTP/1.1 200 OK\r\nA: b\r\n\r\nSSH-2.0\r\n\r\n', 'SSH-2.0\r\n\r\n', null],
  ['a refusal', 'HTTP/1.1 403 Not Allowed: why\r\n\r\n', '', 'connect-refused 93.184.216.34:443: 403 Not Allowed: why'],
  ['an interim answer', 'HTTP/1.1 100 Continue\r\n\r\n', '', 'connect-refused 93.184.216.34:443: 100 Continue'],
  ['the end', 'HTTP/1.1 200 OK\r\n', '', 'connect-refused 93.184.216.34:443: no answer from the egress'],
  [
    'another protocol',
    'SSH-2.0-OpenSSH\r\n\r\n',
    '',
    'connect-refused 93.184.216.34:443: the service is not an egress: the first line is not an HTTP/1.1 response',
  ],
  [
    'bare newlines',
    'HTTP/1.1 200 OK\n\n',
    '',
    'connect-refused 93.184.216.34:443: the service is not an egress: a line ends with LF instead of CRLF',
  ],
  [
    'a long head',
    `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(4096)}\r\n\r\n`,
    '',
    'connect-refused 93.184.216.34:443: the service is not an egress: its answer is too long',
  ],
] as const) {
  test(`${what}: in any two pieces, and between two processes`, (t) => {
    for (let split = 0; split <= Math.min(text.length, 100); split += 1)
      for (const isHandedOver of [false, true]) {
        const seen = answered(text, split, isHandedOver);
        // What is beyond a refusal is for nobody.
        t.deepEqual(
          reset === null ? seen : { ...seen, passed: '' },
          { passed, reset, timers: 0 },
          `${split} ${isHandedOver}`,
        );
      }
  });
}
