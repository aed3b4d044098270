/** The parts of a Grafana dashboard that are used: panels, their queries, and the variables in these. */

/** A query of a panel, and the name of its series, with `{{label}}`. */
export interface DashboardTarget {
  readonly query: string;
  readonly legend: string;
}

export interface DashboardPanel {
  readonly title: string;
  /** As Grafana calls it: `bytes`, `s`, `percentunit`. */
  readonly unit: string;
  readonly isStacked: boolean;
  readonly targets: readonly DashboardTarget[];
}

/** A variable of the dashboard; `query` is null if it selects a data source. */
export interface DashboardVariable {
  readonly name: string;
  readonly query: string | null;
}

export interface Dashboard {
  readonly panels: readonly DashboardPanel[];
  readonly variables: readonly DashboardVariable[];
}

/** The parts of Grafana's own form that are read. */
interface DashboardJson {
  readonly panels: readonly {
    readonly title: string;
    readonly fieldConfig: {
      readonly defaults: { readonly unit: string; readonly custom: { readonly stacking: { readonly mode: string } } };
    };
    readonly targets: readonly { readonly expr: string; readonly legendFormat: string }[];
  }[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[];
  };
}

/** Parses the file of a dashboard. */
export function parseDashboard(text: string): Dashboard {
  const { panels, templating } = JSON.parse(text) as DashboardJson;
  return {
    panels: panels.map(({ title, fieldConfig: { defaults }, targets }) => ({
      ...{ title, unit: defaults.unit, isStacked: defaults.custom.stacking.mode !== 'none' },
      targets: targets.map(({ expr, legendFormat }) => ({ query: expr, legend: legendFormat })),
    })),
    variables: templating.list.map(({ name, definition }) => ({ name, query: definition ?? null })),
  };
}

/** Grafana takes at least four times the time between two readings. */
const RATE_INTERVAL = '10s';

/** Returns the query as Grafana sends it with every variable set to "All". */
export const substitute = (query: string): string =>
  query.replaceAll('$__rate_interval', RATE_INTERVAL).replace(/\$[a-z]+/g, '.*');

/** Returns the name of a series. */
export const legendOf = ({ legend }: DashboardTarget, labels: Readonly<Record<string, string>>): string =>
  legend.replace(/\{\{([a-z_]+)\}\}/g, (_, name: string) => labels[name] ?? '');
