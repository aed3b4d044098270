/** The broker between wrappers and emulators of each kind. */
import { createConnection, type Socket } from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import type { StorageBrokerOptions } from '../../lib/storage/broker.js';
import { deferred } from '../../lib/util/concurrency.js';
import { attachPort, type Decide, echo, FieldEmulator, type Guest, peerAt, startGuest } from '../helpers/storage.js';
import { eventually, ManualClock } from '../helpers/time.js';

const REPLY = '{"stdout":"own","stderr":"","status":0}\n';

/** By default the peer's emulator reads a line and closes. */
async function served(t: ExecutionContext, decide: Decide = echo, options: StorageBrokerOptions = {}) {
  const emulator = await FieldEmulator.readline(t, decide);
  return { emulator, guest: await startGuest(t, { peer: peerAt(emulator.port), ...options }) };
}

const attach = async (t: ExecutionContext, guest: Guest, decide: Decide = echo): Promise<FieldEmulator> =>
  FieldEmulator.dialing(t, await attachPort(t, guest), decide);

/** A guest whose peer's service is opened by hand. */
const opening = (t: ExecutionContext, open: () => Duplex, options: StorageBrokerOptions = {}): Promise<Guest> =>
  startGuest(t, { peer: { isOffered: () => true, open }, ...options });

function wrapper(t: ExecutionContext, { path }: Guest, request: string): Socket {
  const socket = createConnection({ path, allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.write(request);
  return socket;
}

const waits = (guest: Guest, count: number): Promise<unknown> =>
  eventually(() => guest.broker.waitingCalls === count, { intervalMs: 2, what: `${count} calls that wait` });

const printAll = (guest: Guest, names: readonly string[]): Promise<string[]> =>
  Promise.all(names.map((name) => guest.print(name)));

type Start = (
  t: ExecutionContext,
  decide: Decide,
) => Promise<{ readonly emulator: FieldEmulator; readonly guest: Guest }>;

const KINDS: Readonly<Record<string, Start>> = {
  async 'an emulator that reads once and keeps its connection'(t, decide) {
    const emulator = await FieldEmulator.singleRead(t, decide);
    return { emulator, guest: await startGuest(t, { peer: peerAt(emulator.port) }) };
  },
  'an emulator that reads a line and closes': served,
  async 'an emulator that dials'(t, decide) {
    const guest = await startGuest(t);
    return { guest, emulator: await attach(t, guest, decide) };
  },
};

for (const [kind, start] of Object.entries(KINDS)) {
  test(`${kind}: 50 concurrent calls each get their own reply, one at a time; a crash fails only its call`, async (t) => {
    const { emulator, guest } = await start(t, (argv, fields) => (argv[1] === 'die' ? 'die' : echo(argv, fields)));
    const names = Array.from({ length: 50 }, (_, index) => `/c${index}`);
    const lines = names.map((name) => `${name}\n`);
    t.deepEqual(await printAll(guest, names), lines);
    t.is(emulator.mostAtOnce, 1);
    t.true(guest.calls.every(({ status, durationMs }) => status === 0 && durationMs >= 0));

    const [one, die, two] = await Promise.allSettled(['one', 'die', 'two'].map((name) => guest.print(name)));
    t.like([one, two], [{ value: 'one\n' }, { value: 'two\n' }]);
    const { code, message } = (die as PromiseRejectedResult).reason as VproxyError;
    t.is(code, 'storage-unavailable');
    t.regex(message, /^storage emulator \((peer|attached 1)\) failed: /);
    t.is(await guest.print('three'), 'three\n');
    t.is(guest.calls.find(({ argv }) => argv[1] === 'die')?.error?.code, code);
    t.deepEqual([...emulator.requests].sort(), [...names, 'one', 'die', 'two', 'three'].sort(), 'none comes twice');
  });

  test(`${kind}: the reply for a wrapper that disconnects reaches no other call`, async (t) => {
    const held = deferred();
    const { emulator, guest } = await start(t, async (argv, fields) => {
      if (argv[1] === 'slow') await held.promise;
      return echo(argv, fields);
    });
    const gone = wrapper(t, guest, '{"argv":["storcli64","slow"]}\n');
    await eventually(() => emulator.requests.length === 1);
    const next = guest.print('next');
    await waits(guest, 1);
    gone.destroy();
    // Where each call has a connection of its own, the next one may be over as well by now.
    const slow = await eventually(() => guest.calls.find(({ argv }) => argv[1] === 'slow'));
    t.is(slow.error?.code, 'cancelled');
    held.resolve();
    t.is(await next, 'next\n');
    t.deepEqual(emulator.requests, ['slow', 'next']);
  });
}

test('several attached emulators share the calls, and while one is attached the peer gets none', async (t) => {
  const { emulator, guest } = await served(t);
  const port = await attachPort(t, guest);
  const gate = deferred();
  const decide: Decide = (argv, fields) => gate.promise.then(() => echo(argv, fields));
  const attached = [1, 2].map(() => FieldEmulator.dialing(t, port, decide));
  await eventually(() => guest.broker.emulators.attachedCount === 2);
  const outputs = printAll(guest, ['1', '2', '3']);
  await waits(guest, 1);
  await eventually(() => attached.every(({ requests }) => requests.length === 1));
  gate.resolve();
  t.deepEqual(await outputs, ['1\n', '2\n', '3\n']);
  t.regex(guest.calls[0]?.emulator ?? '', /^attached [12]$/);
  t.deepEqual(emulator.requests, []);
});

test('a call waits until an emulator is attached, even if its caller has half-closed', async (t) => {
  const guest = await startGuest(t);
  const caller = wrapper(t, guest, '{"argv":["storcli64","half"]}').end();
  await waits(guest, 1);
  await attach(t, guest);
  t.is((JSON.parse(await text(caller)) as { stdout: string }).stdout, 'half\n');
});

test('a call waits until the service is offered and the broker is woken', async (t) => {
  const { port } = await FieldEmulator.readline(t);
  let isOffered = false;
  const guest = await startGuest(t, { peer: { ...peerAt(port), isOffered: () => isOffered } });
  const output = guest.print('early');
  await waits(guest, 1);
  isOffered = true;
  guest.broker.emulators.wake();
  t.is(await output, 'early\n');
});

test('a wrapper that disconnects while waiting has its call dropped, even if it had half-closed', async (t) => {
  const clock = new ManualClock();
  const guest = await startGuest(t, { clock });
  const [open, half] = [1, 2].map(() => wrapper(t, guest, '{"argv":["storcli64","dropped"]}\n')) as [Socket, Socket];
  half.end();
  // The probe that found it alive.
  await new Promise((resolve) => half.once('data', resolve));
  await waits(guest, 2);
  open.destroy();
  await waits(guest, 1);
  half.destroy();
  await eventually(() => (clock.advance(1000), guest.broker.waitingCalls === 0));
  const emulator = await attach(t, guest);
  await guest.call('kept');
  t.deepEqual(emulator.requests, ['kept']);
  const codes = guest.calls.map(({ error }) => error?.code);
  t.deepEqual(codes, ['cancelled', 'cancelled', undefined]);
});

test('a parallel service gets up to that many calls at once', async (t) => {
  const gate = deferred();
  const decide: Decide = (argv, fields) => gate.promise.then(() => echo(argv, fields));
  const { emulator, guest } = await served(t, decide, { parallel: 3 });
  const outputs = printAll(guest, ['1', '2', '3', '4', '5']);
  await eventually(() => emulator.requests.length === 3);
  await waits(guest, 2);
  t.is(guest.broker.runningCalls, 3);
  gate.resolve();
  t.deepEqual(await outputs, ['1\n', '2\n', '3\n', '4\n', '5\n']);
  t.is(emulator.mostAtOnce, 3);
});

test('a long request to an emulator that reads once fails with the reason', async (t) => {
  const { port } = await FieldEmulator.singleRead(t);
  const guest = await startGuest(t, { peer: peerAt(port) });
  t.is((await guest.call('x'.repeat(950))).status, 0);
  await t.throwsAsync(guest.call('x'.repeat(1200)), {
    code: 'storage-unavailable',
    message: /hung up.*the request has 12\d\d bytes, too many for an emulator .* a single recv\(1024\)/,
  });
});

test('an attached emulator that sends unsolicited data is detached before a call can get it', async (t) => {
  const guest = await startGuest(t);
  const [ours, theirs] = duplexPair();
  guest.broker.emulators.attach(ours);
  theirs.write(REPLY);
  await eventually(() => guest.broker.emulators.attachedCount === 0);
  t.is(guest.changes.at(-1)?.reason?.code, 'storage-bad-reply');
  const more: Readonly<Record<string, string>> = { twice: REPLY, 'the beginning of more': '{"stdout":"for' };
  await attach(t, guest, (argv, fields) => {
    const rest = more[argv[1] ?? ''];
    return rest === undefined ? echo(argv, fields) : Buffer.from(REPLY + rest);
  });
  for (const what of Object.keys(more)) {
    t.is(await guest.print(what), 'own');
    t.is(await guest.print('next'), 'next\n', `behind ${what}`);
  }
});

test('streams that a service leaves open are reset; of too many, the oldest at once', async (t) => {
  const clock = new ManualClock();
  const opened: Duplex[] = [];
  const guest = await opening(
    t,
    () => {
      const [ours, theirs] = duplexPair();
      theirs.once('data', () => theirs.write(REPLY));
      opened.push(ours);
      return ours;
    },
    { clock },
  );
  for (let call = 0; call < 20; call += 1) await guest.call(String(call));
  const isLost = opened.map(({ destroyed }) => destroyed);
  const isExpected = opened.map((_, index) => index < 4);
  t.deepEqual(isLost, isExpected);
  clock.advance(5000);
  t.true(opened.every(({ destroyed }) => destroyed));
});

test('the name of the virtual machine is in each request, and only the configured one', async (t) => {
  const names: unknown[] = [];
  const decide: Decide = (argv, fields) => (names.push(fields['vm']), echo(argv, fields));
  await (await served(t, decide, { vm: 'node-7' })).guest.call('x');
  await text(wrapper(t, (await served(t, decide)).guest, '{"argv":["storcli64"],"vm":"forged"}\n'));
  t.deepEqual(names, ['node-7', undefined]);
});

test('an invalid or incomplete request is answered with the reason', async (t) => {
  const clock = new ManualClock();
  const guest = await startGuest(t, { clock });
  const late = wrapper(t, guest, '{"argv":[');
  await eventually(() => clock.pending > 0);
  clock.advance(10_000);
  t.regex(await text(late), /no complete storage request within 10 s/);
  for (const request of ['hello\n', '{"argv":["a"', `{"argv":["${'x'.repeat(1024 * 1024)}"]}\n`]) {
    t.regex(await text(wrapper(t, guest, request).end()), /"storage-bad-request"/, request.slice(0, 20));
  }
  const calls = guest.calls.map(({ argv }) => argv);
  t.deepEqual(calls, [[], [], [], []]);
});

test('calls beyond the limit are refused, until there is room again', async (t) => {
  const guest = await startGuest(t, { maxCalls: 2 });
  const outputs = printAll(guest, ['1', '2']);
  await waits(guest, 2);
  await t.throwsAsync(guest.call('3'), {
    code: 'storage-unavailable',
    message: /too many storage calls in progress \(max 2\)/,
  });
  await attach(t, guest);
  await outputs;
  t.is(await guest.print('4'), '4\n');
});

test('bytes buffered for all calls are bounded, and released', async (t) => {
  const big = { stdout: 'x'.repeat(100_000), stderr: '', status: 0 };
  const decide: Decide = (argv, fields) => (argv[1] === 'big' ? big : echo(argv, fields));
  const { guest } = await served(t, decide, { maxHeldBytes: 50_000 });
  const tooMany = { code: 'storage-unavailable', message: /too many bytes/ };
  for (let round = 0; round < 3; round += 1) {
    await t.throwsAsync(guest.call('big'), tooMany);
    t.is((await guest.print('x'.repeat(20_000))).length, 20_001);
  }
  await t.throwsAsync(guest.call('x'.repeat(60_000)), tooMany);
});

test('attached emulators beyond the limit are reset', async (t) => {
  const guest = await startGuest(t, { maxAttached: 1 });
  const [[first], [second]] = [duplexPair(), duplexPair()];
  guest.broker.emulators.attach(first);
  const failed = new Promise<unknown>((resolve) => second.once('error', resolve));
  guest.broker.emulators.attach(second);
  t.like(await failed, { code: 'too-many-streams' });
  t.is(guest.broker.emulators.attachedCount, 1);
});

function refused(code: string): Duplex {
  const stream = new Duplex({ read: () => undefined, write: () => undefined });
  setImmediate(() => stream.destroy(new VproxyError(code, 'so it is')));
  return stream;
}

for (const code of ['unknown-service', 'connect-refused', 'too-many-streams', 'no-session']) {
  test(`a call whose stream is refused with ${code} waits and is retried`, async (t) => {
    const clock = new ManualClock();
    const emulator = await FieldEmulator.readline(t);
    let opened = 0;
    const open = () => ((opened += 1) > 3 ? peerAt(emulator.port).open() : refused(code));
    const guest = await opening(t, open, { clock });
    const output = guest.print('patient');
    await eventually(() => opened === 1 && guest.broker.waitingCalls === 1);
    await eventually(() => (clock.advance(100), opened === 4));
    t.is(await output, 'patient\n');
    t.deepEqual(emulator.requests, ['patient']);
    t.like(guest.changes, [{ state: 'refused' }]);
    t.is(guest.changes.length, 1);
  });
}

/** Failures after which the emulator may have seen the request, or will not take another. */
const LOST: Readonly<Record<string, (code: string) => Duplex>> = {
  ...Object.fromEntries(
    ['connect-timeout', 'open-timeout', 'denied', 'peer-restarted', 'desync'].map((code) => [code, refused]),
  ),
  'no-session after the request was handed over'(code) {
    const [ours, theirs] = duplexPair();
    theirs.once('data', () => setImmediate(() => ours.destroy(new VproxyError(code, 'so it is'))));
    return ours;
  },
  'connect-refused after something came back'(code) {
    const [ours, theirs] = duplexPair();
    ours.once('data', () => ours.destroy(new VproxyError(code, 'so it is')));
    theirs.once('data', () => theirs.write('{"stdout":'));
    return ours;
  },
};

for (const [what, fail] of Object.entries(LOST)) {
  test(`a call whose stream ends with ${what} fails without a retry`, async (t) => {
    let opened = 0;
    const [code = ''] = what.split(' ');
    const guest = await opening(t, () => ((opened += 1), fail(code)));
    await t.throwsAsync(guest.call('x'), { code: 'storage-unavailable', message: new RegExp(`${code}: so it is$`) });
    t.is(opened, 1);
  });
}

test('if opening throws, the call waits or fails, depending on the code', async (t) => {
  let code = 'denied';
  const guest = await opening(t, () => {
    throw new VproxyError(code, 'no');
  });
  await t.throwsAsync(guest.call('x'), { code: 'denied' });
  for (code of ['no-session', 'shutdown']) {
    void guest.call(code).catch(() => undefined);
    guest.broker.emulators.wake();
    await eventually(() => guest.changes.at(-1)?.reason?.code === code);
  }
  await t.notThrowsAsync(waits(guest, 2));
});

test('closing the broker fails waiting and running calls', async (t) => {
  const { emulator, guest } = await served(t, () => new Promise(() => undefined));
  const calls = ['under way', 'waiting'].map((name) =>
    t.throwsAsync(guest.call(name), { code: 'storage-unavailable' }),
  );
  await eventually(() => emulator.requests.length === 1);
  await waits(guest, 1);
  await guest.broker.close();
  await Promise.all(calls);
  t.is(guest.broker.runningCalls, 0);
  await t.throwsAsync(guest.call('late'), { message: /no vproxy answers/ });
});
