/**
 * A hostile guest, as a program of its own: `node dist/spec/helpers/hostile-guest.js WHAT FOLDER` serves the unix
 * sockets `sink`, `deaf` and `source` in FOLDER, which are targets of services of its channel, connects to the channel at
 * FOLDER/hostile.sock, prints a line when it has begun, and goes on until it is killed. It uses little processor time
 * itself: what is measured beside it is the process that it attacks.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { Credits, dribble, openAll } from './credits.js';
import { creditPayload, FrameStamp } from './frame-maker.js';
import { SocketPeer } from './socket-peer.js';

const { OPEN, DATA, CREDIT, RESET, PING, GOAWAY, SERVICES } = FRAME_TYPE;

const BATCH_BYTES = 131_072;

/** Writes batches for ever, each when the system has taken the one before. */
async function writeForEver(socket: net.Socket, next: () => Buffer): Promise<void> {
  while (!socket.destroyed) {
    if (!socket.write(next())) await once(socket, 'drain');
    else await setImmediate();
  }
}

export async function floodFrames(path: string, make: (peer: SocketPeer) => Buffer): Promise<void> {
  const peer = await SocketPeer.established(path);
  const stamp = new FrameStamp(make(peer), BATCH_BYTES);
  peer.sequence -= 1;
  begun();
  await writeForEver(peer.socket, () => stamp.next(peer));
}

/** DATA for a service that reads all it gets, in frames of `bytes`, as far as there is credit. */
async function floodData(path: string, bytes: number): Promise<void> {
  const peer = await SocketPeer.established(path);
  const credits = new Credits();
  peer.onFrame = (frame) => {
    peer.log.frames.length = 0;
    credits.take(frame);
  };
  peer.sendOpen(1, 'sink');
  const stamp = new FrameStamp(peer.frame(DATA, 1, Buffer.alloc(bytes, 'x')), BATCH_BYTES);
  peer.sequence -= 1;
  begun();
  while (!peer.socket.destroyed) {
    const room = Math.floor(credits.left(1) / bytes);
    if (room < 1) {
      await once(peer.socket, 'data');
      continue;
    }
    const batch = stamp.next(peer, room);
    credits.count(1, Math.min(room, stamp.count) * bytes);
    if (!peer.socket.write(batch)) await once(peer.socket, 'drain');
    else await setImmediate();
  }
}

/** OPENs in step with the answers, each lot taken back when its last one was answered. */
async function openAndReset(path: string, service: string, count: number): Promise<void> {
  const peer = await SocketPeer.established(path);
  begun();
  while (!peer.isClosed) {
    const first = peer.highestId + 2;
    const ids = Array.from({ length: count }, (_, index) => first + 2 * index);
    peer.write(Buffer.concat(ids.map((id) => peer.frame(OPEN, id, { service }))));
    await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${ids.at(-1) ?? 0}\\b`));
    peer.log.take();
    peer.write(Buffer.concat(ids.map((id) => peer.frame(RESET, id, { code: 'cancelled', message: '' }))));
  }
}

/** Opens as many streams as it may, and then more, and keeps them. */
async function holdStreams(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  for (let round = 0; round < 6; round += 1) {
    // At most 256 may wait for an answer at once.
    const ids = Array.from({ length: 200 }, () => {
      const id = peer.highestId + 2;
      peer.sendOpen(id, 'sink');
      return id;
    });
    await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${ids.at(-1) ?? 0}\\b`));
  }
  await peer.seen(/^REFUSE \d+ too-many-streams/);
  begun();
}

/** Fills as many streams as it may with DATA byte by byte, for a service that does not read, and does so again with new ones. */
async function fillByteByByte(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  begun();
  while (!peer.isClosed) {
    const credits = new Credits();
    peer.onFrame = (frame) => credits.take(frame);
    const ids = await openAll(peer, 'deaf', 1000);
    // In turns, so that all streams hold something all the time.
    for (let turn = 0; turn < 16; turn += 1) for (const id of ids) await dribble(peer, credits, id, 4096, 1);
    for (const id of ids) peer.send(RESET, id, { code: 'cancelled', message: '' });
    await peer.ping(30_000);
  }
}

/** The same bytes repeatedly, before any session. */
async function floodBytes(path: string, piece: Buffer): Promise<void> {
  const socket = net.connect({ path }).on('error', () => undefined);
  await once(socket, 'connect');
  socket.resume();
  const batch = Buffer.concat(Array.from({ length: Math.ceil(BATCH_BYTES / piece.length) }, () => piece));
  begun();
  await writeForEver(socket, () => batch);
}

const hello = (payload: string): Buffer =>
  Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, Buffer.from(payload), 0)]);

/** Connects repeatedly: `parallel` connections at once, closed as soon as they are established. */
async function reconnect(path: string, parallel: number): Promise<void> {
  begun();
  for (;;) {
    const sockets = Array.from({ length: parallel }, () => net.connect({ path }).on('error', () => undefined));
    const ends = sockets.map(
      (socket) =>
        new Promise<void>((resolve) => socket.once('connect', () => resolve()).once('close', () => resolve())),
    );
    await Promise.all(ends);
    for (const socket of sockets) socket.destroy();
    await setImmediate();
  }
}

/** One session after the other on the same connection, or each on a new one. */
async function renewSessions(path: string): Promise<void> {
  let isBegun = false;
  for (;;) {
    const peer = await SocketPeer.established(path);
    if (!isBegun) begun();
    isBegun = true;
    peer.sendOpen(1, 'sink');
    peer.send(GOAWAY, 0, { code: 'internal', message: '', last: 0 });
    peer.close();
  }
}

/** Lets a service send as much as it likes, and never reads. */
async function readNothing(path: string): Promise<void> {
  const peer = await SocketPeer.established(path, {
    peerLimits: { streamCredit: 2 ** 30, inFlight: 2 ** 30 },
  });
  for (let id = 1; id < 100; id += 2) peer.sendOpen(id, 'source');
  await peer.drain();
  peer.isReading = false;
  begun();
}

/** DATA byte by byte inside TLS. This side is vproxy itself: only who has the keys can make what is in a record. */
async function floodInsideTls(path: string): Promise<void> {
  const channel = { address: `unix-connect:${path},tls=psk`, keyFiles: [join(dirname(path), 'key')] };
  const proxy = new Proxy({ channels: [channel], agent: 'a guest inside TLS' });
  await proxy.start();
  const stream = await proxy.connect('sink');
  begun();
  for (let isFree = true; ; ) {
    for (let count = 0; count < 200; count += 1) isFree = stream.write('x');
    if (isFree) await setImmediate();
    else await once(stream, 'drain');
  }
}

export const INSIDE_TLS = 'sends DATA byte by byte inside TLS';

/** What a hostile guest can do, as a test's title says it. */
export const HOSTILITIES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  'sends PINGs': (path) => floodFrames(path, (peer) => peer.frame(PING, 0, Buffer.from('pingping'))),
  'sends CREDITs': (path) => floodFrames(path, (peer) => peer.frame(CREDIT, 0, creditPayload(1))),
  'sends frames of unknown types': (path) => floodFrames(path, (peer) => peer.frame(0x80, 77)),
  'sends lists of services': (path) =>
    floodFrames(path, (peer) =>
      peer.frame(SERVICES, 0, { services: Array.from({ length: 50 }, (_, index) => `service-${index}`) }),
    ),
  'resets a stream that has ended': (path) =>
    floodFrames(path, (peer) => {
      peer.sendOpen(1, 'nobody');
      return peer.frame(RESET, 1, { code: 'cancelled', message: '' });
    }),
  'sends DATA byte by byte': (path) => floodData(path, 1),
  'fills all its streams byte by byte': fillByteByByte,
  [INSIDE_TLS]: floodInsideTls,
  'sends DATA in large frames': (path) => floodData(path, 65_536),
  'opens streams to a service that is not there': (path) => openAndReset(path, 'nobody', 500),
  'opens and resets streams': (path) => openAndReset(path, 'sink', 100),
  'sends random bytes': (path) => floodBytes(path, randomBytes(65_536)),
  'sends HELLOs that are none': (path) => floodBytes(path, hello('[')),
  'sends long HELLOs that are none': (path) => floodBytes(path, hello('['.repeat(4000))),
  'connects again and again': (path) => reconnect(path, 1),
  'connects a hundred times at once': (path) => reconnect(path, 100),
  'begins sessions again and again': (path) => renewSessions(path),
  'reads nothing': (path) => readNothing(path),
  'holds as many streams as it may': (path) => holdStreams(path),
};

/** Those that keep the process busy. */
export const FLOODS: ReadonlySet<string> = new Set(
  Object.keys(HOSTILITIES).filter((what) => !/reads nothing|begins sessions|holds/.test(what)),
);

const begun = (): void => console.log('begun');

/** Serves the targets that its streams lead to: one that reads all it gets, and one that never stops writing. */
function serveTargets(folder: string): void {
  const listen = (name: string, handle: (socket: net.Socket) => void): void => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => handle(socket.on('error', () => undefined)));
    server.listen({ path: join(folder, name), backlog: 4096 });
  };
  listen('deaf', (socket) => socket.pause());
  listen('sink', (socket) => socket.resume().once('end', () => socket.end()));
  const bytes = Buffer.alloc(65_536);
  listen('source', (socket) => {
    const write = (): void => {
      while (!socket.destroyed && socket.write(bytes));
    };
    socket.on('drain', write);
    write();
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what = '', folder = ''] = process.argv.slice(2);
  serveTargets(folder);
  await HOSTILITIES[what]?.(join(folder, 'hostile.sock'));
}

export const HOSTILE_GUEST = 'dist/spec/helpers/hostile-guest.js';
