/** How packages rename a unit: not while a service of the former name runs, and with the operator's files. */
import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const REFUSE = join(PROJECT_ROOT, 'packaging/deb/preinst');
const RENAME = join(PROJECT_ROOT, 'packaging/systemd/rename-unit');
const [OLD, NEW] = ['vproxy-port', 'vproxy-guest-port'];
const UNITS = 'etc/systemd/system';

test('a package is refused while a service by a former name runs, and says how to go on', (t) => {
  const folder = temporaryFolder(t);
  const refuse = (units: string, ...args: string[]) => {
    writeFileSync(join(folder, 'systemctl'), `#!/bin/sh\nprintf '${units}'\n`, { mode: 0o755 });
    const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
    return spawnSync('sh', [REFUSE, ...args], { encoding: 'utf8', env });
  };
  const units = ['vproxy-guest@my\\x2dport.service', 'vproxy-port@b.service'];
  const listed = units.map((unit) => `${unit.replace('\\', '\\\\')} loaded active running x\\n`).join('');
  const { status, stderr } = refuse(listed, 'upgrade', '0.0.1-1');
  t.is(status, 1);
  const names = units.map((unit) => `'${unit}'`).join(' ');
  t.true(stderr.includes(`systemctl stop ${names}; dpkg -i /PATH/FILE || systemctl start ${names};`), stderr);
  t.is(stderr.split('\n').length, 2);
  t.is(refuse(listed, 'abort-upgrade').status, 0);
  t.is(refuse('', 'install').status, 0);
});

test('all packages refuse', (t) => {
  for (const path of ['packaging/rpm/vproxy.spec', 'packaging/rpm/vproxy-guest.spec', 'guest/packaging/deb.mjs'])
    t.regex(projectText(path), /packaging\/deb\/preinst/, path);
});

/** A machine's files by their paths: text, or where a link leads. */
type Files = Readonly<Record<string, string>>;

function machineWith(t: ExecutionContext, files: Files): string {
  const root = temporaryFolder(t);
  for (const [name, value] of Object.entries(files)) {
    const path = join(root, name);
    mkdirSync(dirname(path), { recursive: true });
    if (value.startsWith('-> ')) symlinkSync(value.slice(3), path);
    else writeFileSync(path, value);
  }
  return root;
}

function filesOf(root: string): Files {
  // Some versions of Node follow links to folders.
  const isLink = (path: string): boolean => lstatSync(path).isSymbolicLink();
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
    (one) => !one.isDirectory() && !isLink(one.parentPath),
  );
  const valueOf = (path: string): string => (isLink(path) ? `-> ${readlinkSync(path)}` : readFileSync(path, 'utf8'));
  const paths = entries.map(({ parentPath, name }) => join(parentPath, name));
  return Object.fromEntries(paths.map((path) => [relative(root, path), valueOf(path)]));
}

/** Runs the script; returns whether it moved anything, and its sorted output. */
function rename(t: ExecutionContext, root: string): [hasMoved: boolean, notes: readonly string[]] {
  const { status, stdout, stderr } = spawnSync('sh', [RENAME, OLD, NEW], {
    encoding: 'utf8',
    env: { ...process.env, DPKG_ROOT: root },
  });
  t.is(stderr, '');
  return [status === 0, stdout.split('\n').filter(Boolean).sort()];
}

test('an operator’s files get the new name, once; what else has the old one in it is reported', (t) => {
  const moved: Files = {
    [`etc/default/${NEW}`]: `# ${NEW}@.service\nVPROXY_OPTIONS="-i a:${OLD}@b"`,
    [`${UNITS}/${NEW}@.service`]: '-> ../../../srv/my-unit',
    [`${UNITS}/${NEW}@.service.d/it's $(mine).conf`]: '[Service]',
    [`${UNITS}/${NEW}@${OLD}.service`]: '-> /dev/null',
    [`${UNITS}/${NEW}@b.service`]: `EnvironmentFile=-/etc/default/${NEW}\n# not /etc/default/${OLD}al`,
    [`${UNITS}/my.target.wants/${NEW}@a.service`]: '-> /usr/lib/x',
    [`${UNITS}.control/${NEW}@a.service.d/50-x.conf`]: '[Service]',
  };
  const others: Files = {
    'srv/my-unit': `EnvironmentFile=/etc/default/${OLD}`,
    [`etc/udev/rules.d/99-${OLD}.rules`]: `template=${OLD}@.service`,
    [`${UNITS}/other.service`]: `# ${OLD}@.service\nAfter=${NEW}@.service\nEnvironmentFile=/etc/default/${OLD}al`,
  };
  const before = Object.entries(moved).map(([path, value]): [string, string] => [
    path.replace(NEW, OLD),
    value.replace(`${NEW}@.service`, `${OLD}@.service`).replace(`/default/${NEW}`, `/default/${OLD}`),
  ]);
  const root = machineWith(t, { ...others, ...Object.fromEntries(before) });
  const names = [`systemd/system/${NEW}@.service`, `udev/rules.d/99-${OLD}.rules`].map(
    (path) => `vproxy: /etc/${path} names ${OLD}, which is ${NEW} now: change it there`,
  );
  const paths = Object.keys(moved).map((path) => (path.endsWith('.conf') ? dirname(path) : path));
  const notes = paths.map((path) => `vproxy: /${path.replace(NEW, OLD)} is /${path} now`);
  t.deepEqual(rename(t, root), [true, [...notes, ...names].sort()]);
  t.deepEqual(filesOf(root), { ...moved, ...others });
  t.deepEqual(rename(t, root), [false, names]);
});

test('a file that an operator has at the new name is kept, and so is the old one, unless it is the same', (t) => {
  const files = {
    [`etc/default/${NEW}`]: 'new',
    [`${UNITS}/${NEW}@.service`]: '-> nowhere',
    [`${UNITS}/${NEW}@a.service.d/a.conf`]: 'new',
    [`${UNITS}/${NEW}@b.service.d`]: `-> ${OLD}@b.service.d`,
  };
  const old = {
    [`etc/default/${OLD}`]: 'old',
    [`${UNITS}/${OLD}@.service`]: 'old',
    [`${UNITS}/${OLD}@a.service.d/b.conf`]: 'old',
    [`${UNITS}/${OLD}@b.service.d/c.conf`]: 'old',
  };
  const same = { [`${UNITS}/${NEW}@c.service.d/a.conf`]: 'same' };
  const root = machineWith(t, { ...files, ...old, ...same, [`${UNITS}/${OLD}@c.service.d/a.conf`]: 'same' });
  const stays = Object.keys(files).map((path) => {
    const to = path.replace('/a.conf', '');
    return `vproxy: /${to.replace(NEW, OLD)} stays, since /${to} exists: move its content there, and remove it`;
  });
  const removed = `vproxy: /${UNITS}/${OLD}@c.service.d is /${UNITS}/${NEW}@c.service.d now`;
  t.deepEqual(rename(t, root), [false, [...stays, removed].sort()]);
  t.deepEqual(filesOf(root), { ...files, ...old, ...same });
});

testWith('shellcheck')('shellcheck finds no problems in them', (t) => {
  const { status, stdout } = spawnSync('shellcheck', [RENAME, REFUSE], { encoding: 'utf8' });
  t.is(status, 0, stdout);
});
