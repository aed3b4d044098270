// Makes a container image of nothing but the single executable and the libraries that it needs; contacts no registry.
//
//     node packaging/container/build.mjs [--tag localhost/vproxy:VERSION] [--executable PATH] [--output FILE] [--sidecar-shim FILE]
//         [--source URL] [--documentation URL] [--url URL]
//
// Needs Linux, buildah or podman, and the output of `npm run sea`. Stores the image in this user's storage and, with `--output`,
// in an OCI archive. With `--sidecar-shim`, KubeVirt's program, it is a hook sidecar, localhost/vproxy-kubevirt:VERSION, with
// busybox (busybox-static) as its shell. The build is reproducible (SOURCE_DATE_EPOCH; default: the time of the last commit).
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { sourceDate, sourceRevision } from '../source-date.mjs';
import { listLibraries, listPackages } from './libraries.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const { version, description, license } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));

/** The user of the image, as in other images without root: it needs no entry anywhere. Any other user works, too. */
const ACCOUNTS = {
  '/etc/passwd': 'root:x:0:0:root:/:/sbin/nologin\nvproxy:x:65532:65532:vproxy:/:/sbin/nologin\n',
  '/etc/group': 'root:x:0:\nvproxy:x:65532:\n',
  // Without it glibc would ask DNS for localhost.
  '/etc/nsswitch.conf': 'hosts: files dns\n',
};

/** The labels of places that only the one who publishes the image knows. */
const URL_LABELS = ['source', 'documentation', 'url'];

const fail = (message) => {
  console.error(`packaging/container/build.mjs: ${message}`);
  process.exit(1);
};

const options = readOptions();
const tool = ['buildah', 'podman'].find((name) => spawnSync(name, ['--version']).status === 0);
if (tool === undefined) fail('neither buildah nor podman found: apt-get install --no-install-recommends buildah');

const work = mkdtempSync(join(tmpdir(), 'vproxy-image-'));
try {
  stageProgram(join(work, 'root'), options.executable);
  if (options.shim !== null) stageSidecar(join(work, 'kubevirt'), options.shim);
  const id = buildImage(work, options);
  if (options.output !== null) writeArchive(work, id, options);
  console.log(`${options.tag} ${id}`);
} catch (error) {
  fail(error.message);
} finally {
  rmSync(work, { recursive: true, force: true });
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        tag: { type: 'string' },
        executable: { type: 'string', default: join(PROJECT, `dist/vproxy-linux-${process.arch}`) },
        output: { type: 'string' },
        'sidecar-shim': { type: 'string' },
        ...Object.fromEntries(URL_LABELS.map((name) => [name, { type: 'string' }])),
      },
    }));
  } catch (error) {
    fail(error.message);
  }
  const { tag, output, 'sidecar-shim': shim } = values;
  const urls = Object.fromEntries(URL_LABELS.map((name) => [name, values[name]]));
  for (const [name, url] of Object.entries(urls)) {
    if (url !== undefined && !/^https?:\/\/[^/\s]+\S*$/.test(url)) fail(`--${name} ${url}: not an http or https URL`);
  }
  const executable = resolve(values.executable);
  if (!existsSync(executable)) fail(`${executable} does not exist: run npm run sea`);
  if (shim !== undefined && !existsSync(shim)) fail(`--sidecar-shim ${shim}: not found`);
  return {
    urls,
    tag: tag ?? `localhost/vproxy${shim === undefined ? '' : '-kubevirt'}:${version}`,
    executable,
    output: output === undefined ? null : resolve(output),
    shim: shim === undefined ? null : resolve(shim),
  };
}

/** Installs the executable, its libraries, and the files that glibc reads. Modes do not depend on the umask. */
function stageProgram(root, executable) {
  const libraries = listLibraries(executable);
  put(root, '/usr/bin/vproxy', executable, 0o755);
  symlinkSync('vproxy', join(root, 'usr/bin/vproxy-storage'));
  // It is loaded from there: nothing has to be unpacked into a read-only root.
  put(root, '/usr/lib/vproxy/koffi.node', `${executable}.koffi.node`, 0o644);
  for (const path of libraries) put(root, path, path, 0o755);
  for (const [path, text] of Object.entries(ACCOUNTS)) write(root, path, text);
  // With mode 1777, for images that are run as another user.
  for (const folder of ['/tmp', '/run/vproxy']) makeFolder(root, folder, 0o1777);
  stageLicences(root, executable, libraries);
}

/** Adds the licences of vproxy, of Node, and of the Debian packages whose libraries are in the image, if they have any. */
function stageLicences(root, executable, libraries) {
  const folder = '/usr/share/doc/vproxy';
  put(root, `${folder}/LICENSE`, join(PROJECT, 'LICENSE'), 0o644);
  put(root, `${folder}/node-licence`, `${executable}.node-licence`, 0o644);
  for (const name of listPackages(libraries)) {
    const copyright = `/usr/share/doc/${name}/copyright`;
    if (existsSync(copyright)) put(root, copyright, copyright, 0o644);
  }
}

/** Adds KubeVirt's shim, the hook that it runs, the script that starts both programs, and a shell for the two scripts. */
function stageSidecar(root, shim) {
  const busybox = ['/usr/bin/busybox', '/bin/busybox'].find(existsSync);
  if (busybox === undefined) fail('busybox not found: apt-get install busybox-static');
  if (spawnSync('ldd', [busybox]).status === 0) fail(`${busybox} is not static: apt-get install busybox-static`);
  put(root, '/usr/bin/busybox', busybox, 0o755);
  put(root, '/usr/bin/sidecar-shim', shim, 0o755);
  const scripts = join(import.meta.dirname, 'kubevirt');
  put(root, '/usr/bin/onDefineDomain', join(scripts, 'onDefineDomain'), 0o755);
  put(root, '/usr/bin/kubevirt-sidecar', join(scripts, 'kubevirt-sidecar'), 0o755);
  makeFolder(root, '/bin', 0o755);
  symlinkSync('/usr/bin/busybox', join(root, 'bin/sh'));
  for (const name of ['cat', 'sleep']) symlinkSync('busybox', join(root, 'usr/bin', name));
}

function makeFolder(root, path, mode) {
  const target = join(root, path);
  for (const folder of ancestors(path)) {
    if (existsSync(join(root, folder))) continue;
    mkdirSync(join(root, folder), { recursive: true });
    chmodSync(join(root, folder), 0o755);
  }
  mkdirSync(target, { recursive: true });
  chmodSync(target, mode);
}

/** Lists the folders above a path, `/` first. */
function ancestors(path) {
  const parent = dirname(path);
  return parent === path ? [] : [...ancestors(parent), parent];
}

function put(root, path, source, mode) {
  makeFolder(root, dirname(path), 0o755);
  copyFileSync(source, join(root, path));
  chmodSync(join(root, path), mode);
}

function write(root, path, text) {
  makeFolder(root, dirname(path), 0o755);
  writeFileSync(join(root, path), text);
  chmodSync(join(root, path), 0o644);
}

/** Builds the image; returns its id, which is a hash of its content. */
function buildImage(folder, { tag, shim, urls }) {
  const epoch = sourceDate();
  // https://github.com/opencontainers/image-spec/blob/main/annotations.md
  const facts = {
    title: shim === null ? 'vproxy' : 'vproxy-kubevirt',
    ...{ description, version, licenses: license, ...urls },
    revision: sourceRevision() ?? undefined,
    created: new Date(Number(epoch) * 1000).toISOString().replace('.000Z', 'Z'),
  };
  // No base.name: the image has no base.
  const words = Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .flatMap(([name, value]) =>
      ['--label', '--annotation'].flatMap((option) => [option, `org.opencontainers.image.${name}=${value}`]),
    );
  const idFile = join(folder, 'id');
  const target = shim === null ? 'vproxy' : 'kubevirt';
  const file = join(import.meta.dirname, 'Containerfile');
  run([
    ...['build', '--quiet', '--pull-never', '--layers=false', '--format=oci', `--timestamp=${epoch}`],
    ...['--identity-label=false', `--target=${target}`, `--file=${file}`, `--iidfile=${idFile}`, `--tag=${tag}`],
    ...[...words, folder],
  ]);
  return readFileSync(idFile, 'utf8').trim();
}

/** Packs an OCI folder into one file, which appears only when complete. */
function writeArchive(folder, id, { output, tag }) {
  const layout = join(folder, 'layout');
  run(['push', '--quiet', id.replace('sha256:', ''), `oci:${layout}:${tag}`]);
  const temporary = join(dirname(output), `.${basename(output)}.${process.pid}`);
  try {
    const same = [
      '--sort=name',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--mode=a=rX,u+w',
      `--mtime=@${sourceDate()}`,
    ];
    execFileSync('tar', ['--create', '--format=gnu', ...same, `--file=${temporary}`, '--directory', layout, '.']);
    renameSync(temporary, output);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function run(words) {
  const { status, stderr } = spawnSync(tool, words, { encoding: 'utf8' });
  if (status !== 0) fail(`${tool} ${words[0]}: ${stderr.trim()}`);
}
