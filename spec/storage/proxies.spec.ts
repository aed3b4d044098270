/** Storage calls through whole proxies: one emulator for several machines, each call with the host's name for its machine. */
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { createStorageEmulator, type StorageEmulator } from '../../lib/storage/emulator.js';
import { temporaryFolder } from '../helpers/files.js';
import { firecracker } from '../helpers/hybrid-vsock.js';
import { answerTo, echo, localServer, localSocket, portOf, startProxy, type TestProxy } from '../helpers/proxies.js';
import { callsAt, FieldEmulator } from '../helpers/storage.js';
import { eventually, untilStill, within } from '../helpers/time.js';

const MACHINES = ['vm1', 'vm2'];

type Machine = { readonly guest: TestProxy } & ReturnType<typeof callsAt>;

/** A host with a channel for each machine, and the machines, whose brokers claim another name. */
class Setup {
  readonly folder: string;
  readonly machines = new Map<string, Machine>();
  readonly #t: ExecutionContext;
  host: Proxy | null = null;
  /** The listening addresses of outgoing forwards. */
  readonly ports = new Map<string, number>();

  constructor(t: ExecutionContext) {
    this.#t = t;
    this.folder = temporaryFolder(t);
  }

  /** Each channel has `forward`; `labels` are those of the channels. */
  async start(
    direction: 'outgoing' | 'incoming',
    forward: string,
    labels: readonly string[] = MACHINES,
  ): Promise<this> {
    const channels = labels.map((label) => ({
      label,
      address: `unix-listen:${join(this.folder, label)}`,
      forwards: [parseForwardSpec(direction, forward.replace('LABEL', label))],
    }));
    const host = new Proxy({ channels, agent: 'test' });
    this.host = host;
    host.on('log', ({ event, fields }) => {
      if (event === 'listening') this.ports.set(String(fields['channel']), portOf(String(fields['endpoint'])));
    });
    this.#t.teardown(() => host.stop());
    await host.start();
    for (const label of labels) {
      const socketPath = join(this.folder, `${label}.storage`);
      const address = `unix-connect:${join(this.folder, label)}`;
      const guest = await startProxy(this.#t, address, { name: 'a-liar', storage: { socketPath } });
      this.machines.set(label, { guest, ...callsAt(socketPath) });
    }
    await Promise.all(labels.map((label) => host.waitFor({ label }, 30_000)));
    return this;
  }

  machine(label = 'vm1'): Machine {
    return this.machines.get(label) as Machine;
  }

  connect(label = 'vm1', service = 'storage'): Promise<MuxStream> {
    return within(30_000, 'a stream', this.machine(label).guest.proxy.connect(service));
  }
}

const next = async (stream: MuxStream): Promise<string> =>
  String(((await within(30_000, 'an answer', once(stream, 'data'))) as [Buffer])[0]);

function labelling(t: ExecutionContext): StorageEmulator {
  const emulator = createStorageEmulator(({ argv, vm }) => ({ stdout: `${vm} ${argv.slice(1).join(' ')}` }));
  t.teardown(() => emulator.close());
  return emulator;
}

async function listening(t: ExecutionContext): Promise<number> {
  const address = await labelling(t).listen({ host: '127.0.0.1', port: 0 });
  return 'port' in address ? address.port : 0;
}

const KINDS: Readonly<Record<string, (t: ExecutionContext, setup: Setup) => Promise<unknown>>> = {
  'an emulator that listens': async (t, setup) => setup.start('incoming', `storage:${await listening(t)}`),
  async 'an emulator that dials'(t, setup) {
    await setup.start('outgoing', 'storage:0');
    const emulator = labelling(t);
    for (const port of setup.ports.values()) emulator.dial({ host: '127.0.0.1', port });
  },
  async 'an emulator that dials as with hybrid vsock'(t, setup) {
    await setup.start('outgoing', `*:vsock-mux:${setup.folder}/LABEL.vsock`);
    const port = await listening(t);
    for (const label of MACHINES) {
      const near = localSocket(t, join(setup.folder, `${label}.vsock`));
      t.regex(await answerTo(near, 'CONNECT storage\n'), /^OK \d+\n$/);
      near.pipe(localSocket(t, port)).pipe(near);
    }
  },
};

for (const [kind, start] of Object.entries(KINDS)) {
  test(`${kind} gets the machine's name from the host, not from the machine`, async (t) => {
    const setup = new Setup(t);
    await start(t, setup);
    const words = [...Array.from({ length: 20 }, (_, index) => String(index)), 'x'.repeat(900_000)];
    const calls = MACHINES.flatMap((label) => words.map((word) => ({ label, word })));
    const outputs = await Promise.all(calls.map(({ label, word }) => setup.machine(label).print(word)));
    for (const [index, { label, word }] of calls.entries())
      t.true(outputs[index] === `${label} ${word}`, `${label} ${word.slice(0, 9)}`);
  });
}

test('invalid requests never reach the emulator, and end only their stream', async (t) => {
  const heard: Buffer[] = [];
  const { port } = await localServer(t, (socket) => socket.on('data', (chunk: Buffer) => heard.push(chunk)));
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const [good, bad, cut] = [await setup.connect(), await setup.connect(), await setup.connect()];
  bad.write('{"argv":["x"],"vm":"vm2","x":NaN}\n');
  await t.throwsAsync(next(bad), { code: 'local-error', message: /storage request/ });
  cut.end('{"argv":["x"');
  await t.throwsAsync(within(30_000, 'the end', once(cut.resume(), 'end')), { code: 'local-error' }, 'cut off');
  good.write('{"argv":["x"]}\n');
  await eventually(() => heard.length > 0);
  t.is(Buffer.concat(heard).toString(), '{"argv":["x"],"vm":"vm1"}\n');
});

const LYING = '{"argv":["x"],"vm":"vm2"}\nno request';

for (const [what, forward, label, service, sent, got] of [
  [
    'for a process get the label too',
    'storage:exec:cat',
    'vm1',
    'storage',
    '{"argv":[""]}',
    '{"argv":[""],"vm":"vm1"}\n',
  ],
  ['on a channel without a label pass untouched', 'storage:PORT', 'default', 'storage', LYING, LYING],
  ['of another service pass untouched', 'echo:PORT', 'vm1', 'echo', LYING, LYING],
] as const) {
  test(`bytes ${what}`, async (t) => {
    const { port } = await localServer(t, echo);
    const setup = await new Setup(t).start('incoming', forward.replace('PORT', String(port)), [label]);
    const stream = await setup.connect(label, service);
    stream.end(sent);
    t.is(await next(stream), got);
  });
}

test('unread requests of a machine cause back-pressure', async (t) => {
  const { port } = await localServer(t, (socket) => void socket.pause());
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const stream = await setup.connect();
  const request = Buffer.from(`{"argv":["${'x'.repeat(10_000)}"]}\n`);
  let writtenBytes = 0;
  const write = (): void => {
    while (stream.write(request)) writtenBytes += request.length;
  };
  stream.on('drain', write);
  write();
  await untilStill(() => writtenBytes, { intervalMs: 500 });
  t.true(writtenBytes < 32 * 2 ** 20, `${writtenBytes}`);
  await t.notThrowsAsync(setup.connect('vm2'));
});

test('an emulator behind hybrid vsock gets the label, and the handshake line passes unchanged', async (t) => {
  const setup = new Setup(t);
  const path = join(setup.folder, 'emulator.vsock');
  const heard: Buffer[] = [];
  const requests = await firecracker(t, path, {
    50: (socket, early) => {
      heard.push(early);
      socket.on('data', (chunk: Buffer) => heard.push(chunk));
    },
  });
  await setup.start('incoming', `storage:vsock-mux:${path}:50`);
  (await setup.connect()).write('{"argv":["x"],"vm":"vm2"}\n');
  await eventually(() => Buffer.concat(heard).includes('\n'));
  t.is(requests[0]?.line, 'CONNECT 50\n');
  t.is(Buffer.concat(heard).toString(), '{"argv":["x"],"vm":"vm1"}\n');
});

test('a large reply passes, and its size is in the event; the end of a session fails its calls', async (t) => {
  const large = { stdout: 'x'.repeat(18_000_000), stderr: '', status: 0 };
  const { port, requests } = await FieldEmulator.readline(t, ([, word]) =>
    word === 'large' ? large : new Promise(() => undefined),
  );
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const { guest, call, print } = setup.machine();
  t.is((await print('large')).length, 18_000_000);
  const { fields } = await guest.event('storage-call');
  t.true(Number(fields['replyBytes']) > 18_000_000);
  t.is(fields['code'], null);
  const reply = call('lost');
  await eventually(() => requests.length === 2);
  await Promise.all([t.throwsAsync(reply, { code: 'storage-unavailable' }), setup.host?.stop()]);
  t.deepEqual(requests, ['large', 'lost'], 'it is not sent again');
});
