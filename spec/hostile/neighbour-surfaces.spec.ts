/** A neighbour's echoes beside a guest that uses one surface of its channel as hard as it can: at most twice as long as in quiet. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { HOSTILE_SURFACES, SURFACES } from '../helpers/hostile-surfaces.js';
import { processorTime } from '../helpers/measures.js';
import {
  type HostileChannel,
  measureEcho,
  type Neighbours,
  startHostile,
  startNeighbours,
} from '../helpers/neighbours.js';
import { eventually } from '../helpers/time.js';

/** Quiet and disturbed rounds follow each other; the medians of both are compared. */
const ROUNDS = 3;
const ECHOES_PER_ROUND = 100;
/** A machine that is busy with other things can spoil a set of rounds; a real disturbance shows in every one. */
const ATTEMPTS = 4;
const PAUSE_MS = 1;
/** A process sleeps that uses less than a twentieth of this time. */
const SLEEP_MS = 20;

/** The limit of a neighbour's slowest echoes: twice the quiet value, and the time of garbage collection meanwhile. */
const allowedMs = (quietMs: number): number => 2 * quietMs + 2;

/** What the hostile guest's channel has beside the usual services; `port` is that of a program that takes all. */
const channelOf = (port: number): HostileChannel => ({
  incoming: ['web:egress:', 'dns:resolver:web', `datagrams:udp:127.0.0.1:${port}`],
  options: { egress: { web: { allow: ['allowed.example:80'] } }, info: true, exec: {} },
});

const BOUND =
  "const s = require('dgram').createSocket('udp4').bind(0, '127.0.0.1', () => console.log(s.address().port))";

/** The port of a program that is stopped: what comes is the system's, and costs nobody time here. */
async function udpPort(t: ExecutionContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', BOUND], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  return Number(port);
}

async function measureRound(setup: Neighbours): Promise<Round> {
  const { ranMs } = processorTime(setup.vproxy.pid);
  const timesMs: number[] = [];
  for (let count = 0; count < ECHOES_PER_ROUND; count += 1) {
    timesMs.push(await measureEcho(setup));
    await delay(PAUSE_MS);
  }
  timesMs.sort((one, other) => one - other);
  const echoMs = timesMs[Math.ceil(0.99 * timesMs.length) - 1] ?? 0;
  return { echoMs, ranMs: processorTime(setup.vproxy.pid).ranMs - ranMs };
}

/** The 99th percentile of echoes, and the processor time of the process meanwhile, both in milliseconds. */
interface Round {
  readonly echoMs: number;
  readonly ranMs: number;
}

/** Until the process sleeps: it has worked off what the guest had sent before it was stopped. */
const settle = ({ vproxy }: Neighbours): Promise<true> =>
  eventually(
    async () => {
      const { ranMs } = processorTime(vproxy.pid);
      await delay(SLEEP_MS);
      return processorTime(vproxy.pid).ranMs - ranMs < SLEEP_MS / 20;
    },
    { what: 'the end of what the guest had sent' },
  );

async function measureRounds(setup: Neighbours, guest: ChildProcess): Promise<{ quiet: Round; beside: Round }> {
  const rounds = { quiet: [] as Round[], beside: [] as Round[] };
  for (let round = 0; round < ROUNDS; round += 1) {
    guest.kill('SIGSTOP');
    await settle(setup);
    rounds.quiet.push(await measureRound(setup));
    guest.kill('SIGCONT');
    rounds.beside.push(await measureRound(setup));
  }
  return { quiet: medians(rounds.quiet), beside: medians(rounds.beside) };
}

const medians = (rounds: readonly Round[]): Round => ({
  echoMs: median(rounds.map(({ echoMs }) => echoMs)),
  ranMs: median(rounds.map(({ ranMs }) => ranMs)),
});

const describeRound = ({ echoMs, ranMs }: Round): string => `${echoMs.toFixed(2)} ms (ran ${ranMs.toFixed(0)})`;

const median = (values: readonly number[]): number =>
  values.toSorted((one, other) => one - other)[values.length >> 1] ?? 0;

for (const what of Object.keys(SURFACES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const setup = await startNeighbours(t, channelOf(await udpPort(t)));
    const guest = await startHostile(t, what, setup.folder, HOSTILE_SURFACES);
    for (let attempt = 1; ; attempt += 1) {
      const { quiet, beside } = await measureRounds(setup, guest);
      const figures = `99 %: ${describeRound(quiet)} quiet, ${describeRound(beside)} beside it`;
      t.log(figures);
      if (beside.echoMs > allowedMs(quiet.echoMs) && attempt < ATTEMPTS) continue;
      t.true(beside.echoMs <= allowedMs(quiet.echoMs), figures);
      // Otherwise the process has had nothing to do.
      t.true(beside.ranMs > 1.5 * quiet.ranMs, figures);
      break;
    }
    // Otherwise the guest has not disturbed anything.
    t.is(guest.exitCode, null);
  });
}
