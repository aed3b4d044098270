/** A Debian with systemd, as an archive for the kernel. It is built once, and kept outside the project. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../../tools/vm/cache.js';

const SUITE = 'bookworm';
const PACKAGES = ['systemd', 'systemd-sysv', 'udev'];
/** Files that no test needs. */
const LEFT_OUT = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'];
const BUILD_MS = 600_000;

const OPTIONS = [
  '--variant=minbase',
  `--include=${PACKAGES.join(',')}`,
  ...LEFT_OUT.map((path) => `--dpkgopt=path-exclude=${path}`),
];

/**
 * Resolves with the path of the archive (cpio, not compressed, 170 MB). If missing, mmdebstrap builds it from apt's mirror, which
 * takes half a minute.
 */
export function debianRoot(): string {
  const folder = cacheFolder();
  const key = createHash('sha256').update(OPTIONS.join(' ')).digest('hex').slice(0, 12);
  const path = join(folder, `debian-${SUITE}-${key}.cpio`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const temporary = `${path}.${process.pid}`;
  const script = 'set -o pipefail; out=$1; shift; mmdebstrap --quiet "$@" - | bsdtar -cf "$out" --format=newc @-';
  try {
    execFileSync('bash', ['-c', script, 'bash', temporary, ...OPTIONS, SUITE], { stdio: 'pipe', timeout: BUILD_MS });
    renameSync(temporary, path);
  } catch (error) {
    const { stderr } = error as { stderr?: Buffer };
    const hint = 'it takes mmdebstrap and libarchive-tools, and root or user namespaces';
    throw new Error(`no Debian for the guest (${hint}): ${stderr?.toString() ?? String(error)}`, { cause: error });
  } finally {
    rmSync(temporary, { force: true });
  }
  return path;
}
