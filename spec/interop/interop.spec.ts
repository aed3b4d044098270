/** The real program and a second implementation of docs/protocol.md, written from that document alone, on one channel. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { sha256 } from '../helpers/files.js';
import { failureOf, localServer, readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { checkFixtures } from './python-peer.js';
import { answering, connectTo, echoes, MIB, pair } from './setup.js';

const withPython = serialTestWith('python');

withPython('the recorded frames mean the same to both', async (t) => {
  t.is(await checkFixtures(), '45 frames, 0 wrong\n');
});

for (const { name, parity, integrity, mebibytes, ...options } of [
  { name: 'the real program listens', mebibytes: 8, listens: 'vproxy', parity: 'odd', integrity: 'frame' },
  { name: 'the real program connects', mebibytes: 8, listens: 'peer', parity: 'even', integrity: 'frame' },
  {
    name: 'only the peer asks for full',
    mebibytes: 1,
    parity: 'even',
    integrity: 'full',
    wants: ['--integrity', 'full'],
  },
  {
    name: 'only the real program asks for full',
    mebibytes: 1,
    parity: 'odd',
    integrity: 'full',
    channelOptions: ',integrity=full',
  },
  {
    name: 'both ask for full',
    mebibytes: 8,
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

    peer.do('open', { key: 'a', service: 'target' });
    peer.do('send', { key: 'a', count: mebibytes * MIB });
    peer.do('fin', { key: 'a' });
    const ended = await peer.next('stream-ended', { key: 'a' });
    t.is(ended.code, null);
    t.is(ended.receivedHash, sha256(back));
    t.is(ended.sent, mebibytes * MIB);
    t.is(ended.sentHash, sha256(await target.got));
    t.false(peer.events.some(({ event }) => event === 'session-ended' || event === 'wrong'));
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

withPython('20 streams at once each way with little credit, held back where the peer bears fewer', async (t) => {
  const server = await localServer(t, (socket) => void socket.pipe(socket));
  const { vproxy, peer } = pair(t, {
    channelOptions: ',in-flight=5000',
    forwards: ['-o', 'echo:0', '-i', `echo:${server.port}`],
    peer: ['--service', 'echo=echo', '--limits', '{"streams":6,"opens":3,"streamCredit":20000,"inFlight":50000}'],
  });
  await peer.next('established');
  const numbers = Array.from({ length: 20 }, (_, number) => `stream ${number}`);
  for (const key of numbers) {
    peer.do('open', { key, service: 'echo' });
    peer.do('send', { key, count: 100_000 });
    peer.do('fin', { key });
  }
  await Promise.all(Array.from({ length: 20 }, () => echoes(t, vproxy, 'echo', 100_000)));
  for (const key of numbers) {
    const ended = await peer.next('stream-ended', { key });
    t.is(ended.code, null);
    t.is(ended.receivedHash, ended.sentHash);
    t.is(ended.received, 100_000);
  }
  const streams = peer.events.flatMap((event) => event.streams ?? []);
  t.is(streams.length, 20);
  t.is(Math.max(...streams), 6);
  t.false(peer.events.some(({ event }) => event === 'stream-refused'));
});

withPython('a stream that nobody reads stops no other, and comes whole when it is read', async (t) => {
  const unread: net.Socket[] = [];
  const slow = await localServer(t, (socket) => void unread.push(socket.pause()));
  const quick = await localServer(t, (socket) => void socket.pipe(socket));
  const { vproxy, peer } = pair(t, {
    forwards: ['-o', 'mute:0', '-o', 'echo:0', '-i', `slow:${slow.port}`, '-i', `quick:${quick.port}`],
    peer: ['--service', 'mute=mute', '--service', 'echo=echo'],
  });
  await peer.next('established');

  const bytes = randomBytes(4 * MIB);
  const stuck = await connectTo(t, vproxy, 'mute');
  stuck.end(bytes);
  const { key = '' } = await peer.next('opened', { service: 'mute' });
  await echoes(t, vproxy, 'echo', MIB);
  t.false(peer.events.some((it) => it.event === 'fin' && it.key === key));
  peer.do('resume', { key });
  t.is((await peer.next('resumed', { key })).received, 65_536);
  t.is((await peer.next('fin', { key })).receivedHash, sha256(bytes));

  for (const [name, service, count] of [
    ['stuck', 'slow', 24 * MIB],
    ['other', 'quick', MIB],
  ] as const) {
    peer.do('open', { key: name, service });
    peer.do('send', { key: name, count });
    peer.do('fin', { key: name });
  }
  const other = await peer.next('stream-ended', { key: 'other' });
  t.is(other.receivedHash, other.sentHash);
  const target = await eventually(() => unread[0]);
  const got = readToEnd(target.resume());
  target.end();
  t.is((await peer.next('stream-ended', { key: 'stuck' })).sentHash, sha256(await got));
});

withPython('two that speak no common version tell each other', async (t) => {
  const { vproxy, peer } = pair(t, { peer: ['--version', '2'] });
  const { code, message } = await peer.next('session-ended');
  t.deepEqual([code, message], ['version-mismatch', '2 to 2 here, 1 to 1 there']);
  await vproxy.waitForLine(/1–1 here, 2–2 at the peer.*code="version-mismatch"/);
});

withPython(
  'datagrams keep their bounds, to a service of either side; a wrong length ends the flow alone',
  async (t) => {
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
    t.deepEqual(
      client.messages.map(({ bytes }) => bytes.length),
      sizes,
    );

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
    t.false(peer.events.some(({ event }) => event === 'session-ended' || event === 'wrong'));
  },
);
