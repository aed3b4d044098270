/** The time until the first byte comes through a guest that continues: after `stop` and `cont`, and after `loadvm`. */
import { setTimeout as delay } from 'node:timers/promises';
import { eventually, within } from '../../../spec/helpers/time.js';
import type { Guest } from '../../../spec/vm/rig/guest.js';
import { type Address, type Connection, closeAll, connectSocket, whileOpen } from '../load/connection.js';
import type { ResultRow, Results } from '../results.js';
import type { Outcomes } from '../work/work.js';
import { carriesOneByte, VM_CONTENDERS } from './contenders.js';

/** The name that `--only` matches. */
export const PAUSES_WORK = 'pauses';

export const PAUSES_ROWS: readonly ResultRow[] = [
  { work: PAUSES_WORK, key: 'cont', title: 'from cont to the first byte, after 2 s of stop', unit: 'ms' },
  { work: PAUSES_WORK, key: 'loadvm', title: 'from loadvm to the first byte', unit: 'ms' },
  { work: PAUSES_WORK, key: 'loading', title: '  of that, until QEMU has loaded the state', unit: 'ms' },
];

/** All that can be connected to, without the one that brings a file into the guest: no snapshot can be taken then. */
export const PAUSES_CONTENDERS = VM_CONTENDERS.filter(({ id }) => id !== 'mux' && id !== 'vproxy-guest');

const STOPPED_MS = 2000;
const WARM_UPS = 100;
const TIMEOUT_MS = 60_000;

/** Measures in a running guest that has the programs of `installInGuest`. A failing contender never ends the run. */
export async function measurePauses(guest: Guest, rounds: number, results: Results): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of PAUSES_CONTENDERS) {
      const running = await contender.start(guest);
      const { address } = running;
      const at = address.startsWith('/') ? address : Number(address);
      const outcomes = measureStopped(guest, at).then(async (cont) => ({
        cont,
        // Without a session, nothing begins anew: what a plain relay carries then belongs to nobody.
        ...(contender.id === 'vproxy' && (await measureLoaded(guest, at, `pauses-${round}`))),
      }));
      results.add(PAUSES_WORK, contender.id, await outcomes.catch(failed));
      await running.stop();
    }
  }
}

/** A byte that is sent while the guest is stopped, on a connection of before. */
async function measureStopped(guest: Guest, address: Address): Promise<number> {
  const connection = await connectSocket(address);
  try {
    connection.stream.write('echo\n');
    for (let count = 0; count < WARM_UPS; count += 1) await exchange(connection);
    await guest.pause();
    const answered = exchange(connection);
    await delay(STOPPED_MS);
    const continuedAt = performance.now();
    await guest.resume();
    await answered;
    return performance.now() - continuedAt;
  } finally {
    closeAll([connection]);
  }
}

/** A new connection after the guest has an earlier state, in which its end of the session is another one. */
async function measureLoaded(guest: Guest, address: Address, name: string): Promise<Outcomes> {
  await guest.saveSnapshot(name);
  await carriesOneByte(address);
  const loadedAt = performance.now();
  await guest.startLoaded(name);
  const loading = performance.now() - loadedAt;
  await eventually(() => carriesOneByte(address).catch(() => false), { timeoutMs: TIMEOUT_MS, intervalMs: 2 });
  return { loadvm: performance.now() - loadedAt, loading };
}

function exchange(connection: Connection): Promise<void> {
  const back = new Promise<void>((resolve) => {
    connection.onBytes = () => resolve();
    connection.stream.write('x');
  });
  return within(TIMEOUT_MS, 'an echo', whileOpen([connection], back));
}

const failed = (error: unknown): Outcomes =>
  Object.fromEntries(PAUSES_ROWS.map(({ key }) => [key, error instanceof Error ? error.message : String(error)]));
