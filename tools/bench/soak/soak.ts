/** A soak: traffic and faults for some time, and then the verdict. */
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually, within } from '../../../spec/helpers/time.js';
import { FAULTS, inflict, recover } from './faults.js';
import { Ledger, type SideName } from './ledger.js';
import { Random } from './random.js';
import { holdings, Samples } from './samples.js';
import { Stage } from './stage.js';
import { runTraffic } from './traffic.js';

/** The options of a soak. */
export interface SoakOptions {
  readonly durationMs: number;
  readonly seed: number;
  /** Ends it early; the verdict covers the time until then. */
  readonly signal: AbortSignal;
  /** Receives a human-readable progress line now and then. */
  readonly onProgress: (line: string) => void;
  /** The faults to choose from. Default: all. */
  readonly faults?: readonly string[];
  /** The longest rest between two faults. Default 6,000. */
  readonly maxRestMs?: number;
  /** Called with each problem as soon as it is found. */
  readonly onProblem?: (problem: string) => void;
  /** The longest pause of an idle connection. Default 10,000. */
  readonly maxIdleMs?: number;
  /** Options of the channel, each with a comma before it. Default `,integrity=full`: one of the faults changes bytes. */
  readonly channelOptions?: string;
}

/** The result of a soak. */
export interface SoakReport {
  readonly seed: number;
  readonly seconds: number;
  readonly isInterrupted: boolean;
  readonly faults: Readonly<Record<string, number>>;
  readonly transfers: Ledger['counts'];
  readonly channelBytes: number;
  readonly processes: Readonly<Record<SideName, ProcessFigures>>;
  /** Empty when all went well. At most 100 are listed. */
  readonly problems: readonly string[];
  readonly problemCount: number;
  /** Memory and descriptors over time, as an SVG document. */
  readonly svg: string;
}

interface ProcessFigures {
  readonly idleResidentBytes: number;
  readonly mostResidentBytes: number;
  readonly idleDescriptors: number;
  readonly mostDescriptors: number;
  readonly descriptorsAfterwards: number | null;
}

/** How much more than when idle a process may have: 64 MB, and the receive budget of the channel. */
const SPARE_RESIDENT_BYTES = 128 * 2 ** 20;
/** The listener and the connections in its backlog come and go. */
const SPARE_DESCRIPTORS = 3;
const PROGRESS_MS = 10_000;
const WIND_DOWN_MS = 200_000;
const SIDES = ['host', 'guest'] as const;

/** Runs a soak to its end. Rejects only if it could not be set up. */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const { durationMs, seed, signal, onProgress, faults: names = Object.keys(FAULTS), maxRestMs = 6000 } = options;
  const ledger = new Ledger(options.onProblem);
  // The faults have their own generator, so that a seed repeats them regardless of the traffic.
  const [random, trafficRandom] = [new Random(seed), new Random(seed + 1)];
  const faults: Record<string, number> = {};
  const ending = new AbortController();
  const over = ending.signal;
  // Every worker that rests listens to it.
  setMaxListeners(0, over);
  const end = () => ending.abort();
  const timer = setTimeout(end, durationMs);
  signal.addEventListener('abort', end);
  const stage = new Stage({ ledger, signal: over }, options.channelOptions ?? ',integrity=full');
  const surroundings = { stage, ledger, random, signal: over };
  let samples: Samples | undefined;
  try {
    ledger.disturb();
    await stage.start();
    if (!(await recover(surroundings))) throw new Error('the two processes found no session');
    ledger.settle();
    onProgress('the two processes have a session');
    const idle = { host: holdings(stage.sides.host?.pid), guest: holdings(stage.sides.guest?.pid) };
    samples = new Samples(stage);
    const taken = samples;
    const progress = setInterval(() => onProgress(progressLine(taken.seconds, ledger, faults)), PROGRESS_MS);
    const traffic = runTraffic({ ...surroundings, random: trafficRandom, maxIdleMs: options.maxIdleMs ?? 10_000 });
    for (;;) {
      await delay(random.integer(200, maxRestMs), undefined, { signal: over }).catch(() => undefined);
      if (over.aborted) break;
      const name = names[random.integer(0, names.length - 1)] ?? '';
      taken.mark(name);
      onProgress(`${Math.round(taken.seconds)} s: ${name}`);
      faults[name] = (faults[name] ?? 0) + 1;
      await inflict(name, surroundings);
    }
    clearInterval(progress);
    onProgress('winding down: waiting for transfers in progress');
    // An opener is done when the system has accepted its bytes, which may be long before they reach the target.
    const targets = () => eventually(() => stage.openTargets === 0, { timeoutMs: WIND_DOWN_MS, what: 'all ends' });
    await within(WIND_DOWN_MS, 'winding down', traffic.then(targets)).catch((error: unknown) =>
      ledger.problem(String(error)),
    );
    const processes = { host: figures('host'), guest: figures('guest') };
    return {
      ...{ seed, seconds: Math.round(taken.seconds), isInterrupted: signal.aborted, faults },
      ...{ transfers: ledger.counts, channelBytes: stage.relay.carriedBytes },
      processes: { host: await processes.host, guest: await processes.guest },
      ...{ problems: ledger.problems, problemCount: ledger.problemCount },
      svg: taken.formatCharts(`Resident memory of both processes, soak with seed ${seed}`),
    };

    async function figures(name: SideName): Promise<ProcessFigures> {
      const { residentBytes: idleResidentBytes, descriptors: idleDescriptors } = idle[name];
      const mostDescriptors = (idleDescriptors ?? 0) + SPARE_DESCRIPTORS;
      const areBack = () => (holdings(stage.sides[name]?.pid).descriptors ?? Number.NaN) <= mostDescriptors;
      await eventually(areBack).catch(() => undefined);
      const found: ProcessFigures = {
        idleResidentBytes: idleResidentBytes ?? 0,
        mostResidentBytes: taken.most(name, 'residentBytes'),
        idleDescriptors: idleDescriptors ?? 0,
        mostDescriptors: taken.most(name, 'descriptors'),
        descriptorsAfterwards: holdings(stage.sides[name]?.pid).descriptors,
      };
      if (!areBack())
        ledger.problem(`the ${name} has ${found.descriptorsAfterwards} descriptors left, ${idleDescriptors} when idle`);
      if (found.mostResidentBytes > found.idleResidentBytes + SPARE_RESIDENT_BYTES)
        ledger.problem(`the ${name} had ${found.mostResidentBytes} bytes of memory, ${idleResidentBytes} when idle`);
      return found;
    }
  } finally {
    samples?.stop();
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    for (const name of SIDES) stage.sides[name]?.kill('SIGCONT');
    await stage.stop();
  }
}

function progressLine(seconds: number, ledger: Ledger, faults: Readonly<Record<string, number>>): string {
  const counts = Object.values(ledger.counts);
  const sum = (key: 'complete' | 'broken' | 'bytes'): number => counts.reduce((total, count) => total + count[key], 0);
  const faultCount = Object.values(faults).reduce((total, count) => total + count, 0);
  const transfers = `${sum('complete')} transfers complete, ${sum('broken')} broken off`;
  const data = `${(sum('bytes') / 1e6).toFixed(0)} MB`;
  return `${Math.round(seconds)} s: ${transfers}, ${data}, ${faultCount} faults, ${ledger.problemCount} problems`;
}
