/** Draws an axis: a chart for each of its plots, one below the other. */
import { formatLineCharts } from '../plot/line-chart.js';
import type { ScaleKind } from '../plot/scale.js';
import type { Plot } from './axis.js';

/** From this ratio of the largest to the smallest value, the scale is logarithmic. */
const LOG_FROM_RATIO = 30;

/** An SVG document. */
export function drawPlots(plots: readonly Plot[]): string {
  return formatLineCharts(
    plots.map(({ title, x, y, series }) => {
      const values = series.flatMap(({ points }) => points.map((point) => point.y));
      return { title, x, y: { ...y, scale: chooseScale(values) }, series, hasDots: true };
    }),
  );
}

/** Logarithmic if positive values span decades. Ignores values that are not finite. */
export function chooseScale(values: readonly number[]): ScaleKind {
  const finite = values.filter(Number.isFinite);
  const least = Math.min(...finite);
  return least > 0 && Math.max(...finite) / least >= LOG_FROM_RATIO ? 'log' : 'linear';
}
