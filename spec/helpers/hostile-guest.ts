/**
 * A hostile guest, as its own program: `node dist/spec/helpers/hostile-guest.js WHAT FOLDER` serves the unix sockets `sink`,
 * `deaf` and `source` in FOLDER, the targets of its channel's services, connects to the channel at FOLDER/hostile.sock, prints a
 * line once it has started, and continues until it is killed. It uses little processor time itself: what is measured beside it is
 * the process that it attacks.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { creditPayload, FrameStamp } from '../../conformance/frame-maker.js';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { type CopyCallOptions, fetchFiles, putFiles } from '../../lib/services/copy/copy-call.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { EXEC_KIND, encodeStart, STDIN_CREDIT_BYTES } from '../../lib/services/exec/exec-messages.js';
import { INFO_KIND } from '../../lib/services/info/info-messages.js';
import { frameMessage } from '../../lib/system/dns/message-frames.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { Credits, dribble, openAll } from './credits.js';
import { bytesOf, query } from './dns.js';
import { SocketPeer } from './socket-peer.js';

const { OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, RESET, PING, GOAWAY, SERVICES } = FRAME_TYPE;

const BATCH_BYTES = 131_072;

/** The limits of a peer that lets the process send as much as it likes. */
const ROOM = { streamCredit: 2 ** 30, inFlight: 2 ** 30 };

/** Resolves when the system has taken what was written before, after a turn of the loop. */
const taken = (socket: net.Socket): Promise<unknown> =>
  socket.writableNeedDrain ? once(socket, 'drain') : setImmediate();

async function writeForEver(socket: net.Socket, next: () => Buffer): Promise<void> {
  for (; !socket.destroyed; await taken(socket)) socket.write(next());
}

async function floodFrames(path: string, make: (peer: SocketPeer) => Buffer): Promise<void> {
  const peer = await SocketPeer.established(path);
  const stamp = new FrameStamp(make(peer), BATCH_BYTES);
  peer.sequence -= 1;
  begun();
  await writeForEver(peer.socket, () => stamp.next(peer));
}

/** DATA for a service that reads everything, in frames of `bytes`, as far as there is credit. */
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
    peer.socket.write(batch);
    await taken(peer.socket);
  }
}

/** OPENs in step with the answers, each batch reset when its last one was answered. */
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

async function holdStreams(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  for (let round = 0; round < 6; round += 1) {
    // At most 256 may wait for an answer at once.
    for (let count = 0; count < 200; count += 1) peer.sendOpen(peer.highestId + 2, 'sink');
    await peer.seen(new RegExp(`^(?:ACCEPT|REFUSE) ${peer.highestId}\\b`));
  }
  await peer.seen(/^REFUSE \d+ too-many-streams/);
  begun();
}

/** Fills as many streams as allowed with DATA byte by byte, for a service that does not read, again and again. */
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

async function reconnect(path: string, parallel: number): Promise<void> {
  begun();
  for (;;) {
    const sockets = Array.from({ length: parallel }, () => net.connect({ path }).on('error', () => undefined));
    const settled = (socket: net.Socket) =>
      new Promise((resolve) => socket.once('connect', resolve).once('close', resolve));
    await Promise.all(sockets.map(settled));
    for (const socket of sockets) socket.destroy();
    await setImmediate();
  }
}

/** One session after another, on the same connection or each on a new one. */
async function renewSessions(path: string): Promise<void> {
  for (;;) {
    const peer = await SocketPeer.established(path);
    begun();
    peer.sendOpen(1, 'sink');
    peer.send(GOAWAY, 0, { code: 'internal', message: '', last: 0 });
    peer.close();
  }
}

async function readNothing(path: string): Promise<void> {
  const peer = await SocketPeer.established(path, { peerLimits: ROOM });
  for (let id = 1; id < 100; id += 2) peer.sendOpen(id, 'source');
  await peer.drain();
  peer.isReading = false;
  begun();
}

/** DATA byte by byte inside TLS. This side is vproxy itself: only the holder of the keys can make the contents of a record. */
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

/** What a hostile guest can do, by the wording in a test's title. */
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

export const FLOODS: ReadonlySet<string> = new Set(
  Object.keys(HOSTILITIES).filter((what) => !/reads nothing|begins sessions|holds/.test(what)),
);

// Using one surface of a channel as hard as possible.

/** The bytes sent on a stream: first at its start, then repeatedly; limited in number. */
interface Course {
  readonly service: string;
  readonly head?: Buffer;
  readonly piece: Buffer;
  readonly maxBytes?: number;
}

/** Sends as much as the credit allows, reads everything, and opens the next stream when one has ended. */
async function floodStreams(path: string, { service, head, piece, maxBytes = Infinity }: Course): Promise<void> {
  const peer = await SocketPeer.established(path, { peerLimits: ROOM });
  const frame = Buffer.concat(Array.from({ length: Math.floor(32_768 / piece.length) }, () => piece));
  const over = new Set<number>();
  const credits = new Credits();
  peer.onFrame = (seen) => {
    peer.log.frames.length = 0;
    credits.take(seen);
    if (seen.type === ACCEPT) begun();
    if (seen.type === REFUSE) throw new Error(`${service} is refused`);
    if (seen.type === FIN || seen.type === RESET) over.add(seen.streamId);
  };
  const send = (id: number, bytes: Buffer): void => {
    peer.sendData(id, bytes);
    credits.count(id, bytes.length);
  };
  for (;;) {
    const id = peer.highestId + 2;
    peer.sendOpen(id, service);
    if (head !== undefined) send(id, head);
    for (let sent = 0; sent + frame.length <= maxBytes && !over.has(id) && !peer.isClosed; ) {
      if (credits.left(id) < frame.length) {
        await delay(1);
        continue;
      }
      send(id, frame);
      sent += frame.length;
      await taken(peer.socket);
    }
    if (peer.isClosed) throw new Error('the session is over');
    peer.send(RESET, id, { code: 'cancelled', message: '' });
    await setImmediate();
  }
}

const floodFlow = (path: string): Promise<void> =>
  floodFrames(path, (peer) => {
    peer.sendOpenFlow(1, 'datagrams');
    return peer.frame(DATA, 1, Buffer.from('x'));
  });

/** Lists of 64 ports and empty lists, alternating: all are listened on, and then no longer. */
async function changePorts(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  const ports = Array.from({ length: 64 }, (_, index) => ({ port: 20_000 + index, program: 'node' }));
  peer.onFrame = () => void (peer.log.frames.length = 0);
  begun();
  for (let isListed = true; !peer.isClosed; isListed = !isListed) {
    peer.send(SERVICES, 0, { services: [], ports: isListed ? ports : [] });
    await taken(peer.socket);
  }
}

/** A hundred commands at a time that are denied, the next hundred when all have been answered. */
async function startCommands(path: string): Promise<void> {
  const start = encodeStart({ argv: ['true'], hasInput: false });
  const peer = await SocketPeer.established(path, { peerLimits: ROOM });
  for (;;) {
    const ids = Array.from({ length: 100 }, (_, index) => peer.highestId + 2 + 2 * index);
    const over = new Set<number>();
    peer.onFrame = ({ type, streamId }) => {
      peer.log.frames.length = 0;
      if (type === REFUSE) throw new Error('exec is refused');
      if (type === FIN || type === RESET) over.add(streamId);
    };
    const frames = ids.flatMap((id) => [peer.frame(OPEN, id, { service: 'exec' }), peer.frame(DATA, id, start)]);
    peer.write(Buffer.concat(frames));
    begun();
    while (over.size < ids.length && !peer.isClosed) await delay(1);
    if (peer.isClosed) throw new Error('the session is over');
    peer.write(Buffer.concat(ids.map((id) => peer.frame(FIN, id))));
  }
}

type Copy = (source: string, target: string, options: CopyCallOptions) => Promise<unknown>;

/** Copies of a folder of 1,000 empty files, eight at a time: the load that a guest puts on its host with a copy. */
const copyFolders = (copy: Copy) => async (path: string) => {
  const folder = dirname(path);
  const source = join(folder, 'files');
  mkdirSync(source);
  for (let count = 0; count < 1000; count += 1) writeFileSync(join(source, `file ${count}`), '');
  const proxy = new Proxy({ channels: [{ address: `unix-connect:${path}` }], agent: 'a guest that copies' });
  await proxy.start();
  const usual = { open: () => proxy.connect('copy'), isResumed: false, hasTotals: true, warn: () => undefined };
  const run = async (name: number): Promise<void> => {
    for (let round = 0; ; round += 1) {
      await copy(source, join(folder, `copy ${name} ${round}`), { ...usual, progress: new CopyProgress() });
      begun();
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, name) => run(name)));
};

const REQUEST = Buffer.from('GET http://denied.example/ HTTP/1.1\r\nHost: denied.example\r\n\r\n');
const flood = (course: Course) => (path: string) => floodStreams(path, course);

export const SURFACES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  'asks an egress for what is denied': flood({ service: 'web', piece: REQUEST }),
  'asks a resolver for what is denied': flood({
    service: 'dns',
    piece: frameMessage(bytesOf(query('denied.example'))),
  }),
  'asks a resolver whose server sends empty messages': flood({
    service: 'flooded',
    piece: Buffer.concat(Array.from({ length: 64 }, (_, index) => frameMessage(bytesOf(query(`n${index}.example`))))),
  }),
  'sends datagrams of one byte': floodFlow,
  'asks info for the time': flood({ service: 'info', piece: encodeRecord(INFO_KIND.TIME, '') }),
  'writes byte by byte to a command that it may not run': flood({
    service: 'exec',
    head: encodeStart({ argv: ['cat'] }),
    piece: encodeRecord(EXEC_KIND.STDIN, 'x'),
    maxBytes: STDIN_CREDIT_BYTES,
  }),
  'asks for a hundred commands at a time that it may not run': startCommands,
  'announces ports and withdraws them': changePorts,
  'fetches a folder of 1,000 files': copyFolders((source, target, options) => fetchFiles([source], target, options)),
  'puts a folder of 1,000 files': copyFolders((source, target, options) => putFiles([source], target, options)),
};

let hasBegun = false;

function begun(): void {
  if (!hasBegun) console.log('begun');
  hasBegun = true;
}

/** Serves the targets of its streams: one that reads everything, and one that never stops writing. */
function serveTargets(folder: string): void {
  const listen = (name: string, handle: (socket: net.Socket) => void): void => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => handle(socket.on('error', () => undefined)));
    server.listen({ path: join(folder, name), backlog: 4096 });
  };
  listen('deaf', (socket) => socket.pause());
  listen('sink', (socket) => socket.resume().once('end', () => socket.end()));
  const bytes = Buffer.alloc(65_536);
  listen('source', (socket) => void writeForEver(socket, () => bytes).catch(() => undefined));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what = '', folder = ''] = process.argv.slice(2);
  serveTargets(folder);
  await { ...HOSTILITIES, ...SURFACES }[what]?.(join(folder, 'hostile.sock'));
}

export const HOSTILE_GUEST = 'dist/spec/helpers/hostile-guest.js';
