// The programs that a release needs besides Node, and the Debian packages that have them.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** By package: names of programs, any of which will do. */
const PROGRAMS = {
  npm: ['npm'],
  git: ['git'],
  tar: ['tar'],
  binutils: ['strip', 'llvm-strip', 'x86_64-linux-gnu-strip'],
  'binutils-aarch64-linux-gnu': ['aarch64-linux-gnu-strip', 'llvm-strip'],
  'golang-go': ['go'],
  dpkg: ['dpkg-deb'],
  rpm: ['rpmbuild'],
  'ansible-core': ['ansible-galaxy'],
  buildah: ['buildah', 'podman'],
};

/** Modules of the system's Python, by package. */
const MODULES = { 'python3-pip': 'pip', 'python3-setuptools': 'setuptools', 'python3-wheel': 'wheel' };
export const PYTHON = '/usr/bin/python3';

function isInstalled(program) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Returns one line that names everything that is missing, with the command that installs it; null if nothing is. */
export function describeMissing() {
  const programs = Object.entries(PROGRAMS).filter(([, names]) => !names.some(isInstalled));
  const modules = Object.entries(MODULES).filter(
    ([, name]) => spawnSync(PYTHON, ['-c', `import ${name}`]).status !== 0,
  );
  const missing = [
    ...programs.map(([, names]) => names.join(' or ')),
    ...modules.map(([, name]) => `the module ${name} of ${PYTHON}`),
  ];
  if (missing.length === 0) return null;
  const packages = [...programs, ...modules].map(([name]) => name);
  return `missing: ${missing.join(', ')}; install with: apt-get install --no-install-recommends ${packages.join(' ')}`;
}
