/** The control server: what is asked of it over HTTP, and what is answered. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { ControlStatus } from '../../lib/control/routes/status.js';
import type { ChannelStatus, ForwardStatus, ServiceStatus } from '../../lib/proxy/status.js';
import { startControl } from '../helpers/control.js';
import { connectedProxies, TestProxy } from '../helpers/proxies.js';
import { temporaryFolder } from '../helpers/temp-folder.js';

test('the socket is its owner’s alone', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { path } = await startControl(t, proxy);
  t.is(statSync(path).mode & 0o777, 0o600);
});

test('status, channels, forwards and services say what there is', async (t) => {
  const incoming = ['echo:127.0.0.1:9'];
  const { a } = await connectedProxies(
    t,
    join(temporaryFolder(t), 'c'),
    { outgoing: ['ssh:127.0.0.1:0'] },
    { incoming },
  );
  const { ask } = await startControl(t, a.proxy);
  const status = (await ask('GET', '/v1/status')).body as ControlStatus;
  t.like(status, { process: { name: 'host1', pid: process.pid, logLevel: 'info' }, forwards: 1, streams: 0 });
  const channels = (await ask('GET', '/v1/channels')).body as ChannelStatus[];
  t.like(channels, [{ label: 'default', state: 'established', session: { peer: { name: 'b' } } }]);
  t.like((await ask('GET', '/v1/channels/default')).body, { label: 'default' });
  const forwards = (await ask('GET', '/v1/forwards')).body as ForwardStatus[];
  t.like(forwards, [{ id: 'f1', service: 'ssh', endpoint: `127.0.0.1:${a.port('ssh')}` }]);
  const services = (await ask('GET', '/v1/services')).body as ServiceStatus[];
  t.like(services, [{ service: 'echo', offeredBy: 'peer' }]);
});

test('a forward is added and removed while the proxy runs', async (t) => {
  const { a } = await connectedProxies(t, join(temporaryFolder(t), 'c'), {}, {});
  const { ask } = await startControl(t, a.proxy);
  const added = await ask('POST', '/v1/forwards', { body: { direction: 'outgoing', spec: 'ssh:127.0.0.1:0' } });
  t.is(added.status, 201);
  t.like(added.body, { id: 'f1', service: 'ssh', state: 'active' });
  t.is((await ask('DELETE', '/v1/forwards/f1')).status, 204);
  t.deepEqual((await ask('GET', '/v1/forwards')).body, []);
  t.is((await ask('DELETE', '/v1/forwards/f1')).status, 404);
});

test('a channel is added with its forwards, and removed', async (t) => {
  const folder = temporaryFolder(t);
  const { proxy } = new TestProxy(t, `unix-listen:${join(folder, 'c')}`);
  const { ask } = await startControl(t, proxy);
  const address = `unix-connect:${join(folder, 'd')}`;
  const body = { address, label: 'vm1', outgoing: ['ssh:127.0.0.1:0'], deadAfterS: 0, waitS: 0.5 };
  const added = await ask('POST', '/v1/channels', { body });
  t.is(added.status, 201);
  t.like(added.body, { label: 'vm1', address });
  const options = proxy.options.find(({ label }) => label === 'vm1');
  t.like(options, { deadAfterMs: null, waitMs: 500 });
  t.is((await ask('DELETE', '/v1/channels/vm1?mode=now')).status, 204);
  t.is((await ask('GET', '/v1/channels/vm1')).status, 404);
});
