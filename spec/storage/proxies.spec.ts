/** Storage calls through whole proxies: one emulator for several machines, each call with the name that the host has for its machine. */
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { createStorageEmulator, type StorageEmulator } from '../../lib/storage/emulator.js';
import type { StorageReply } from '../../lib/storage/wire.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { temporaryFolder } from '../helpers/files.js';
import { firecracker } from '../helpers/hybrid-vsock.js';
import { echo, localServer, localSocket, TestProxy } from '../helpers/proxies.js';
import { startReadlineEmulator } from '../helpers/storage-emulators.js';
import { outputsOf } from '../helpers/storage-setup.js';
import { eventually, within } from '../helpers/time.js';

const MACHINES = ['vm1', 'vm2'];

interface Machine {
  readonly guest: TestProxy;
  readonly call: (...args: string[]) => Promise<StorageReply>;
}

/** A host with a channel for each machine, and the machines, whose brokers claim to be another one. */
class Setup {
  readonly folder: string;
  readonly machines = new Map<string, Machine>();
  readonly events: LogEvent[] = [];
  host: Proxy | null = null;
  readonly #t: ExecutionContext;

  constructor(t: ExecutionContext) {
    this.#t = t;
    this.folder = temporaryFolder(t);
  }

  /** Starts it all; `forward` is that of each channel, and `labels` the channels'. */
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
    host.on('log', (event) => this.events.push(event));
    this.#t.teardown(() => host.stop());
    await host.start();
    for (const label of labels) {
      const socketPath = join(this.folder, `${label}.storage`);
      const guest = new TestProxy(this.#t, `unix-connect:${join(this.folder, label)}`, {
        name: 'a-liar',
        storage: { socketPath },
      });
      await guest.start();
      const call = (...args: string[]) =>
        callStorage({ argv: ['/usr/sbin/storcli64', ...args], socketPaths: [socketPath], timeoutMs: 60_000 });
      this.machines.set(label, { guest, call });
    }
    await Promise.all(labels.map((label) => host.waitFor({ label }, 10_000)));
    return this;
  }

  /** Where an outgoing forward of a channel listens. */
  port(label: string): number {
    const found = this.events.find(({ event, fields }) => event === 'listening' && fields['channel'] === label);
    return Number(/:(\d+)$/.exec(String(found?.fields['endpoint']))?.[1]);
  }

  machine(label: string): Machine {
    return this.machines.get(label) as Machine;
  }

  /** A stream of a program in a machine, to a service of the host. */
  async connect(label: string, service = 'storage'): Promise<MuxStream> {
    return within(30_000, 'a stream', this.machine(label).guest.proxy.connect(service));
  }
}

/** An emulator that answers with the machine and the arguments. */
function emulator(t: ExecutionContext): StorageEmulator {
  const answering = createStorageEmulator(({ argv, vm }) => ({ stdout: `${vm} ${argv.slice(1).join(' ')}` }));
  t.teardown(() => answering.close());
  return answering;
}

const KINDS = {
  'an emulator that listens': async (t: ExecutionContext, setup: Setup): Promise<void> => {
    const address = await emulator(t).listen({ host: '127.0.0.1', port: 0 });
    await setup.start('incoming', `storage:${'port' in address ? address.port : 0}`);
  },
  'an emulator that dials': async (t: ExecutionContext, setup: Setup): Promise<void> => {
    await setup.start('outgoing', 'storage:0');
    const dialling = emulator(t);
    for (const label of MACHINES) dialling.dial({ host: '127.0.0.1', port: setup.port(label) });
  },
  'an emulator that dials as with hybrid vsock': async (t: ExecutionContext, setup: Setup): Promise<void> => {
    await setup.start('outgoing', `*:vsock-mux:${setup.folder}/LABEL.vsock`);
    const address = await emulator(t).listen({ host: '127.0.0.1', port: 0 });
    for (const label of MACHINES) {
      const near = localSocket(t, { path: join(setup.folder, `${label}.vsock`) });
      near.write('CONNECT storage\n');
      const [ok] = (await once(near, 'data')) as [Buffer];
      t.regex(ok.toString(), /^OK \d+\n$/);
      const far = localSocket(t, { host: '127.0.0.1', port: 'port' in address ? address.port : 0 });
      near.pipe(far).pipe(near);
    }
  },
};

for (const [kind, start] of Object.entries(KINDS)) {
  test(`${kind} hears from the host which machine calls, and not from the machine`, async (t) => {
    const setup = new Setup(t);
    await start(t, setup);
    const numbers = Array.from({ length: 20 }, (_, index) => String(index));
    const calls = MACHINES.flatMap((label) => numbers.map((number) => ({ label, number })));
    calls.push(...MACHINES.map((label) => ({ label, number: 'x'.repeat(900_000) })));
    const outputs = await outputsOf(calls.map(({ label, number }) => setup.machine(label).call(number)));
    for (const [index, { label, number }] of calls.entries())
      t.true(outputs[index] === `${label} ${number}`, number.slice(0, 9));
  });
}

test('what is no request never reaches the emulator, and ends that stream only', async (t) => {
  const heard: Buffer[] = [];
  const { port } = await localServer(t, (socket) => socket.on('data', (chunk: Buffer) => heard.push(chunk)));
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const [good, bad] = [await setup.connect('vm1'), await setup.connect('vm1')];
  bad.write('{"argv":["x"],"vm":"vm2","x":NaN}\n');
  await t.throwsAsync(within(30_000, 'the end', once(bad, 'data')), {
    code: 'local-error',
    message: /storage request/,
  });
  good.write('{"argv":["x"]}\n');
  await eventually(() => heard.length > 0);
  t.is(Buffer.concat(heard).toString(), '{"argv":["x"],"vm":"vm1"}\n');
});

test('a request that its end cuts off does not end in order', async (t) => {
  const { port } = await localServer(t, echo);
  const stream = await (await new Setup(t).start('incoming', `storage:${port}`)).connect('vm1');
  stream.end('{"argv":["x"');
  stream.resume();
  await t.throwsAsync(within(30_000, 'the end', once(stream, 'end')), { code: 'local-error' });
});

test('a process that serves storage calls gets the label too', async (t) => {
  const stream = await (await new Setup(t).start('incoming', 'storage:exec:cat')).connect('vm1');
  stream.end('{"argv":["x"]}');
  const [line] = (await within(30_000, 'a line', once(stream, 'data'))) as [Buffer];
  t.is(line.toString(), '{"argv":["x"],"vm":"vm1"}\n');
});

for (const [what, labels, service] of [
  ['on a channel without a label', ['default'], 'storage'],
  ['of another service', ['vm1'], 'echo'],
] as const) {
  test(`bytes ${what} pass untouched`, async (t) => {
    const { port } = await localServer(t, echo);
    const setup = await new Setup(t).start('incoming', `${service}:${port}`, labels);
    const stream = await setup.connect(labels[0], service);
    stream.end('{"argv":["x"],"vm":"vm2"}\nno request');
    const [bytes] = (await within(30_000, 'an answer', once(stream, 'data'))) as [Buffer];
    t.is(bytes.toString(), '{"argv":["x"],"vm":"vm2"}\nno request');
  });
}

test('a machine that sends requests that nobody reads is held up', async (t) => {
  // It does not read.
  const { port } = await localServer(t, (socket) => void socket.pause());
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const stream = await setup.connect('vm1');
  const request = Buffer.from(`{"argv":["${'x'.repeat(10_000)}"]}\n`);
  let writtenBytes = 0;
  const write = (): void => {
    while (stream.write(request)) writtenBytes += request.length;
  };
  stream.on('drain', write);
  write();
  let last = -1;
  await eventually(
    () => {
      const isStill = writtenBytes === last;
      last = writtenBytes;
      return isStill;
    },
    { intervalMs: 500 },
  );
  t.true(writtenBytes < 32 * 2 ** 20, `${writtenBytes}`);
  await t.notThrowsAsync(setup.connect('vm2'));
});

test('an emulator behind hybrid vsock gets the label, and the line of the handshake passes as it is', async (t) => {
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
  const stream = await setup.connect('vm1');
  stream.write('{"argv":["x"],"vm":"vm2"}\n');
  await eventually(() => Buffer.concat(heard).includes('\n'));
  t.is(requests[0]?.line, 'CONNECT 50\n');
  t.is(Buffer.concat(heard).toString(), '{"argv":["x"],"vm":"vm1"}\n');
});

test('a call waits for an emulator that does not listen yet', async (t) => {
  const early = await startReadlineEmulator(t);
  early.stop();
  const { guest, call } = (await new Setup(t).start('incoming', `storage:${early.port}`)).machine('vm1');
  const reply = call('patient');
  await eventually(() =>
    guest.events.some(({ event, fields }) => event === 'storage-emulator' && fields['code'] !== null),
  );
  const late = await startReadlineEmulator(t, undefined, early.port);
  t.is((await reply).stdout.toString(), 'patient\n');
  t.deepEqual(late.requests, ['patient']);
});

test('a large reply passes, and its size is in the event', async (t) => {
  const { port } = await startReadlineEmulator(t, () => ({ stdout: 'x'.repeat(18_000_000), stderr: '', status: 0 }));
  const { guest, call } = (await new Setup(t).start('incoming', `storage:${port}`)).machine('vm1');
  t.is((await call('x')).stdout.length, 18_000_000);
  const { fields } = await guest.event('storage-call');
  t.true(Number(fields['replyBytes']) > 18_000_000);
  t.is(fields['code'], null);
});

test('a session that ends in a call fails that call, and the request is not sent again', async (t) => {
  const { port, requests } = await startReadlineEmulator(t, () => 'hang');
  const setup = await new Setup(t).start('incoming', `storage:${port}`);
  const reply = setup.machine('vm1').call('lost');
  await eventually(() => requests.length === 1);
  await Promise.all([t.throwsAsync(reply, { code: 'storage-unavailable' }), setup.host?.stop()]);
  t.deepEqual(requests, ['lost']);
});
