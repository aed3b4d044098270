/** A forward whose address is taken: the error says by whom, and nothing has changed. */
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket } from '../helpers/proxies.js';

/** A program that connects to a forward and waits; it may be reset when the test ends. */
async function waitingProgram(t: ExecutionContext, port: number): Promise<void> {
  const socket = localSocket(t, { host: '127.0.0.1', port });
  await once(socket, 'connect');
  socket.on('error', () => undefined);
}

/** A proxy with channels of these labels, on which no peer answers, and a folder. */
async function running(t: ExecutionContext, ...labels: string[]) {
  const folder = temporaryFolder(t);
  const channels = labels.map((label) => ({ label, address: `unix-connect:${join(folder, label)}` }));
  const proxy = new Proxy({ channels, agent: 'test' });
  t.teardown(() => proxy.stop());
  await proxy.start();
  const add = (text: string, label?: string) => proxy.addForward(parseForwardSpec('outgoing', text), label);
  const portOf = async (text: string, label?: string) => Number(/\d+$/.exec((await add(text, label)).endpoint)?.[0]);
  return { proxy, folder, add, portOf };
}

test('a port that another forward has', async (t) => {
  const { proxy, add, portOf } = await running(t, 'vm1', 'vm2');
  const port = await portOf('ssh:0', 'vm1');
  const before = proxy.listForwards();
  await t.throwsAsync(add(`web:127.0.0.1:${port}`, 'vm2'), {
    instanceOf: VproxyError,
    code: 'address-in-use',
    message: `cannot listen on 127.0.0.1:${port}: it is taken by forward f1, -o vm1/ssh:127.0.0.1:0`,
  });
  // The unspecified address includes this one.
  await t.throwsAsync(add(`web:0.0.0.0:${port}`, 'vm2'), { message: /by forward f1, / });
  t.deepEqual(proxy.listForwards(), before);
  await t.notThrowsAsync(waitingProgram(t, port), 'nothing has changed');
  await proxy.removeForward('f1', { isDraining: false });
  await t.notThrowsAsync(add(`web:127.0.0.1:${port}`, 'vm2'));
});

test('a unix socket that another forward has', async (t) => {
  const { folder, add } = await running(t, 'default');
  const path = join(folder, 'ssh.sock');
  await add(`ssh:${path}`);
  await t.throwsAsync(add(`web:${path}`), {
    code: 'address-in-use',
    message: `cannot listen on ${path}: it is taken by forward f1, -o ssh:unix:${path}`,
  });
});

test('a port that somebody else has', async (t) => {
  const { proxy, folder, add } = await running(t, 'vm1');
  const { port } = await localServer(t, echo);
  await t.throwsAsync(add(`web:127.0.0.1:${port}`), {
    code: 'address-in-use',
    message: `cannot listen on 127.0.0.1:${port}: it is taken by this process`,
  });
  const path = join(folder, 'web.sock');
  await localServer(t, echo, { path });
  await t.throwsAsync(add(`web:${path}`), { message: `cannot listen on ${path}: it is taken by this process` });
  t.deepEqual(proxy.listForwards(), []);
});

for (const isDraining of [true, false]) {
  const how = isDraining ? 'drains' : 'was removed';
  test(`a forward that ${how} is not said to have the port that it had`, async (t) => {
    const { proxy, add, portOf } = await running(t, 'vm1', 'vm2');
    const port = await portOf('ssh:0', 'vm1');
    await waitingProgram(t, port);
    const removed = proxy.removeForward('f1', { isDraining });
    if (!isDraining) await removed;
    await localServer(t, echo, { host: '127.0.0.1', port });
    await t.throwsAsync(add(`web:127.0.0.1:${port}`, 'vm2'), { message: /it is taken by this process$/ });
    await proxy.removeChannel('vm1');
    await removed;
  });
}

test('two channels of one set that want the same port', async (t) => {
  const { proxy, folder, portOf } = await running(t, 'vm1');
  const port = await portOf('ssh:0');
  await proxy.removeForward('f1');
  const channels = ['vm2', 'vm3'].map((label) => ({
    label,
    address: `unix-connect:${join(folder, label)}`,
    forwards: [parseForwardSpec('outgoing', `ssh:${port}`)],
  }));
  await t.throwsAsync(proxy.apply(channels), { message: /by forward f\d+, -o vm2\/ssh:127\.0\.0\.1:\d+$/ });
  t.deepEqual(
    proxy.listChannels().map(({ label }) => label),
    ['vm1'],
  );
});
