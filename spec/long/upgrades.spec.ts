/** Streams between two processes that are upgraded repeatedly, in turn. */
import type net from 'node:net';
import test from 'ava';
import { Exchanges } from '../helpers/exchanges.js';
import { openDescriptors, residentBytes } from '../helpers/measures.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket } from '../helpers/proxies.js';
import { upgrade } from '../helpers/upgrades.js';

const UPGRADES = Number(process.env['VPROXY_UPGRADES'] ?? 100);
const STREAMS = 200;
/** How much more memory a process may use than the first one, in bytes: the handed over state, and garbage. */
const GROWTH_BYTES = 48 * 2 ** 20;

/** Sends a byte again as soon as it has come back; returns the longest round trip, in milliseconds. */
function watchEcho(socket: net.Socket): { longestMs: number } {
  const watch = { longestMs: 0 };
  let sentMs = 0;
  const send = (): void => {
    sentMs = performance.now();
    socket.write('x');
  };
  socket
    .on('error', () => undefined)
    .on('data', () => {
      watch.longestMs = Math.max(watch.longestMs, performance.now() - sentMs);
      setImmediate(send);
    });
  send();
  return watch;
}

test(`${STREAMS} streams both ways, while both sides are upgraded ${UPGRADES} times`, async (t) => {
  const exchanges = await Exchanges.start(t);
  const target = await localServer(t, echo);
  const { host, guest, sockets, sessions } = await processPair(t, {
    control: 'both',
    host: ['-o', `x:${exchanges.localPath}`, '-o', 'echo:0'],
    guest: ['-i', `x:${exchanges.targetPath}`, '-i', `echo:${target.port}`],
  });
  const sides = [host, guest];
  await exchanges.open(STREAMS);
  const watch = watchEcho(localSocket(t, await host.listeningPort('echo')));
  await exchanges.received(50_000_000);
  const first = sides.map(({ pid }) => ({ descriptors: openDescriptors(pid), bytes: residentBytes(pid) }));
  const restingMs = watch.longestMs;

  const pids = sides.map(({ pid }) => pid);
  const durationsMs: number[] = [];
  for (let round = 0; round < UPGRADES; round += 1) {
    const side = round % 2 === 0 ? 0 : 1;
    const { pid, streams, durationMs } = await upgrade(t, sockets[side]);
    t.is(streams, STREAMS + 1);
    pids[side] = pid;
    durationsMs.push(durationMs);
    await exchanges.received(5_000_000);
  }
  for (const [side, pid] of pids.entries()) t.is(openDescriptors(pid), first[side]?.descriptors ?? 0);
  const grownBytes = pids.map((pid, side) => residentBytes(pid) - (first[side]?.bytes ?? 0));
  t.deepEqual(await exchanges.finish(), []);
  t.deepEqual(sessions(), ONE_SESSION);
  durationsMs.sort((a, b) => a - b);
  const middleMs = durationsMs[durationsMs.length >> 1] ?? 0;
  t.log(
    `${Math.round(exchanges.receivedBytes / 1e6)} MB; handed over in ${middleMs} ms, at most ${durationsMs.at(-1) ?? 0}`,
  );
  t.log(`the longest echo took ${Math.round(watch.longestMs)} ms, before the first upgrade ${Math.round(restingMs)}`);
  t.log(`grown by ${grownBytes.map((bytes) => Math.round(bytes / 2 ** 20)).join(' and ')} MiB`);
  for (const bytes of grownBytes) t.true(bytes <= GROWTH_BYTES);
});
