/** The constant traffic on the two processes: each worker repeats one kind of operation. */
import { execFile } from 'node:child_process';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { callStorage } from '../../../lib/storage/wrapper.js';
import { type Exchange, endOf, exchange } from './exchange.js';
import type { Ledger, SideName } from './ledger.js';
import type { Random } from './random.js';
import { HOPELESS, type Stage, UPWARDS } from './stage.js';

/** What a worker needs. */
export interface Surroundings {
  readonly stage: Stage;
  readonly ledger: Ledger;
  readonly random: Random;
  /** Ends the workers after their current operation. */
  readonly signal: AbortSignal;
}

const SIDES: readonly SideName[] = ['host', 'guest'];
const CALL_TIMEOUT_MS = 60_000;

const PLANS = {
  short: (random: Random): Omit<Exchange, 'kind'> => ({
    upBytes: random.integer(0, 3000),
    downBytes: random.integer(0, 30_000),
    chunkBytes: 65_536,
    pauseMs: 0,
  }),
  bulk: (random) => {
    const bytes = random.integer(200_000, 6_000_000);
    const isUp = random.fraction() < 0.5;
    return { upBytes: isUp ? bytes : 100, downBytes: isUp ? 100 : bytes, chunkBytes: 65_536, pauseMs: 0 };
  },
  long: (random) => ({
    upBytes: random.integer(50_000, 300_000),
    downBytes: random.integer(50_000, 300_000),
    chunkBytes: random.integer(1000, 5000),
    pauseMs: random.integer(50, 150),
  }),
  idle: (random, maxIdleMs) => ({ upBytes: 3, downBytes: 3, chunkBytes: 1, pauseMs: random.integer(1, maxIdleMs) }),
} as const satisfies Record<string, (random: Random, maxIdleMs: number) => Omit<Exchange, 'kind'>>;

/** Workers of each kind at each side, and how long each of them rests at most. */
const WORKERS = [
  { kind: 'short', count: 3, restMs: 200 },
  { kind: 'bulk', count: 1, restMs: 1500 },
  { kind: 'long', count: 2, restMs: 500 },
  { kind: 'idle', count: 4, restMs: 100 },
] as const;

/** Makes a short exchange from a side, to see whether there is a session. */
export async function probe(surroundings: Surroundings, side: SideName): Promise<boolean> {
  const port = await surroundings.stage.port(side, UPWARDS[side]);
  return exchange(surroundings, side, port, {
    kind: 'probe',
    upBytes: 100,
    downBytes: 100,
    chunkBytes: 100,
    pauseMs: 0,
  });
}

/** Runs all workers until the signal, and until their current operations have ended. */
export async function runTraffic(surroundings: Surroundings & { readonly maxIdleMs: number }): Promise<void> {
  const { random, maxIdleMs } = surroundings;
  const transfers = SIDES.flatMap((side) =>
    WORKERS.flatMap(({ kind, count, restMs }) =>
      Array.from({ length: count }, () =>
        again(surroundings, restMs, async () => {
          const port = await surroundings.stage.port(side, UPWARDS[side]);
          await exchange(surroundings, side, port, { kind, ...PLANS[kind](random, maxIdleMs) });
        }),
      ),
    ),
  );
  const others = [
    again(surroundings, 500, () => connectInVain(surroundings)),
    again(surroundings, 500, () => call(surroundings, callInProcess)),
    again(surroundings, 500, () => call(surroundings, callInProcess)),
    again(surroundings, 5000, () => call(surroundings, callWithWrapper)),
  ];
  await Promise.all([...transfers, ...others]);
}

async function again({ random, signal }: Surroundings, restMs: number, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    // A side that is being restarted has no port yet.
    await work().catch(() => undefined);
    await delay(random.integer(0, restMs), undefined, { signal }).catch(() => undefined);
  }
}

/** Connects to a forward whose target is missing: it must be reset without any bytes. */
async function connectInVain({ stage, ledger, random }: Surroundings): Promise<void> {
  const service = random.pick(HOPELESS);
  const ticket = ledger.begin('host');
  const socket = net.connect({ host: '127.0.0.1', port: await stage.port('host', service), allowHalfOpen: true });
  let receivedBytes = 0;
  socket.on('data', (chunk: Buffer) => {
    receivedBytes += chunk.length;
  });
  socket.write('is anybody there?');
  const end = await endOf(socket);
  socket.destroy();
  ledger.count('refused', end === 'reset', receivedBytes);
  if (receivedBytes > 0) ledger.problem(`received ${receivedBytes} bytes from ${service}, which has no target`);
  else if (end !== 'reset' && ledger.isUndisturbed(ticket)) ledger.problem(`${service}: ended instead of reset`);
}

/** Makes a storage call by some means, and verifies the answer. */
async function call(surroundings: Surroundings, means: typeof callInProcess): Promise<void> {
  const { ledger, random, stage } = surroundings;
  const word = `${'x'.repeat(random.integer(1, 5000))}${random.integer(0, 1e9)}`;
  const ticket = ledger.begin('guest');
  try {
    const answer = await means(stage, ['/c0', 'show', word]);
    ledger.count('storage', answer === `/c0 show ${word}\n`, answer.length);
    if (answer !== `/c0 show ${word}\n`) ledger.problem(`wrong answer to a storage call of ${word.length} characters`);
  } catch (error) {
    ledger.count('storage', false);
    const message = error instanceof Error ? error.message : String(error);
    if (ledger.isUndisturbed(ticket)) ledger.problem(`a storage call failed without a disturbance: ${message}`);
  }
}

async function callInProcess(stage: Stage, args: readonly string[]): Promise<string> {
  const socketPaths = [stage.storageSocket];
  const { stdout } = await callStorage({ argv: ['storcli64', ...args], socketPaths, timeoutMs: CALL_TIMEOUT_MS });
  return stdout.toString();
}

function callWithWrapper(stage: Stage, args: readonly string[]): Promise<string> {
  const env = { ...process.env, VPROXY_STORAGE_SOCKET: stage.storageSocket };
  return new Promise((resolve, reject) => {
    execFile(stage.utility, args, { env, timeout: CALL_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(stderr.trim() || error.message));
    });
  });
}
