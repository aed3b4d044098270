/** The real program and a second implementation of docs/protocol.md, written from that document alone, on one channel. */
import type net from 'node:net';
import { sha256 } from '../helpers/files.js';
import { failureOf, localServer, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { checkFixtures } from './python-peer.js';
import { connectTo, MIB, pair, transferring, withPython } from './setup.js';

withPython('the recorded frames mean the same to both implementations', async (t) => {
  t.is(await checkFixtures(), '45 frames, 0 wrong\n');
});

for (const [name, parity, integrity, options, wants = []] of [
  ['the real program listens', 'odd', 'frame', {}],
  ['the real program connects', 'even', 'frame', { listens: 'peer' }],
  ['both ask for full', 'odd', 'full', { channelOptions: ',integrity=full' }, ['--integrity', 'full']],
] as const) {
  withPython(`2 MiB each way, to a service of either side, and half-close: ${name}`, async (t) => {
    const { peer, transfer } = await transferring(t, 2 * MIB, { ...options, peer: ['--parity', parity, ...wants] });
    const established = await peer.next('established');
    t.deepEqual([established.parity, established.integrity], [parity, integrity]);
    t.deepEqual((await peer.next('services')).services, ['target']);
    await transfer();
    t.true(peer.isUndisturbed);
  });
}

withPython('a reset arrives with its code, both ways; after a stop the other direction continues', async (t) => {
  const atTarget: net.Socket[] = [];
  const server = await localServer(t, (socket) => void atTarget.push(socket));
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'reset:0', '-o', 'mute:0', '-i', `target:${server.port}`],
    peer: ['--service', 'reset=reset', '--service', 'mute=mute'],
  });
  await peer.next('established');

  const reset = await connectTo(t, vproxy, 'reset');
  reset.write('x');
  t.is((await failureOf(reset)).code, 'ECONNRESET');
  await vproxy.waitForLine(/ to reset was reset: .*\(cancelled\)/);

  const mute = await connectTo(t, vproxy, 'mute');
  const { key } = await peer.next('opened', { service: 'mute' });
  mute.resetAndDestroy();
  t.is((await peer.next('stream-ended', { key: key as string })).code, 'local-error');

  peer.do('open', { key: 'a', service: 'target' });
  await peer.next('accepted', { key: 'a' });
  const first = await eventually(() => atTarget[0], { what: 'the connection at the target' });
  peer.do('reset', { key: 'a', code: 'cancelled' });
  t.is((await failureOf(first)).code, 'ECONNRESET');

  peer.do('open', { key: 'b', service: 'target' });
  await peer.next('accepted', { key: 'b' });
  const second = await eventually(() => atTarget[1], { what: 'the second connection at the target' });
  const got = readToEnd(second);
  peer.do('stop', { key: 'b' });
  t.is((await peer.next('fin', { key: 'b' })).received, 0);
  peer.do('send', { key: 'b', count: MIB });
  peer.do('fin', { key: 'b' });
  t.is((await peer.next('stream-ended', { key: 'b' })).sentHash, sha256(await got));
});
