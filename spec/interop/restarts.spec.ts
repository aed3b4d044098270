/** Restarts of either side, stale bytes, drains and ends between the real program and the second implementation. */
import { randomBytes } from 'node:crypto';
import { temporaryFolder } from '../helpers/files.js';
import { failureOf, localServer, readToEnd } from '../helpers/proxies.js';
import { stayingChannel } from '../helpers/staying-channel.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ENDED_BY_RESTART } from '../helpers/vproxy-process.js';
import { PythonPeer } from './python-peer.js';
import { connectTo, echoes, MIB, pair, vproxyOn } from './setup.js';

const withPython = serialTestWith('python');

withPython('the peer is killed in the middle of a transfer, and another one comes on the same channel', async (t) => {
  const channel = await stayingChannel(t, temporaryFolder(t));
  const vproxy = vproxyOn(t, `unix-connect:${channel.left}`, ['-o', 'echo:0']);
  const peer = new PythonPeer(t, `unix-connect:${channel.right}`, ['--service', 'echo=echo']);
  await peer.next('established');
  const bytes = randomBytes(16 * MIB);
  const socket = await connectTo(t, vproxy, 'echo');
  const back: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => back.push(chunk));
  socket.write(bytes);
  await eventually(() => back.length > 0, { intervalMs: 1 });
  const failure = failureOf(socket);
  await peer.kill();
  const fresh = new PythonPeer(t, `unix-connect:${channel.right}`, ['--service', 'echo=echo']);
  t.is((await failure).code, 'ECONNRESET');
  await fresh.next('established');
  await vproxy.waitForLine(ENDED_BY_RESTART);
  const echoed = Buffer.concat(back);
  t.true(echoed.length < bytes.length);
  t.true(bytes.subarray(0, echoed.length).equals(echoed));
  await echoes(t, vproxy, 'echo', MIB);
});

for (const half of [false, true]) {
  const where = half ? 'in the middle of a frame' : 'between two frames';
  withPython(`the peer opens afresh on the same connection, ${where}`, async (t) => {
    const { vproxy, peer } = pair(t, { listens: 'peer', forwards: ['-o', 'mute:0'], peer: ['--service', 'mute=mute'] });
    await peer.next('established');
    const socket = await connectTo(t, vproxy, 'mute');
    await peer.next('opened');
    peer.do('restart', { half });
    t.is((await failureOf(socket)).code, 'ECONNRESET');
    await vproxy.waitForLine(/code="peer-restarted"/);
    await peer.next('established');
    peer.do('offer', { echo: 'echo' });
    peer.do('ping');
    await peer.next('pong');
    await vproxy.waitForLine(/the peer offers: echo/);
    await connectTo(t, vproxy, 'mute');
    t.is((await peer.next('stream-refused')).code, 'unknown-service');
  });
}

withPython(
  'the real program is killed in the middle of a transfer, and another one comes on the same channel',
  async (t) => {
    const channel = await stayingChannel(t, temporaryFolder(t));
    const back: Buffer[] = [];
    const server = await localServer(t, (socket) => {
      socket.on('data', (chunk: Buffer) => back.push(chunk));
      socket.pipe(socket);
    });
    const forwards = ['-i', `echo:${server.port}`];
    const vproxy = vproxyOn(t, `unix-connect:${channel.left}`, forwards);
    const peer = new PythonPeer(t, `unix-connect:${channel.right}`);
    await peer.next('established');
    peer.do('open', { key: 'a', service: 'echo' });
    peer.do('send', { key: 'a', count: 16 * MIB });
    await eventually(() => back.length > 0, { intervalMs: 1 });
    vproxy.kill('SIGKILL');
    vproxyOn(t, `unix-connect:${channel.left}`, forwards);
    // A process that was killed within a header shows as the wrong check that the flush makes of it.
    t.regex((await peer.next('stream-ended', { key: 'a' })).code ?? '', /^(?:peer-restarted|desync)$/);
    await peer.next('established');
    peer.do('open', { key: 'b', service: 'echo' });
    peer.do('send', { key: 'b', count: MIB });
    peer.do('fin', { key: 'b' });
    const ended = await peer.next('stream-ended', { key: 'b' });
    t.is(ended.code, null);
    t.is(ended.receivedHash, ended.sentHash);
  },
);

withPython('stale bytes before the opening are skipped, also those that look like one', async (t) => {
  const magic = Buffer.from('ff005650524f58590d0a1a0a111300ff', 'hex');
  const stale = Buffer.concat([randomBytes(5000), magic, randomBytes(40), magic, magic.subarray(0, 7)]);
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'echo:0'],
    peer: ['--stale', stale.toString('hex'), '--service', 'echo=echo'],
  });
  const { skipped = 0 } = await peer.next('established');
  t.is(skipped, 131_088);
  await echoes(t, vproxy, 'echo', 1000);
  t.is(peer.events.filter(({ event }) => event === 'established').length, 1);
});

withPython('a drain lets streams end, opens none, and the session comes back', async (t) => {
  const server = await localServer(t, (socket) => void socket.pipe(socket));
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'echo:0', '-i', `echo:${server.port}`],
    peer: ['--service', 'echo=echo'],
  });
  await peer.next('established');
  peer.do('open', { key: 'a', service: 'echo' });
  const socket = await connectTo(t, vproxy, 'echo');
  await Promise.all([peer.next('opened'), peer.next('accepted')]);
  peer.do('goaway');
  peer.do('send', { key: 'a', count: MIB });
  peer.do('fin', { key: 'a' });
  const ended = await peer.next('stream-ended', { key: 'a' });
  t.is(ended.code, null);
  t.is(ended.receivedHash, ended.sentHash);
  const late = await connectTo(t, vproxy, 'echo');
  late.end('late');
  socket.end('in time');
  t.is((await readToEnd(socket)).toString(), 'in time');
  t.is((await peer.next('session-ended')).code, 'shutdown');
  await peer.next('established');
  t.is((await readToEnd(late)).toString(), 'late');
});

withPython('SIGTERM of the real program resets its streams with shutdown, and says so', async (t) => {
  const server = await localServer(t, (socket) => void socket.resume());
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'mute:0', '-i', `target:${server.port}`],
    peer: ['--service', 'mute=mute'],
  });
  await peer.next('established');
  await connectTo(t, vproxy, 'mute');
  const { key = '' } = await peer.next('opened');
  peer.do('open', { key: 'a', service: 'target' });
  await peer.next('accepted');
  vproxy.kill('SIGTERM');
  t.is((await peer.next('stream-ended', { key })).code, 'shutdown');
  t.is((await peer.next('stream-ended', { key: 'a' })).code, 'shutdown');
  t.is((await peer.next('goaway')).code, 'shutdown');
  t.deepEqual(await vproxy.exited, { code: 0, signal: null });
});
