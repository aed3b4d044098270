/** docs/operations.md and the files that it offers: alerts and commands are right. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../../cli/command/table.js';
import { RUN_OPTIONS } from '../../cli/run/options.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { CHANNEL_STATES } from '../../lib/status/describe.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

const read = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

const operations = read('docs/operations.md');
const sidecar = read('packaging/kubernetes/sidecar.yaml');
const alerts = read('packaging/prometheus/alerts.yml');

/** Names of metrics that are not vproxy's own, and those that docs/control.md lists, which is compared with the server. */
const METRICS = new Set([
  'up',
  ...[...read('docs/control.md').matchAll(/^\| `([a-z_]+)` \| (?:gauge|counter) /gm)].map(([, name]) => name),
]);

test('alerts and document name metrics, states and codes that there are', (t) => {
  t.true(METRICS.size > 20);
  const expressions = [...alerts.matchAll(/^ +(?:expr: |increase|and )(.*)$/gm)].map(([line]) => line).join('\n');
  for (const text of [expressions, operations]) {
    for (const [name] of text.matchAll(/\b(?:vproxy|process|nodejs)_[a-z_]+/g)) t.true(METRICS.has(name), name);
    for (const [, state = ''] of text.matchAll(/state="([a-z-]+)"/g))
      t.true(
        CHANNEL_STATES.some((one) => one === state),
        state,
      );
    for (const [, codes = ''] of text.matchAll(/code=~"([^"]+)"/g)) {
      for (const code of codes.split(/\\?\|/)) t.true(Object.hasOwn(ERROR_CODES, code), code);
    }
  }
});

test('the sidecar gives vproxy options that are right', (t) => {
  const given: Record<string, string[] | undefined> = {};
  for (const [, option = '', value = ''] of sidecar.matchAll(/^ +- --([a-z-]+)=(.*)$/gm)) {
    t.true(Object.hasOwn(RUN_OPTIONS, option), option);
    (given[option] ??= []).push(value);
  }
  t.deepEqual(Object.keys(mergeConfiguration(null, parseRunFlags(givenIn(given))).channels).length, 1);
});

test('every command that the document and the sidecar run is one', (t) => {
  const words = [
    ...[...operations.matchAll(/`vproxy ([a-z][a-z -]*)/g)].map(([, text = '']) => text),
    ...[...sidecar.matchAll(/command: \[vproxy, ([^\]]*)\]/g)].map(([, text = '']) => text.replaceAll(', ', ' ')),
  ];
  t.true(words.length > 15);
  const names = [...Object.keys(CONTROL_COMMANDS), ...Object.keys(LOCAL_COMMANDS)];
  for (const text of words)
    t.true(
      names.some((name) => `${text} `.startsWith(`${name} `)),
      text,
    );
});
