/** Dialling by rules: one look-up, each address judged, and a connection to one that was. */
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type Destination, parseDestination } from '../../../lib/forward/egress/admission.js';
import { type EgressConnection, EgressDialer } from '../../../lib/forward/egress/dial.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import type { EgressRules } from '../../../lib/forward/egress/rules.js';
import { type Clock, systemClock } from '../../../lib/util/clock.js';
import { rulesOf } from '../../helpers/dns.js';
import { freePort, hangingPort } from '../../helpers/ports.js';
import { localServer } from '../../helpers/proxies.js';
import { eventually, ManualClock, within } from '../../helpers/time.js';

interface Setting {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  /** What a name leads to. */
  readonly answer?: (name: string) => readonly string[] | Promise<readonly string[]>;
  readonly clock?: Clock;
}

const never = (): AbortSignal => new AbortController().signal;

/** A dialler, and the names that it looked up. */
function setUp(t: ExecutionContext, { allow = [], deny = [], answer = () => [], clock = systemClock }: Setting) {
  const lookups: string[] = [];
  const dialer = new EgressDialer({
    name: 'internet',
    rules: () => rulesOf(allow, deny),
    clock,
    lookup: async (name) => {
      lookups.push(name);
      return answer(name);
    },
  });
  /** A connection, which is closed with the test. */
  const dial = async (destination: Destination): Promise<EgressConnection> => {
    const connection = await within(20_000, 'a connection', dialer.dial(destination, never()));
    t.teardown(() => connection.socket.destroy());
    return connection;
  };
  return { dialer, lookups, dial, refusal: (destination: Destination) => refusalOf(t, dialer, destination) };
}

async function refusalOf(t: ExecutionContext, dialer: EgressDialer, destination: Destination): Promise<Refusal> {
  const dialled = within(20_000, 'a refusal', dialer.dial(destination, never()));
  const error = await t.throwsAsync(dialled, { instanceOf: Refusal });
  t.notRegex(error.message, /[\r\n]/);
  return error;
}

/** A server, and who connected to it. */
async function server(t: ExecutionContext, host = '127.0.0.1'): Promise<{ port: number; accepted: net.Socket[] }> {
  const accepted: net.Socket[] = [];
  const listening = await localServer(t, (socket) => accepted.push(socket), { host, port: 0 });
  return { port: listening.port, accepted };
}

const notFound = (): never => {
  throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
};

const to = (host: string, port: number): Destination => parseDestination(host, port);

test('a name is looked up once, and the address of the socket is one that was judged', async (t) => {
  const { port } = await server(t, '127.0.0.2');
  const { dial, lookups } = setUp(t, { allow: ['example.org:*', `127.0.0.0/8:${port}`], answer: () => ['127.0.0.2'] });
  const { socket, address, rule } = await dial(to('Example.org', port));
  t.deepEqual(lookups, ['example.org']);
  t.is(socket.remoteAddress, '127.0.0.2');
  t.is(address, `127.0.0.2:${port}`);
  t.is(rule, `allow "127.0.0.0/8:${port}"`);
  t.true(socket.isPaused());
  t.true(socket.allowHalfOpen);
});

test('rebinding: a resolver that changes its answer is asked once, and leads nowhere but where it was judged', async (t) => {
  const { port, accepted } = await server(t, '0.0.0.0');
  const answers = [['127.0.0.2'], ['127.0.0.1'], ['127.0.0.1']];
  const allow = ['example.org:*', `127.0.0.2:${port}`];
  const { dial, refusal, lookups } = setUp(t, { allow, answer: () => answers.shift() ?? [] });
  const { socket } = await dial(to('example.org', port));
  t.is(lookups.length, 1);
  t.is(socket.remoteAddress, '127.0.0.2');
  t.is((await refusal(to('example.org', port))).reason, 'denied');
  t.is(lookups.length, 2);
  await eventually(() => accepted.length > 0);
  t.deepEqual(
    accepted.map(({ localAddress }) => localAddress),
    ['127.0.0.2'],
  );
});

test('of the addresses of a name only those are tried that the rules allow', async (t) => {
  const { port, accepted } = await server(t, '0.0.0.0');
  const answer = ['127.0.0.1', '::1', '169.254.169.254', 'fe80::1%lo', 'nonsense', '127.0.0.2'];
  const { dial } = setUp(t, { allow: ['example.org:*', `127.0.0.2:${port}`], answer: () => answer });
  t.is((await dial(to('example.org', port))).address, `127.0.0.2:${port}`);
  await eventually(() => accepted.length > 0);
  t.deepEqual(
    accepted.map(({ localAddress }) => localAddress),
    ['127.0.0.2'],
  );
});

test('an address that is allowed is connected to without a look-up, in both families', async (t) => {
  for (const host of ['127.0.0.1', '::1']) {
    const { port } = await server(t, host);
    const { dial, lookups } = setUp(t, { allow: ['127.0.0.1:*', '[::1]:*'] });
    const { socket, address } = await dial(to(host, port));
    t.is(socket.remoteAddress, host);
    t.is(address, host === '::1' ? `[::1]:${port}` : `127.0.0.1:${port}`);
    t.deepEqual(lookups, []);
  }
});

test('what no entry could allow is never looked up', async (t) => {
  const { refusal, lookups } = setUp(t, { allow: ['*.example.org:443', '10.0.0.0/8:*'], deny: ['bad.example.org:*'] });
  for (const [host, port] of [
    ['example.com', 443],
    ['secret.evil.example', 443],
    ['a.example.org', 80],
    ['bad.example.org', 443],
  ] as const) {
    const { reason, message, verdict } = await refusal(to(host, port));
    t.is(reason, 'denied');
    t.is(message, `${host}:${port} is not allowed by egress "internet" on the host`);
    t.false(verdict?.isAllowed);
  }
  t.deepEqual(lookups, []);
});

test('the guest is not told what a name was resolved to, the host is', async (t) => {
  const { refusal } = setUp(t, { allow: ['*:443'], answer: () => ['10.20.30.40'] });
  const { reason, message, verdict } = await refusal(to('intranet.example', 443));
  t.is(reason, 'denied');
  t.is(message, 'intranet.example:443 is not allowed by egress "internet" on the host');
  t.deepEqual(verdict, {
    isAllowed: false,
    rule: null,
    why: '10.20.30.40 is private (10.0.0.0/8), and no entry allows just that',
  });
});

test('an address of this machine is refused, by what the system says, and by nothing else', async (t) => {
  const { port } = await server(t);
  const isOwn = (address: string): boolean => address === '1.2.3.4';
  const dialer = new EgressDialer({ name: 'internet', rules: () => rulesOf(['*:*']), clock: systemClock, isOwn });
  const report = await dialer.test(to('1.2.3.4', port), never());
  t.is(report.verdict.why, '1.2.3.4 is an address of this machine, and no entry allows just that');
  t.is((await refusalOf(t, dialer, to('1.2.3.4', port))).reason, 'denied');
  t.true((await dialer.test(to('1.2.3.5', port), never())).verdict.isAllowed);
});

test('where nothing is said of the egress everything is refused; rules of the moment count', async (t) => {
  const { port } = await server(t);
  let current: EgressRules | null = null;
  const dialer = new EgressDialer({ name: 'internet', rules: () => current, clock: systemClock });
  const refusal = await refusalOf(t, dialer, to('127.0.0.1', port));
  t.is(refusal.reason, 'denied');
  t.is(refusal.message, `127.0.0.1:${port} is not allowed by egress "internet" on the host`);
  t.is(refusal.verdict?.why, 'there is no egress "internet" here');
  current = rulesOf(['127.0.0.1:*']);
  const { socket } = await dialer.dial(to('127.0.0.1', port), never());
  socket.destroy();
});

test('a name without an address is another thing than one that is not allowed', async (t) => {
  const { refusal } = setUp(t, { allow: ['*:443'], answer: (name) => (name === 'empty.example' ? [] : notFound()) });
  for (const name of ['empty.example', 'gone.example']) {
    const { reason, message } = await refusal(to(name, 443));
    t.is(reason, 'not-found');
    t.is(message, `no address is found for ${name}`);
  }
});

test('the system’s resolver is asked where no other one is given', async (t) => {
  const { port } = await server(t);
  const dialer = new EgressDialer({
    name: 'internet',
    rules: () => rulesOf(['localhost:*', '127.0.0.0/8:*']),
    clock: systemClock,
  });
  const { socket, address } = await dialer.dial(to('localhost', port), never());
  t.teardown(() => socket.destroy());
  t.is(address, `127.0.0.1:${port}`);
});

test('nobody listens there: the guest is told that it was refused', async (t) => {
  const port = await freePort();
  const { refusal } = setUp(t, { allow: ['example.org:*', '127.0.0.0/8:*'], answer: () => ['127.0.0.1', '127.0.0.2'] });
  const { reason, message, cause } = await refusal(to('example.org', port));
  t.is(reason, 'refused');
  t.is(message, `example.org:${port} refused the connection`);
  t.true(cause instanceof AggregateError && cause.errors.length === 2);
});

test('no route leads there: the guest is told that it cannot be reached', async (t) => {
  // A connection to a multicast address fails at once, on every machine.
  const { refusal } = setUp(t, { allow: ['example.org:*', '255.255.255.255:*'], answer: () => ['255.255.255.255'] });
  const { reason, message } = await refusal(to('example.org', 9));
  t.is(reason, 'unreachable');
  t.is(message, 'example.org:9 cannot be reached from the host');
});

test('a target that does not answer is given up after 10 s, and its socket with it', async (t) => {
  const port = await hangingPort(t);
  const clock = new ManualClock();
  const { dialer } = setUp(t, { allow: ['127.0.0.1:*'], clock });
  const dialled = dialer.dial(to('127.0.0.1', port), never());
  dialled.catch(() => undefined);
  await eventually(() => clock.pending === 1);
  clock.advance(9_999);
  await setImmediate();
  clock.advance(1);
  const { reason, message } = await t.throwsAsync(dialled, { instanceOf: Refusal });
  t.is(reason, 'timeout');
  t.is(message, `127.0.0.1:${port} did not answer within 10 s`);
  t.is(clock.pending, 0);
});

test('a resolver that does not answer is given up after the same time', async (t) => {
  const clock = new ManualClock();
  const { dialer, lookups } = setUp(t, { allow: ['*:443'], answer: () => new Promise(() => undefined), clock });
  const dialled = dialer.dial(to('example.org', 443), never());
  dialled.catch(() => undefined);
  await eventually(() => lookups.length === 1);
  clock.advance(10_000);
  t.is((await t.throwsAsync(dialled, { instanceOf: Refusal })).reason, 'timeout');
});

test('an abort is told as it is, in every phase, and leaves nothing open', async (t) => {
  const port = await hangingPort(t);
  const reason = new Error('the stream is gone');
  const hung = () => new Promise<readonly string[]>(() => undefined);
  for (const [host, answer] of [
    ['127.0.0.1', () => []],
    ['example.org', hung],
  ] as const) {
    const clock = new ManualClock();
    const { dialer } = setUp(t, { allow: ['127.0.0.1:*', 'example.org:*'], answer, clock });
    const controller = new AbortController();
    const dialled = dialer.dial(to(host, port), controller.signal);
    dialled.catch(() => undefined);
    await setImmediate();
    controller.abort(reason);
    t.is(await t.throwsAsync(dialled), reason);
    t.is(clock.pending, 0);
    t.is(await t.throwsAsync(dialer.dial(to(host, port), controller.signal)), reason);
    t.is(await t.throwsAsync(dialer.test(to(host, port), controller.signal)), reason);
  }
});

test('32 names are looked up at once; the rest waits, and what is given up meanwhile is not looked up', async (t) => {
  const answers: (() => void)[] = [];
  const answer = () => new Promise<readonly string[]>((resolve) => answers.push(() => resolve(['10.0.0.1'])));
  const { dialer, lookups } = setUp(t, { allow: ['*:443'], answer });
  const controllers = Array.from({ length: 44 }, () => new AbortController());
  const dialled = controllers.map(({ signal }, index) => dialer.dial(to(`n${index}.example`, 443), signal));
  const settled = Promise.allSettled(dialled);
  await eventually(() => lookups.length === 32);
  await setImmediate();
  t.is(lookups.length, 32);
  for (const controller of controllers.slice(32, 42)) controller.abort(new Error('gone'));
  // Who is given up while the system looks its name up keeps its turn.
  controllers[0]?.abort(new Error('gone'));
  await setImmediate();
  t.is(lookups.length, 32);
  for (const answer of answers.splice(0)) answer();
  await eventually(() => lookups.length === 34);
  for (const answer of answers.splice(0)) answer();
  const results = await settled;
  t.deepEqual(lookups.slice(32), ['n42.example', 'n43.example']);
  t.is(results.filter((one) => one.status === 'rejected' && one.reason instanceof Refusal).length, 33);
});

test('of a name with a hundred addresses sixteen count, each of them once', async (t) => {
  const many = Array.from({ length: 100 }, (_, index) => `8.8.${index >> 1}.1`);
  const { dialer } = setUp(t, { allow: ['example.org:443'], answer: () => many });
  const { addresses } = await dialer.test(to('example.org', 443), never());
  t.deepEqual(
    addresses.map(({ address }) => address),
    Array.from({ length: 16 }, (_, index) => `8.8.${index}.1`),
  );
});

test('an address that the resolver writes in another way is judged, shown and tried in its one text', async (t) => {
  const answer = ['0:0:0:0:0:0:0:1', '::1', '::ffff:7f00:1'];
  const { dialer } = setUp(t, { allow: ['example.org:443', '[::1]:443'], answer: () => answer });
  const { addresses } = await dialer.test(to('example.org', 443), never());
  t.deepEqual(
    addresses.map(({ address, verdict }) => [address, verdict.isAllowed]),
    [
      ['::1', true],
      ['::ffff:127.0.0.1', false],
    ],
  );
});

test('when the addresses of this machine cannot be asked for nothing is let out', async (t) => {
  const { port } = await server(t);
  const dialer = new EgressDialer({
    name: 'internet',
    rules: () => rulesOf(['127.0.0.1:*']),
    clock: systemClock,
    isOwn: () => {
      throw new Error('the system does not tell');
    },
  });
  const refusal = await refusalOf(t, dialer, to('127.0.0.1', port));
  t.is(refusal.reason, 'unreachable');
  t.true((await dialer.test(to('127.0.0.1', port), never())).verdict.why.endsWith(': the system does not tell'));
});

// What `vproxy egress test` shows.

test('a test says which entry decides, for each address of a name, and connects to nothing', async (t) => {
  const { port, accepted } = await server(t);
  const { dialer } = setUp(t, {
    allow: ['example.org:*', '127.0.0.1:*'],
    answer: () => ['10.0.0.1', '127.0.0.1', '8.8.8.8'],
  });
  const { destination, verdict, addresses } = await dialer.test(to('example.org', port), never());
  t.deepEqual(destination, { host: 'example.org', family: 0, port });
  t.deepEqual(
    addresses.map(({ address, verdict: { isAllowed, rule } }) => [address, isAllowed, rule]),
    [
      ['10.0.0.1', false, null],
      ['127.0.0.1', true, 'allow "127.0.0.1:*"'],
      ['8.8.8.8', true, 'allow "example.org:*"'],
    ],
  );
  t.is(verdict.rule, 'allow "127.0.0.1:*"');
  await setImmediate();
  t.is(accepted.length, 0);
});

test('a test of a name that is refused, that is not found, and that leads inside', async (t) => {
  const { dialer, lookups } = setUp(t, {
    allow: ['*.example:443'],
    answer: (name) => (name === 'inside.example' ? ['192.168.1.1'] : notFound()),
  });
  const why = async (host: string) => {
    const { verdict } = await dialer.test(to(host, 443), never());
    t.false(verdict.isAllowed);
    return verdict.why;
  };
  t.is(await why('example.org'), 'no entry allows it');
  t.is(await why('gone.example'), 'no address is found for gone.example: no machine has that name (ENOTFOUND)');
  t.is(await why('inside.example'), '192.168.1.1 is private (192.168.0.0/16), and no entry allows just that');
  t.deepEqual(lookups, ['gone.example', 'inside.example']);
});
