/** Two guests of one process: a hostile one, and a good one whose echoes are measured. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from './files.js';
import { HOSTILE_GUEST } from './hostile-guest.js';
import { processorTime, stopwatch } from './measures.js';
import { echo, localServer, startProxy } from './proxies.js';
import { PROXY_PROGRAM, type ProgramChannel } from './proxy-program.js';
import { eventually, within } from './time.js';
import { spawnVproxy, type VproxyProcess } from './vproxy-process.js';

/** A process with a channel for each of the two guests, and a stream over the good one's. */
export type Neighbours = Awaited<ReturnType<typeof startNeighbours>>;

/** Additions to the usual services of the hostile guest's channel. */
export interface HostileChannel {
  /** Whether it has TLS, with the key in FOLDER/key. */
  readonly isSecured?: boolean;
  readonly incoming?: readonly string[];
  /** Further options of a channel, as in a program. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The process is the command line, with a control socket at FOLDER/control.sock. Default: a program. */
  readonly isSteered?: boolean;
  /** A program that becomes the process: its words, before its own. Default: none. */
  readonly launcher?: readonly string[];
}

export async function startNeighbours(t: ExecutionContext, hostile: HostileChannel = {}) {
  const folder = temporaryFolder(t);
  await localServer(t, echo, { path: join(folder, 'echo') });
  writeKeyFile(folder, 'key', '5e');
  const channelOf = (label: string, { isSecured = false, incoming = [], options = {} }: HostileChannel) => ({
    label,
    channel: `unix-listen:${join(folder, label)}.sock${isSecured ? ',tls=psk' : ''}`,
    keyFiles: isSecured ? [join(folder, 'key')] : [],
    incoming: [...['echo', 'sink', 'deaf', 'source'].map((name) => `${name}:${join(folder, name)}`), ...incoming],
    ...options,
  });
  const channels = [channelOf('hostile', hostile), channelOf('good', {})];
  const vproxy =
    hostile.isSteered === true ? spawnSteered(t, folder, channels) : spawnProgram(t, channels, hostile.launcher);
  await vproxy.waitForLine(/waiting for the peer on .*good/);
  const guest = await startProxy(t, `unix-connect:${join(folder, 'good.sock')}`);
  const stream = await guest.proxy.connect('echo');
  t.teardown(() => stream.destroy());
  return { folder, vproxy, guest, stream };
}

type Channel = ProgramChannel & { readonly label: string; readonly [option: string]: unknown };

const spawnProgram = (t: ExecutionContext, channels: readonly Channel[], launcher: readonly string[] = []) =>
  spawnVproxy(t, [JSON.stringify({ channels })], { script: PROXY_PROGRAM, launcher });

function spawnSteered(t: ExecutionContext, folder: string, channels: readonly Channel[]): VproxyProcess {
  const file = join(folder, 'config.json');
  const tables: Record<string, unknown> = {};
  for (const { label, channel, keyFiles, ...rest } of channels)
    tables[label] = { address: channel, keys: keyFiles, ...rest };
  writeFileSync(file, JSON.stringify({ channels: tables }));
  return spawnVproxy(t, ['--config', file, '--control', join(folder, 'control.sock')]);
}

/** Starts the hostile guest, and waits until it has begun. */
export async function startHostile(t: ExecutionContext, what: string, folder: string) {
  const child = spawn(process.execPath, [join(PROJECT_ROOT, HOSTILE_GUEST), what, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const begun = once(child.stdout, 'data');
  await within(30_000, 'the hostile guest', Promise.race([begun, gone]));
  return child;
}

/**
 * One echo of a byte, in milliseconds, less the time that the two processes waited for a processor: other programs used it then,
 * which says nothing about how the channels share the process.
 */
export async function measureEcho({ vproxy, stream }: Neighbours): Promise<number> {
  const tookMs = stopwatch(vproxy.pid);
  const answer = once(stream, 'data');
  stream.write('x');
  await within(30_000, 'the echo on the good channel', answer);
  return tookMs();
}

/** How much is measured. Quiet and disturbed rounds alternate; the medians of both are compared. */
interface Measuring {
  readonly rounds: number;
  readonly echoesPerRound: number;
  /** A machine busy with other things can spoil a set of rounds; a real disturbance shows in every one. */
  readonly attempts: number;
  /** Whether the disturbance must be at work in every round. Default: false. */
  readonly isBusy?: boolean;
}

/** A round with a disturbance has at most this many times as many echoes: others may have the processors. */
const MAX_ROUNDS = 20;

/** A disturbance counts as at work in a round if it, and the process because of it, have run this long. */
const AT_WORK_MS = 20;

/** Like a user typing: between two echoes the process has time for other work. */
const PAUSE_MS = 1;

/** A process counts as asleep if it uses less than a twentieth of this time. */
const SLEEP_MS = 20;

/** The limit of a neighbour's slowest echoes: twice the quiet value, plus the time of garbage collection. */
const allowedMs = (quietMs: number): number => 2 * quietMs + 2;

/** The 99th percentile of echoes, and the processor time of the process for each of them, both in milliseconds. */
interface Round {
  readonly echoMs: number;
  readonly ranMs: number;
  /** How long the disturbance has run meanwhile, and the process more than for quiet echoes. */
  readonly disturbedMs: number;
}

/** A possible disturbance of the neighbour, running at first. */
export interface Disturbance {
  stop(): Promise<void>;
  goOn(): Promise<void>;
  /** How long it has run, in milliseconds. */
  ranMs(): number;
}

/** A hostile guest, stopped until the process has worked off its input, and then continued. */
export const besideGuest = (setup: Neighbours, guest: ChildProcess): Disturbance => ({
  async stop() {
    guest.kill('SIGSTOP');
    await settle(setup);
  },
  goOn() {
    guest.kill('SIGCONT');
    return Promise.resolve();
  },
  ranMs: () => processorTime(guest.pid ?? 0).ranMs,
});

/** A neighbour's echoes beside a possible disturbance: they may take twice as long as without. Logs the measurements. */
export async function requireGoodEchoes(
  t: ExecutionContext,
  setup: Neighbours,
  disturbance: Disturbance,
  measuring: Measuring,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const { quiet, beside } = await measureRounds(setup, disturbance, measuring);
    const figures = `99 %: ${describeRound(quiet)} quiet, ${describeRound(beside)} beside what took ${beside.disturbedMs.toFixed(0)}`;
    t.log(figures);
    const isGood = beside.echoMs <= allowedMs(quiet.echoMs);
    if (!isGood && attempt < measuring.attempts) continue;
    t.true(isGood, figures);
    if (measuring.isBusy === true) t.true(beside.disturbedMs >= AT_WORK_MS, figures);
    return;
  }
}

async function measureRounds(
  setup: Neighbours,
  disturbance: Disturbance,
  { rounds: count, echoesPerRound, isBusy = false }: Measuring,
): Promise<{ quiet: Round; beside: Round }> {
  const rounds = { quiet: [] as Round[], beside: [] as Round[] };
  for (let round = 0; round < count; round += 1) {
    await disturbance.stop();
    const quiet = await measureRound(setup, echoesPerRound, disturbance, { quietMs: 0, leastMs: 0 });
    await disturbance.goOn();
    const wanted = { quietMs: quiet.ranMs, leastMs: isBusy ? AT_WORK_MS : 0 };
    rounds.quiet.push(quiet);
    rounds.beside.push(await measureRound(setup, echoesPerRound, disturbance, wanted));
  }
  return { quiet: medians(rounds.quiet), beside: medians(rounds.beside) };
}

/**
 * Measures echoes until the disturbance was at work for long enough: it may have to wait for a disk, or for a processor. A guest
 * whose frames cost the process far more than itself must wait for the process, so the work of both counts.
 */
async function measureRound(
  setup: Neighbours,
  echoCount: number,
  disturbance: Disturbance,
  { quietMs, leastMs }: { readonly quietMs: number; readonly leastMs: number },
): Promise<Round> {
  const timesMs: number[] = [];
  const [beganMs, disturbedMs] = [processorTime(setup.vproxy.pid).ranMs, disturbance.ranMs()];
  const ranMs = () => processorTime(setup.vproxy.pid).ranMs - beganMs;
  const disturbedFor = () => disturbance.ranMs() - disturbedMs + Math.max(0, ranMs() - quietMs * timesMs.length);
  while (timesMs.length < echoCount || (disturbedFor() < leastMs && timesMs.length < MAX_ROUNDS * echoCount)) {
    timesMs.push(await measureEcho(setup));
    await delay(PAUSE_MS);
  }
  timesMs.sort((one, other) => one - other);
  return {
    echoMs: timesMs[Math.ceil(0.99 * timesMs.length) - 1] ?? 0,
    ranMs: ranMs() / timesMs.length,
    disturbedMs: disturbedFor(),
  };
}

/** Waits until the process sleeps: it has worked off what the guest sent before it was stopped. */
function settle({ vproxy }: Neighbours): Promise<true> {
  const sleeps = async (): Promise<boolean> => {
    const { ranMs } = processorTime(vproxy.pid);
    await delay(SLEEP_MS);
    return processorTime(vproxy.pid).ranMs - ranMs < SLEEP_MS / 20;
  };
  return eventually(sleeps, { what: 'the end of what the guest had sent' });
}

function medians(rounds: readonly Round[]): Round {
  const of = (name: keyof Round): number =>
    rounds.map((round) => round[name]).sort((one, other) => one - other)[rounds.length >> 1] ?? 0;
  return { echoMs: of('echoMs'), ranMs: of('ranMs'), disturbedMs: of('disturbedMs') };
}

const describeRound = ({ echoMs, ranMs }: Round): string => `${echoMs.toFixed(2)} ms (ran ${ranMs.toFixed(2)})`;
