/** Collects the points of several contenders over several rounds. */
import { summarize } from '../table.js';
import type { Plot, Series } from './axis.js';

/** Figures of one plot, by contender and place on the axis. */
export class SeriesTable {
  readonly #figures = new Map<string, Map<number, number[]>>();

  /** Records the figure of a round. */
  add(name: string, x: number, y: number): void {
    const places = this.#figures.get(name) ?? new Map<number, number[]>();
    this.#figures.set(name, places);
    places.set(x, [...(places.get(x) ?? []), y]);
  }

  /** A line for each contender through the medians. */
  series(): Series[] {
    return [...this.#figures].map(([name, places]) => ({
      name,
      points: [...places].map(([x, figures]) => ({ x, y: summarize(figures).median })).sort((a, b) => a.x - b.x),
    }));
  }

  /** The plot of them. */
  plot(about: Omit<Plot, 'series'>): Plot {
    return { ...about, series: this.series() };
  }
}
