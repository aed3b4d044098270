/** What a peer makes the process hold in memory, at full scale: the maximum of streams, each with its whole first credit. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { peakBytes, resetPeak } from '../helpers/measures.js';
import { measureEcho, startHostile, startNeighbours } from '../helpers/neighbours.js';
import { streamCases } from '../hostile/memory/stream-cases.js';
import { runTables } from '../hostile/run-table.js';

const LASTS_MS = 60_000;
const PAUSE_MS = 1;
const BOUND_BYTES = 256 * 2 ** 20;

test.serial('for a minute a guest fills all its streams byte by byte: the process stays under 256 MiB', async (t) => {
  const setup = await startNeighbours(t);
  await startHostile(t, 'fills all its streams byte by byte', setup.folder);
  resetPeak(setup.vproxy.pid);
  const timesMs: number[] = [];
  for (const untilMs = performance.now() + LASTS_MS; performance.now() < untilMs; ) {
    timesMs.push(await measureEcho(setup));
    await delay(PAUSE_MS);
  }
  timesMs.sort((one, other) => one - other);
  const echoMs = (share: number) => (timesMs[Math.ceil(share * timesMs.length) - 1] ?? 0).toFixed(2);
  const peak = peakBytes(setup.vproxy.pid);
  t.log(`${peak >> 20} MiB; ${timesMs.length} echoes of the neighbour: ${echoMs(0.5)} ms, 99 %: ${echoMs(0.99)} ms`);
  t.true(peak < BOUND_BYTES);
  t.false(setup.vproxy.lines.some((line) => /good: .* ended|internal: /.test(line)));
});

const cases = streamCases({ streams: 1000, bytesPerStream: 65_536 });

// Each case has a process of its own: writes of an earlier case to a stuck file stay in memory.
runTables(...cases.map((one) => [one]));
