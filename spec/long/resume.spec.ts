/** Streams over a TCP channel that breaks a thousand times, in every way in which TCP breaks. */
import { join } from 'node:path';
import test from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder } from '../helpers/files.js';
import { peakBytes, resetPeak, residentBytes } from '../helpers/measures.js';
import { TCP_FAULTS, TcpRelay } from '../helpers/relays.js';
import { eventually } from '../helpers/time.js';
import { CHANNEL_LISTENING, ENDED, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const CUTS = Number(process.env['VPROXY_CUTS'] ?? 1000);
const STREAMS = 200;
/** Long silence is a fault, too: it is injected once in this number of faults. */
const DEAD_AFTER_S = 2;
const STALL_EVERY = 50;
/** How much the processes may grow beyond `resume-memory`. */
const GROWTH_BYTES = 32 * 2 ** 20;
const RESUME_MEMORY_BYTES = 64 * 2 ** 20;

test(`${STREAMS} streams both ways over TCP, which breaks ${CUTS} times`, async (t) => {
  const folder = temporaryFolder(t);
  const exchanges = await Exchanges.start(t);
  const sockets = ['host', 'guest'].map((side) => join(folder, side));
  const spawn = (side: 0 | 1, ...words: readonly string[]) =>
    spawnVproxy(t, [...words, '--dead-after', String(DEAD_AFTER_S), '--control', sockets[side] ?? '']);
  const host = spawn(0, '-c', 'tcp-listen:127.0.0.1:0,resume=60s', '-o', `x:${exchanges.localPath}`);
  const relay = new TcpRelay();
  const relayPort = await relay.start(t, Number((await host.waitForLine(CHANNEL_LISTENING))[1]));
  const guest = spawn(1, '-c', `tcp-connect:127.0.0.1:${relayPort},resume=60s`, '-i', `x:${exchanges.targetPath}`);
  const sides = [host, guest];
  await Promise.all(sides.map((side) => side.waitForLine(TAKING_CONTROL)));
  const clients = sockets.map((path) => connectControl(path));
  await exchanges.open(STREAMS);
  const restingBytes = sides.map(({ pid }) => residentBytes(pid));
  for (const { pid } of sides) resetPeak(pid);

  for (let cut = 0; cut < CUTS; cut += 1) {
    const isStall = cut % STALL_EVERY === 0;
    relay.fail(TCP_FAULTS[isStall ? 2 + ((cut / STALL_EVERY) % 3) : cut % 2] ?? 'rst');
    // A short link is followed by a pause, which the signal ends if it has already begun. The log may suppress lines at
    // this rate.
    await eventually(async () => {
      guest.kill('SIGHUP');
      const statuses = await Promise.all(clients.map((client) => client.channel('default')));
      return statuses.every(({ totals }) => totals.resumptions > cut);
    });
  }
  t.deepEqual(await exchanges.finish(), []);
  for (const side of sides) t.false(side.lines.some((line) => ENDED.test(line)));
  const grownBytes = sides.map(({ pid }, index) => peakBytes(pid) - (restingBytes[index] ?? 0));
  t.log(
    `${Math.round(exchanges.receivedBytes / 1e6)} MB; grown by ${grownBytes.map((each) => Math.round(each / 2 ** 20)).join(' and ')} MiB`,
  );
  for (const each of grownBytes) t.true(each <= RESUME_MEMORY_BYTES + GROWTH_BYTES);
});
