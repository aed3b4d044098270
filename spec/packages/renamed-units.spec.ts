/** Packages whose units have new names, over ones with the old names, in a copy of this machine's files. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { serialTestWith } from '../helpers/test-with.js';
import { VERSION } from './release.js';

/** The packages, the names of their units and options before and now, and the files of older packages. */
const PACKAGES = [
  {
    ...{ name: 'vproxy', old: 'vproxy-guest', now: 'vproxy-virtserial' },
    files: ['usr/lib/systemd/system/vproxy-guest@.service', 'etc/default/vproxy-guest'],
  },
  {
    ...{ name: 'vproxy-guest', old: 'vproxy-port', now: 'vproxy-guest-port' },
    files: ['usr/lib/systemd/system/vproxy-port@.service'],
  },
] as const;

/** Builds the older packages as NAME.deb and NAME.rpm in `folder`. */
function buildOld(folder: string): void {
  for (const { name, old, files } of PACKAGES) {
    const root = join(folder, `${name}-root`);
    const write = (path: string, text: string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    for (const path of files) write(path, `# of the older ${old}\n`);
    const listed = files.map((path) => (path.startsWith('etc') ? `%config(noreplace) /${path}` : `/${path}`));
    const spec = `Name: ${name}\nVersion: ${VERSION}\nRelease: 0\nSummary: x\nLicense: x\n%description\nx\n%install\ncp -r ${root}/. %{buildroot}\n%files\n`;
    writeFileSync(join(folder, `${name}.spec`), `${spec}${listed.join('\n')}\n`);
    buildRpm(folder, join(folder, `${name}.spec`), `${name}.rpm`);
    const fields = `Package: ${name}\nVersion: ${VERSION}-0\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n`;
    write('DEBIAN/control', fields);
    if (name === 'vproxy') write('DEBIAN/conffiles', '/etc/default/vproxy-guest\n');
    execFileSync('dpkg-deb', ['-Znone', '--build', root, join(folder, `${name}.deb`)]);
  }
}

function buildRpm(folder: string, spec: string, file: string, ...defines: readonly string[]): void {
  const all = [`_topdir ${folder}/rpm`, `_rpmdir ${folder}`, `_rpmfilename ${file}`, ...defines];
  const words = ['-bb', '--quiet', '--target', 'x86_64-linux', ...all.flatMap((one) => ['--define', one]), spec];
  execFileSync('rpmbuild', words, { stdio: 'pipe' });
}

/** Builds the packages, with another program than vproxy, as new-NAME.deb and new-NAME.rpm. */
function buildNew(folder: string): void {
  const executable = join(folder, 'program');
  copyFileSync('/bin/true', executable);
  writeFileSync(`${executable}.node-licence`, '');
  const node = (script: string, ...words: readonly string[]): string =>
    execFileSync(process.execPath, [join(PROJECT_ROOT, script), '--quick', '--output', folder, ...words], {
      encoding: 'utf8',
    });
  const debs = [
    node('packaging/deb/build.mjs', '--version', `${VERSION}-1`, '--executable', executable),
    node('guest/packaging/deb.mjs'),
  ];
  for (const [index, { name }] of PACKAGES.entries()) {
    copyFileSync(debs[index]?.trim() ?? '', join(folder, `new-${name}.deb`));
    const defines = [`vproxy_tree ${PROJECT_ROOT}`, `executable ${relative(PROJECT_ROOT, executable)}`];
    buildRpm(folder, join(PROJECT_ROOT, `packaging/rpm/${name}.spec`), `new-${name}.rpm`, ...defines);
  }
}

/** Runs shell commands as root of a copy of this machine's files, in its folder `/packages`; returns their output. */
function runInCopy(t: ExecutionContext, folder: string, commands: string): string {
  const copy = temporaryFolder(t);
  const script = `mount -t tmpfs none ${copy}; cd ${copy}; mkdir upper work root
mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work root
mkdir root/packages; cp ${folder}/*.deb ${folder}/*.rpm root/packages; mount --rbind /dev root/dev; mount -t proc none root/proc
exec chroot root sh -euc "cd /packages; $1"`;
  return execFileSync('unshare', ['--mount', '--pid', '--fork', 'sh', '-euc', script, 'sh', commands], {
    encoding: 'utf8',
  });
}

const UNITS = '/etc/systemd/system';
/** The operator's options and drop-ins of both packages, by their old names. */
const OPERATOR = PACKAGES.map(
  ({ old }) => `echo VPROXY_OPTIONS=${old} > /etc/default/${old}
mkdir -p ${UNITS}/${old}@.service.d; echo After=${old} > ${UNITS}/${old}@.service.d/a.conf`,
).join('\n');
/** Prints for each name the options and the drop-in. */
const LOOK = PACKAGES.flatMap(({ old, now }) => [old, now])
  .map((name) => [name, `/etc/default/${name}`, `${UNITS}/${name}@.service.d/a.conf`])
  .map(([name, options, dropIn]) => `echo ${name}: $(cat ${options} ${dropIn} 2>/dev/null)`)
  .join('\n');
const NOTES = PACKAGES.flatMap(({ old, now }) => [
  `vproxy: /etc/default/${old} is /etc/default/${now} now`,
  `vproxy: ${UNITS}/${old}@.service.d is ${UNITS}/${now}@.service.d now`,
]);
const BEFORE = PACKAGES.map(({ old }) => `${old}: VPROXY_OPTIONS=${old} After=${old}`);
const AFTER = PACKAGES.map(({ old, now }) => `${now}: VPROXY_OPTIONS=${old} After=${old}`);
const PURGED = ['vproxy-virtserial: After=vproxy-guest', ...AFTER.slice(1)];

type Install = (first: string, second: string) => string;
/** Unpacks both before it configures one, in the other order. */
const withDpkg: Install = (first, second) =>
  `dpkg --unpack ${first}.deb ${second}.deb; dpkg --configure ${`${second} ${first}`.replaceAll('new-', '')}`;
const withRpm: Install = (first, second) =>
  [first, second].map((name) => `rpm -U --nodeps --oldpackage --replacepkgs ${name}.rpm`).join('; ');

for (const [format, install, remove, left] of [
  ['deb', withDpkg, 'dpkg -P', PURGED],
  ['rpm', withRpm, 'rpm -e --nodeps', AFTER],
] as const) {
  const withTools = serialTestWith('root', 'dpkg', 'rpm', 'go');
  withTools(`${format}: an operator’s files get the new names once, in any order`, (t) => {
    t.timeout(300_000);
    const folder = temporaryFolder(t);
    buildOld(folder);
    buildNew(folder);
    for (const [first, second] of [
      ['vproxy', 'vproxy-guest'],
      ['vproxy-guest', 'vproxy'],
    ] as const) {
      const older = install(first, second);
      const newer = install(`new-${first}`, `new-${second}`);
      const steps = [`${older}; ${OPERATOR}`, newer, newer, `${remove} ${first}; ${remove} ${second}`];
      const output = runInCopy(
        t,
        folder,
        `exec 2>&1\n${steps.map((step) => `${step}\n${LOOK}\n`).join('echo next:\n')}`,
      );
      const states = output.split('next:\n').map((text) => text.match(/^vproxy\S*: .*(?:=| now$).*/gm)?.toSorted());
      const wanted = [BEFORE, [...NOTES, ...AFTER], AFTER, left];
      t.deepEqual(
        states,
        wanted.map((lines) => lines.toSorted()),
        output,
      );
    }
  });
}
