/** Streams over a TCP channel that breaks a thousand times, in every way in which TCP breaks. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { hiddenReset } from '../../lib/system/sockets.js';
import { temporaryFolder } from '../helpers/files.js';
import { peakBytes, resetPeak, residentBytes } from '../helpers/measures.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { TCP_FAULTS, TcpRelay } from '../helpers/relays.js';
import { eventually } from '../helpers/time.js';
import { ENDED, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const CUTS = Number(process.env['VPROXY_CUTS'] ?? 1000);
const STREAMS = 200;
/** Silence that takes so long is a fault, too: it is put in once in this number of faults. */
const DEAD_AFTER_S = 2;
const STALL_EVERY = 50;
/** How much the processes may grow beyond `resume-memory`. */
const GROWTH_BYTES = 32 * 2 ** 20;
const RESUME_MEMORY_BYTES = 64 * 2 ** 20;

const WORDS = randomBytes(1_000_000);

/** What one end of a stream has sent and received. */
interface Digests {
  readonly sent: string;
  readonly received: string;
  readonly receivedBytes: number;
}

/** Writes until `isOver`, and ends; reads to the end. Rejects where the socket fails. */
async function work(socket: net.Socket, isOver: () => boolean): Promise<Digests> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')];
  let receivedBytes = 0;
  socket.on('data', (chunk: Buffer) => {
    received.update(chunk);
    receivedBytes += chunk.length;
  });
  const ended = new Promise<void>((resolve, reject) => {
    socket.once('end', () => {
      const failure = hiddenReset(socket);
      if (failure === null) resolve();
      else reject(failure);
    });
    socket.once('error', reject);
  });
  const write = async (): Promise<void> => {
    for (let at = 0; !isOver(); at = (at + 7919) % (WORDS.length - 20_000)) {
      const piece = WORDS.subarray(at, at + 1 + (at % 20_000));
      sent.update(piece);
      if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), ended]);
    }
    socket.end();
  };
  await Promise.all([write(), ended]);
  return { sent: sent.digest('hex'), received: received.digest('hex'), receivedBytes };
}

test(`${STREAMS} streams both ways over TCP, which breaks ${CUTS} times`, async (t) => {
  const folder = temporaryFolder(t);
  let isOver = false;
  const far: Promise<Digests>[] = [];
  const farPorts: string[] = [];
  // Each end says first which one it is: as both lists are compared by that.
  const target = await localServer(t, (socket) => {
    far.push(
      once(socket, 'readable').then(() => {
        farPorts.push(String(socket.read(6)));
        return work(socket, () => isOver);
      }),
    );
  });
  const sockets = ['host', 'guest'].map((side) => join(folder, side));
  const common = (side: number) => ['--dead-after', String(DEAD_AFTER_S), '--control', sockets[side] ?? ''];
  const host = spawnVproxy(t, ['-c', `tcp-listen:127.0.0.1:0,resume=60s`, '-o', 'x:127.0.0.1:0', ...common(0)]);
  const [, channelPort] = await host.waitForLine(/waiting for the peer on tcp-listen:127\.0\.0\.1:(\d+)/);
  const relay = new TcpRelay();
  const relayPort = await relay.start(t, Number(channelPort));
  const guest = spawnVproxy(t, [
    ...['-c', `tcp-connect:127.0.0.1:${relayPort},resume=60s`, '-i', `x:127.0.0.1:${target.port}`, ...common(1)],
  ]);
  const sides = [host, guest];
  await Promise.all(sides.map((side) => side.waitForLine(TAKING_CONTROL)));
  const clients = sockets.map((path) => connectControl(path));
  const port = await host.listeningPort('x');
  const near = Array.from({ length: STREAMS }, async (_, index) => {
    const socket = localSocket(t, { host: '127.0.0.1', port });
    socket.write(String(index).padStart(6));
    return work(socket, () => isOver);
  });
  await eventually(() => farPorts.length === STREAMS);
  const restingBytes = sides.map(({ pid }) => residentBytes(pid));
  for (const { pid } of sides) resetPeak(pid);

  for (let cut = 0; cut < CUTS; cut += 1) {
    const isStall = cut % STALL_EVERY === 0;
    relay.fail(TCP_FAULTS[isStall ? 2 + ((cut / STALL_EVERY) % 3) : cut % 2] ?? 'rst');
    // A link that was short is followed by a pause, which the signal ends if it has begun already. The log may leave lines
    // out that come so fast.
    await eventually(async () => {
      guest.kill('SIGHUP');
      const statuses = await Promise.all(clients.map((client) => client.channel('default')));
      return statuses.every(({ totals }) => totals.resumptions > cut);
    });
  }
  isOver = true;

  const [nearDigests, farDigests] = [await Promise.all(near), await Promise.all(far)];
  let bytes = 0;
  for (const [index, { sent, received, receivedBytes }] of nearDigests.entries()) {
    const other = farDigests[farPorts.indexOf(String(index).padStart(6))];
    // What says which one it is was not counted at this end.
    t.deepEqual([received, sent], [other?.sent, other?.received]);
    bytes += receivedBytes + (other?.receivedBytes ?? 0);
  }
  for (const side of sides) t.false(side.lines.some((line) => ENDED.test(line)));
  const grownBytes = sides.map(({ pid }, index) => peakBytes(pid) - (restingBytes[index] ?? 0));
  t.log(
    `${Math.round(bytes / 1e6)} MB; grown by ${grownBytes.map((each) => Math.round(each / 2 ** 20)).join(' and ')} MiB`,
  );
  for (const each of grownBytes) t.true(each <= RESUME_MEMORY_BYTES + GROWTH_BYTES);
});
