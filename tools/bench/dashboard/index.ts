/**
 * Draws the dashboard in docs/operations.md: a real Prometheus (Debian's `prometheus`) scrapes a vproxy under some minutes of
 * load with breaks, stalls and refusals, and answers the queries of the dashboard's panels.
 *
 *     node dist/tools/bench/dashboard/index.js [--minutes 4] [--out docs/img/dashboard.svg]
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { formatPanels, type Panel } from '../plot/panels.js';
import { type Dashboard, legendOf, parseDashboard, substitute } from './dashboard.js';
import { Load, type LoadEvent } from './load.js';
import { Prometheus, SCRAPE_S } from './prometheus.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '4' },
    out: { type: 'string', default: join(PROJECT_ROOT, 'docs/img/dashboard.svg') },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes <= 60)) throw new Error(`--minutes ${values.minutes}: not between 0 and 60`);

const dashboard = parseDashboard(readFileSync(join(PROJECT_ROOT, 'packaging/grafana/vproxy.json'), 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'vproxy-dashboard-'));
const load = new Load(folder);
let prometheus: Prometheus | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => load.interrupt());
try {
  prometheus = await Prometheus.start(folder, await load.start());
  const from = Date.now() / 1000;
  const events = await load.run(minutes * 60_000, (line) => console.error(line));
  const panels = await askPanels(dashboard, prometheus, { from, to: Date.now() / 1000 });
  writeFileSync(values.out, formatPanels({ ...describe(events), panels, seconds: minutes * 60 }));
  console.error(`${values.out} has ${panels.length} panels`);
} finally {
  await load.stop();
  await prometheus?.stop();
  rmSync(folder, { recursive: true, force: true });
}

/** Resolves with each panel and the answers of Prometheus to its queries, in seconds since `from`. */
async function askPanels(
  { panels }: Dashboard,
  server: Prometheus,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<Panel[]> {
  return Promise.all(
    panels.map(async ({ title, unit, isStacked, targets }) => ({
      ...{ title, unit, isStacked },
      series: (
        await Promise.all(
          targets.map(async (target) => {
            const found = await server.queryRange(substitute(target.query), { from, to });
            return found.map(({ labels, points }) => ({
              name: legendOf(target, labels),
              points: points.map(({ time, value }) => ({ x: time - from, y: value })),
            }));
          }),
        )
      ).flat(),
    })),
  );
}

function describe(events: readonly LoadEvent[]): { title: string; subtitle: string; marks: readonly LoadEvent[] } {
  return {
    title: `packaging/grafana/vproxy.json: four channels of one process and one of their guests, ${minutes} minutes`,
    subtitle: `Drawn from the dashboard's queries, as Prometheus answered them, which read /metrics every ${SCRAPE_S} s; this is not Grafana's own picture.`,
    marks: events,
  };
}
