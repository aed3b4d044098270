/** Copies over a channel: who may ask for them, where, and when they end. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { putFiles } from '../../lib/copy/copy-call.js';
import { CopyProgress } from '../../lib/copy/copy-progress.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, type TestProxy } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';

/** A guest with a folder `in`, and a host with a file. */
async function setUp(t: ExecutionContext, options: (inside: string) => Partial<ChannelOptions>) {
  const folder = temporaryFolder(t);
  const inside = join(folder, 'in');
  mkdirSync(inside);
  const file = join(folder, 'file');
  writeFileSync(file, 'hello');
  const path = join(folder, 'channel.sock');
  const { a, b } = await connectedProxies(t, path, { label: 'vm1', ...options(inside) }, { label: 'host' });
  return { folder, inside, file, guest: a, host: b, own: { label: 'vm1', address: `unix-listen:${path}`, name: 'a' } };
}

const put = ({ proxy }: TestProxy, file: string, target: string) =>
  putFiles([file], target, {
    open: () => proxy.connect('copy'),
    isResumed: false,
    hasTotals: false,
    progress: new CopyProgress(),
    warn: () => undefined,
  });

test('nobody may copy where nothing is said, also where commands are allowed', async (t) => {
  const { guest, host, file, inside } = await setUp(t, () => ({ exec: { commands: 'any' } }));
  await t.throwsAsync(put(host, file, `${inside}/`), { code: 'unknown-service' });
  await t.throwsAsync(put(guest, file, `${inside}/`), { code: 'unknown-service' });
});

test('the side that allows it takes files, into its folder and nowhere else, and by its rules', async (t) => {
  const { guest, host, own, file, inside, folder } = await setUp(t, (root) => ({ copy: { root } }));
  await put(host, file, `${inside}/`);
  t.is(readFileSync(join(inside, 'file'), 'utf8'), 'hello');
  await t.throwsAsync(put(host, file, join(folder, 'outside')), { message: /this path is not allowed/ });
  await t.throwsAsync(put(guest, file, `${inside}/`), { code: 'unknown-service' });

  const changes = await guest.proxy.apply([{ ...own, copy: { root: null } }]);
  t.deepEqual([changes.changedPolicies, changes.replacedChannels], [['vm1/copy'], []]);
  await put(host, file, join(folder, 'outside'));
  t.is(readFileSync(join(folder, 'outside'), 'utf8'), 'hello');

  await guest.proxy.apply([{ ...own, copy: { root: null }, policies: { copy: { channels: [] } } }]);
  await t.throwsAsync(put(host, file, join(folder, 'third')), { code: 'denied' });
  t.like((await guest.event('stream-denied')).fields, { service: 'copy', channel: 'vm1' });
  t.is(guest.proxy.channel('vm1').history.sessions, 1);
});

test('a copy ends with the proxy, and leaves nothing half under its name', async (t) => {
  const { guest, host, inside, folder } = await setUp(t, (root) => ({ copy: { root } }));
  const large = join(folder, 'large');
  writeFileSync(large, Buffer.alloc(64 * 2 ** 20, 'x'));
  const copied = put(host, large, `${inside}/`);
  copied.catch(() => undefined);
  await guest.event('copy-started');
  await within(3_000, 'the end', guest.proxy.stop());
  await t.throwsAsync(copied);
  t.false(readdirSync(inside).includes('large'));
});
