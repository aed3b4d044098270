/** Happy Eyeballs: the order and times of the attempts, the winner, and the cleanup of the others. */
import { once } from 'node:events';
import net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { connectToFirst, interleaveFamilies, type RaceWinner } from '../../../lib/system/sockets/race.js';
import { systemClock } from '../../../lib/util/clock.js';
import { localServer } from '../../helpers/proxies.js';
import { ManualClock } from '../../helpers/time.js';

/** A race of sockets that do what the spec says. */
class Race {
  readonly clock = new ManualClock();
  readonly sockets = new Map<string, net.Socket>();
  readonly controller = new AbortController();
  readonly result: Promise<RaceWinner>;

  constructor(addresses: readonly string[]) {
    const { clock, sockets } = this;
    const connect = (address: string): net.Socket => {
      const socket = new net.Socket();
      sockets.set(address, socket);
      return socket;
    };
    this.result = connectToFirst(addresses, 443, { clock, connect, signal: this.controller.signal });
    this.result.catch(() => undefined);
  }

  /** The addresses tried so far. */
  get tried(): string[] {
    return [...this.sockets.keys()];
  }

  socket(address: string): net.Socket {
    return this.sockets.get(address) ?? new net.Socket();
  }

  fail(address: string, code: string): void {
    this.socket(address).destroy(Object.assign(new Error(`connect ${code} ${address}`), { code }));
  }

  /** The addresses whose sockets are still open. */
  get open(): string[] {
    return this.tried.filter((address) => !this.socket(address).destroyed);
  }
}

test('address families alternate, starting with that of the first address', (t) => {
  const order = (text: string): string => interleaveFamilies(text.split(' ')).join(' ');
  t.deepEqual(interleaveFamilies([]), []);
  t.is(order('1.1.1.1'), '1.1.1.1');
  t.is(order('::1 ::2 1.1.1.1 2.2.2.2'), '::1 1.1.1.1 ::2 2.2.2.2');
  t.is(order('1.1.1.1 2.2.2.2 3.3.3.3 ::1'), '1.1.1.1 ::1 2.2.2.2 3.3.3.3');
  t.is(order('1.1.1.1 ::1 ::2 ::3'), '1.1.1.1 ::1 ::2 ::3');
});

test('the next address is tried after 250 ms, and the first to connect wins; the others are destroyed', async (t) => {
  const race = new Race(['::1', '::2', '1.1.1.1']);
  t.deepEqual(race.tried, ['::1']);
  race.clock.advance(249);
  t.deepEqual(race.tried, ['::1']);
  race.clock.advance(1);
  t.deepEqual(race.tried, ['::1', '1.1.1.1']);
  race.socket('1.1.1.1').emit('connect');
  const { address, socket } = await race.result;
  t.is(address, '1.1.1.1');
  t.is(socket, race.socket('1.1.1.1'));
  t.true(socket.isPaused());
  t.deepEqual(race.open, ['1.1.1.1']);
  t.is(race.clock.pending, 0);
  race.clock.advance(1000);
  t.is(race.sockets.size, 2, 'nothing more is tried');
  t.is(socket.listenerCount('error'), 0, 'the socket is the caller’s');
});

test('an address tried earlier may still win while others run', async (t) => {
  const race = new Race(['::1', '1.1.1.1']);
  race.clock.advance(250);
  race.socket('::1').emit('connect');
  t.deepEqual([(await race.result).address, ...race.open], ['::1', '::1']);
});

test('the next address is tried at once when one fails, and the delay of the one after it starts again', async (t) => {
  const race = new Race(['1.1.1.1', '2.2.2.2', '3.3.3.3']);
  race.clock.advance(200);
  race.fail('1.1.1.1', 'ENETUNREACH');
  await setImmediate();
  t.deepEqual(race.tried, ['1.1.1.1', '2.2.2.2']);
  race.clock.advance(249);
  t.is(race.sockets.size, 2);
  race.clock.advance(1);
  t.is(race.sockets.size, 3);
  race.socket('3.3.3.3').emit('connect');
  t.is((await race.result).address, '3.3.3.3');
});

test('when all have failed, the system errors are reported in order', async (t) => {
  const race = new Race(['1.1.1.1', '2.2.2.2']);
  race.clock.advance(250);
  race.fail('2.2.2.2', 'ECONNREFUSED');
  await setImmediate();
  race.fail('1.1.1.1', 'EHOSTUNREACH');
  const error = await t.throwsAsync(race.result, { instanceOf: AggregateError });
  const codes = error.errors.map(({ code }: NodeJS.ErrnoException) => code);
  t.deepEqual(codes, ['ECONNREFUSED', 'EHOSTUNREACH']);
  t.is(race.clock.pending, 0);
});

test('four are tried at once: a fifth replaces the oldest, which counts as timed out', async (t) => {
  const addresses = Array.from({ length: 6 }, (_, index) => `1.1.1.${index + 1}`);
  const race = new Race(addresses);
  race.clock.advance(750);
  t.deepEqual(race.open, addresses.slice(0, 4));
  race.clock.advance(250);
  t.deepEqual(race.open, addresses.slice(1, 5));
  race.clock.advance(10_000);
  t.deepEqual(race.open, addresses.slice(2));
  for (const address of race.open) race.fail(address, 'ECONNREFUSED');
  const error = await t.throwsAsync(race.result, { instanceOf: AggregateError });
  t.is(error.errors.filter(({ code }: NodeJS.ErrnoException) => code === 'ETIMEDOUT').length, 2);
  t.is(error.errors.length, 6);
});

test('an abort destroys everything, and rejects with its reason', async (t) => {
  const race = new Race(['1.1.1.1', '2.2.2.2', '3.3.3.3']);
  race.clock.advance(250);
  const reason = new Error('enough');
  race.controller.abort(reason);
  t.is(await t.throwsAsync(race.result), reason);
  t.deepEqual(race.open, []);
  t.is(race.clock.pending, 0);
  race.clock.advance(1000);
  t.is(race.sockets.size, 2);
});

test('nothing is tried after an abort', async (t) => {
  const signal = AbortSignal.abort(new Error('enough'));
  const connect = (): net.Socket => t.fail();
  await t.throwsAsync(connectToFirst(['1.1.1.1'], 443, { clock: systemClock, signal, connect }), { message: 'enough' });
});

for (const host of ['127.0.0.1', '::1']) {
  test(`a real socket to ${host} is paused, and reads nothing before it is resumed`, async (t) => {
    const { port } = await localServer(t, (socket) => socket.end('hello'), { host, port: 0 });
    const { signal } = new AbortController();
    const { socket, address } = await connectToFirst([host], port, { clock: systemClock, signal });
    t.teardown(() => socket.destroy());
    t.deepEqual([address, socket.remoteAddress, socket.remotePort], [host, host, port]);
    t.deepEqual([socket.isPaused(), socket.allowHalfOpen, socket.bytesRead], [true, true, 0]);
    t.is(String((await once(socket.resume(), 'data'))[0]), 'hello');
  });
}
