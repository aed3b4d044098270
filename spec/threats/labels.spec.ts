/** T11: a guest cannot create series of metrics: codes of its own are counted together, whatever their number. */
import { join } from 'node:path';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';

test('T11: sessions that end with ever new codes of the peer are one series', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path}`);
  await host.start();
  const control = await startControl(t, host.proxy);
  const names = async (): Promise<string[]> => {
    const { text } = await control.ask('GET', '/metrics');
    return text.split('\n').flatMap((line) => /^[a-z_]+\{.*\}/.exec(line) ?? []);
  };
  for (let count = 0; count < 6; count += 1) {
    const since = host.events.length;
    const peer = await SocketPeer.established(path);
    peer.send(FRAME_TYPE.GOAWAY, 0, { code: `evil-${count}`, message: '', last: 0 });
    await host.event('session-ended', since);
    peer.close();
    const series = await names();
    t.false(
      series.some((name) => name.includes('evil')),
      series.join('\n'),
    );
    const ended = series.filter((name) => name.includes('code='));
    t.is(ended.length, 1);
  }
});
