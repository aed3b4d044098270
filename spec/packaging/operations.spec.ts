/** docs/operations.md and the files that it hands out: units, alerts and commands are right. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CONTROL_COMMANDS } from '../../cli/control/command-table.js';
import { RUN_OPTIONS } from '../../cli/options.js';
import { parseRunFlags } from '../../cli/run-options.js';
import { mergeConfiguration } from '../../lib/config/merge-configuration.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { CHANNEL_STATES } from '../../lib/proxy/status.js';
import { PROJECT_ROOT } from '../helpers/project-root.js';
import { temporaryFolder } from '../helpers/temp-folder.js';

const read = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

const operations = read('docs/operations.md');
const sidecar = read('packaging/kubernetes/sidecar.yaml');
const alerts = read('packaging/prometheus/alerts.yml');

/** Names of metrics that are not vproxy's own, and those that docs/control.md lists, which is compared with the server. */
const METRICS = new Set([
  'up',
  ...[...read('docs/control.md').matchAll(/^\| `([a-z_]+)` \| (?:gauge|counter) /gm)].map(([, name]) => name),
]);

const UNITS = readdirSync(join(PROJECT_ROOT, 'packaging/systemd'));

for (const unit of UNITS) {
  const verify = spawnSync('systemd-analyze', ['--version']).error === undefined ? test : test.skip;
  verify(`systemd finds nothing wrong with ${unit}`, (t) => {
    const folder = join(temporaryFolder(t), 'units');
    mkdirSync(folder);
    // An instance of a template; and a program that is there, as systemd looks for it.
    const name = unit.replace('@.', '@vm1.');
    writeFileSync(join(folder, name), read(`packaging/systemd/${unit}`).replaceAll('/usr/bin/vproxy', '/bin/true'));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', join(folder, name)], {
      encoding: 'utf8',
    });
    t.is(`${stdout}${stderr}`, '');
    t.is(status, 0);
  });
}

test('the units run commands that there are, and name statuses that there are', (t) => {
  for (const unit of UNITS) {
    for (const [, words = ''] of read(`packaging/systemd/${unit}`).matchAll(
      /^Exec\w+=-?\/usr\/bin\/vproxy ([a-z].*)$/gm,
    )) {
      t.true(Object.hasOwn(CONTROL_COMMANDS, words.split(' ')[0] ?? ''), words);
    }
    const [, statuses = ''] = /^RestartPreventExitStatus=(.*)$/m.exec(read(`packaging/systemd/${unit}`)) ?? [];
    const known = new Set(Object.values(ERROR_CODES).map(({ exit }) => exit));
    for (const status of statuses.split(' ')) t.true(known.has(Number(status)), `${unit}: ${status}`);
  }
});

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
  t.deepEqual(Object.keys(mergeConfiguration(null, parseRunFlags(given)).channels).length, 1);
});

test('every command that the document and the sidecar run is one', (t) => {
  const words = [
    ...[...operations.matchAll(/`vproxy ([a-z][a-z -]*)/g)].map(([, text = '']) => text),
    ...[...sidecar.matchAll(/command: \[vproxy, ([^\]]*)\]/g)].map(([, text = '']) => text.replaceAll(', ', ' ')),
  ];
  t.true(words.length > 15);
  const names = [...Object.keys(CONTROL_COMMANDS), 'check'];
  for (const text of words)
    t.true(
      names.some((name) => `${text} `.startsWith(`${name} `)),
      text,
    );
});
