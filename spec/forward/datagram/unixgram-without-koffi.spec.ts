/** Unix datagram sockets without the optional package koffi; a separate file, since a process loads it only once. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import { loadKoffiBy } from '../../../lib/system/libc.js';
import { temporaryFolder } from '../../helpers/files.js';
import { startProxy } from '../../helpers/proxies.js';

loadKoffiBy(() => Promise.reject(new Error("Cannot find package 'koffi'")));

test('either direction is refused with one line that tells what to install, and the rest continues; no proxy starts with it', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'log');
  const { proxy } = await startProxy(t, `unix-listen:${join(folder, 'channel')}`, { outgoing: ['x:udp:0'] });
  const expected = {
    code: 'address-unavailable',
    message: `unixgram:${path} needs the optional package koffi, which cannot be loaded (npm install koffi)`,
  };
  for (const direction of ['outgoing', 'incoming'] as const) {
    const spec = `syslog:unixgram:${path}`;
    await t.throwsAsync(proxy.addForward(parseForwardSpec(direction, spec)), expected);
    await t.throwsAsync(startProxy(t, `unix-listen:${join(folder, direction)}`, { [direction]: [spec] }), expected);
  }
  t.false(existsSync(path));
  t.is(proxy.listForwards().length, 1);
});
