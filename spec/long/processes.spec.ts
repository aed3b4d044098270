/** Real processes: their resident memory and descriptors over many restarts, and with 10,000 forwarded streams at once. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { openDescriptors, residentBytes } from '../helpers/measures.js';
import { type PairSetup, type ProcessPair, processPair } from '../helpers/process-pair.js';
import { CuttingRelay } from '../helpers/relays.js';
import { eventually, within } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const RESTARTS = 2000;
const SAMPLE_EVERY = 50;
const STREAMS = 10_000;
const OPENED_AT_ONCE = 250;
const RETRY_MS = 2;

/**
 * How much the resident memory may grow from the second quarter of the restarts to the last, at its lowest points, as it
 * varies with garbage collection. The counts of spec/leaks/ inside one process are exact.
 */
const RESTART_LIMIT_BYTES = 16 * 2 ** 20;

/** How much higher the resident memory may be with all streams of the last wave than with those of the previous one. */
const WAVE_LIMIT_BYTES = 48 * 2 ** 20;

const SIDES = ['host', 'guest'] as const;

test.serial(`${RESTARTS} sessions, each cut with open streams, leave no memory or descriptors behind`, async (t) => {
  const { relay, near, far } = await CuttingRelay.between(t);
  const { pair, port, descriptors } = await startEcho(t, { hostPath: far, guestPath: near });
  const samples = { host: [] as number[], guest: [] as number[] };
  for (let done = 1; done <= RESTARTS; done += 1) {
    const open = await Promise.all([openEcho(port), openEcho(port)]);
    const closed = open.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    relay.cut();
    await within(10_000, 'the end of the streams', Promise.all(closed));
    // A short session is followed by a pause, which the signal ends if it has already begun.
    const retry = setInterval(() => pair.guest.kill('SIGHUP'), RETRY_MS);
    (await eventually(() => openEcho(port), { intervalMs: 1 })).destroy();
    clearInterval(retry);
    if (done % SAMPLE_EVERY !== 0) continue;
    for (const name of SIDES) samples[name].push(residentBytes(pair[name].pid));
    t.log(`${done} restarts: ${describe(pair)}`);
  }
  for (const name of SIDES) {
    const quarter = samples[name].length / 4;
    const lowestIn = (index: number) => Math.min(...samples[name].slice(index * quarter, (index + 1) * quarter));
    const [second, last] = [lowestIn(1), lowestIn(3)];
    t.log(`${name}: lowest in the second quarter and in the last: ${megabytes(second)}, ${megabytes(last)}`);
    t.true(last - second < RESTART_LIMIT_BYTES, `${name} has grown by ${megabytes(last - second)}`);
  }
  await descriptors.areBack();
});

test.serial(`${STREAMS} forwarded streams at once, opened and closed three times, leave nothing behind`, async (t) => {
  const hostPath = `${join(temporaryFolder(t), 'channel.sock')},streams=20000`;
  const { pair, port, descriptors } = await startEcho(t, { hostPath });
  const peaks: Record<'host' | 'guest', number>[] = [];
  t.log(`idle: ${describe(pair)}`);
  for (let wave = 1; wave <= 3; wave += 1) {
    const sockets: net.Socket[] = [];
    while (sockets.length < STREAMS)
      sockets.push(...(await Promise.all(Array.from({ length: OPENED_AT_ONCE }, () => openEcho(port)))));
    t.log(`${sockets.length} streams: ${describe(pair)}`);
    peaks.push({ host: residentBytes(pair.host.pid), guest: residentBytes(pair.guest.pid) });
    for (const name of SIDES) t.true(openDescriptors(pair[name].pid) >= descriptors.before[name] + STREAMS, name);
    const closed = sockets.map((socket) => once(socket, 'close'));
    for (const socket of sockets) socket.end();
    await within(120_000, 'the end of the streams', Promise.all(closed));
    await descriptors.areBack();
    t.log(`closed again: ${describe(pair)}`);
  }
  for (const name of SIDES) {
    const grownBytes = (peaks[2]?.[name] ?? 0) - (peaks[1]?.[name] ?? 0);
    t.log(`${name}: the third wave needs ${megabytes(grownBytes)} more than the second`);
    t.true(grownBytes < WAVE_LIMIT_BYTES, name);
  }
});

/**
 * A pair with a forward to an echo in a process of its own, so that its descriptors do not count here; with the initial
 * descriptors of the pair, and a check that it has no more now.
 */
async function startEcho(t: ExecutionContext, paths: PairSetup) {
  const target = spawnVproxy(t, [], { script: 'dist/tools/bench/load/target.js' });
  const echo = await eventually(() => /^(\d+)\n/.exec(target.stdout)?.[1]);
  const pair = await processPair(t, { ...paths, host: ['-o', 'echo:0'], guest: ['-i', `echo:${echo}`] });
  const port = await pair.host.listeningPort('echo');
  const before = { host: openDescriptors(pair.host.pid), guest: openDescriptors(pair.guest.pid) };
  const areBack = async () => {
    const isBack = () => SIDES.every((name) => openDescriptors(pair[name].pid) < before[name] + SPARE_DESCRIPTORS);
    await eventually(isBack, { what: 'the descriptors', timeoutMs: 30_000 }).catch(() => undefined);
    t.true(isBack(), `before: ${JSON.stringify(before)}, now: ${describe(pair)}`);
  };
  return { pair, port, descriptors: { before, areBack } };
}

/** A connection to the target that has echoed a byte. */
async function openEcho(port: number): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.write('echo\nx');
  const closed = new Promise<never>((_resolve, reject) => {
    socket.once('close', () => reject(new Error('the connection was closed')));
  });
  await within(30_000, 'an echo', Promise.race([once(socket, 'data'), closed]));
  closed.catch(() => undefined);
  socket.on('error', () => undefined).resume();
  return socket;
}

/** The connection that probed for a session may still be open. */
const SPARE_DESCRIPTORS = 2;

function describe(pair: ProcessPair): string {
  return SIDES.map((name) => {
    const { pid } = pair[name];
    return `${name} ${megabytes(residentBytes(pid))} and ${openDescriptors(pid)} descriptors`;
  }).join(', ');
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
