/** Dialling by rules: one lookup, each address judged, and a connection to a judged one, or a tunnel of an HTTP proxy. */
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseDestination } from '../../../lib/forward/egress/admission.js';
import { type EgressConnection, EgressDialer, type EgressDialerOptions } from '../../../lib/forward/egress/dial.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import type { EgressRules } from '../../../lib/forward/egress/rules.js';
import { formatHostPort } from '../../../lib/util/addresses/host-port.js';
import { systemClock } from '../../../lib/util/clock.js';
import { rulesOf } from '../../helpers/dns.js';
import { EgressScene } from '../../helpers/egress.js';
import { freePort, hangingPort } from '../../helpers/ports.js';
import { localServer, readToEnd } from '../../helpers/proxies.js';
import { eventually, ManualClock, within } from '../../helpers/time.js';

interface Setting extends Partial<EgressDialerOptions> {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly upstream?: EgressRules['upstream'];
  /** The addresses of a name. */
  readonly answer?: (name: string) => readonly string[] | Promise<readonly string[]>;
}

const never = (): AbortSignal => new AbortController().signal;

/** A dialler, and the names that it looked up. */
function world(t: ExecutionContext, { allow = [], deny = [], upstream = null, answer = () => [], ...more }: Setting) {
  const lookups: string[] = [];
  const dialer = new EgressDialer({
    name: 'internet',
    rules: () => ({ ...rulesOf(allow, deny), upstream, place: 'vm1/internet' }),
    clock: systemClock,
    lookup: async (name) => {
      lookups.push(name);
      return answer(name);
    },
    ...more,
  });
  const start = (host: string, port: number, signal = never()) => dialer.dial(parseDestination(host, port), signal);
  return {
    ...{ dialer, lookups, start },
    /** A connection, closed at the end of the test. */
    dial: async (host: string, port: number): Promise<EgressConnection> => {
      const connection = await within(20_000, 'a connection', start(host, port));
      t.teardown(() => connection.socket.destroy());
      return connection;
    },
    /** The messages for the guest, and for the host. */
    refusal: async (host: string, port: number) => {
      const dialled = within(20_000, 'a refusal', start(host, port));
      const { hint, reason, message, verdict } = await t.throwsAsync(dialled, { instanceOf: Refusal });
      t.notRegex(`${message}${hint ?? ''}`, /[\r\n]/);
      return { reason, message, why: verdict?.why, ...(hint === null ? {} : { hint }) };
    },
    report: (host: string, port: number) => dialer.test(parseDestination(host, port), never()),
  };
}

/** A server, and the addresses that received connections. */
async function server(t: ExecutionContext, host = '127.0.0.1') {
  const accepted: (string | undefined)[] = [];
  const { port } = await localServer(t, ({ localAddress }) => accepted.push(localAddress), { host, port: 0 });
  return { port, accepted };
}

for (const [what, allowed, answer, reached] of [
  ['among those of its name, comes first', '127.0.0.0/8', ['127.0.0.3', '127.0.0.2'], '127.0.0.2'],
  ['which its name has left, is kept', '127.0.0.0/8', ['127.0.0.3'], '127.0.0.2'],
  ['whose name is not found, is kept', '127.0.0.0/8', [], '127.0.0.2'],
  ['which its name has left, is given up if no entry allows it', '127.0.0.3', ['127.0.0.3'], '127.0.0.3'],
] as const) {
  test(`the address of a redirected program, ${what}`, async (t) => {
    const { port, accepted } = await server(t, '0.0.0.0');
    const { dialer } = world(t, { allow: ['example.org:*', `${allowed}:${port}`], answer: () => answer });
    const destination = { host: 'example.org', family: 0, port, redirectedFrom: '127.0.0.2' } as const;
    const { socket } = await within(20_000, 'a connection', dialer.dial(destination, never()));
    t.teardown(() => socket.destroy());
    await eventually(() => t.deepEqual(accepted, [reached]));
  });
}

const isOwn = (address: string): boolean => address === '1.2.3.4';
const notAllowed = (what: string): string => `${what} is not allowed by egress "internet" on the host`;

test('a name is looked up once, and only those of its addresses are tried that the rules allow', async (t) => {
  const { port, accepted } = await server(t, '0.0.0.0');
  const answer = ['127.0.0.1', '::1', '169.254.169.254', 'fe80::1%lo', 'nonsense', '127.0.0.2'];
  const allow = ['example.org:*', `127.0.0.2:${port}`];
  const { dial, lookups } = world(t, { allow, answer: () => answer });
  const { socket, address, rule } = await dial('Example.org', port);
  t.deepEqual([socket.remoteAddress, address, rule], ['127.0.0.2', `127.0.0.2:${port}`, `allow "127.0.0.2:${port}"`]);
  t.true(socket.isPaused() && socket.allowHalfOpen);
  await eventually(() => accepted.length > 0);
  t.deepEqual([lookups, accepted], [['example.org'], ['127.0.0.2']]);
});

test('rebinding: a resolver that changes its answer is asked once, and only a judged address is reached', async (t) => {
  const { port, accepted } = await server(t, '0.0.0.0');
  const answers = [['127.0.0.2'], ['127.0.0.1'], ['127.0.0.1']];
  const allow = ['example.org:*', `127.0.0.2:${port}`];
  const { dial, refusal, lookups } = world(t, { allow, answer: () => answers.shift() ?? [] });
  t.is((await dial('example.org', port)).socket.remoteAddress, '127.0.0.2');
  t.is(lookups.length, 1);
  t.is((await refusal('example.org', port)).reason, 'denied');
  t.is(lookups.length, 2);
  await eventually(() => accepted.length > 0);
  t.deepEqual(accepted, ['127.0.0.2']);
});

test('an allowed address is connected to without a lookup, in both families', async (t) => {
  const { dial, lookups } = world(t, { allow: ['127.0.0.1:*', '[::1]:*'] });
  for (const [host, text] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
  ] as const) {
    const { port } = await server(t, host);
    const { socket, address } = await dial(host, port);
    t.deepEqual([socket.remoteAddress, address], [host, `${text}:${port}`]);
  }
  t.deepEqual(lookups, []);
});

test('a name that no entry could allow is never looked up', async (t) => {
  const { refusal, lookups } = world(t, { allow: ['*.example.org:443', '10.0.0.0/8:*'], deny: ['bad.example.org:*'] });
  const allowIt = (place: string) => `no entry allows it; on the host: vproxy egress allow vm1/internet ${place}`;
  for (const [host, port, why, hint] of [
    ['example.com', 443, 'no entry allows it', allowIt('example.com:443')],
    ['192.0.2.1', 443, 'no entry allows it', allowIt('192.0.2.1:443')],
    ['2001:db8::1', 443, 'no entry allows it', allowIt("'[2001:db8::1]:443'")],
    ['a.example.org', 80, 'allow "*.example.org:443" does not cover port 80', allowIt('a.example.org:80')],
    ['bad.example.org', 443, 'the entry denies it', 'deny "bad.example.org:*"'],
  ] as const) {
    const { why: said = '', ...told } = await refusal(host, port);
    t.deepEqual(told, { reason: 'denied', message: notAllowed(formatHostPort({ host, port })), hint });
    t.true(said.includes(why), said);
  }
  t.deepEqual(lookups, []);
});

test('the addresses of a name are hidden from the guest, and logged on the host', async (t) => {
  const { refusal } = world(t, { allow: ['*:443'], answer: () => ['10.20.30.40'] });
  t.deepEqual(await refusal('intranet.example', 443), {
    reason: 'denied',
    message: notAllowed('intranet.example:443'),
    hint: 'none of its addresses is allowed; on the host: vproxy egress test vm1/internet intranet.example:443',
    why: '10.20.30.40 is private (10.0.0.0/8), and no entry allows it explicitly',
  });
});

test('an address of this machine is refused, as listed by the system and by nothing else', async (t) => {
  const { refusal, report } = world(t, { allow: ['*:*'], isOwn, answer: () => ['1.2.3.4'] });
  for (const host of ['1.2.3.4', 'name.example']) {
    const { reason, why } = await refusal(host, 80);
    t.deepEqual([reason, why], ['denied', '1.2.3.4 is an address of this machine, and no entry allows it explicitly']);
  }
  t.true((await report('1.2.3.5', 80)).verdict.isAllowed);
  const isUnknown = (): never => {
    throw new Error('the system does not tell');
  };
  const untold = world(t, { allow: ['127.0.0.1:*'], isOwn: isUnknown });
  t.is((await untold.refusal('127.0.0.1', 80)).reason, 'unreachable');
});

/** Requests for a text: HTTP, and SOCKS 5 by name and, if it is an address, by its bytes. */
function waysIn(text: string, port: number): Buffer[] {
  const place = `${text.includes(':') ? `[${text}]` : text}:${port}`;
  const ports = [port >> 8, port & 255];
  const bytes = /^[\d.]+$/.test(text) ? text.split('.').map(Number) : [];
  return [
    Buffer.from(`CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`),
    Buffer.from(`GET http://${place}/ HTTP/1.1\r\nHost: ${place}\r\n\r\n`),
    Buffer.from([5, 1, 0, 5, 1, 0, 3, text.length, ...Buffer.from(text), ...ports]),
    ...(bytes.length === 4 ? [Buffer.from([5, 1, 0, 5, 1, 0, 1, ...bytes, ...ports])] : []),
  ];
}

test('with no kind of request does a guest reach an address of the host, in any spelling or behind a name', async (t) => {
  const { port, accepted } = await server(t, '::');
  const { dialer, lookups } = world(t, { allow: ['*:*'], answer: () => ['127.0.0.1'] });
  const scene = new EgressScene(t, { dialer });
  for (const [text, reason, lookupCount] of [
    ['127.0.0.1', 'denied', 0],
    ['::ffff:127.0.0.1', 'denied', 0],
    ['0x7f.1', 'bad-destination', 0],
    ['2130706433', 'bad-destination', 0],
    ['127.0.0.1.', 'bad-destination', 0],
    ['name.example', 'denied', 1],
  ] as const) {
    for (const words of waysIn(text, port)) {
      const before = lookups.length;
      const told = await scene.say(words);
      t.notRegex(told, / 200 |^\x05\0\x05\0/);
      t.deepEqual([scene.refused.at(-1)?.facts.reason, lookups.length - before], [reason, lookupCount], String(words));
    }
  }
  await setImmediate();
  t.deepEqual([scene.refused.length, accepted], [19, []]);
});

test('an undefined egress refuses everything; the current rules apply', async (t) => {
  const { port } = await server(t);
  let current: EgressRules | null = null;
  const { dial, refusal } = world(t, { rules: () => current });
  t.deepEqual(await refusal('127.0.0.1', port), {
    ...{ reason: 'denied', message: notAllowed(`127.0.0.1:${port}`) },
    hint: 'no egress "internet" is defined',
    why: 'no egress "internet" is defined',
  });
  current = rulesOf(['127.0.0.1:*']);
  t.is((await dial('127.0.0.1', port)).rule, 'allow "127.0.0.1:*"');
});

test('the default is the system’s resolver', async (t) => {
  const { port } = await server(t);
  const clock = systemClock;
  const dialer = new EgressDialer({ name: 'internet', rules: () => rulesOf(['localhost:*', '127.0.0.0/8:*']), clock });
  const { socket, address } = await dialer.dial(parseDestination('localhost', port), never());
  socket.destroy();
  t.is(address, `127.0.0.1:${port}`);
});

const notFound = (): never => {
  throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
};

test('the guest gets the reason for an unreachable destination: no address, refused, no route', async (t) => {
  const port = await freePort();
  const leads: Readonly<Record<string, () => readonly string[]>> = {
    'empty.example': () => [],
    'gone.example': notFound,
    'closed.example': () => ['127.0.0.1', '127.0.0.2'],
    // Connecting there fails at once on every machine.
    'nowhere.example': () => ['255.255.255.255'],
  };
  const allow = ['*.example:*', '127.0.0.0/8:*', '255.255.255.255:*'];
  const { refusal } = world(t, { allow, answer: (name) => leads[name]?.() ?? [] });
  for (const [name, reason, message] of [
    ['empty.example', 'not-found', 'no address found for empty.example'],
    ['gone.example', 'not-found', 'no address found for gone.example'],
    ['closed.example', 'refused', `closed.example:${port} refused the connection`],
    ['nowhere.example', 'unreachable', `nowhere.example:${port} cannot be reached from the host`],
  ] as const)
    t.deepEqual(await refusal(name, port), { reason, message, why: undefined });
});

test('a lookup, a target and a proxy that do not answer time out after 10 s; an abort keeps its reason; nothing is left open', async (t) => {
  const hanging = await hangingPort(t);
  const proxy = await scriptedProxy(t, (socket) => socket.write('HTTP/1.1 200'));
  const settings: readonly (readonly [Setting, host: string])[] = [
    [{ answer: () => new Promise(() => undefined) }, 'example.org'],
    [{}, '127.0.0.1'],
    [{ upstream: { host: '127.0.0.1', port: proxy.port } }, 'example.org'],
  ];
  for (const [index, [setting, host]] of settings.entries()) {
    const clock = new ManualClock();
    const { dialer, lookups, start } = world(t, { allow: ['*:*', '127.0.0.1:*'], clock, ...setting });
    const hasBegun = async (count: number) => {
      await eventually(() => [lookups, [host], proxy.asked][index]?.length === count || index === 1);
      await eventually(() => clock.pending === 1);
    };
    const late = t.throwsAsync(start(host, hanging), { instanceOf: Refusal });
    await hasBegun(1);
    clock.advance(9999);
    await setImmediate();
    t.is(clock.pending, 1);
    clock.advance(1);
    const { reason, message } = await late;
    t.deepEqual([reason, message], ['timeout', `${host}:${hanging} did not answer within 10 s`]);

    const controller = new AbortController();
    const gone = new Error('the stream is gone');
    const aborted = t.throwsAsync(start(host, hanging, controller.signal));
    await hasBegun(2);
    controller.abort(gone);
    t.is(await aborted, gone);
    t.is(clock.pending, 0);
    t.is(await t.throwsAsync(start(host, hanging, controller.signal)), gone);
    t.is(await t.throwsAsync(dialer.test(parseDestination(host, hanging), controller.signal)), gone);
  }
  await eventually(() => proxy.sockets.every(({ destroyed }) => destroyed), { what: 'the end of both connections' });
});

test('32 names are looked up at once; the rest wait, and those aborted meanwhile are not looked up', async (t) => {
  const answers: (() => void)[] = [];
  const answer = () => new Promise<readonly string[]>((resolve) => answers.push(() => resolve(['10.0.0.1'])));
  const { lookups, start } = world(t, { allow: ['*:443'], answer });
  const controllers = Array.from({ length: 44 }, () => new AbortController());
  const settled = Promise.allSettled(controllers.map(({ signal }, index) => start(`n${index}.example`, 443, signal)));
  await eventually(() => lookups.length === 32);
  // One aborted during its lookup keeps its turn.
  for (const index of [0, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41]) controllers[index]?.abort(new Error('gone'));
  await setImmediate();
  t.is(lookups.length, 32);
  for (const count of [34, 34]) {
    for (const tell of answers.splice(0)) tell();
    await eventually(() => lookups.length === count);
  }
  const results = await settled;
  t.deepEqual(lookups.slice(32), ['n42.example', 'n43.example']);
  t.is(results.filter((one) => one.status === 'rejected' && one.reason instanceof Refusal).length, 33);
});

// ---- the report of `vproxy egress test` -----------------------------------------------------------------------------

test('a test reports the deciding entry for each address of a name, in canonical text, and connects to nothing', async (t) => {
  const { port, accepted } = await server(t);
  const answer = () => ['10.0.0.1', '127.0.0.1', '0:0:0:0:0:0:0:1', '::1', '::ffff:7f00:1', '8.8.8.8'];
  const { report } = world(t, { allow: ['example.org:*', '127.0.0.1:*', '[::1]:443'], answer });
  const { destination, verdict, addresses } = await report('example.org', port);
  t.deepEqual(destination, { host: 'example.org', family: 0, port });
  t.is(verdict.rule, 'allow "127.0.0.1:*"');
  t.deepEqual(
    addresses.map((one) => [one.address, one.verdict.rule]),
    [
      ['10.0.0.1', null],
      ['127.0.0.1', 'allow "127.0.0.1:*"'],
      ['::1', null],
      ['::ffff:127.0.0.1', null],
      ['8.8.8.8', 'allow "example.org:*"'],
    ],
  );
  await setImmediate();
  t.deepEqual(accepted, []);
});

test('of a hundred addresses of a name sixteen count, without duplicates', async (t) => {
  const many = Array.from({ length: 100 }, (_, index) => `8.8.${index >> 1}.1`);
  const { addresses } = await world(t, { allow: ['*:443'], answer: () => many }).report('example.org', 443);
  const dialled = addresses.map(({ address }) => address);
  t.deepEqual(dialled, many.filter((_, index) => index % 2 === 0).slice(0, 16));
});

test('a test of a name that is refused, not found, has an internal address, or is behind a proxy', async (t) => {
  const answer = (name: string) => (name === 'inside.example' ? ['192.168.1.1'] : notFound());
  const { report, lookups } = world(t, { allow: ['*.example:443'], answer });
  for (const [host, why] of [
    ['example.org', 'no entry allows it'],
    ['gone.example', 'no address found for gone.example: name not found (ENOTFOUND)'],
    ['inside.example', '192.168.1.1 is private (192.168.0.0/16), and no entry allows it explicitly'],
  ] as const)
    t.like((await report(host, 443)).verdict, { isAllowed: false, why });
  t.deepEqual(lookups, ['gone.example', 'inside.example']);
  const behind = world(t, { allow: ['*:443'], upstream: { host: '127.0.0.1', port: 1 } });
  t.like(await behind.report('example.org', 443), { verdict: { isAllowed: true }, addresses: [] });
  t.deepEqual(behind.lookups, []);
});

// ---- behind an HTTP proxy -------------------------------------------------------------------------------------------

/** A proxy with scripted answers, and the requests to it. */
async function scriptedProxy(t: ExecutionContext, answer: (socket: net.Socket) => unknown) {
  const asked: string[] = [];
  const sockets: net.Socket[] = [];
  const { port } = await localServer(t, (socket) => {
    sockets.push(socket);
    let text = '';
    const read = (chunk: Buffer): void => {
      text += String(chunk);
      if (!text.includes('\r\n\r\n')) return;
      socket.off('data', read);
      asked.push(text);
      void answer(socket);
    };
    socket.on('data', read).on('end', () => socket.end());
  });
  return { port, asked, sockets };
}

/** A dialler behind a proxy, whose name or address resolves to 127.0.0.1. */
const behind = (t: ExecutionContext, port: number, host = '127.0.0.1') =>
  world(t, { allow: ['*:443', '[::1]:443'], upstream: { host, port }, isOwn, answer: () => ['127.0.0.1'] });

test('a proxy gets the name, which is not looked up here, unlike its own; the tunnel follows', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => {
    socket.write('HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n');
    socket.once('data', (chunk: Buffer) => socket.end(`you said ${String(chunk)}`));
  });
  const { dial, lookups } = behind(t, proxy.port, 'proxy.internal');
  const { socket, address, rule } = await dial('Example.ORG', 443);
  t.deepEqual(proxy.asked, ['CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n']);
  t.deepEqual([lookups, rule], [['proxy.internal'], 'allow "*:443"']);
  t.regex(address, new RegExp(`:${proxy.port}$`));
  t.true(socket.isPaused());
  socket.write('hello');
  t.is(String(await readToEnd(socket.resume())), 'you said hello');
});

test('a destination that is not allowed never reaches the proxy, by name or address; IPv6 is sent in brackets', async (t) => {
  const proxy = await scriptedProxy(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
  const { dial, refusal } = behind(t, proxy.port);
  t.is((await refusal('example.org', 80)).reason, 'denied');
  for (const host of ['169.254.169.254', '10.0.0.1', '127.0.0.1', 'fd00::1', '1.2.3.4'])
    t.is((await refusal(host, 443)).reason, 'denied');
  t.is(proxy.sockets.length, 0);
  await dial('::1', 443);
  t.deepEqual(proxy.asked, ['CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n']);
});

const OK = 'HTTP/1.1 200 OK\r\n\r\n';

/** A proxy's output in pieces, and the part of it that belongs to the tunnel. */
const OPENED: Readonly<Record<string, readonly [pieces: readonly string[], rest: string]>> = {
  'a head': [[OK], ''],
  'a head followed by bytes, which come first': [[`${OK}SSH-2.0-x\r\n`, 'more'], 'SSH-2.0-x\r\nmore'],
  'an HTTP/1.0 head without a reason': [['HTTP/1.0 200\r\n\r\n'], ''],
  'a head with bare newlines': [['HTTP/1.1 200 OK\nA: b\n\nrest'], 'rest'],
  'status 204': [['HTTP/1.1 204 No Content\r\n\r\nrest'], 'rest'],
  'a head in single bytes': [[...Array.from(OK), 'rest'], 'rest'],
  'a head with the length of a missing body': [['HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrest'], 'rest'],
  'a response after an interim one': [[`HTTP/1.1 100 Continue\r\n\r\n${OK}rest`], 'rest'],
  'a head of nearly 16 KiB': [[`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(16_300)}\r\n\r\nrest`], 'rest'],
  'a head followed by 64 KiB': [[`${OK}${'x'.repeat(65_536)}`], 'x'.repeat(65_536)],
};

for (const [what, [pieces, rest]] of Object.entries(OPENED)) {
  test(`a tunnel is opened by ${what}`, async (t) => {
    const proxy = await scriptedProxy(t, async (socket) => {
      for (const piece of pieces) {
        await new Promise((resolve) => socket.write(piece, resolve));
        await setImmediate();
      }
      socket.end();
    });
    const { socket: tunnel } = await behind(t, proxy.port).dial('example.org', 443);
    t.is(String(await readToEnd(tunnel.resume())), rest);
  });
}

/** The message about a proxy, and its answers; null resets the connection. */
const NOT_OPENED: Readonly<Record<string, readonly (string | null)[]>> = {
  'answered with status 403': ['HTTP/1.1 403 Forbidden\r\nX: \x1b[2J\r\n\r\n'],
  'answered with status 407': ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'],
  'answered with status 302': ['HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n'],
  'did not answer with HTTP': [
    ...[null, '', 'HTTP/1.1 101 Switching Protocols\r\n\r\n', 'HTTP/2 200\r\n\r\n', 'HTTP/1.1 2000 OK\r\n\r\n'],
    ...['HTTP/1.1  200 OK\r\n\r\n', 'HTTP/1.1 200', 'SSH-2.0-OpenSSH\r\n\r\n', '\r\n\r\n'],
    ...[`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(16_384)}\r\n\r\n`, 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(1000)],
    'x'.repeat(1_000_000),
  ],
};

test('a proxy that opens no tunnel, or cannot be reached, is distinguished from an unreachable destination', async (t) => {
  const isRefusedBy = async ({ refusal }: ReturnType<typeof behind>, says: string, what?: string | null) => {
    const message = `example.org:443: the upstream proxy of egress "internet" ${says}`;
    t.deepEqual(await refusal('example.org', 443), { reason: 'upstream', message, why: undefined }, what?.slice(0, 80));
  };
  for (const [says, answers] of Object.entries(NOT_OPENED)) {
    for (const answer of answers) {
      const proxy = await scriptedProxy(t, (socket) => {
        if (answer === null) socket.resetAndDestroy();
        // The end of an answer that is too long is not awaited.
        else if (answer.length > 16_384) socket.write(answer);
        else socket.end(answer);
      });
      await isRefusedBy(behind(t, proxy.port), says, answer);
      await eventually(() => proxy.sockets.every(({ destroyed }) => destroyed), { what: 'the end of the connection' });
    }
  }
  await isRefusedBy(behind(t, await freePort()), 'cannot be reached');
  const upstream = { host: 'proxy.internal', port: 3128 };
  await isRefusedBy(world(t, { allow: ['*:443'], upstream, answer: notFound }), 'cannot be reached');
});
