/**
 * A hostile guest that uses one surface of a channel as hard as it can: `node dist/spec/helpers/hostile-surfaces.js WHAT FOLDER`
 * connects to the channel at FOLDER/hostile.sock, prints a line when it has begun, and continues until it is killed.
 */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { type CopyCallOptions, fetchFiles, putFiles } from '../../lib/copy/copy-call.js';
import { CopyProgress } from '../../lib/copy/copy-progress.js';
import { EXEC_KIND, encodeStart, STDIN_CREDIT_BYTES } from '../../lib/exec/exec-messages.js';
import { INFO_KIND } from '../../lib/info/info-messages.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { formatMessage } from '../../lib/system/dns/dns-message.js';
import { parseName } from '../../lib/system/dns/domain-names.js';
import { frameMessage } from '../../lib/system/dns/message-frames.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { Credits } from './credits.js';
import { floodFrames } from './hostile-guest.js';
import { SocketPeer } from './socket-peer.js';

const { FIN, RESET, REFUSE, ACCEPT, SERVICES } = FRAME_TYPE;

const FRAME_BYTES = 32_768;

/** What is sent on a stream: once at its beginning, and then again and again; as many bytes at most. */
interface Course {
  readonly service: string;
  readonly head?: Buffer;
  readonly piece: Buffer;
  readonly maxBytes?: number;
}

/** Sends as much as there is credit for, reads all that comes, and opens the next stream when one has ended. */
async function floodStreams(path: string, { service, head, piece, maxBytes = Infinity }: Course): Promise<void> {
  const peer = await SocketPeer.established(path, { peerLimits: { streamCredit: 2 ** 30, inFlight: 2 ** 30 } });
  const frame = Buffer.concat(Array.from({ length: Math.floor(FRAME_BYTES / piece.length) }, () => piece));
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
      if (peer.socket.writableNeedDrain) await once(peer.socket, 'drain');
      else await setImmediate();
    }
    if (peer.isClosed) throw new Error('the session is over');
    peer.send(RESET, id, { code: 'cancelled', message: '' });
    await setImmediate();
  }
}

/** Messages on a flow of datagrams, which has no credit. */
function floodFlow(path: string): Promise<void> {
  return floodFrames(path, (peer) => {
    peer.sendOpenFlow(1, 'datagrams');
    return peer.frame(FRAME_TYPE.DATA, 1, Buffer.from('x'));
  });
}

/** Lists of 64 ports and lists of none, one after the other: all are listened for, and no longer. */
async function changePorts(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  const ports = Array.from({ length: 64 }, (_, index) => ({ port: 20_000 + index, program: 'node' }));
  peer.onFrame = () => void (peer.log.frames.length = 0);
  begun();
  for (let isListed = true; !peer.isClosed; isListed = !isListed) {
    peer.send(SERVICES, 0, { services: [], ports: isListed ? ports : [] });
    if (peer.socket.writableNeedDrain) await once(peer.socket, 'drain');
    else await setImmediate();
  }
}

const FILES = 1000;

/** Copies of a folder of empty files, eight at a time, each way: what a guest does to its host with a copy. */
async function copyFolders(
  path: string,
  copy: (source: string, target: string, options: CopyCallOptions) => Promise<unknown>,
) {
  const folder = dirname(path);
  const source = join(folder, 'files');
  mkdirSync(source);
  for (let count = 0; count < FILES; count += 1) writeFileSync(join(source, `file ${count}`), '');
  const proxy = new Proxy({ channels: [{ address: `unix-connect:${path}` }], agent: 'a guest that copies' });
  await proxy.start();
  const run = async (name: number): Promise<void> => {
    for (let round = 0; ; round += 1) {
      await copy(source, join(folder, `copy ${name} ${round}`), {
        open: () => proxy.connect('copy'),
        isResumed: false,
        hasTotals: true,
        progress: new CopyProgress(),
        warn: () => undefined,
      });
      begun();
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, name) => run(name)));
}

const question = formatMessage(
  {
    ...{ id: 1, isResponse: false, opcode: 0, isTruncated: false, wantsRecursion: true, canRecurse: false },
    ...{ isAuthentic: false, isUnchecked: false, rcode: 0, answers: [], authorities: [], edns: null },
    question: { name: parseName('denied.example') ?? Buffer.alloc(1), type: 1, class: 1 },
  },
  512,
);

const REQUEST = Buffer.from('GET http://denied.example/ HTTP/1.1\r\nHost: denied.example\r\n\r\n');
const flood = (course: Course) => (path: string) => floodStreams(path, course);

/** By the title of a test. */
export const SURFACES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  'asks an egress for what is denied': flood({ service: 'web', piece: REQUEST }),
  'asks a resolver for what is denied': flood({ service: 'dns', piece: frameMessage(question) }),
  'sends datagrams of one byte': floodFlow,
  'asks info for the time': flood({ service: 'info', piece: encodeRecord(INFO_KIND.TIME, '') }),
  'writes to a command byte by byte': flood({
    service: 'exec',
    head: encodeStart({ argv: ['cat'] }),
    piece: encodeRecord(EXEC_KIND.STDIN, 'x'),
    maxBytes: STDIN_CREDIT_BYTES,
  }),
  'announces ports and withdraws them': changePorts,
  'fetches a folder of 1,000 files': (path) =>
    copyFolders(path, (source, target, options) => fetchFiles([source], target, options)),
  'puts a folder of 1,000 files': (path) =>
    copyFolders(path, (source, target, options) => putFiles([source], target, options)),
};

let hasBegun = false;

function begun(): void {
  if (!hasBegun) console.log('begun');
  hasBegun = true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what = '', folder = ''] = process.argv.slice(2);
  await SURFACES[what]?.(join(folder, 'hostile.sock'));
}

export const HOSTILE_SURFACES = 'dist/spec/helpers/hostile-surfaces.js';
