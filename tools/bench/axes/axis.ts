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
  /** In file names and in JSON. */
  readonly name: string;
  readonly title: string;
  /** Titles with their units. */
  readonly x: { readonly title: string; readonly scale: ScaleKind };
  readonly y: { readonly title: string };
  readonly series: readonly Series[];
}

/** Measures along one axis. A contender that fails at a point has no value there. */
export interface Axis {
  readonly id: string;
  measure(options: BenchOptions, run: RunSetting): Promise<Plot[]>;
}

/** The contenders that the plots compare, unless `--contenders` names others. */
export const AXIS_CONTENDERS: readonly string[] = ['vproxy', 'relays', 'yamux'];
