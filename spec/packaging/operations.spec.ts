/**
 * docs/operations.md, docs/kubernetes.md, the Grafana dashboard, the alerts and the sidecar: they refer to existing metrics, in queries that
 * Prometheus accepts, and to existing commands.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../../cli/command/table.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { CHANNEL_STATES } from '../../lib/status/describe.js';
import { legendOf, parseDashboard, substitute } from '../../tools/bench/dashboard/dashboard.js';
import { findProgram } from '../../tools/bench/process/find-program.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { channelsOf } from '../helpers/given-options.js';
import { processPair } from '../helpers/process-pair.js';
import { eventually } from '../helpers/time.js';

const TEXT = projectText('packaging/grafana/vproxy.json');
const ALERTS = projectText('packaging/prometheus/alerts.yml');
const { panels, variables } = parseDashboard(TEXT);
const queries = panels.flatMap(({ targets }) => targets.map(({ query }) => query));

const operations = projectText('docs/operations.md') + projectText('docs/kubernetes.md');
const sidecar = projectText('packaging/kubernetes/sidecar.yaml');

/** The metrics in docs/control.md, which another spec compares with the server, with their labels. */
const DOCUMENTED = [
  ...projectText('docs/control.md').matchAll(/^\| `([a-z_]+)` \| (gauge|counter|histogram) \|(.*)\|$/gm),
].map(([, name = '', type, text = '']): [string, Set<string>] => {
  const labels = [...text.matchAll(/`([a-z]+)`/g)].map(([, label = '']) => label);
  return type === 'histogram' ? [`${name}_bucket`, new Set([...labels, 'le'])] : [name, new Set(labels)];
});

/** Those, and metrics from elsewhere. */
const METRICS = new Set(['up', ...DOCUMENTED.map(([name]) => name)]);

/** The expressions of the alerts, those over several lines as one. */
const alerts = [...ALERTS.matchAll(/^ {8}expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)/gm)].map(
  ([, lines, line]) => line ?? lines ?? '',
);

/** Labels that Prometheus adds to each series. */
const TARGET_LABELS = ['instance', 'job'];

/** The names of the labels of each metric of a page. */
function labelsOf(page: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const [, name = '', text = ''] of page.matchAll(/^([a-z_]+)(?:\{(.*)\})? /gm)) {
    const labels = found.get(name) ?? new Set();
    for (const [, label = ''] of text.matchAll(/([a-z_]+)="/g)) labels.add(label);
    found.set(name, labels);
  }
  return found;
}

/** Parses a query: metrics with the labels that it compares, and the labels by which it groups. */
function partsOf(query: string): { metrics: [name: string, labels: string[]][]; groups: string[] } {
  const names = (text: string): string[] =>
    [...text.matchAll(/([a-z_]+)\s*(?:=~?|!=|!~|,|$)/g)].map(([, one = '']) => one);
  const metrics = [...query.matchAll(/\b((?:vproxy|process|nodejs)_[a-z_]+|up)\b(?:\{([^}]*)\})?/g)].map(
    ([, name = '', matchers = '']): [string, string[]] => [name, names(matchers.replace(/"[^"]*"/g, ''))],
  );
  const groups = [...query.matchAll(/\b(?:by|on|without|ignoring) \(([^)]*)\)/g)].flatMap(([, list = '']) =>
    names(list),
  );
  return { metrics, groups };
}

test('queries are parsed, and sent with all variables set to "All"; a legend has the labels of its series', (t) => {
  const query = 'sum by (code, instance) (rate(vproxy_a{instance=~"$instance", code="x,y"}[5m])) or on (job) up == 0';
  t.deepEqual(partsOf(query).metrics, [
    ['vproxy_a', ['instance', 'code']],
    ['up', []],
  ]);
  t.deepEqual(partsOf(query).groups, ['code', 'instance', 'job']);
  t.is(substitute('rate(a{channel=~"$channel"}[$__rate_interval])'), 'rate(a{channel=~".*"}[10s])');
  const labels = { instance: 'host1', channel: 'vm1' };
  t.is(legendOf({ query: '', legend: '{{instance}} {{channel}} x' }, labels), 'host1 vm1 x');
});

test('a process that has had a session exports everything that the dashboard and the alerts query', async (t) => {
  const pair = await processPair(t, {
    host: ['--metrics', '127.0.0.1:0', '-o', 'log:udp:127.0.0.1:0'],
    guest: ['-i', 'log:udp:127.0.0.1:9'],
  });
  await pair.guest.stop();
  pair.startGuest();
  const [, url = ''] = await pair.host.waitForLine(/serving metrics at (\S+)/);
  const page = await eventually(
    async () => {
      const text = await (await fetch(url)).text();
      return /^vproxy_channel_session_ends_total/m.test(text) && /^vproxy_channel_round_trip/m.test(text) && text;
    },
    { what: 'a session that ended, and another one' },
  );
  const known = new Map([...DOCUMENTED, ...labelsOf(page)]).set('up', new Set());
  t.true(known.size > 25);
  t.true(queries.length > 12);
  t.true(alerts.length > 10);
  const asked = variables.flatMap(({ query }) => (query === null ? [] : [query]));
  for (const query of [...queries, ...alerts, ...asked]) {
    const { metrics, groups } = partsOf(query);
    t.true(metrics.length > 0, query);
    const all = new Set(TARGET_LABELS);
    for (const [name, labels] of metrics) {
      const own = known.get(name);
      t.truthy(own, `${name} is not there: ${query}`);
      for (const label of own ?? []) all.add(label);
      for (const label of labels)
        t.true(own?.has(label) === true || TARGET_LABELS.includes(label), `${label} of ${name}`);
    }
    for (const label of groups) t.true(all.has(label), `${label}: ${query}`);
  }
  // A legend may only name labels that its query keeps.
  for (const { targets } of panels) {
    for (const { query, legend } of targets) {
      const { metrics, groups } = partsOf(query);
      const left = /^\(?sum\b/.test(query)
        ? groups
        : [...TARGET_LABELS, ...metrics.flatMap(([name]) => [...(known.get(name) ?? [])])];
      for (const [, label = ''] of legend.matchAll(/\{\{([a-z_]+)\}\}/g))
        t.true(left.includes(label), `${legend}: ${query}`);
    }
  }
});

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly description: string;
  readonly gridPos: Readonly<Record<'h' | 'w' | 'x' | 'y', number>>;
  readonly datasource: unknown;
}

test('Grafana can import the dashboard: panel ids, positions and variables are valid', (t) => {
  const { panels: own, ...head } = JSON.parse(TEXT) as {
    readonly schemaVersion: number;
    readonly panels: readonly Panel[];
    readonly __requires: readonly { readonly type: string; readonly id: string }[];
  };
  t.like(head, { uid: 'vproxy', title: 'vproxy', __inputs: [{ type: 'datasource', pluginId: 'prometheus' }] });
  // What grafana.com asks for: the plugins in use.
  const required = head.__requires.map(({ type, id }) => `${type} ${id}`);
  const types = new Set(own.map(({ type }) => `panel ${type}`));
  t.deepEqual(required, ['grafana grafana', 'datasource prometheus', ...types]);
  t.true(head.schemaVersion >= 39);
  t.is(new Set(own.map(({ id }) => id)).size, own.length);
  const cells = own.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
  );
  t.is(new Set(cells).size, cells.length, 'panels overlap');
  for (const { gridPos, description, datasource } of own) {
    t.deepEqual(datasource, { type: 'prometheus', uid: '${datasource}' });
    t.true(description.endsWith('.'), description);
    t.true(gridPos.x + gridPos.w <= 24);
  }
  const names = variables.map(({ name }) => name);
  t.deepEqual(names, ['datasource', 'instance', 'channel']);
  for (const [, name = ''] of TEXT.matchAll(/\$\{?([a-z_]+)/g))
    t.true(['__rate_interval', '__all', ...names].includes(name), name);
  for (const name of names) t.regex(TEXT, new RegExp(`\\$\\{?${name}\\b`));
});

test('the document and its picture have every panel', (t) => {
  const picture = projectText('docs/img/dashboard.svg');
  const rows = [...operations.matchAll(/^\| ([^|`]+) \|/gm)].flatMap(([, cell = '']) => [cell, ...cell.split(', ')]);
  for (const { title } of panels) {
    t.true(rows.includes(title), title);
    t.true(picture.includes(`>${title}<`), title);
  }
});

/** Debian's `prometheus` has it, which is a server besides: a machine need not have it. */
const promtool = findProgram('promtool');

(promtool === undefined ? test.skip : test)(
  'Prometheus accepts every query of the dashboard, and the file of alerts',
  (t) => {
    const file = join(temporaryFolder(t), 'queries.yml');
    const rules = queries.map((query, index) => ({ record: `panel:query:${index}`, expr: substitute(query) }));
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    const check = (path: string) => spawnSync(promtool ?? '', ['check', 'rules', path], { encoding: 'utf8' });
    const result = check(file);
    t.is(result.status, 0, result.stderr);
    t.true(result.stdout.includes(`${queries.length} rules found`), result.stdout);
    const ofAlerts = check(join(PROJECT_ROOT, 'packaging/prometheus/alerts.yml'));
    t.is(ofAlerts.status, 0, ofAlerts.stderr);
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'wrong', rules: [{ record: 'a', expr: 'sum(b' }] }] }));
    t.not(check(file).status, 0);
  },
);

test('alerts and document name existing metrics, states and codes', (t) => {
  t.true(METRICS.size > 20);
  const expressions = [...ALERTS.matchAll(/^ +(?:expr: |increase|and )(.*)$/gm)].map(([line]) => line).join('\n');
  for (const text of [expressions, operations]) {
    for (const [name] of text.matchAll(/\b(?:vproxy|process|nodejs)_[a-z_]+/g)) t.true(METRICS.has(name), name);
    for (const [, state = ''] of text.matchAll(/state="([a-z-]+)"/g))
      t.true((CHANNEL_STATES as readonly string[]).includes(state), state);
    for (const [, codes = ''] of text.matchAll(/code=~"([^"]+)"/g)) {
      for (const code of codes.split(/\\?\|/)) t.true(Object.hasOwn(ERROR_CODES, code), code);
    }
  }
});

test('every command that the document and the sidecar run exists, and the sidecar uses valid options', (t) => {
  const options = [...sidecar.matchAll(/^ +- (--[a-z-]+=.*)$/gm)].map(([, word = '']) => word);
  t.is(channelsOf(options).length, 1);
  const calls = [
    ...[...operations.matchAll(/`vproxy ([a-z][a-z -]*)/g)].map(([, text = '']) => text),
    ...[...sidecar.matchAll(/command: \[vproxy, ([^\]]*)\]/g)].map(([, text = '']) => text.replaceAll(', ', ' ')),
  ];
  t.true(calls.length > 15);
  const names = [...Object.keys(CONTROL_COMMANDS), ...Object.keys(LOCAL_COMMANDS)];
  const unknown = calls.filter((text) => !names.some((name) => `${text} `.startsWith(`${name} `)));
  t.deepEqual(unknown, []);
});
