/** Storage calls through two whole proxies, over a real session. */
import { createConnection } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import type { StorageReply } from '../../lib/storage/wire.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, type TestProxy } from '../helpers/proxies.js';
import {
  type Decide,
  echo,
  type FieldEmulator,
  startDialingEmulator,
  startReadlineEmulator,
  startSingleReadEmulator,
} from '../helpers/storage-emulators.js';
import { until } from '../helpers/storage-setup.js';

interface Machines {
  readonly emulator: FieldEmulator;
  readonly host: TestProxy;
  readonly guest: TestProxy;
  readonly socketPath: string;
  readonly call: (...args: string[]) => Promise<StorageReply>;
}

async function connect(t: ExecutionContext, forwards: { outgoing?: string[]; incoming?: string[] }) {
  const folder = temporaryFolder(t);
  const socketPath = join(folder, 'storage.sock');
  const { a, b } = await connectedProxies(t, join(folder, 'channel'), forwards, { storage: { socketPath } });
  const call = (...args: string[]) =>
    callStorage({ argv: ['/usr/sbin/storcli64', ...args], socketPaths: [socketPath], timeoutMs: 20_000 });
  return { host: a, guest: b, socketPath, call };
}

const listening =
  (start: (t: ExecutionContext, decide: Decide) => Promise<FieldEmulator>) =>
  async (t: ExecutionContext, decide: Decide): Promise<Machines> => {
    const emulator = await start(t, decide);
    return { emulator, ...(await connect(t, { incoming: [`storage:127.0.0.1:${emulator.port}`] })) };
  };

const KINDS = {
  'an emulator that reads once and keeps its connection': listening(startSingleReadEmulator),
  'an emulator that reads a line and closes': listening(startReadlineEmulator),
  'an emulator that dials': async (t: ExecutionContext, decide: Decide): Promise<Machines> => {
    const machines = await connect(t, { outgoing: ['storage:127.0.0.1:0'] });
    return { emulator: startDialingEmulator(t, machines.host.port('storage'), decide), ...machines };
  },
};

for (const [kind, start] of Object.entries(KINDS)) {
  test(`${kind}: 50 calls at once get each its own reply over one channel`, async (t) => {
    const { emulator, call } = await start(t, echo);
    const numbers = Array.from({ length: 50 }, (_, index) => String(index));
    const replies = await Promise.all(numbers.map((number) => call(number)));
    t.deepEqual(
      replies.map(({ stdout }) => stdout.toString()),
      numbers.map((number) => `${number}\n`),
    );
    t.is(emulator.requests.length, 50);
    t.is(emulator.mostAtOnce, 1);
  });

  test(`${kind}: over a channel, one that dies fails its call only, and sees no request twice`, async (t) => {
    const { emulator, call } = await start(t, (argv, fields) => (argv[1] === 'die' ? 'die' : echo(argv, fields)));
    const [one, die, two] = await Promise.allSettled([call('one'), call('die'), call('two')]);
    t.deepEqual([one.status, two.status], ['fulfilled', 'fulfilled']);
    t.is(((die as PromiseRejectedResult).reason as VproxyError).code, 'storage-unavailable');
    t.deepEqual([...emulator.requests].sort(), ['die', 'one', 'two']);
  });

  test(`${kind}: over a channel, a wrapper that goes in its call leaves its reply to nobody`, async (t) => {
    const held: (() => void)[] = [];
    const { emulator, guest, socketPath, call } = await start(t, async (argv, fields) => {
      if (argv[1] === 'slow') await new Promise<void>((resolve) => held.push(resolve));
      return echo(argv, fields);
    });
    const wrapper = createConnection(socketPath);
    wrapper.write('{"argv":["storcli64","slow"]}\n');
    await until(() => held.length === 1);
    const ended = guest.event('storage-call');
    wrapper.destroy();
    t.is((await ended).fields['code'], 'cancelled');
    held[0]?.();
    t.is((await call('next')).stdout.toString(), 'next\n');
    t.deepEqual(emulator.requests, ['slow', 'next']);
  });
}

test('a call waits for an emulator that does not listen yet', async (t) => {
  const early = await startReadlineEmulator(t);
  const { port } = early;
  early.stop();
  const { guest, call } = await connect(t, { incoming: [`storage:127.0.0.1:${port}`] });
  const reply = call('patient');
  await until(() => guest.events.some(({ event, fields }) => event === 'storage-emulator' && fields['code'] !== null));
  const late = await startReadlineEmulator(t, echo, port);
  t.is((await reply).stdout.toString(), 'patient\n');
  t.deepEqual(late.requests, ['patient']);
});

test('a large request and a large reply pass', async (t) => {
  const { call, guest } = await KINDS['an emulator that reads a line and closes'](t, (argv) => ({
    stdout: (argv[1] ?? '').repeat(20),
    stderr: '',
    status: 0,
  }));
  t.is((await call('x'.repeat(900_000))).stdout.length, 18_000_000);
  const { fields } = await guest.event('storage-call');
  t.true(Number(fields['replyBytes']) > 18_000_000);
  t.is(fields['code'], null);
});

test('a session that ends in a call fails that call, and the request is not sent again', async (t) => {
  const { emulator, host, call } = await KINDS['an emulator that reads a line and closes'](t, () => 'hang');
  const reply = call('lost');
  await until(() => emulator.requests.length === 1);
  await Promise.all([t.throwsAsync(reply, { code: 'storage-unavailable' }), host.proxy.stop()]);
  t.deepEqual(emulator.requests, ['lost']);
});
