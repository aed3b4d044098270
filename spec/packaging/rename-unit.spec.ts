/** The script with which a package renames an operator's files: the result, also if it is killed at any step. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const SCRIPT = join(PROJECT_ROOT, 'packaging/systemd/rename-unit');
const [OLD, NEW] = ['vproxy-port', 'vproxy-guest-port'];
const UNITS = 'etc/systemd/system';

/** A machine's files by their paths: mode and text, or where a link leads. */
type Files = Readonly<Record<string, string>>;

/** The files of an operator, by their new names. */
const FILES: Files = {
  [`etc/default/${NEW}`]: '600 VPROXY_OPTIONS="-i a:1"',
  [`${UNITS}/${NEW}@.service`]: '-> ../../../srv/my unit',
  [`${UNITS}/${NEW}@.service.d/it's $(mine).conf`]: '640 [Service]',
  [`${UNITS}/${NEW}@${OLD}.service`]: '-> /dev/null',
  [`${UNITS}/${NEW}@b.service`]: `600 EnvironmentFile=-/etc/default/${NEW}\n# not /etc/default/${OLD}al`,
  [`${UNITS}/my.target.requires/${NEW}@a.service`]: '-> /usr/lib/x',
  [`${UNITS}/my.target.wants/${NEW}@a.service`]: '-> /usr/lib/x',
  [`${UNITS}.control/${NEW}@a.service.d/50-x.conf`]: '644 [Service]',
};
const RENAMED = Object.keys(FILES).map((path) => (path.endsWith('.conf') ? dirname(path) : path));
const withOldName = (text: string): string => text.replaceAll(NEW, OLD);
const REPORT = [
  ...RENAMED.map((path) => `vproxy: /${withOldName(path)} is /${path} now`),
  ...['systemd/system/my.service', `udev/rules.d/99-${OLD}.rules`].map(
    (path) => `vproxy: /etc/${path} names ${OLD}, which is ${NEW} now: change it there`,
  ),
].sort();
/** These stay as they are. */
const OTHERS: Files = {
  'srv/my unit': `644 EnvironmentFile=/etc/default/${OLD}`,
  [`etc/default/${OLD}al`]: '644 x',
  [`etc/udev/rules.d/99-${OLD}.rules`]: `644 template=${OLD}@.service`,
  [`${UNITS}/my.service`]: `644 [Service]\nEnvironmentFile=/etc/default/${OLD}`,
  [`${UNITS}/other.service`]: `644 # ${OLD}@.service\nAfter=${NEW}@.service\nEnvironmentFile=/etc/default/${OLD}al`,
  [`${UNITS}/vproxy@.service`]: '-> /dev/null',
  [`${UNITS}/vproxy@.service.d/${OLD}@a.service`]: '644 x',
};

function machineWith(t: ExecutionContext, files: Files): string {
  const root = temporaryFolder(t);
  for (const [name, value] of Object.entries(files)) {
    const path = join(root, name);
    const [mode = '', ...words] = value.split(' ');
    mkdirSync(dirname(path), { recursive: true });
    if (mode === '->') symlinkSync(words.join(' '), path);
    else {
      writeFileSync(path, words.join(' '));
      chmodSync(path, Number.parseInt(mode, 8));
    }
  }
  return root;
}

function filesOf(root: string): Files {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter((one) => !one.isDirectory());
  const valueOf = (path: string): string =>
    lstatSync(path).isSymbolicLink()
      ? `-> ${readlinkSync(path)}`
      : `${(lstatSync(path).mode & 0o777).toString(8)} ${readFileSync(path, 'utf8')}`;
  const paths = entries.map(({ parentPath, name }) => join(parentPath, name));
  return Object.fromEntries(paths.map((path) => [relative(root, path), valueOf(path)]));
}

/** Runs the script, killed after so many changes; returns its sorted output, or null if it was killed. */
function rename(t: ExecutionContext, root: string, changes = 99): readonly string[] | null {
  const folder = temporaryFolder(t);
  for (const name of ['sed', 'mv']) {
    // find runs sed: its parent is not the script.
    const text = `#!/bin/sh\n/bin/${name} "$@" || exit\necho >> ${folder}/changes
[ "$(wc -l < ${folder}/changes)" != ${changes} ] || kill -KILL "$(cat ${folder}/script)" $PPID 2> /dev/null\n`;
    writeFileSync(join(folder, name), text, { mode: 0o755 });
  }
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}`, DPKG_ROOT: root };
  const script = `echo $$ > ${folder}/script; exec sh ${SCRIPT} ${OLD} ${NEW}`;
  const { signal, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', env });
  t.is(stderr, '');
  return signal === null ? stdout.split('\n').filter(Boolean).sort() : null;
}

const operatorsMachine = (t: ExecutionContext): string =>
  machineWith(t, {
    ...OTHERS,
    ...Object.fromEntries(Object.entries(FILES).map(([path, value]) => [withOldName(path), withOldName(value)])),
  });
const AFTER = { ...FILES, ...OTHERS };

test('an operator’s files get the new name, once; what else has the old one in it is reported', (t) => {
  const root = operatorsMachine(t);
  t.deepEqual(rename(t, root), REPORT);
  t.deepEqual(filesOf(root), AFTER);
  t.deepEqual(
    rename(t, root),
    REPORT.filter((line) => / names /.test(line)),
  );
  t.deepEqual(filesOf(root), AFTER);
});

test('killed after any change, the next call completes it', (t) => {
  for (let changes = 1; changes <= RENAMED.length + 1; changes += 1) {
    const root = operatorsMachine(t);
    t.is(rename(t, root, changes), null);
    t.not(rename(t, root), null);
    t.deepEqual(filesOf(root), AFTER, `killed after ${changes} changes`);
  }
});

test('a file that an operator has at the new name is kept, and so is the old one, with a note', (t) => {
  const files = {
    [`etc/default/${NEW}`]: '644 new',
    [`etc/default/${OLD}`]: '644 old',
    [`${UNITS}/${NEW}@.service`]: '-> nowhere',
    [`${UNITS}/${OLD}@.service`]: '644 old',
    [`${UNITS}/${NEW}@.service.d/a.conf`]: '644 new',
    [`${UNITS}/${OLD}@.service.d/b.conf`]: '644 old',
  };
  const root = machineWith(t, files);
  const paths = [`etc/default/${NEW}`, `${UNITS}/${NEW}@.service`, `${UNITS}/${NEW}@.service.d`];
  const notes = paths.map((path) => `vproxy: /${withOldName(path)} is not read: its content belongs in /${path}`);
  t.deepEqual(rename(t, root), notes);
  t.deepEqual(filesOf(root), files);
});

testWith('shellcheck')('shellcheck finds no problems in it', (t) => {
  const { status, stdout } = spawnSync('shellcheck', [SCRIPT], { encoding: 'utf8' });
  t.is(status, 0, stdout);
});
