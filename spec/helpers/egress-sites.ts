/** Content for the servers behind an egress, made by the test: a Debian repository, a git repository, a pip index. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { sha256 } from './files.js';

/** A Debian repository, for `deb [signed-by=KEY] http://HOST/debian stable main`. */
export interface MadeRepository {
  /** The package that depends on all others. */
  readonly all: string;
  /** Every other package, with the SHA-256 of the file that it installs at `/usr/share/NAME/data`. */
  readonly packages: ReadonlyMap<string, string>;
  /** The public key of its signature, armoured, as `signed-by` takes it. */
  readonly keyFile: string;
}

export interface RepositoryOptions {
  /** Its packages. Default: 20, `made-01` to `made-20`. */
  readonly names?: readonly string[];
  /** The length of each package's file, in incompressible bytes. Default 100,000. */
  readonly bytes?: number;
  readonly suite?: string;
}

const USUAL_NAMES = Array.from({ length: 20 }, (_, index) => `made-${String(index + 1).padStart(2, '0')}`);

function write(path: string, content: string | Buffer): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

const fieldsOf = (fields: Readonly<Record<string, string | number>>): string =>
  Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');

/** Makes one in `FOLDER/sites/HOST/debian`, with dpkg-deb(1) and gpg(1). */
export function makeRepository(folder: string, host: string, options: RepositoryOptions = {}): MadeRepository {
  const { names = USUAL_NAMES, bytes = 100_000, suite = 'stable' } = options;
  const root = join(folder, 'sites', host, 'debian');
  const packages = new Map<string, string>();
  const paragraphs = names.map((name) => {
    const data = randomBytes(bytes);
    packages.set(name, sha256(data));
    return addPackage(root, name, {}, { [`usr/share/${name}/data`]: data });
  });
  const all = 'made-all';
  paragraphs.push(addPackage(root, all, { Depends: names.join(', ') }, {}));
  const index = paragraphs.join('\n');
  const files = { 'main/binary-amd64/Packages': Buffer.from(index), 'main/binary-amd64/Packages.gz': gzipSync(index) };
  const dist = join(root, 'dists', suite);
  for (const [path, content] of Object.entries(files)) write(join(dist, path), content);
  const sums = Object.entries(files).map(([path, content]) => ` ${sha256(content)} ${content.length} ${path}\n`);
  const described = { Suite: suite, Codename: suite, Architectures: 'amd64', Components: 'main' };
  const release = fieldsOf({ ...described, Date: new Date().toUTCString() });
  write(join(dist, 'Release'), `${release}SHA256:\n${sums.join('')}`);
  return { all, packages, keyFile: signRelease(folder, dist) };
}

/** Adds a package with these further fields and files to the pool, and returns its paragraph for the index. */
function addPackage(
  root: string,
  name: string,
  more: Readonly<Record<string, string>>,
  content: Readonly<Record<string, Buffer>>,
): string {
  const fields = {
    ...{ Package: name, Version: '1.0', Architecture: 'all', Maintainer: 'A test <test@example.test>' },
    ...{ Description: 'made by a test', ...more },
  };
  const tree = mkdtempSync(join(tmpdir(), 'vproxy-deb-'));
  try {
    write(join(tree, 'DEBIAN/control'), fieldsOf(fields));
    for (const [path, bytes] of Object.entries(content)) write(join(tree, path), bytes);
    const path = `pool/${name}_1.0_all.deb`;
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zgzip', '-z1', '--build', tree, file], { stdio: 'pipe' });
    const built = readFileSync(file);
    return fieldsOf({ ...fields, Filename: path, Size: built.length, SHA256: sha256(built) });
  } finally {
    rmSync(tree, { recursive: true });
  }
}

/** Signs `Release` as `InRelease` with a new key, and returns the file of its public half. */
function signRelease(folder: string, dist: string): string {
  // The path of gpg-agent's socket must be short.
  const home = mkdtempSync(join(tmpdir(), 'gpg-'));
  const keyFile = join(folder, 'repository-key.asc');
  const gpg = (...args: string[]) =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...args], { stdio: 'pipe' });
  try {
    gpg('--quick-gen-key', 'A test <test@example.test>', 'ed25519', 'sign', '2d');
    gpg('--output', join(dist, 'InRelease'), '--clearsign', join(dist, 'Release'));
    gpg('--armor', '--output', keyFile, '--export');
  } finally {
    execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'pipe' });
    rmSync(home, { recursive: true, force: true });
  }
  return keyFile;
}

/** Makes, in a folder, what an isolated apt-get(8) needs for the repository at `url`, and the configuration file that points to it. */
export function makeAptMachine(folder: string, url: string, settings: readonly string[], keyFile = '') {
  const inFolder = (path: string) => join(folder, path);
  const folders = [
    'etc/apt/preferences.d',
    'etc/apt/apt.conf.d',
    'var/lib/apt/lists/partial',
    'var/cache/apt/archives/partial',
    'var/log/apt',
  ];
  for (const path of [...folders, 'root/var/lib/dpkg/info', 'root/var/lib/dpkg/updates']) {
    mkdirSync(inFolder(path), { recursive: true });
  }
  for (const path of ['status', 'available']) writeFileSync(inFolder(`root/var/lib/dpkg/${path}`), '');
  writeFileSync(inFolder('etc/apt/sources.list'), `deb [arch=amd64 signed-by=${keyFile}] ${url} stable main\n`);
  const configuration = inFolder('apt.conf');
  const lines = [
    `Dir "${folder}/";`,
    `Dir::State::status "${inFolder('root/var/lib/dpkg/status')}";`,
    `DPkg::Options { "--root=${inFolder('root')}"; "--force-not-root"; "--log=${inFolder('var/log/dpkg.log')}"; };`,
    'DPkg::Use-Pty "0";',
    'APT::Architecture "amd64";',
    'APT::Sandbox::User "root";',
    ...settings,
  ];
  writeFileSync(configuration, `${lines.join('\n')}\n`);
  return { root: inFolder('root'), env: { APT_CONFIG: configuration } };
}

/** Makes a simple index (PEP 503) with one wheel in `FOLDER/sites/HOST/simple`; returns its name and SHA-256. */
export function makeIndex(folder: string, host: string, name: string) {
  const site = join(folder, 'sites', host);
  const file = `${name}-1.0-py3-none-any.whl`;
  const tree = mkdtempSync(join(tmpdir(), 'vproxy-wheel-'));
  try {
    const info = `${name}-1.0.dist-info`;
    write(join(tree, name, '__init__.py'), 'made_by = "a test"\n');
    write(join(tree, name, 'data'), randomBytes(300_000));
    const tags = { 'Wheel-Version': '1.0', 'Root-Is-Purelib': 'true', Tag: 'py3-none-any' };
    write(join(tree, info, 'METADATA'), fieldsOf({ 'Metadata-Version': 2.1, Name: name, Version: '1.0' }));
    write(join(tree, info, 'WHEEL'), fieldsOf(tags));
    write(join(tree, info, 'RECORD'), '');
    execFileSync('python3', ['-m', 'zipfile', '-c', 'wheel.zip', name, info], { cwd: tree, stdio: 'pipe' });
    const wheel = readFileSync(join(tree, 'wheel.zip'));
    write(join(site, 'packages', file), wheel);
    const digest = sha256(wheel);
    const page = `<!DOCTYPE html><html><body><a href="/packages/${file}#sha256=${digest}">${file}</a></body></html>\n`;
    write(join(site, 'simple', name.replaceAll('_', '-'), 'index.html'), page);
    return { file, digest };
  } finally {
    rmSync(tree, { recursive: true });
  }
}

/** Makes a git repository with three commits at `FOLDER/git/NAME.git`, and returns the id of the last one. */
export function makeGitRepository(folder: string, name: string): string {
  const path = join(folder, 'git', `${name}.git`);
  mkdirSync(path, { recursive: true });
  const env = { PATH: process.env['PATH'] };
  const git = (args: readonly string[], input: string | Buffer = '') =>
    execFileSync('git', ['-C', path, ...args], { input, stdio: 'pipe', encoding: 'utf8', env });
  git(['init', '--quiet', '--bare', '--initial-branch=main']);
  const author = 'A test <test@example.test> 1700000000 +0000';
  const stream: Buffer[] = [];
  for (let number = 1; number <= 3; number += 1) {
    const data = randomBytes(400_000);
    const commit = `commit refs/heads/main\ncommitter ${author}\ndata 8\nnumber ${number}\n`;
    stream.push(Buffer.from(`${commit}M 100644 inline file-${number}\ndata ${data.length}\n`), data);
    stream.push(Buffer.from('\n'));
  }
  git(['fast-import', '--quiet'], Buffer.concat(stream));
  return git(['rev-parse', 'main']).trim();
}
