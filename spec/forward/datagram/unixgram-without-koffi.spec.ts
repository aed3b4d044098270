/** Unix sockets of datagrams where the optional package koffi is missing; a file of its own, as a process loads it once. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import { loadKoffiBy } from '../../../lib/system/libc.js';
import { temporaryFolder } from '../../helpers/files.js';
import { TestProxy } from '../../helpers/proxies.js';

loadKoffiBy(() => Promise.reject(new Error("Cannot find package 'koffi'")));

test('either direction is refused with one line that says what to install, and all else goes on', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'log');
  const proxy = new TestProxy(t, `unix-listen:${join(folder, 'channel')}`, { outgoing: ['x:udp:0'] });
  await proxy.start();
  for (const direction of ['outgoing', 'incoming'] as const) {
    await t.throwsAsync(proxy.proxy.addForward(parseForwardSpec(direction, `syslog:unixgram:${path}`)), {
      code: 'address-unavailable',
      message: `unixgram:${path} needs the optional package koffi, which cannot be loaded (npm install koffi)`,
    });
  }
  t.false(existsSync(path));
  t.deepEqual(
    proxy.proxy.listForwards().map(({ service }) => service),
    ['x'],
  );
});

for (const direction of ['outgoing', 'incoming'] as const) {
  test(`a proxy that is to have one that is ${direction} does not start`, async (t) => {
    const folder = temporaryFolder(t);
    const proxy = new TestProxy(t, `unix-listen:${join(folder, 'channel')}`, {
      [direction]: [`syslog:unixgram:${join(folder, 'log')}`],
    });
    await t.throwsAsync(proxy.start(), { code: 'address-unavailable', message: /npm install koffi/ });
  });
}
