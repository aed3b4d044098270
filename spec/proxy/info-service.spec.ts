/** Which peers may ask about this machine: by default hosts, else where the operator says so. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { toVproxyError } from '../../lib/errors.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { askBoot } from '../../lib/info/info-call.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, type ProxySetup, type TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const INCOMING = parseForwardSpec('incoming', 'info:127.0.0.1:9');

/** What a channel offers before it is opened. */
function offered(options: ChannelOptions): string[] {
  const proxy = new Proxy({ channels: [{ storage: { isAllowed: false }, ...options }], agent: 'vproxy test' });
  return proxy.listServices().map(({ service }) => service);
}

test('by default channels that lead to a host offer it, and no others', (t) => {
  const addresses = ['virtserial-open:org.vproxy.0', 'tty-open:/dev/ttyS1'];
  for (const address of addresses) t.deepEqual(offered({ address }), ['info'], address);
  const others = ['unix-listen:/x', 'unix-connect:/x', 'tcp-connect:127.0.0.1:1', 'vsock-connect:2:1', 'pipe-open:/x'];
  for (const address of others) t.deepEqual(offered({ address }), [], address);
});

test('it can be said for each channel', (t) => {
  t.deepEqual(offered({ address: 'virtserial-open:org.vproxy.0', info: false }), []);
  t.deepEqual(offered({ address: 'unix-listen:/x', info: true }), ['info']);
});

test('where nothing is said, an -i of that name is what is offered; with --info it is refused', (t) => {
  const address = 'virtserial-open:org.vproxy.0';
  t.notThrows(() => offered({ address, forwards: [INCOMING] }));
  t.throws(() => offered({ address, forwards: [INCOMING], info: true }), {
    code: 'bad-argument',
    message: /: service info is offered twice; --info offers it, and so does an -i$/,
  });
});

test('strangers are not told: such a channel needs a key', (t) => {
  t.throws(() => offered({ address: 'tcp-connect:192.0.2.1:7000', info: true }), {
    code: 'bad-argument',
    message: /--info: the peer could be anybody on the network; give both sides a --key FILE, or this one --insecure$/,
  });
});

async function setUp(t: ExecutionContext, here: ProxySetup) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const { a, b } = await connectedProxies(t, path, { label: 'vm1', ...here }, { label: 'host' });
  return { guest: a, host: b, own: { label: 'vm1', address: `unix-listen:${path}`, name: 'a' } };
}

/** How the peer of `proxy` answers: with the state of its boot, or with a code. */
async function ask({ proxy }: TestProxy): Promise<string> {
  try {
    const { systemd } = await askBoot(await proxy.openStream('info'), { clock: systemClock });
    return `told: ${typeof systemd}`;
  } catch (error) {
    const { code, message } = toVproxyError(error);
    return `${code}: ${message}`;
  }
}

test('a peer that is not told hears why that may be', async (t) => {
  const { host } = await setUp(t, {});
  t.is(
    await ask(host),
    'unknown-service: the peer tells nothing of its machine: it does not know this side as its host ' +
      '(vproxy --info there), or has --no-info, or is an older vproxy',
  );
});

test('a reload turns it on and off, and the session goes on', async (t) => {
  const { guest, host, own } = await setUp(t, {});
  t.deepEqual((await guest.proxy.apply([{ ...own, info: true }])).changedPolicies, ['vm1/info']);
  t.regex(await ask(host), /^told: /);
  await guest.proxy.apply([{ ...own, info: false }]);
  t.regex(await ask(host), /^unknown-service: /);
  t.is(guest.events.filter(({ event }) => event === 'session-established').length, 1);
});

test('a reload may put an -i in its place, and take it away again', async (t) => {
  const { guest, host, own } = await setUp(t, { info: true });
  await guest.proxy.apply([{ ...own, forwards: [INCOMING] }]);
  await eventually(() => host.proxy.listServices().some(({ service }) => service === 'info'), { what: 'the -i' });
  t.is(guest.proxy.listForwards()[0]?.service, 'info');
  await guest.proxy.apply([{ ...own, info: true }]);
  await eventually(async () => (await ask(host)).startsWith('told: '), { what: 'an answer' });
});

test('rules of services hold for it', async (t) => {
  const { host } = await setUp(t, { info: true, policies: { info: { isAllowed: false } } });
  t.is(await ask(host), 'denied: not allowed');
});

test('no question is left as a stream', async (t) => {
  const { guest, host } = await setUp(t, { info: true });
  t.regex(await ask(host), /^told: /);
  await eventually(() => guest.proxy.listStreams().length + host.proxy.listStreams().length === 0, {
    what: 'no stream',
  });
});
