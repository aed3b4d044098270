/** Memory and descriptors of both processes over the time of a soak, and the charts of them. */
import { openDescriptors, residentBytes } from '../../../spec/helpers/measures.js';
import { formatLineCharts, type Mark } from '../plot/line-chart.js';
import type { SideName } from './ledger.js';
import type { Stage } from './stage.js';

const EVERY_MS = 500;

/** The resources of a process at one moment; nulls while there is no process. */
interface Sample {
  readonly seconds: number;
  readonly residentBytes: number | null;
  readonly descriptors: number | null;
}

/** Takes samples from its construction until `stop`. */
export class Samples {
  readonly bySide: Record<SideName, Sample[]> = { host: [], guest: [] };
  readonly marks: Mark[] = [];
  readonly #stage: Stage;
  readonly #startedAt = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#timer = setInterval(() => this.#take(), EVERY_MS);
  }

  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  /** Marks this moment in the charts. */
  mark(text: string): void {
    this.marks.push({ x: this.seconds, text });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The peak of a side. */
  most(side: SideName, key: 'residentBytes' | 'descriptors'): number {
    return this.bySide[side].reduce((most, sample) => Math.max(most, sample[key] ?? 0), 0);
  }

  /** An SVG document with a chart of each. */
  formatCharts(title: string): string {
    const series = (key: 'residentBytes' | 'descriptors', unit: number) =>
      (['host', 'guest'] as const).map((name) => ({
        name,
        points: this.bySide[name].map((sample) => ({ x: sample.seconds / 60, y: (sample[key] ?? Number.NaN) / unit })),
      }));
    const x = { title: 'time, minutes; a dotted line is a fault' };
    const marks = this.marks.map((mark) => ({ ...mark, x: mark.x / 60 }));
    return formatLineCharts([
      { title, x, y: { title: 'resident memory, MB' }, series: series('residentBytes', 1e6), marks },
      { title: 'Open descriptors', x, y: { title: 'descriptors' }, series: series('descriptors', 1), marks },
    ]);
  }

  #take(): void {
    for (const name of ['host', 'guest'] as const) {
      this.bySide[name].push({ seconds: this.seconds, ...holdings(this.#stage.sides[name]?.pid) });
    }
  }
}

/** Reads the resources of a process; nulls without a process. */
export function holdings(pid: number | undefined): Pick<Sample, 'residentBytes' | 'descriptors'> {
  try {
    if (pid !== undefined) return { residentBytes: residentBytes(pid), descriptors: openDescriptors(pid) };
  } catch {
    // It has just exited.
  }
  return { residentBytes: null, descriptors: null };
}
