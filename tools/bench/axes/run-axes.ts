/** The run that produces plots: figures by streams, message size and latency. */
import type { BenchOptions } from '../options.js';
import { formatFigure } from '../report/format-figure.js';
import { describeMachine } from '../report/machine.js';
import { listMissing, type RunReport, type RunSetting } from '../run-table.js';
import { formatTable } from '../table.js';
import { AXIS_CONTENDERS, type Axis, type Plot } from './axis.js';
import { drawPlots } from './draw-plots.js';
import { latencyAxis } from './latency.js';
import { messagesAxis } from './messages.js';
import { streamsAxis } from './streams.js';

/** All axes, by the names that `--only` matches. */
export const AXES: readonly Axis[] = [streamsAxis, messagesAxis, latencyAxis];

/** Measures along every requested axis. */
export async function runAxes(options: BenchOptions, run: RunSetting): Promise<RunReport> {
  const missing = listMissing(options.contenders);
  const contenders = options.contenders.filter(
    ({ id }) => !missing.has(id) && (options.hasChosenContenders || AXIS_CONTENDERS.includes(id)),
  );
  const plots: Plot[] = [];
  const drawings = new Map<string, string>();
  for (const axis of AXES.filter(({ id }) => options.only.test(id))) {
    const ofAxis = await axis.measure({ ...options, contenders }, run);
    drawings.set(`${axis.id}.svg`, drawPlots(ofAxis));
    plots.push(...ofAxis);
  }
  const machine = { date: new Date().toISOString(), ...describeMachine() };
  return {
    drawings,
    text: plots.map(formatPlot).join('\n\n'),
    json: `${JSON.stringify({ ...machine, rounds: options.rounds, missing: Object.fromEntries(missing), plots }, null, 2)}\n`,
  };
}

/** The points of a plot as a table: a row for each line. */
export function formatPlot({ title, x: { title: xTitle }, y, series }: Plot): string {
  const places = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const rows = series.map(({ name, points }) => [
    name,
    ...places.map((place) => {
      const point = points.find(({ x }) => x === place);
      return point === undefined ? '–' : formatFigure(point.y);
    }),
  ]);
  const heading = [`${title}, ${y.title}, by ${xTitle}`, ...places.map((place) => place.toLocaleString('en'))];
  return formatTable([heading, ...rows]);
}
