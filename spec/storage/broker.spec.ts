/** The broker between wrappers and emulators of each kind. */
import { createConnection } from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { deferred } from '../../lib/util/concurrency.js';
import {
  type Decide,
  echo,
  startDialingEmulator,
  startReadlineEmulator,
  startSingleReadEmulator,
} from '../helpers/storage-emulators.js';
import { attachPort, outputsOf, peerAt, startGuest, until } from '../helpers/storage-setup.js';
import { ManualClock } from '../helpers/time.js';

/** Each kind of emulator, connected to a guest of its own. */
const KINDS = {
  'an emulator that reads once and keeps its connection': async (t, decide) => {
    const emulator = await startSingleReadEmulator(t, decide);
    return { emulator, guest: await startGuest(t, { peer: peerAt(emulator.port) }) };
  },
  'an emulator that reads a line and closes': async (t, decide) => {
    const emulator = await startReadlineEmulator(t, decide);
    return { emulator, guest: await startGuest(t, { peer: peerAt(emulator.port) }) };
  },
  'an emulator that dials': async (t, decide) => {
    const guest = await startGuest(t);
    return { emulator: startDialingEmulator(t, await attachPort(t, guest.broker), decide), guest };
  },
} satisfies Record<string, (t: import('ava').ExecutionContext, decide: Decide) => Promise<unknown>>;

for (const [kind, start] of Object.entries(KINDS)) {
  test(`${kind}: 50 calls at once get each its own reply, one at a time`, async (t) => {
    const { emulator, guest } = await start(t, echo);
    const numbers = Array.from({ length: 50 }, (_, index) => String(index));
    const outputs = await outputsOf(numbers.map((number) => guest.call('/c0', number)));
    t.deepEqual(
      outputs,
      numbers.map((number) => `/c0 ${number}\n`),
    );
    t.is(emulator.requests.length, 50);
    t.is(emulator.mostAtOnce, 1);
    t.is(guest.calls.length, 50);
    t.true(guest.calls.every(({ status, durationMs }) => status === 0 && durationMs >= 0));
  });

  test(`${kind}: one that dies in a call fails that call only, and sees no request twice`, async (t) => {
    const { emulator, guest } = await start(t, (argv, fields) => (argv[1] === 'die' ? 'die' : echo(argv, fields)));
    const calls = ['one', 'die', 'two'].map((name) => guest.call(name));
    const [one, die, two] = await Promise.allSettled(calls);
    t.is(one?.status, 'fulfilled');
    t.is(two?.status, 'fulfilled');
    const error = (die as PromiseRejectedResult).reason as VproxyError;
    t.is(error.code, 'storage-unavailable');
    t.regex(error.message, /^the storage emulator \((peer|attached 1)\) failed: /);
    t.deepEqual([...emulator.requests].sort(), ['die', 'one', 'two']);
    t.is((await guest.call('three')).stdout.toString(), 'three\n');
    t.is(guest.calls.find(({ argv }) => argv[1] === 'die')?.error?.code, 'storage-unavailable');
  });

  test(`${kind}: a wrapper that goes in its call leaves its reply to nobody`, async (t) => {
    const held = deferred();
    const { emulator, guest } = await start(t, async (argv, fields) => {
      if (argv[1] === 'slow') await held.promise;
      return echo(argv, fields);
    });
    const wrapper = createConnection(guest.path);
    wrapper.write('{"argv":["storcli64","slow"]}\n');
    await until(() => emulator.requests.length === 1);
    const next = guest.call('next');
    await until(() => guest.broker.waitingCalls === 1);
    wrapper.destroy();
    await until(() => guest.calls.length === 1);
    t.is(guest.calls[0]?.error?.code, 'cancelled');
    held.resolve();
    t.is((await next).stdout.toString(), 'next\n');
    t.deepEqual(emulator.requests, ['slow', 'next']);
  });
}

test('several attached emulators share the calls', async (t) => {
  const guest = await startGuest(t);
  const port = await attachPort(t, guest.broker);
  const gate = deferred();
  const decide: Decide = (argv, fields) => gate.promise.then(() => echo(argv, fields));
  const emulators = [startDialingEmulator(t, port, decide), startDialingEmulator(t, port, decide)];
  await until(() => guest.broker.emulators.attachedCount === 2);
  const calls = ['1', '2', '3'].map((name) => guest.call(name));
  await until(() => guest.broker.waitingCalls === 1 && emulators.every(({ requests }) => requests.length === 1));
  gate.resolve();
  t.deepEqual(await outputsOf(calls), ['1\n', '2\n', '3\n']);
});

test('while an emulator is attached the peer gets no call, and then it does', async (t) => {
  const listening = await startSingleReadEmulator(t);
  const guest = await startGuest(t, { peer: peerAt(listening.port) });
  const attached = startDialingEmulator(t, await attachPort(t, guest.broker));
  await until(() => guest.broker.emulators.attachedCount === 1);
  await guest.call('first');
  t.deepEqual([attached.requests, listening.requests], [['first'], []]);
  t.is(guest.calls[0]?.emulator, 'attached 1');
});

test('a call waits until an emulator is attached, also when its caller has closed its sending side', async (t) => {
  const guest = await startGuest(t);
  const wrapper = createConnection({ path: guest.path, allowHalfOpen: true });
  wrapper.end('{"argv":["storcli64","half"]}');
  await until(() => guest.broker.waitingCalls === 1);
  startDialingEmulator(t, await attachPort(t, guest.broker));
  t.is((JSON.parse(await text(wrapper)) as { stdout: string }).stdout, 'half\n');
});

test('a call waits until the service is offered and the broker is woken', async (t) => {
  const emulator = await startReadlineEmulator(t);
  let isOffered = false;
  const guest = await startGuest(t, { peer: { ...peerAt(emulator.port), isOffered: () => isOffered } });
  const call = guest.call('early');
  await until(() => guest.broker.waitingCalls === 1);
  isOffered = true;
  guest.broker.emulators.wake();
  t.is((await call).stdout.toString(), 'early\n');
});

test('a wrapper that hangs up while it waits has its call dropped, and nothing is sent', async (t) => {
  const guest = await startGuest(t);
  const wrapper = createConnection(guest.path);
  wrapper.write('{"argv":["storcli64","dropped"]}\n');
  await until(() => guest.broker.waitingCalls === 1);
  wrapper.destroy();
  await until(() => guest.broker.waitingCalls === 0);
  const emulator = startDialingEmulator(t, await attachPort(t, guest.broker));
  await guest.call('kept');
  t.deepEqual(emulator.requests, ['kept']);
  t.deepEqual(
    guest.calls.map(({ error }) => error?.code),
    ['cancelled', undefined],
  );
});

test('a caller that closed its sending side and goes later is noticed', async (t) => {
  const clock = new ManualClock();
  const guest = await startGuest(t, { clock });
  const wrapper = createConnection({ path: guest.path, allowHalfOpen: true });
  wrapper.end('{"argv":["storcli64","half"]}');
  // The probe that found it alive.
  await new Promise((resolve) => wrapper.once('data', resolve));
  t.is(guest.broker.waitingCalls, 1);
  wrapper.destroy();
  await until(() => {
    clock.advance(1000);
    return guest.broker.waitingCalls === 0;
  });
  t.is(guest.calls[0]?.error?.code, 'cancelled');
});

test('a parallel service gets so many calls at once', async (t) => {
  const gate = deferred();
  const emulator = await startReadlineEmulator(t, (argv, fields) => gate.promise.then(() => echo(argv, fields)));
  const guest = await startGuest(t, { peer: peerAt(emulator.port), parallel: 3 });
  const calls = ['1', '2', '3', '4', '5'].map((name) => guest.call(name));
  await until(() => emulator.requests.length === 3 && guest.broker.waitingCalls === 2);
  t.is(guest.broker.runningCalls, 3);
  gate.resolve();
  t.deepEqual(await outputsOf(calls), ['1\n', '2\n', '3\n', '4\n', '5\n']);
  t.is(emulator.mostAtOnce, 3);
});

test('a long request to an emulator that reads once fails and says why', async (t) => {
  const emulator = await startSingleReadEmulator(t);
  const guest = await startGuest(t, { peer: peerAt(emulator.port) });
  t.is((await guest.call('x'.repeat(950))).status, 0);
  const error = await t.throwsAsync(guest.call('x'.repeat(1200)), { code: 'storage-unavailable' });
  t.regex(error.message, /hung up.*the request has 12\d\d bytes, and an emulator .* one recv\(1024\) cannot take it/);
});

test('a reply that is none fails its call as such, and the next call works', async (t) => {
  const bad: Record<string, string> = { text: 'hello\n', status: '{"stdout":"","stderr":"","status":"x"}\n' };
  const emulator = await startReadlineEmulator(t, (argv, fields) => {
    const reply = bad[argv[1] ?? ''];
    return reply === undefined ? echo(argv, fields) : Buffer.from(reply);
  });
  const guest = await startGuest(t, { peer: peerAt(emulator.port) });
  await t.throwsAsync(guest.call('text'), { code: 'storage-bad-reply', message: /is no JSON object: "hello"/ });
  await t.throwsAsync(guest.call('status'), { code: 'storage-bad-reply', message: /"status"/ });
  t.is((await guest.call('good')).stdout.toString(), 'good\n');
});

test('an attached emulator that sends what nobody asked for is let go before a call can take it', async (t) => {
  const guest = await startGuest(t);
  const reply = '{"stdout":"forged","stderr":"","status":0}\n';
  const [ours, theirs] = duplexPair();
  guest.broker.emulators.attach(ours);
  theirs.write(reply);
  await until(() => guest.broker.emulators.attachedCount === 0);
  t.is(guest.changes.at(-1)?.reason?.code, 'storage-bad-reply');
  const port = await attachPort(t, guest.broker);
  startDialingEmulator(t, port, (argv, fields) =>
    argv[1] === 'twice' ? Buffer.from(`{"stdout":"own","stderr":"","status":0}${reply}`) : echo(argv, fields),
  );
  t.is((await guest.call('twice')).stdout.toString(), 'own');
  t.is((await guest.call('next')).stdout.toString(), 'next\n');
});

test('the beginning of something unasked after a reply is not taken for the beginning of the next', async (t) => {
  const guest = await startGuest(t);
  startDialingEmulator(t, await attachPort(t, guest.broker), (argv, fields) =>
    argv[1] === 'more' ? Buffer.from('{"stdout":"own","stderr":"","status":0}\n{"stdout":"for') : echo(argv, fields),
  );
  t.is((await guest.call('more')).stdout.toString(), 'own');
  t.is((await guest.call('next')).stdout.toString(), 'next\n');
});

test('a service that leaves its streams open has them reset, and of many the oldest at once', async (t) => {
  const clock = new ManualClock();
  const opened: Duplex[] = [];
  const open = (): Duplex => {
    const [ours, theirs] = duplexPair();
    theirs.once('data', () => theirs.write('{"stdout":"","stderr":"","status":0}\n'));
    opened.push(ours);
    return ours;
  };
  const guest = await startGuest(t, { clock, peer: { isOffered: () => true, open } });
  for (let call = 0; call < 20; call += 1) await guest.call(String(call));
  t.deepEqual(
    opened.map(({ destroyed }) => destroyed),
    opened.map((_, index) => index < 4),
  );
  clock.advance(5000);
  t.true(opened.every(({ destroyed }) => destroyed));
});

test('the name of the virtual machine is in each request, and only the configured one', async (t) => {
  const names: unknown[] = [];
  const emulator = await startReadlineEmulator(t, (argv, fields) => {
    names.push(fields['vm']);
    return echo(argv, fields);
  });
  const named = await startGuest(t, { peer: peerAt(emulator.port), vm: 'node-7' });
  const unnamed = await startGuest(t, { peer: peerAt(emulator.port) });
  await named.call('x');
  const wrapper = createConnection(unnamed.path);
  wrapper.write('{"argv":["storcli64"],"vm":"forged"}\n');
  await text(wrapper);
  t.deepEqual(names, ['node-7', undefined]);
});

test('a request that is none is told so', async (t) => {
  const guest = await startGuest(t);
  const ask = async (request: string): Promise<string> => {
    const wrapper = createConnection({ path: guest.path, allowHalfOpen: true });
    wrapper.end(request);
    const answer = JSON.parse(await text(wrapper)) as { error: { code: string } };
    return answer.error.code;
  };
  t.is(await ask('hello\n'), 'storage-bad-request');
  t.is(await ask('{"argv":["a"'), 'storage-bad-request');
  t.is(await ask(`{"argv":["${'x'.repeat(1024 * 1024)}"]}\n`), 'storage-bad-request');
  t.deepEqual(
    guest.calls.map(({ argv }) => argv),
    [[], [], []],
  );
});

test('a wrapper that never completes its request is told so in time', async (t) => {
  const clock = new ManualClock();
  const guest = await startGuest(t, { clock });
  const wrapper = createConnection(guest.path);
  wrapper.write('{"argv":[');
  await until(() => clock.pending > 0);
  clock.advance(10_000);
  t.regex(await text(wrapper), /not complete in time/);
});

test('more calls than the bound are refused, and room comes back', async (t) => {
  const guest = await startGuest(t, { maxCalls: 2 });
  const [first, second] = [guest.call('1'), guest.call('2')];
  await until(() => guest.broker.waitingCalls === 2);
  await t.throwsAsync(guest.call('3'), { code: 'storage-unavailable', message: /2 storage calls are under way/ });
  startDialingEmulator(t, await attachPort(t, guest.broker));
  await Promise.all([first, second]);
  t.is((await guest.call('4')).status, 0);
});

test('bytes held for all calls together are bounded, and given back', async (t) => {
  const emulator = await startReadlineEmulator(t, (argv, fields) =>
    argv[1] === 'big' ? { stdout: 'x'.repeat(100_000), stderr: '', status: 0 } : echo(argv, fields),
  );
  const guest = await startGuest(t, { peer: peerAt(emulator.port), maxHeldBytes: 50_000 });
  for (let round = 0; round < 3; round += 1) {
    await t.throwsAsync(guest.call('big'), { code: 'storage-unavailable', message: /too many bytes/ });
    t.is((await guest.call('x'.repeat(20_000))).stdout.length, 20_001);
  }
  await t.throwsAsync(guest.call('x'.repeat(60_000)), { code: 'storage-unavailable', message: /too many bytes/ });
});

test('more attached emulators than the bound are reset', async (t) => {
  const guest = await startGuest(t, { maxAttached: 1 });
  guest.broker.emulators.attach(duplexPair()[0]);
  const [ours] = duplexPair();
  const failed = new Promise<unknown>((resolve) => ours.once('error', resolve));
  guest.broker.emulators.attach(ours);
  t.like(await failed, { code: 'too-many-streams' });
  t.is(guest.broker.emulators.attachedCount, 1);
});

for (const code of ['unknown-service', 'connect-refused', 'too-many-streams', 'no-session']) {
  test(`a call whose opening ends with ${code} waits and is tried again`, async (t) => {
    const clock = new ManualClock();
    const emulator = await startReadlineEmulator(t);
    let opened = 0;
    const open = (): Duplex => {
      opened += 1;
      return opened > 3 ? peerAt(emulator.port).open() : refused(code);
    };
    const guest = await startGuest(t, { clock, peer: { isOffered: () => true, open } });
    const call = guest.call('patient');
    await until(() => opened === 1 && guest.broker.waitingCalls === 1);
    await until(() => {
      clock.advance(100);
      return opened === 4;
    });
    t.is((await call).stdout.toString(), 'patient\n');
    t.deepEqual(emulator.requests, ['patient']);
    t.deepEqual(
      guest.changes.map(({ state }) => state),
      ['refused'],
    );
  });
}

/** Streams that fail such that the emulator may have seen the request, or will not take another one. */
const LOST: Readonly<Record<string, (code: string) => Duplex>> = {
  'with connect-timeout': refused,
  'with open-timeout': refused,
  'with denied': refused,
  'with peer-restarted': refused,
  'with desync': refused,
  'with no-session after the request was handed over': (code) => {
    const [ours, theirs] = duplexPair();
    theirs.once('data', () => setImmediate(() => ours.destroy(new VproxyError(code, 'so it is'))));
    return ours;
  },
  'with connect-refused after something came back': (code) => {
    const [ours, theirs] = duplexPair();
    ours.once('data', () => ours.destroy(new VproxyError(code, 'so it is')));
    theirs.once('data', () => theirs.write('{"stdout":'));
    return ours;
  },
};

for (const [what, fail] of Object.entries(LOST)) {
  test(`a call whose stream ends ${what} fails, and is not tried again`, async (t) => {
    let opened = 0;
    const code = what.split(' ')[1] ?? '';
    const open = (): Duplex => {
      opened += 1;
      return fail(code);
    };
    const guest = await startGuest(t, { peer: { isOffered: () => true, open } });
    await t.throwsAsync(guest.call('x'), { code: 'storage-unavailable', message: new RegExp(`${code}: so it is$`) });
    t.is(opened, 1);
  });
}

test('an opening that throws makes the call wait or fail by its code', async (t) => {
  let code = 'denied';
  const open = (): Duplex => {
    throw new VproxyError(code, 'no');
  };
  const guest = await startGuest(t, { peer: { isOffered: () => true, open } });
  await t.throwsAsync(guest.call('x'), { code: 'denied' });
  for (code of ['no-session', 'shutdown']) {
    const seen = guest.changes.length;
    void guest.call(code).catch(() => undefined);
    guest.broker.emulators.wake();
    await until(() => guest.changes.length > seen);
    t.is(guest.changes.at(-1)?.reason?.code, code);
  }
  await until(() => guest.broker.waitingCalls === 2);
  t.pass();
});

test('closing the broker fails the calls that wait and those under way', async (t) => {
  const emulator = await startReadlineEmulator(t, () => 'hang');
  const guest = await startGuest(t, { peer: peerAt(emulator.port) });
  const calls = Promise.allSettled([guest.call('under way'), guest.call('waiting')]);
  await until(() => emulator.requests.length === 1 && guest.broker.waitingCalls === 1);
  await guest.broker.close();
  for (const call of await calls) {
    t.is(((call as PromiseRejectedResult).reason as VproxyError).code, 'storage-unavailable');
  }
  t.is(guest.broker.runningCalls, 0);
  await t.throwsAsync(guest.call('late'), { message: /no vproxy answers/ });
});

/** A stream that its peer refused. */
function refused(code: string): Duplex {
  const stream = new Duplex({ read: () => undefined, write: () => undefined });
  setImmediate(() => stream.destroy(new VproxyError(code, 'so it is')));
  return stream;
}
