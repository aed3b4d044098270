/** How a figure grows: series of points, and the plots that they make. */

import type { BenchOptions } from '../options.js';
import type { ScaleKind } from '../plot/scale.js';
import type { RunSetting } from '../run-table.js';

/** One line of a plot. */
export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** One plot. */
export interface Plot {
  /** For files and programs. */
  readonly name: string;
  readonly title: string;
  /** Titles with their units. */
  readonly x: { readonly title: string; readonly scale: ScaleKind };
  readonly y: { readonly title: string };
  readonly series: readonly Series[];
}

/** Measures along one axis. A contender that fails at a point has none there. */
export interface Axis {
  readonly id: string;
  measure(options: BenchOptions, run: RunSetting): Promise<Plot[]>;
}

/** Who is measured along the axes, unless `--contenders` says more: those that the plots are read by. */
export const AXIS_CONTENDERS: readonly string[] = ['vproxy', 'relays', 'yamux'];
