/** The real program and a second implementation of docs/protocol.md, written from that document alone, on one channel. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';

import { eventually } from '../helpers/eventually.js';
import { ENDED_BY_RESTART } from '../helpers/log-lines.js';
import { failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { sha256 } from '../helpers/sha256.js';
import { temporaryFolder } from '../helpers/temp-folder.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { checkFixtures, PythonPeer } from './python-peer.js';
import { stayingChannel } from './staying-channel.js';

const MIB = 1024 * 1024;

interface PairOptions {
  /** Which side listens for the channel. Default: the real program. */
  readonly listens?: 'vproxy' | 'peer';
  /** Behind the real program's address of the channel. */
  readonly channelOptions?: string;
  readonly forwards?: readonly string[];
  readonly peer?: readonly string[];
}

interface Pair {
  readonly vproxy: VproxyProcess;
  readonly peer: PythonPeer;
}

function vproxyOn(t: ExecutionContext, channel: string, forwards: readonly string[]): VproxyProcess {
  return spawnVproxy(t, ['-c', channel, '-vv', ...forwards]);
}

function pair(t: ExecutionContext, options: PairOptions = {}): Pair {
  const { listens = 'vproxy', channelOptions = '', forwards = [], peer = [] } = options;
  const path = join(temporaryFolder(t), 'channel');
  const [real, other] = listens === 'vproxy' ? ['unix-listen', 'unix-connect'] : ['unix-connect', 'unix-listen'];
  return {
    vproxy: vproxyOn(t, `${real}:${path}${channelOptions}`, forwards),
    peer: new PythonPeer(t, `${other}:${path}`, peer),
  };
}

async function connectTo(t: ExecutionContext, vproxy: VproxyProcess, service: string): Promise<net.Socket> {
  const socket = localSocket(t, { host: '127.0.0.1', port: await vproxy.listeningPort(service) });
  return socket.on('error', () => undefined);
}

/** A target that answers all that it got, behind its end, with `reply`. */
async function answering(t: ExecutionContext, reply: Buffer): Promise<{ port: number; got: Promise<Buffer> }> {
  let port = 0;
  const got = new Promise<Buffer>((resolve, reject) => {
    void localServer(t, (socket) => {
      readToEnd(socket).then((bytes) => {
        resolve(bytes);
        socket.end(reply);
      }, reject);
    }).then((server) => {
      port = server.port;
    }, reject);
  });
  await eventually(() => port > 0);
  return { port, got };
}

async function echoes(t: ExecutionContext, vproxy: VproxyProcess, service: string, size: number): Promise<void> {
  const bytes = randomBytes(size);
  const socket = await connectTo(t, vproxy, service);
  socket.end(bytes);
  t.true(bytes.equals(await readToEnd(socket)));
}

test.serial('the recorded frames mean the same to both', async (t) => {
  t.is(await checkFixtures(), '36 frames, 0 wrong\n');
});

for (const { name, parity, integrity, mebibytes, ...options } of [
  { name: 'the real program listens', mebibytes: 8, listens: 'vproxy', parity: 'odd', integrity: true },
  { name: 'the real program connects', mebibytes: 8, listens: 'peer', parity: 'even', integrity: true },
  {
    name: 'only the peer wants checksums',
    mebibytes: 1,
    parity: 'even',
    integrity: true,
    channelOptions: ',integrity=off',
  },
  {
    name: 'only the real program wants checksums',
    mebibytes: 1,
    parity: 'odd',
    integrity: true,
    wants: ['--no-integrity'],
  },
  {
    name: 'no checksums',
    mebibytes: 8,
    parity: 'odd',
    integrity: false,
    channelOptions: ',integrity=off',
    wants: ['--no-integrity'],
  },
] as const) {
  test.serial(`${mebibytes} MiB each way, to a service of either side, and half-close: ${name}`, async (t) => {
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
    t.false(peer.events.some(({ event }) => event === 'session-ended'));
  });
}

test.serial('what cannot be opened has the documented codes', async (t) => {
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

test.serial('a reset arrives as one, with its code, both ways; a stop lets the other direction go on', async (t) => {
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
  const [first] = atTarget;
  peer.do('reset', { key: 'a', code: 'cancelled' });
  t.is((await failureOf(first as net.Socket)).code, 'ECONNRESET');

  peer.do('open', { key: 'b', service: 'target' });
  await peer.next('accepted', { key: 'b' });
  const second = atTarget[1] as net.Socket;
  const got = readToEnd(second);
  peer.do('stop', { key: 'b' });
  t.is((await peer.next('fin', { key: 'b' })).received, 0);
  peer.do('send', { key: 'b', count: MIB });
  peer.do('fin', { key: 'b' });
  t.is((await peer.next('stream-ended', { key: 'b' })).sentHash, sha256(await got));
});

test.serial('20 streams at once each way, held back where the peer bears fewer', async (t) => {
  const server = await localServer(t, (socket) => void socket.pipe(socket));
  const { vproxy, peer } = pair(t, {
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
  await Promise.all(numbers.map(() => echoes(t, vproxy, 'echo', 100_000)));
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

test.serial('a stream that nobody reads stops no other, and comes whole when it is read', async (t) => {
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

test.serial('the peer is killed in the middle of a transfer, and another one comes on the same channel', async (t) => {
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
  test.serial(`the peer opens afresh on the same connection, ${where}`, async (t) => {
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

test.serial(
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

test.serial('stale bytes before the opening are skipped, also those that look like one', async (t) => {
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

test.serial('a drain lets streams end, opens none, and the session comes back', async (t) => {
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

test.serial('SIGTERM of the real program resets its streams with shutdown, and says so', async (t) => {
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

test.serial('two that speak no common version tell each other', async (t) => {
  const { vproxy, peer } = pair(t, { peer: ['--version', '2'] });
  t.is((await peer.next('session-ended')).code, 'version-mismatch');
  await vproxy.waitForLine(/code="version-mismatch"/);
});
