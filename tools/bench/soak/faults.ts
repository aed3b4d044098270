/** The faults of a soak, one at a time, each followed by a wait for recovery. */
import { setTimeout as delay } from 'node:timers/promises';
import { within } from '../../../spec/helpers/time.js';
import type { SideName } from './ledger.js';
import { probe, type Surroundings } from './traffic.js';

/** A fault. */
interface Fault {
  /** Whether it ends sessions; otherwise all streams must survive. */
  readonly disturbs: boolean;
  /** Causes it; resolves when it is over. */
  readonly run: (surroundings: Surroundings) => Promise<void>;
}

/** After a fault, the session must work again within this time. */
const RECOVERY_MS = 60_000;
const RETRY_MS = 100;

const kill = (side: SideName, signal: 'SIGKILL' | 'SIGTERM'): Fault => ({
  disturbs: true,
  run: async ({ stage, random }) => {
    stage.relay.holdsOpen = random.fraction() < 0.5;
    await stage.end(side, signal);
    await delay(random.integer(0, 500));
    stage.launch(side);
  },
});

const pause = (side: SideName): Fault => ({
  disturbs: false,
  run: async ({ stage, random, signal }) => {
    stage.sides[side]?.kill('SIGSTOP');
    await delay(random.integer(500, 6000), undefined, { signal }).catch(() => undefined);
    stage.sides[side]?.kill('SIGCONT');
  },
});

/** Every fault by its name. */
export const FAULTS: Readonly<Record<string, Fault>> = {
  'host-killed': kill('host', 'SIGKILL'),
  'guest-killed': kill('guest', 'SIGKILL'),
  'host-stopped': kill('host', 'SIGTERM'),
  'guest-stopped': kill('guest', 'SIGTERM'),
  'host-paused': pause('host'),
  'guest-paused': pause('guest'),
  'channel-cut': {
    disturbs: true,
    run: async ({ stage: { relay }, random }) => {
      relay.bytesToCut = random.integer(1, 200_000);
      await delay(2000);
      // If too few bytes came to reach the cut, cut now.
      if (Number.isFinite(relay.bytesToCut)) relay.cut();
    },
  },
  'channel-stalled': {
    disturbs: false,
    run: async ({ stage: { relay }, random, signal }) => {
      relay.stall();
      await delay(random.integer(500, 6000), undefined, { signal }).catch(() => undefined);
      relay.goOn();
    },
  },
  'bytes-lost': {
    disturbs: true,
    run: async ({ stage: { relay }, random }) => {
      relay.bytesToLose = random.integer(1, 20_000);
      await delay(500);
      relay.bytesToLose = 0;
    },
  },
  'bytes-repeated': {
    disturbs: true,
    run: async ({ stage: { relay }, random }) => {
      relay.bytesToRepeat = random.integer(1, 20_000);
      await delay(500);
      relay.bytesToRepeat = 0;
    },
  },
  'byte-changed': {
    disturbs: true,
    run: async ({ stage: { relay }, random }) => {
      relay.bytesToChange = random.integer(0, 100_000);
      await delay(1000);
      relay.bytesToChange = Number.POSITIVE_INFINITY;
    },
  },
};

/**
 * Causes the fault of this name; resolves when both sides work again, or fail to in time, which is a problem.
 */
export async function inflict(name: string, surroundings: Surroundings): Promise<void> {
  const fault = FAULTS[name];
  if (fault === undefined) throw new Error(`unknown fault: ${name}`);
  const { ledger } = surroundings;
  if (fault.disturbs) ledger.disturb();
  await fault.run(surroundings);
  const isBack = await recover(surroundings);
  if (!isBack) ledger.problem(`${name}: no session within ${RECOVERY_MS / 1000} s`);
  // Later failures count only once the session is really back.
  if (isBack) ledger.settle();
}

/** Resolves with true as soon as transfers from both sides work. */
export async function recover(surroundings: Surroundings): Promise<boolean> {
  const deadline = performance.now() + RECOVERY_MS;
  while (performance.now() < deadline) {
    const left = deadline - performance.now();
    const both = Promise.all([probe(surroundings, 'host'), probe(surroundings, 'guest')]);
    const isBack = await within(left, 'a probe', both).then(
      (results) => results.every((isComplete) => isComplete),
      () => false,
    );
    if (isBack) return true;
    await delay(RETRY_MS);
  }
  return false;
}
