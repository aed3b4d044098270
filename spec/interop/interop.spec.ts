/** The real program and a second implementation of docs/protocol.md, written from that document alone, on one channel. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { sha256 } from '../helpers/files.js';
import { failureOf, localServer, readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { checkFixtures } from './python-peer.js';
import { answering, connectTo, MIB, pair } from './setup.js';

const withPython = serialTestWith('python');

withPython('the recorded frames mean the same to both', async (t) => {
  t.is(await checkFixtures(), '45 frames, 0 wrong\n');
});

for (const { name, parity, integrity, mebibytes, ...options } of [
  { name: 'the real program listens', mebibytes: 2, listens: 'vproxy', parity: 'odd', integrity: 'frame' },
  { name: 'the real program connects', mebibytes: 2, listens: 'peer', parity: 'even', integrity: 'frame' },
  {
    name: 'both ask for full',
    mebibytes: 2,
    parity: 'odd',
    integrity: 'full',
    channelOptions: ',integrity=full',
    wants: ['--integrity', 'full'],
  },
] as const) {
  withPython(`${mebibytes} MiB each way, to a service of either side, and half-close: ${name}`, async (t) => {
    const [there, back] = [randomBytes(mebibytes * MIB), randomBytes(mebibytes * MIB)];
    const target = await answering(t, back);
    const { vproxy, peer } = pair(t, {
      ...options,
      forwards: ['-o', 'mirror:0', '-i', `target:${target.port}`],
      peer: ['--parity', parity, '--service', 'mirror=mirror', ...('wants' in options ? options.wants : [])],
    });
    const established = await peer.next('established');
    t.is(established.parity, parity);
    t.is(established.integrity, integrity);
    t.deepEqual((await peer.next('services')).services, ['target']);

    const socket = await connectTo(t, vproxy, 'mirror');
    socket.end(there);
    const [mirrored, atPeer] = await Promise.all([readToEnd(socket), peer.next('fin')]);
    t.is(sha256(mirrored), sha256(there));
    t.is(atPeer.receivedHash, sha256(there));

    peer.transfer('a', 'target', mebibytes * MIB);
    const ended = await peer.next('stream-ended', { key: 'a' });
    t.is(ended.code, null);
    t.is(ended.receivedHash, sha256(back));
    t.is(ended.sent, mebibytes * MIB);
    t.is(ended.sentHash, sha256(await target.got));
    t.true(peer.isUndisturbed);
  });
}

withPython('what cannot be opened has the documented codes', async (t) => {
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'no:0', '-o', 'nothing:0', '-i', 'dead:/nonexistent/socket'],
    peer: ['--service', 'no=refuse'],
  });
  await peer.next('established');
  const [denied, unknown] = await Promise.all([connectTo(t, vproxy, 'no'), connectTo(t, vproxy, 'nothing')]);
  const failures = await Promise.all([failureOf(denied), failureOf(unknown)]);
  t.deepEqual(
    failures.map(({ code }) => code),
    ['ECONNRESET', 'ECONNRESET'],
  );
  await vproxy.waitForLine(/\(no\) was reset: .*\(denied\)/);
  await vproxy.waitForLine(/\(nothing\) was reset: .*\(unknown-service\)/);
  for (const [service, code] of [
    ['dead', 'connect-refused'],
    ['nothing', 'unknown-service'],
    ['No Name', 'unknown-service'],
  ]) {
    peer.do('open', { key: service, service });
    t.is((await peer.next('stream-refused', { key: service as string })).code, code);
  }
});

withPython('a reset arrives as one, with its code, both ways; a stop lets the other direction go on', async (t) => {
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

withPython('two that speak no common version tell each other', async (t) => {
  const { vproxy, peer } = pair(t, { peer: ['--version', '2'] });
  const { code, message } = await peer.next('session-ended');
  t.deepEqual([code, message], ['version-mismatch', '2 to 2 here, 1 to 1 there']);
  await vproxy.waitForLine(/1–1 here, 2–2 at the peer.*code="version-mismatch"/);
});
