/** The real program and a second implementation of docs/protocol.md: keys, credit, datagrams, restarts, drains and ends. */
import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import { sha256, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { echo, failureOf, localServer, readToEnd } from '../helpers/proxies.js';
import { stayingChannel } from '../helpers/staying-channel.js';
import { eventually } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { ENDED_BY_RESTART } from '../helpers/vproxy-process.js';
import { PythonPeer } from './python-peer.js';
import { connectTo, echoes, MIB, pair, transferring, vproxyOn, withPython } from './setup.js';

/** The options that give a side these keys, each of one repeated pair of digits. */
const keysOf = (t: ExecutionContext, bytes: readonly string[]): string[] => {
  const folder = temporaryFolder(t);
  return bytes.flatMap((byte) => ['--key', writeKeyFile(folder, byte, byte)]);
};

for (const parity of ['odd', 'even'] as const) {
  withPython(`with a common key streams work both ways: the peer is ${parity}`, async (t) => {
    const { peer, transfer } = await transferring(t, MIB, {
      forwards: keysOf(t, ['1f', '2e', '3d']),
      peer: ['--parity', parity, ...keysOf(t, ['4c', '3d', '2e'])],
    });
    await peer.next('established');
    t.deepEqual((await peer.next('services')).services, ['target']);
    await transfer();
    t.true(peer.isUndisturbed);
  });
}

withPython('20 streams at once each way with little credit, held back if the peer allows fewer', async (t) => {
  const server = await localServer(t, echo);
  const { vproxy, peer } = pair(t, {
    channelOptions: ',in-flight=5000',
    forwards: ['-o', 'echo:0', '-i', `echo:${server.port}`],
    peer: ['--service', 'echo=echo', '--limits', '{"streams":6,"opens":3,"streamCredit":20000,"inFlight":50000}'],
  });
  await peer.next('established');
  const numbers = Array.from({ length: 20 }, (_, number) => `stream ${number}`);
  for (const key of numbers) peer.transfer(key, 'echo', 100_000);
  await Promise.all(Array.from({ length: 20 }, () => echoes(t, vproxy, 'echo', 100_000)));
  for (const key of numbers) {
    const { code, received, receivedHash, sentHash } = await peer.next('stream-ended', { key });
    t.deepEqual([code, received, receivedHash], [null, 100_000, sentHash]);
  }
  const streams = peer.events.flatMap((event) => event.streams ?? []);
  t.deepEqual([streams.length, Math.max(...streams)], [20, 6]);
  t.false(peer.events.some(({ event }) => event === 'stream-refused'));
});

withPython('datagrams keep their boundaries, to services of either side; a wrong length ends the flow', async (t) => {
  const target = await UdpProgram.openEcho(t);
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'far:udp:0', '-i', `near:udp:127.0.0.1:${target.port}`, '-i', 'streams:9'],
    peer: ['--datagrams', '--service', 'far=echo-datagrams'],
  });
  await peer.next('established');
  const client = await UdpProgram.open(t);
  const port = await vproxy.listeningPort('far');
  const sizes = [0, 1, 600, 65_507];
  for (const [index, size] of sizes.entries()) {
    client.send(randomBytes(size), port);
    await client.came(index + 1);
    t.is((await peer.next('message')).hash, sha256(client.messages[index]?.bytes ?? Buffer.of()));
  }
  const lengths = client.messages.map(({ bytes }) => bytes.length);
  t.deepEqual(lengths, sizes);

  peer.do('open', { key: 'a', service: 'near', datagram: true });
  for (const size of sizes) {
    peer.do('send_message', { key: 'a', size });
    const { hash } = await peer.next('sending', { key: 'a' });
    t.is((await peer.next('message', { key: 'a' })).hash, hash);
  }
  peer.do('send_hex', { key: 'a', data: 'ffff00' });
  t.is((await peer.next('stream-ended', { key: 'a' })).code, 'protocol-error');
  peer.do('open', { key: 'b', service: 'streams', datagram: true });
  t.is((await peer.next('stream-refused', { key: 'b' })).code, 'unknown-service');
  t.true(peer.isUndisturbed);
});

withPython('the peer is killed in mid-transfer, and another one starts on the same channel', async (t) => {
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
  withPython(`the peer starts over on the same connection, ${where}`, async (t) => {
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

withPython('a drain lets streams end, opens none, and a new session follows', async (t) => {
  const server = await localServer(t, echo);
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
