/** Packages whose units have other names than before, over ones of before, in a copy of this machine's files. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { serialTestWith } from '../helpers/test-with.js';
import { VERSION } from './release.js';

/** What is in the packages of before, by their names. */
const OLD = {
  vproxy: {
    'usr/lib/systemd/system/vproxy-guest@.service': projectText('packaging/systemd/vproxy-virtserial@.service'),
    'etc/default/vproxy-guest': projectText('packaging/etc/vproxy-virtserial'),
  },
  'vproxy-guest': {
    'usr/lib/systemd/system/vproxy-port@.service': projectText('guest/packaging/vproxy-guest@.service'),
  },
};

/** Builds the packages of before as NAME.deb and NAME.rpm in `folder`. */
function buildOld(folder: string): void {
  for (const [name, files] of Object.entries(OLD)) {
    const root = join(folder, `${name}-root`);
    const write = (path: string, text: string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    for (const [path, text] of Object.entries(files)) write(path, text.replaceAll('vproxy-virtserial', 'vproxy-guest'));
    const listed = Object.keys(files).map((path) =>
      path.startsWith('etc') ? `%config(noreplace) /${path}` : `/${path}`,
    );
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
  for (const [index, name] of Object.keys(OLD).entries()) {
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

for (const [format, install, remove, ...left] of [
  ['deb', 'dpkg -i', 'dpkg -P'],
  ['rpm', 'rpm -U --nodeps --replacepkgs', 'rpm -e --nodeps', 'vproxy-guest', 'vproxy-virtserial.rpmsave'],
] as const) {
  serialTestWith(
    'root',
    'dpkg',
    'rpm',
    'go',
  )(`${format}: an operator’s files of renamed units are moved, with a note`, (t) => {
    t.timeout(300_000);
    const folder = temporaryFolder(t);
    buildOld(folder);
    buildNew(folder);
    const upgrade = (name: string) => `${install} new-${name}.${format} 2>&1`;
    const operator = ['guest', 'port'].map((name) => {
      const [unit, units] = [`vproxy-${name}@`, '/etc/systemd/system'];
      return `echo VPROXY_OPTIONS=${name} > /etc/default/vproxy-${name}
mkdir -p ${units}/${unit}.service.d ${units}/mine.target.wants; echo After=${unit}b.service > ${units}/${unit}.service.d/a.conf
ln -s /usr/lib/systemd/system/${unit}.service ${units}/mine.target.wants/${unit}a.service`;
    });
    const look =
      'cd /etc; grep -r vproxy- default systemd/system || true; readlink systemd/system/mine.target.wants/*; cat default/vproxy-*';
    const output = runInCopy(
      t,
      folder,
      `${install} vproxy.${format} > /dev/null 2>&1; ${install} vproxy-guest.${format} > /dev/null 2>&1
useradd --system --user-group vproxy-port; touch /key; chown vproxy-port: /key; setpriv --reuid vproxy-port --clear-groups sleep 60 &
${operator.join('\n')}
! ${upgrade('vproxy-guest')} || exit 1
${upgrade('vproxy')}; ${upgrade('vproxy-guest')}; stat -c 'of %U:%G' /key
echo again; ${upgrade('vproxy')}; ${upgrade('vproxy-guest')}; (${look})
echo removed; ${remove} vproxy 2>&1; cat /etc/default/vproxy-guest; ${remove} vproxy-guest; ls /etc/default | grep ^vproxy || true`,
    );
    const said = output
      .split('\n')
      .filter((line) => /^(?:vproxy[:-]|\/|of|again|removed|systemd|VPROXY)/.test(line.trim()));
    const moves = (from: string, to: string) =>
      ['default/OLD', 'systemd/system/OLD@.service.d', 'systemd/system/mine.target.wants/OLD@a.service'].map((path) => {
        const [before, now] = [from, to].map((name) => `/etc/${path.replace('OLD', name)}`);
        return `vproxy: ${before} is ${now} now.`;
      });
    const unit = (name: string) => `/usr/lib/systemd/system/${name}@.service`;
    const after = (name: string) => `systemd/system/${name}@.service.d/a.conf:After=${name}@b.service`;
    t.regex(output, /vproxy-guest@\.service\b.*(?:also in package vproxy 0|conflicts with file from package vproxy-0)/);
    t.deepEqual(said, [
      ...[...moves('vproxy-guest', 'vproxy-virtserial'), ...moves('vproxy-port', 'vproxy-guest')],
      ...['of vproxy-guest:vproxy-guest', 'again', after('vproxy-guest'), after('vproxy-virtserial')],
      ...[unit('vproxy-guest'), unit('vproxy-virtserial'), 'VPROXY_OPTIONS=port', 'VPROXY_OPTIONS=guest'],
      ...['removed', 'VPROXY_OPTIONS=port', ...left],
    ]);
  });
}
